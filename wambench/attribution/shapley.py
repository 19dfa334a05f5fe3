"""Where the lost progress of failed episodes went: the arithmetic, the labels and the table. Pure numpy.

Four rollouts of an episode (`Cells`), each f(video, actions), share what was lost by Shapley's value (two players):

    phi_video  = ((f(oracle, own) - f(own, own)) + (f(oracle, oracle) - f(own, oracle))) / 2
    phi_action = ((f(own, oracle) - f(own, own)) + (f(oracle, oracle) - f(oracle, own))) / 2
    phi_video + phi_action + unattributed = 1 - f(own, own),    unattributed = 1 - f(oracle, oracle)

What recorded latency alone cost, `timing` = f(own, own) - recorded progress, is 0 where the world waits.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wambench.analysis.agreement import ratio
from wambench.analysis.leaderboard import Estimate

TABLE = "attribution.csv"
# What a definition can answer. "timing": lost to latency alone; "stall": still solvable at the end; "instrument": the
# oracle itself failed; "contact": what is blamed cannot be reproduced; "abstain": frames that the tracker cannot read.
VERDICTS = ("video", "action", "both", "timing", "stall", "instrument", "contact", "abstain", "none")
SHARE = 0.25  # a part that carries less than this share of what was lost is not blamed
NOTICEABLE = 0.05  # progress: less lost than this is no failure


@dataclass(frozen=True)
class Cells:
    """Progress of the four rollouts, in [0, 1], each named video_actions; NaN where the policy lacks what it takes."""

    own_own: float
    oracle_own: float
    own_oracle: float
    oracle_oracle: float


@dataclass(frozen=True)
class Shares:
    """What was lost to what; adds up to 1 - f(own, own) exactly. A share may be negative: the oracle did harm."""

    video: float
    action: float
    unattributed: float


def shapley(cells: Cells) -> Shares:
    """Returns the shares of a complete set of cells; NaN where a cell is."""
    video = ((cells.oracle_own - cells.own_own) + (cells.oracle_oracle - cells.own_oracle)) / 2
    action = ((cells.own_oracle - cells.own_own) + (cells.oracle_oracle - cells.oracle_own)) / 2
    return Shares(video, action, 1.0 - cells.oracle_oracle)


def d2_verdict(cells: Cells, timing: float = 0.0) -> tuple[str, float]:
    """Returns the interventional verdict and its confidence in [0, 1].

    Blamed is every part that carries at least `SHARE` of what the instrument could recover, negative shares counting
    as none. The confidence is the distance of the smaller share from that line, relative to the side it lies on.

    Args:
        cells: The four rollouts, at zero latency.
        timing: f(own, own) - recorded progress.
    """
    if timing >= max(NOTICEABLE, (1.0 - cells.own_own)):
        return "timing", min(1.0, timing / max(1e-9, timing + 1.0 - cells.own_own))
    shares = shapley(cells)
    if not math.isfinite(shares.video + shares.action):
        return "abstain", 0.0
    video, action = max(0.0, shares.video), max(0.0, shares.action)
    if video + action < NOTICEABLE:
        return ("instrument", 1.0) if shares.unattributed >= NOTICEABLE else ("none", 1.0)
    part = video / (video + action)
    minor = min(part, 1.0 - part)
    if minor >= SHARE:
        return "both", (minor - SHARE) / (0.5 - SHARE)
    return ("video" if part > 0.5 else "action"), (SHARE - minor) / SHARE


@dataclass(frozen=True)
class Fatal:
    """What happened when the chunk that lost an episode was played again (restored), the expert taking over after it.

    Attributes:
        solvable_start: The expert succeeds from the first chunk.
        solvable_end: It still succeeds after the last one.
        readable: The tracker read some of the chunk's own frames.
        by_video: It fails after the chunk's own video was followed by the tracker.
        by_action: It fails after the chunk's own actions.
        by_action_prompt: It fails after the actions that the policy gives at zero latency; equal to `by_action` where
            there is no latency.
        oracle_video: It fails after the expert's own video was followed by the tracker (then nothing can be said).
        action_alone: It fails after the policy's actions for the expert's video (None: no `extract`).
    """

    solvable_start: bool
    solvable_end: bool
    readable: bool = True
    by_video: bool = False
    by_action: bool = False
    by_action_prompt: bool = False
    oracle_video: bool = False
    action_alone: bool | None = None


def d3_verdict(fatal: Fatal) -> tuple[str, float]:
    """Returns the first-divergence verdict, and its confidence: half where the oracle's own way is slow, too."""
    confidence = 0.5 if fatal.oracle_video else 1.0
    if not fatal.solvable_start:
        return "instrument", 1.0
    if fatal.solvable_end:
        return "stall", 1.0
    if fatal.by_action and not fatal.by_action_prompt:
        return "timing", confidence
    if not fatal.readable:
        return "abstain", 0.0
    if fatal.by_video:
        return ("both" if fatal.action_alone else "video"), confidence
    return ("action" if fatal.by_action else "contact"), confidence


