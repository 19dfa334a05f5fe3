"""Rows of `episodes.csv`: one for each episode, typed, and readable by any CSV reader."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wambench.interface import STATUSES

ROWS = "episodes.csv"
RUN = "run.json"
Key = tuple[str, str, int]  # task, factor, episode
MACHINE = "machine: "  # begins the `error` of an episode that a killed worker or a full disk ended
DIED = "the worker process died"  # the same, in runs from before there was `MACHINE`


def _boolean(text: str) -> bool:
    if text.capitalize() not in ("True", "False"):  # a spreadsheet writes TRUE
        raise ValueError(f"{text!r} is neither True nor False")
    return text.capitalize() == "True"


def _number(text: str) -> float:
    return math.nan if text == "" else float(text)


def _status(text: str) -> str:
    if text not in STATUSES:
        raise ValueError(f"{text!r} is not one of {', '.join(STATUSES)}")
    return text


def episode_stem(key: Key) -> str:
    """Returns the name of an episode's files without their ending."""
    return ".".join(map(str, key))


@dataclass(frozen=True)
class Column:
    """A column of episodes.csv: how it is read, and its type in a DataFrame."""

    name: str
    parse: Callable[[str], Any]
    dtype: str


COLUMNS = (
    Column("policy", str, "object"),
    Column("split", str, "object"),
    Column("task", str, "object"),
    Column("verb", str, "object"),
    Column("novelty", str, "object"),
    Column("factor", str, "object"),
    Column("episode", int, "int64"),
    Column("seed", int, "int64"),
    Column("spec_hash", str, "object"),
    Column("prompt", str, "object"),
    Column("status", _status, "object"),
    Column("progress", _number, "float64"),
    Column("success_end", _boolean, "bool"),
    Column("success_ever", _boolean, "bool"),
    Column("stages", str, "object"),
    Column("steps", int, "int64"),
    Column("queries", int, "int64"),
    Column("latency_p50_s", _number, "float64"),
    Column("latency_p95_s", _number, "float64"),
    Column("wall_s", _number, "float64"),
    Column("error", str, "object"),
    # what time did: see execution.Timing
    Column("execution", str, "object"),
    Column("latency", str, "object"),
    Column("stale_ratio", _number, "float64"),
    Column("holds", int, "int64"),
    Column("effective_hz", _number, "float64"),
    Column("boundary_jump", _number, "float64"),
    Column("jerk", _number, "float64"),
    Column("progress_wall", _number, "float64"),
    # how far imagined frames are from what came: see imagined_video.VideoErrors
    Column("video_frames", int, "int64"),
    Column("video_error", _number, "float64"),
    Column("kept_error", _number, "float64"),
    # who went for what: the object that the prompt names, that was touched first, that the hand came nearest to
    Column("named", str, "object"),
    Column("first_touched", str, "object"),
    Column("nearest", str, "object"),
)
NAMES = tuple(column.name for column in COLUMNS)
# Columns of files written before time was counted, before imagined video was, and before touches were: they still load.
EARLIER = (21, 29, 32)


@dataclass(frozen=True)
class Row:
    """One episode. `stages` are the names of the stages reached, joined by ";"; times are in seconds.

    An error (`status` other than "ok") is no failure: progress and success then say how far it had come.
    """

    policy: str
    split: str
    task: str
    verb: str
    novelty: str
    factor: str
    episode: int
    seed: int
    spec_hash: str
    prompt: str
    status: str
    progress: float
    success_end: bool
    success_ever: bool
    stages: str
    steps: int
    queries: int
    latency_p50_s: float
    latency_p95_s: float
    wall_s: float
    error: str
    execution: str = "sync"
    latency: str = "0"
    stale_ratio: float = math.nan
    holds: int = 0
    effective_hz: float = math.nan
    boundary_jump: float = math.nan
    jerk: float = math.nan
    progress_wall: float = math.nan
    video_frames: int = 0
    video_error: float = math.nan
    kept_error: float = math.nan
    named: str = ""
    first_touched: str = ""
    nearest: str = ""

    @property
    def key(self) -> Key:
        """What a row is about, within its run."""
        return self.task, self.factor, self.episode

    @property
    def of_machine(self) -> bool:
        """The machine ended the episode, not policy or simulator: it may go well at another time."""
        return self.status != "ok" and self.error.startswith((MACHINE, DIED))


def to_line(row: Row) -> str:
    """Returns the row as a line of CSV; numbers have at most 6 decimals, NaN is empty, text is one line."""
    return _csv_line(_text(value) for value in dataclasses.astuple(row))


def from_line(line: str, columns: Sequence[Column] = COLUMNS) -> Row:
    """Returns the row of a line of CSV with these columns; raises ValueError if it is none."""
    fields = next(csv.reader([line], strict=True), [])
    if len(fields) != len(columns):
        raise ValueError(f"expected {len(columns)} fields, found {len(fields)}")
    values = {}
    for column, text in zip(columns, fields, strict=True):
        try:
            values[column.name] = column.parse(text)
        except ValueError as error:
            raise ValueError(f"{column.name}: {error}") from error
    return Row(**values)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, float):
        plain = str(value).encode(errors="replace").decode()
        return " ".join(plain.replace("\0", " ").split())
    if math.isnan(value):
        return ""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _csv_line(fields: Iterable[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(fields)
    return buffer.getvalue()


HEADER = _csv_line(NAMES)
HEADERS = {_csv_line(NAMES[:count]): COLUMNS[:count] for count in (*EARLIER, len(COLUMNS))}


def read_rows(path: Path, torn: bool = False) -> list[Row]:
    """Returns the rows of an episodes.csv, also of one that a spreadsheet saved (CRLF, a byte order mark).

    An error that was played again has two rows until its run is complete: the later one counts.

    Args:
        path: The file.
        torn: Leave out a last line without its end, what a kill in the middle of writing leaves behind.

    Raises:
        ValueError: The file is not one, or a row is damaged: names file and line.
    """
    return [row for _, row in numbered_rows(path, torn)]


def numbered_rows(path: Path, torn: bool = False) -> list[tuple[int, Row]]:
    """Returns the rows as `read_rows` does, each with the number of its line."""
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: damaged: {error}") from error
    lines = text.split("\n")
    if lines.pop() and not torn:
        raise ValueError(f"{path}, line {len(lines) + 1}: the line is cut off; rerun its run to repair it")
    if lines and lines[0] + "\n" not in HEADERS:
        raise ValueError(f"{path}, line 1: not the header of {ROWS}")
    columns = HEADERS[lines[0] + "\n"] if lines else COLUMNS
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            rows.append((number, from_line(line, columns)))
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    last = {_identity(row): number for number, row in rows}
    return [(number, row) for number, row in rows if row.status == "ok" or last[_identity(row)] == number]


def _identity(row: Row) -> tuple[str, str, Key, int]:
    """Returns which episode of which run it is: a file may hold the rows of several runs."""
    return row.policy, row.split, row.key, row.seed
