"""What a run leaves on disk: `run.json`, `episodes.csv` and one file of artefacts per episode.

    DIR/run.json                                       configuration and origin of the run
    DIR/episodes.csv                                   one row per episode (`COLUMNS`)
    DIR/episodes/<task>.<factor>.<episode>.npz         frames, actions, states (`encode_episode`, `load_episode`)
    DIR/videos/<task>.<factor>.<episode>.mp4           with --record-video

Only the parent process of a run writes here. Files appear whole (written beside, synced, renamed) and rows are
appended and synced one by one, an episode's row after its other files, so a kill at any moment loses at most the
episodes being played, and what is recorded is never rewritten before the run is complete.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import fcntl
import hashlib
import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import zstandard

from wambench.interface import STATUSES, Chunk, Episode, EpisodeSpec, Observation, Plan, canvas

if TYPE_CHECKING:
    import pandas

ROWS = "episodes.csv"
RUN = "run.json"
Key = tuple[str, str, int]  # task, factor, episode
FORMAT = 2  # of the files of episodes; files without a number are the first, and can be read too
PACKED = ("frames", "imagined", "snapshots")  # large, and worth the time it takes to compress them


def _boolean(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(f"{text!r} is neither True nor False")
    return text == "True"


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
)
NAMES = tuple(column.name for column in COLUMNS)
FIRST = 21  # columns of files written before time was counted: they still load


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

    @property
    def key(self) -> Key:
        """What a row is about, within its run."""
        return self.task, self.factor, self.episode


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
HEADERS = {HEADER: COLUMNS, _csv_line(NAMES[:FIRST]): COLUMNS[:FIRST]}


def read_rows(path: Path, torn: bool = False) -> list[Row]:
    """Returns the rows of an episodes.csv.

    Args:
        path: The file.
        torn: Leave out a last line without its end, what a kill in the middle of writing leaves behind.

    Raises:
        ValueError: The file is not one, or a row is damaged: names file and line.
    """
    try:
        text = path.read_bytes().decode()
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
            rows.append(from_line(line, columns))
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return rows


def load(runs: Iterable[Path]) -> pandas.DataFrame:
    """Returns the rows of several runs (folders, or paths of episodes.csv) as one typed DataFrame.

    Beside the `COLUMNS` it has `weights`, the hash of the policy's weights in `run.json` ("" if there is none). The
    order is that of the rows' values, whatever the order of the runs. The same episode of the same policy and weights
    in two runs raises ValueError: they cannot be told apart.
    """
    import pandas

    rows: list[tuple[Row, str]] = []
    origin: dict[tuple[Any, ...], Path] = {}
    for path in dict.fromkeys(_rows_file(run).resolve() for run in runs):
        weights = _weights(path.parent)
        for row in read_rows(path):
            identity = (row.policy, row.split, *row.key, row.seed, weights)
            if identity in origin:
                what = f"episode {row.episode} of {row.task} ({row.factor}) by {row.policy}, {row.split}"
                raise ValueError(f"{origin[identity]} and {path} both hold {what}: leave one out")
            origin[identity] = path
            rows.append((row, weights))
    rows.sort(key=lambda pair: (pair[0].policy, pair[0].split, pair[0].key, pair[0].seed, pair[1]))
    values = [(*dataclasses.astuple(row), weights) for row, weights in rows]
    types = {column.name: column.dtype for column in COLUMNS} | {"weights": "object"}
    return pandas.DataFrame(values, columns=list(types)).astype(types)


def _weights(run: Path) -> str:
    try:
        return str(json.loads((run / RUN).read_text()).get("weights_hash") or "")
    except (OSError, ValueError, AttributeError):  # rows alone can be read, too
        return ""


def _rows_file(run: Path) -> Path:
    path = run / ROWS if run.is_dir() else run
    if not path.is_file():
        raise ValueError(f"no run at {run}: there is no {path}")
    return path


def encode_episode(episode: Episode, cameras: Sequence[str], frames: bytes | None = None) -> bytes:
    """Returns an episode as an .npz without pickles, from which everything can be scored again.

    Args:
        episode: The episode.
        cameras: Order of the views in a canvas.
        frames: Its canvases as a Zstandard frame, if they are packed already (`frame_recorder.Tape`).

    Arrays, of which `frames`, `imagined` and `snapshots` are kept as the bytes of a Zstandard frame, their shapes being
    in `meta` (C chunks, T observations, M imagined frames, N actions carried out, P planned; starts have one entry more
    than there are chunks, chunk i is [start[i] : start[i + 1]]):
        meta: JSON: format, spec, result, cameras, SHA-256 of the first frame of each camera, shapes of packed arrays.
        frames (T, h, w * cameras, 3) uint8, steps (T,), states (T, 8): what was seen, at the video rate.
        imagined (M, h, w * cameras, 3) uint8, imagined_steps (M,), imagined_chunk (M,): what was foreseen.
        actions (N, A), actions_start (C + 1,): carried out.
        planned (P, A), planned_start (C + 1,), execute (C,): what the policy answered.
        chunk_steps (C,), latency_s (C,), delays (C,): when it was asked, how long it took, and in steps of the clock.
        progress (C,): after each chunk's actions.
        snapshots uint8, snapshots_start (C + 1,): states of the simulator when it was asked.

    Zstandard, because zlib at its fastest takes four to five times as long (docs/simulation.md).
    """
    chunks, seen = episode.chunks, episode.observations
    result = {f.name: getattr(episode, f.name) for f in dataclasses.fields(Episode)}
    meta = {name: result[name] for name in result if name not in ("spec", "chunks", "observations")}
    meta["spec"] = json.loads(episode.spec.to_json())
    meta["cameras"] = {camera: seen[0].images[camera].shape[1] for camera in cameras} if seen else {}
    meta["first_frame_sha256"] = {camera: _sha256(seen[0].images[camera]) for camera in cameras} if seen else {}
    meta["timings"] = [dict(chunk.plan.timings) for chunk in chunks]
    imagined = [chunk.plan.frames for chunk in chunks if chunk.plan.frames is not None]
    imagined_steps = [chunk.plan.frame_steps for chunk in chunks if chunk.plan.frame_steps is not None]
    lengths = [0 if chunk.plan.frames is None else len(chunk.plan.frames) for chunk in chunks]
    arrays = {
        "frames": _canvases(seen, cameras) if frames is None else np.frombuffer(frames, np.uint8),
        "steps": np.array([observation.step for observation in seen], np.int64),
        "states": _stack([observation.state[None] for observation in seen], np.float64),
        "imagined": _stack(imagined, np.uint8),
        "imagined_steps": _stack(imagined_steps, np.int64),
        "imagined_chunk": np.repeat(np.arange(len(chunks)), lengths),
        "actions": _stack([chunk.executed for chunk in chunks], np.float64),
        "actions_start": _starts([len(chunk.executed) for chunk in chunks]),
        "planned": _stack([chunk.plan.actions for chunk in chunks], np.float64),
        "planned_start": _starts([len(chunk.plan.actions) for chunk in chunks]),
        "execute": np.array([chunk.plan.execute for chunk in chunks], np.int64),
        "chunk_steps": np.array([chunk.step for chunk in chunks], np.int64),
        "latency_s": np.array([chunk.latency_s for chunk in chunks], np.float64),
        "delays": np.array([chunk.delay for chunk in chunks], np.int64),
        "progress": np.array([chunk.progress for chunk in chunks], np.float64),
        "snapshots": np.frombuffer(b"".join(chunk.state for chunk in chunks), np.uint8),
        "snapshots_start": _starts([len(chunk.state) for chunk in chunks]),
    }
    shapes = {name: arrays[name].shape for name in PACKED}
    if frames is not None:
        shapes["frames"] = (len(seen), *canvas(seen[0], cameras).shape) if seen else (0,)
    meta |= {"format": FORMAT, "shapes": shapes}
    compressor = zstandard.ZstdCompressor(level=1)
    for name in PACKED if frames is None else PACKED[1:]:
        content = compressor.compress(np.ascontiguousarray(arrays[name]).reshape(-1).data)
        arrays[name] = np.frombuffer(content, np.uint8)
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _unpacked(packed: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    size = math.prod(shape)
    content = zstandard.ZstdDecompressor().decompress(packed.tobytes(), max_output_size=max(size, 1))
    return np.frombuffer(bytearray(content), np.uint8).reshape(shape)


def load_episode(path: Path) -> Episode:
    """Returns the episode that `encode_episode` wrote; raises ValueError naming the file if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        return _decode(stored)
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, zstandard.ZstdError) as error:
        raise ValueError(f"{path}: damaged: {error}") from error


