"""The arithmetic of attribution, on constructed rollouts."""

import dataclasses
import itertools

import numpy as np
import pytest

from wambench.attribution import shapley as attribution
from wambench.attribution.shapley import CounterfactualProgress, shapley
from wambench.attribution.table import AttributionRow


def test_shares_add_up_to_what_was_lost() -> None:
    for values in itertools.product((0.0, 0.3, 0.7, 1.0), repeat=4):
        progress = CounterfactualProgress(*values)
        shares = shapley(progress)
        assert shares.video + shares.action + shares.unattributed == pytest.approx(1.0 - progress.own_own, abs=1e-12)


def test_what_could_not_be_read_is_a_part_and_bounds_what_video_lost() -> None:
    row = AttributionRow(
        "p", "seen", "T-v0", "seen", "none", 0, 1, "h", 0.2, own_own=0.2, oracle_own=0.9, oracle_oracle=0.95
    )
    row = dataclasses.replace(row, d2="abstain", timing=0.0)
    parts = attribution.parts(row)
    assert parts is not None and sum(parts.values()) == pytest.approx(1.0 - row.progress)
    assert parts["unread"] == pytest.approx(0.75) and parts["unattributed"] == pytest.approx(0.05)
    low, high = attribution.video_bounds(row)
    for guess in np.linspace(0.0, 1.0, 11):
        share = attribution.shapley(CounterfactualProgress(0.2, 0.9, float(guess), 0.95)).video
        assert low - 1e-9 <= share <= high + 1e-9
    assert high - low == pytest.approx(0.5)
    known = dataclasses.replace(row, d2="video", own_oracle=0.3, video=0.675, action=0.075, unattributed=0.05)
    assert attribution.video_bounds(known) == pytest.approx((0.675, 0.675))
    assert attribution.parts(dataclasses.replace(row, d2="")) is None


def test_a_task_weighs_as_much_as_it_lost_however_few_of_its_failures_were_attributed() -> None:
    def row(task: str, progress: float) -> AttributionRow:
        return AttributionRow("p", "seen", task, "seen", "none", 0, 1, "h", progress)

    rows = [row("A-v0", 0.0), row("A-v0", 0.5), row("B-v0", 0.0)]
    parts = [1.0, 0.0, 0.25]  # of A's loss two thirds, of B's a quarter
    assert attribution.share(rows, parts).mean == pytest.approx(1.25 / 2.5)
    weighed = attribution.share(rows, parts, {"A-v0": 3.0, "B-v0": 9.0})
    assert weighed.mean == pytest.approx((3.0 * 2 / 3 + 9.0 / 4) / 12.0)
    assert weighed.low <= weighed.mean <= weighed.high
