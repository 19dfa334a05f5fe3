"""Where the lost progress of failed episodes went: the arithmetic of the intervention. Pure numpy.

Four rollouts of an episode (`CounterfactualProgress`), each f(video, actions), say what was lost to what by Shapley's
value with two players (L. S. Shapley, "A value for n-person games", 1953):

    phi_video  = ((f(oracle, own) - f(own, own)) + (f(oracle, oracle) - f(own, oracle))) / 2
    phi_action = ((f(own, oracle) - f(own, own)) + (f(oracle, oracle) - f(oracle, own))) / 2
    phi_video + phi_action + unattributed = 1 - f(own, own),    unattributed = 1 - f(oracle, oracle)

What recorded latency alone cost, `timing` = f(own, own) - recorded progress, is 0 where the simulator waits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wambench.analysis.intervals import Estimate, share_of
from wambench.attribution.table import AttributionRow


@dataclass(frozen=True)
class CounterfactualProgress:
    """Progress of the four rollouts, in [0, 1], each named video_actions; NaN where the policy lacks what it takes."""

    own_own: float
    oracle_own: float
    own_oracle: float
    oracle_oracle: float


@dataclass(frozen=True)
class Shares:
    """What was lost to what; it adds up to 1 - f(own, own) exactly. A share is negative where the oracle did harm."""

    video: float
    action: float
    unattributed: float


def shapley(progress: CounterfactualProgress) -> Shares:
    """Returns the shares that four rollouts give; NaN where a rollout that they need is."""
    video = ((progress.oracle_own - progress.own_own) + (progress.oracle_oracle - progress.own_oracle)) / 2
    action = ((progress.own_oracle - progress.own_own) + (progress.oracle_oracle - progress.oracle_own)) / 2
    return Shares(video, action, 1.0 - progress.oracle_oracle)


PARTS = ("video", "action", "timing", "unattributed", "unread")


def parts(row: AttributionRow) -> dict[str, float] | None:
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


def video_bounds(row: AttributionRow) -> tuple[float, float]:
    """Returns the least and the most that an episode can have lost to video, whatever unread frames showed.

    The progress of a rollout that is not known is anything in [0, 1], and Shapley's value varies with it (bounds
    without an assumption: C. F. Manski, "Nonparametric bounds on treatment effects", American Economic Review 80(2),
    1990).
    """
    ends = [
        shapley(dataclasses.replace(_progress_of(row), own_oracle=own, oracle_oracle=oracle)).video
        for own in _either(row.own_oracle)
        for oracle in _either(row.oracle_oracle)
    ]
    return min(ends), max(ends)


def _progress_of(row: AttributionRow) -> CounterfactualProgress:
    return CounterfactualProgress(row.own_own, row.oracle_own, row.own_oracle, row.oracle_oracle)


def _either(value: float) -> tuple[float, ...]:
    return (0.0, 1.0) if math.isnan(value) else (value,)


def share(rows: Sequence[AttributionRow], part: Sequence[float], lost: Mapping[str, float] | None = None) -> Estimate:
    """Returns which share of the progress lost was lost to a part, with its 95 % interval (over episodes within tasks).

    Args:
        rows: Of which the part is known.
        part: What each row lost to it.
        lost: Progress lost in each task, by all episodes of the run: a task of which only some failures were attributed
            weighs as much as it lost. Default: as much as the rows lost.
    """
    names = np.array([row.task for row in rows])
    values = np.array(part)
    whole = np.array([1.0 - row.progress for row in rows])
    tasks = [names == name for name in sorted(set(names))]
    weights = [1.0 if lost is None else lost[rows[int(own.argmax())].task] / whole[own].sum() for own in tasks]
    parts, wholes = ([x[own] * weight for own, weight in zip(tasks, weights, strict=True)] for x in (values, whole))
    return share_of(parts, wholes)


def video_range(rows: Sequence[AttributionRow], lost: Mapping[str, float] | None = None) -> tuple[Estimate, Estimate]:
    """Returns the least and the most that was lost to video (`video_bounds`), as shares of the progress lost."""
    least, most = (share(rows, ends, lost) for ends in zip(*map(video_bounds, rows), strict=True))
    return least, most