def _decode(stored: Mapping[str, np.ndarray]) -> Episode:
    meta = json.loads(stored["meta"].tobytes())
    version, shapes = meta.pop("format", 1), meta.pop("shapes", {})
    if version > FORMAT:
        raise ValueError(f"written by a newer wambench: format {version}, this one reads up to {FORMAT}")
    arrays = {**stored, **{name: _unpacked(stored[name], shape) for name, shape in shapes.items()}}
    widths = meta.pop("cameras")
    edges = np.cumsum(list(widths.values()))[:-1]
    observations = tuple(
        Observation(int(step), dict(zip(widths, np.split(frame, edges, axis=1), strict=True)), state)
        for step, frame, state in zip(arrays["steps"], arrays["frames"], arrays["states"], strict=True)
    )
    chunks = []
    for i, timings in enumerate(meta.pop("timings")):
        own = arrays["imagined_chunk"] == i
        frames, frame_steps = (arrays["imagined"][own], arrays["imagined_steps"][own]) if own.any() else (None, None)
        plan = Plan(_part(arrays, "planned", i), int(arrays["execute"][i]), frames, frame_steps, timings)
        step, latency_s = int(arrays["chunk_steps"][i]), float(arrays["latency_s"][i])
        state, executed = _part(arrays, "snapshots", i).tobytes(), _part(arrays, "actions", i)
        timed = (int(arrays["delays"][i]), float(arrays["progress"][i])) if "delays" in arrays else ()
        chunks.append(Chunk(step, state, plan, executed, latency_s, *timed))
    del meta["first_frame_sha256"]
    meta["spec"] = EpisodeSpec(**meta["spec"])
    meta["stages"] = tuple(meta["stages"])
    return Episode(**meta, chunks=tuple(chunks), observations=observations)


