"""The table `attribution.csv`: one row for each failed episode."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

TABLE = "attribution.csv"


@dataclass(frozen=True)
class AttributionRow:
    """The attribution of one failed episode.

    Attributes:
        policy, split, task, novelty, factor, episode, seed, spec_hash: As in episodes.csv.
        progress: Recorded.
        own_own, oracle_own, own_oracle, oracle_oracle: Progress of the four rollouts of the intervention, each named
            video_actions (`counterfactuals`); NaN where the policy lacks what they take.
        video, action, unattributed, timing: What was lost to what.
        placebo: f(own video re-injected, own) - f(own, own). Episodes are attributed because they failed, so that a
            second attempt does better on average; half of that is in the share of video and half in that of action.
        placebo_action: The largest difference that the placebo made to an action.
        d1, d2, d3: Verdicts (`VERDICTS`) of the read-out, the intervention and the first divergence, or "" where a
            definition does not apply.
        d1_confidence, d2_confidence, d3_confidence: Of the verdicts, in [0, 1].
        d1_video, d1_action: Shares of the expert's advance that the read-out rests on (`readout`).
        no_return: The chunk that lost the episode (-1: none).
        no_return_s: Its time in seconds from the start.
        chunks, steps: Of the recorded episode.
        abstained: Share of the imagined frames that could not be read.
        video_error_m, action_error_m, motion_m: Medians of the read-out: imagined against oracle, realised against
            imagined, imagined motion of the hand within a chunk.
        lag_s: Best time lag of the realised behind the imagined frames.
        behaviour: Type of failure, `wambench.attribution.failure_types`.
        missing: What cannot be known of this policy, in words.
        error: Why the row is incomplete, or "".
        wall_s: Seconds it took.
    """

    policy: str
    split: str
    task: str
    novelty: str
    factor: str
    episode: int
    seed: int
    spec_hash: str
    progress: float
    own_own: float = math.nan
    oracle_own: float = math.nan
    own_oracle: float = math.nan
    oracle_oracle: float = math.nan
    video: float = math.nan
    action: float = math.nan
    unattributed: float = math.nan
    timing: float = math.nan
    placebo: float = math.nan
    placebo_action: float = math.nan
    d1: str = ""
    d1_confidence: float = math.nan
    d1_video: float = math.nan
    d1_action: float = math.nan
    d2: str = ""
    d2_confidence: float = math.nan
    d3: str = ""
    d3_confidence: float = math.nan
    no_return: int = -1
    no_return_s: float = math.nan
    chunks: int = 0
    steps: int = 0
    abstained: float = math.nan
    video_error_m: float = math.nan
    action_error_m: float = math.nan
    motion_m: float = math.nan
    lag_s: float = math.nan
    behaviour: str = ""
    missing: str = ""
    error: str = ""
    wall_s: float = math.nan

    @property
    def key(self) -> tuple[str, str, int]:
        """What a row is about, within its run."""
        return self.task, self.factor, self.episode


NAMES = tuple(f.name for f in dataclasses.fields(AttributionRow))


def _parse_float(text: str) -> float:
    return float(text) if text else math.nan


_PARSE: dict[str, Callable[[str], str | int | float]] = {"str": str, "int": int, "float": _parse_float}
_PARSERS = [_PARSE[str(f.type)] for f in dataclasses.fields(AttributionRow)]


def to_csv(rows: Iterable[AttributionRow], header: bool = True) -> str:
    """Returns rows as lines of CSV; numbers with 6 decimals at most, NaN empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if header:
        writer.writerow(NAMES)
    writer.writerows([_text(value) for value in dataclasses.astuple(row)] for row in rows)
    return buffer.getvalue()


def _text(value: str | int | float) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6f}".rstrip("0").rstrip(".")
    return " ".join(str(value).split())


def read(path: Path, torn: bool = False) -> list[AttributionRow]:
    """Returns the rows of an attribution.csv; a damaged one raises ValueError naming file and line.

    Args:
        path: The file, or the folder of its run.
        torn: Leave out a last line without its end, what a kill in the middle of writing leaves behind.
    """
    path = path / TABLE if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"{path}: no attribution here; run `wambench attribute` first")
    whole, _, rest = path.read_text().rpartition("\n")
    if rest and not torn:
        raise ValueError(f"{path}: the last line is cut off; rerun its command to repair it")
    lines = list(csv.reader(whole.splitlines()))
    if not lines or tuple(lines[0]) != NAMES:
        raise ValueError(f"{path}, line 1: not the header of {TABLE}")
    rows = []
    for number, fields in enumerate(lines[1:], start=2):
        try:
            rows.append(_row(fields))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return rows


def _row(fields: list[str]) -> AttributionRow:
    if len(fields) != len(NAMES):
        raise ValueError(f"expected {len(NAMES)} fields, found {len(fields)}")
    make: Callable[..., AttributionRow] = AttributionRow
    return make(*(parse(text) for parse, text in zip(_PARSERS, fields, strict=True)))
