"""How long an answer takes on the clock of a run: a fixed time, the measured one, or a recorded trace."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wambench.interface import unknown_name

MEASURED = "measured"
MAX_S = 60.0  # ten times DreamZero 14B on one H100 (5.7 s a chunk); more than that is a typing error
TRACE = "latency.csv"  # what a measured run leaves in its folder
TRACE_COLUMNS = ("task", "factor", "episode", "query", "latency_s")


def delay_steps(latency_s: float, control_hz: float) -> int:
    """Returns ceil(latency x rate), the control steps that pass before an answer can be played."""
    return math.ceil(latency_s * control_hz - 1e-9)  # 0.55 s at 20 Hz are 11 steps, and 11.000000000000002 in floats


@dataclass(frozen=True)
class Latency:
    """Where latencies come from.

    Attributes:
        label: How it is called in rows and run.json.
        fixed_s: Seconds of every call, or None.
        trace: Seconds call by call, for each episode by the stem of its files, or under "" for all of them.
    """

    label: str = "0"
    fixed_s: float | None = 0.0
    trace: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def seconds(self, stem: str, query: int, measured_s: float) -> float:
        """Returns the latency of a call; a trace that is too short for its episode begins again.

        Args:
            stem: Of the episode's files.
            query: Number of the call within the episode.
            measured_s: What it really took.
        """
        if self.fixed_s is not None:
            return self.fixed_s
        calls = self._calls(stem)
        return calls[query % len(calls)] if calls else measured_s

    def check(self, stems: Iterable[str]) -> None:
        """Raises ValueError if a trace that tells episodes apart lacks one that will be played."""
        missing = [stem for stem in stems if self.trace and not self._calls(stem)]
        if missing:
            raise ValueError(f"{self.label} has no latencies for {len(missing)} episodes of the run, e.g. {missing[0]}")

    def wraps(self, stem: str, queries: int) -> bool:
        """Returns whether an episode asked more often than its trace tells."""
        return bool(self.trace) and queries > len(self._calls(stem))

    def _calls(self, stem: str) -> Sequence[float]:
        return self.trace.get(stem, self.trace.get("", ()))


def parse(text: str) -> Latency:
    """Returns the source of a command line's word: seconds, "measured", or the path of a trace.

    A trace is a CSV with a column latency_s, one row a call, and perhaps columns task, factor and episode: then every
    episode has its own calls, as `latency.csv` of a measured run does; else all episodes begin at the first row.

    Raises:
        ValueError: Says what is wrong, with the line of a trace.
    """
    if text == MEASURED:
        return Latency(MEASURED, None)
    try:
        seconds = float(text)
    except ValueError:
        return _trace(text)
    _sane(seconds, "latency")
    return Latency(f"{seconds:g}", seconds)


def _sane(seconds: float, what: str) -> None:
    if not 0.0 <= seconds <= MAX_S:
        raise ValueError(f"{what} must be between 0 and {MAX_S:g} seconds, not {seconds:g}")


def _trace(text: str) -> Latency:
    path = Path(text)
    if not text.endswith(".csv"):
        raise ValueError(f"{unknown_name('latency', text, (MEASURED,))}, or seconds, or a TRACE.csv")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot read a trace of latencies: {error}") from None
    calls: dict[str, list[float]] = {}
    rows = csv.DictReader(io.StringIO(content))
    if "latency_s" not in (rows.fieldnames or ()):
        raise ValueError(f"{path}: a trace has a column latency_s, this one has {', '.join(rows.fieldnames or ())}")
    keyed = {"task", "factor", "episode"} <= set(rows.fieldnames or ())
    for row in rows:
        place = f"{path}, line {rows.line_num}: latency_s"
        try:
            seconds = float(row["latency_s"])
        except (TypeError, ValueError):
            raise ValueError(f"{place}: {row['latency_s']!r} is no number") from None
        _sane(seconds, place)
        stem = f"{row['task']}.{row['factor']}.{row['episode']}" if keyed else ""
        calls.setdefault(stem, []).append(seconds)
    if not calls:
        raise ValueError(f"{path}: an empty trace")
    return Latency(f"{path.name}#{hashlib.sha256(content.encode()).hexdigest()[:8]}", None, calls)