@dataclass(frozen=True)
class Row:
    """One failed episode.

    Attributes:
        policy, split, task, novelty, factor, episode, seed, spec_hash: As in episodes.csv.
        progress: Recorded.
        own_own, oracle_own, own_oracle, oracle_oracle: The cells; NaN where the policy lacks what they take.
        video, action, unattributed, timing: What was lost to what.
        placebo: f(own video re-injected, own) - f(own, own): what failed is chosen, so that another roll of the dice
            helps on average, and half of that is in the share of video and half in that of action;
        placebo_action: the largest difference it made to an action.
        d1, d2, d3: Verdicts (`VERDICTS`), or "" where a definition does not apply; d?_confidence in [0, 1].
        d1_video, d1_action: Shares of the expert's advance that D1 rests on (`readout`).
        no_return: The chunk that lost the episode (-1: none), and
        no_return_s: its time in seconds from the start;  chunks, steps: of the recorded episode.
        abstained: Share of the imagined frames that the tracker would not read.
        video_error_m, action_error_m, motion_m: D1's medians: imagined against oracle, realised against imagined,
            imagined motion of the hand within a chunk.
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


PARTS = ("video", "action", "timing", "unattributed", "unread")


def parts(row: Row) -> dict[str, float] | None:
    """Returns what an episode lost to what (`PARTS`), which adds up to 1 - progress; None if that is not known.

    "unread" is what video and action lost together where f(own, oracle) or f(oracle, oracle) could not be played,
    because the tracker would not read most of the frames.
    """
    if row.error or not row.d2:
        return None
    if math.isfinite(row.video + row.action + row.unattributed):
        return {name: getattr(row, name) for name in PARTS[:-1]} | {"unread": 0.0}
    beyond = 0.0 if math.isnan(row.oracle_oracle) else 1.0 - row.oracle_oracle
    unread = 1.0 - row.own_own - beyond
    return {"video": 0.0, "action": 0.0, "timing": row.timing, "unattributed": beyond, "unread": unread}


def video_bounds(row: Row) -> tuple[float, float]:
    """Returns the least and the most that an episode can have lost to video, whatever unread frames showed.

    A cell that is not known is anything in [0, 1], and with it Shapley's value (bounds without an assumption: C. F.
    Manski, "Nonparametric bounds on treatment effects", American Economic Review 80(2), 1990).
    """
    ends = [
        shapley(dataclasses.replace(_cells(row), own_oracle=own, oracle_oracle=oracle)).video
        for own in _either(row.own_oracle)
        for oracle in _either(row.oracle_oracle)
    ]
    return min(ends), max(ends)


def _cells(row: Row) -> Cells:
    return Cells(row.own_own, row.oracle_own, row.own_oracle, row.oracle_oracle)


def _either(value: float) -> tuple[float, ...]:
    return (0.0, 1.0) if math.isnan(value) else (value,)


def share(rows: Sequence[Row], part: Sequence[float], lost: Mapping[str, float] | None = None) -> Estimate:
    """Returns which share of the progress lost was lost to a part, with its 95 % interval (over episodes within tasks).

    Args:
        rows: Of which the part is known.
        part: What each row lost to it.
        lost: Progress lost in each task, by all episodes of the run: a task of which only some failures were attributed
            weighs as much as it lost. Default: as much as the rows lost.
    """
    names, values = np.array([row.task for row in rows]), np.array(part)
    whole = np.array([1.0 - row.progress for row in rows])
    tasks = [names == name for name in sorted(set(names))]
    weights = [1.0 if lost is None else lost[rows[int(own.argmax())].task] / whole[own].sum() for own in tasks]
    parts, wholes = ([x[own] * weight for own, weight in zip(tasks, weights, strict=True)] for x in (values, whole))
    return ratio(parts, wholes, np.random.default_rng(0))


def video_range(rows: Sequence[Row], lost: Mapping[str, float] | None = None) -> tuple[Estimate, Estimate]:
    """Returns the least and the most that was lost to video (`video_bounds`), as shares of the progress lost."""
    least, most = (share(rows, ends, lost) for ends in zip(*map(video_bounds, rows), strict=True))
    return least, most


NAMES = tuple(f.name for f in dataclasses.fields(Row))
_TYPES = {f.name: {"str": str, "int": int, "float": float}[str(f.type)] for f in dataclasses.fields(Row)}


def to_csv(rows: Iterable[Row], header: bool = True) -> str:
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


def read(path: Path, torn: bool = False) -> list[Row]:
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


def _row(fields: list[str]) -> Row:
    if len(fields) != len(NAMES):
        raise ValueError(f"expected {len(NAMES)} fields, found {len(fields)}")
    values: dict[str, Any] = {}
    for name, text in zip(NAMES, fields, strict=True):
        kind = _TYPES[name]
        values[name] = math.nan if kind is float and text == "" else kind(text)
    return Row(**values)