def _canvases(seen: Sequence[Observation], cameras: Sequence[str]) -> np.ndarray:
    """Returns `canvas` of every observation, (T, h, w * cameras, 3) uint8, each pixel being copied once."""
    if not seen:
        return np.zeros(0, np.uint8)
    first = canvas(seen[0], cameras)
    frames = np.empty((len(seen), *first.shape), np.uint8)
    for frame, observation in zip(frames, seen, strict=True):
        np.concatenate([observation.images[camera] for camera in cameras], axis=1, out=frame)
    return frames


def _stack(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)


def _starts(lengths: Sequence[int]) -> np.ndarray:
    return np.cumsum([0, *lengths], dtype=np.int64)


def _part(arrays: Mapping[str, np.ndarray], name: str, chunk: int) -> np.ndarray:
    start = arrays[f"{name}_start"]
    return arrays[name][start[chunk] : start[chunk + 1]]


def _sha256(image: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


class RunFolder:
    """The folder of a run while it is being written: locked, checked, and continued where it stopped.

    Args:
        path: The folder; made if missing.
        config: The JSON configuration; a folder with another one is refused.
        keys: The episodes of the run, in the order of the finished file.

    Attributes:
        rows: Rows recorded so far, by key.

    Raises:
        ValueError: The folder holds another configuration or damaged rows, or another process is writing to it.
        OSError: It cannot be written to.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], keys: Iterable[Key]) -> None:
        self.path = path
        self.rows: dict[Key, Row] = {}
        self._config = json.loads(json.dumps(config))
        self._order = {key: i for i, key in enumerate(keys)}

    def __enter__(self) -> RunFolder:
        self._new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = locked(self.path)
        try:
            self.origin = self._read_origin()
            self._read_rows()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if not (self.path / RUN).exists():  # nothing was recorded: leave nothing behind
            (self.path / ".lock").unlink(missing_ok=True)
            if self._new:
                with contextlib.suppress(OSError):
                    self.path.rmdir()
        self._lock.close()

    def begin(self, origin: Mapping[str, Any], fixed: Iterable[str] = ()) -> None:
        """Writes run.json, or when continuing checks that what produces the rows is still the same.

        Args:
            origin: Everything a reader must know to judge the rows, JSON.
            fixed: The entries of `origin` that must not change between the parts of a run.
        """
        for name in fixed:
            if self.origin and self.origin.get(name) != origin.get(name):
                raise ValueError(
                    f"{self.path} was begun with {name} {self.origin.get(name)!r}, now it is {origin.get(name)!r}: "
                    "give another --out"
                )
        if not self.origin:
            write_whole(self.path / RUN, json.dumps({"config": self._config, **origin}, indent=2) + "\n")
        if not (self.path / ROWS).exists():
            write_whole(self.path / ROWS, HEADER)

    def write(self, row: Row, files: Mapping[str, bytes]) -> None:
        """Records an episode: its files (by path within the folder), then its row."""
        for name, content in files.items():
            (self.path / name).parent.mkdir(exist_ok=True)
            write_whole(self.path / name, content)
        append(self.path / ROWS, to_line(row).encode())
        self.rows[row.key] = row

    def finish(self) -> None:
        """Puts the rows in the order of the run, whichever worker was first."""
        rows = sorted(self.rows.values(), key=lambda row: self._order[row.key])
        text = HEADER + "".join(to_line(row) for row in rows)
        if (self.path / ROWS).read_text() != text:
            write_whole(self.path / ROWS, text)

    def _read_origin(self) -> dict[str, Any]:
        path = self.path / RUN
        if not path.exists():
            if (self.path / ROWS).exists():
                raise ValueError(f"{self.path} holds {ROWS} without {RUN}: give another --out")
            return {}
        try:
            origin = json.loads(path.read_text())
            theirs = origin["config"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: damaged: {error}") from error
        if theirs != self._config:
            odd = sorted(k for k in {*theirs, *self._config} if theirs.get(k) != self._config.get(k))
            differences = "; ".join(f"{k} is {theirs.get(k)!r} there, not {self._config.get(k)!r}" for k in odd)
            raise ValueError(f"{self.path} holds another run ({differences}): give another --out")
        return origin

    def _read_rows(self) -> None:
        path = self.path / ROWS
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        for number, row in enumerate(read_rows(path, torn=True), start=2):
            if row.key not in self._order or row.key in self.rows:
                wrong = "is there twice" if row.key in self.rows else "is not of this run"
                raise ValueError(f"{path}, line {number}: {row.task}, {row.factor}, {row.episode} {wrong}")
            self.rows[row.key] = row
        if whole == 0:
            write_whole(path, HEADER)
        elif not content.startswith(HEADER.encode()):  # begun before time was counted
            write_whole(path, HEADER + "".join(map(to_line, self.rows.values())))
        elif whole < len(content):  # the torn row is played again
            os.truncate(path, whole)


def locked(folder: Path) -> IO[str]:
    """Returns a locked file; the lock goes with the process, however it ends."""
    lock = (folder / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise ValueError(f"another run is writing to {folder}") from error
    return lock


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file so that it is there whole or not at all."""
    beside = path.with_name(path.name + ".tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with _named(path), beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def append(path: Path, line: bytes) -> None:
    """Appends a line and syncs it; if that fails, for example on a full disk, the file is as it was.

    An interrupt while a whole line is being synced leaves it: others may have read it.
    """
    with _named(path), path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            while line:  # a disk that is nearly full takes a part, and says why only when asked for the rest
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except BaseException as error:
            if line or isinstance(error, OSError):
                file.truncate(size)
            raise


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Gives an error of the operating system the name of the file, which a failed write lacks."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
