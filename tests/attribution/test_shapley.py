"""The arithmetic of attribution, on constructed cells."""

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from wambench.attribution import shapley as attribution
from wambench.attribution import table
from wambench.attribution.shapley import CounterfactualProgress, shapley
from wambench.attribution.table import AttributionRow, to_csv
from wambench.attribution.verdicts import Fatal, d2_verdict, d3_verdict


def test_shares_add_up_to_what_was_lost() -> None:
    for values in itertools.product((0.0, 0.3, 0.7, 1.0), repeat=4):
        cells = CounterfactualProgress(*values)
        shares = shapley(cells)
        assert shares.video + shares.action + shares.unattributed == pytest.approx(1.0 - cells.own_own, abs=1e-12)


@pytest.mark.parametrize(
    ("cells", "verdict"),
    [
        (CounterfactualProgress(0.2, 1.0, 0.2, 1.0), "video"),
        (CounterfactualProgress(0.2, 0.2, 1.0, 1.0), "action"),
        (CounterfactualProgress(0.2, 0.2, 0.2, 1.0), "both"),  # each alone helps nothing
        (CounterfactualProgress(0.2, 1.0, 1.0, 1.0), "both"),  # either alone is enough
        (CounterfactualProgress(0.2, 0.2, 0.2, 0.2), "instrument"),
        (CounterfactualProgress(1.0, 1.0, 1.0, 1.0), "none"),
        (CounterfactualProgress(0.2, math.nan, 1.0, 1.0), "abstain"),
    ],
)
def test_second_definition(cells: CounterfactualProgress, verdict: str) -> None:
    found, confidence = d2_verdict(cells)
    assert found == verdict
    assert 0.0 <= confidence <= 1.0


def test_what_latency_alone_cost_is_blamed_on_it() -> None:
    assert d2_verdict(CounterfactualProgress(1.0, 1.0, 1.0, 1.0), timing=0.6)[0] == "timing"
    assert d2_verdict(CounterfactualProgress(0.3, 1.0, 0.3, 1.0), timing=0.1)[0] == "video"


@pytest.mark.parametrize(
    ("fatal", "verdict"),
    [
        (Fatal(False, False), "instrument"),
        (Fatal(True, True), "stall"),
        (Fatal(True, False, by_video=True, by_action=True, by_action_prompt=True), "video"),
        (Fatal(True, False, by_video=True, by_action=True, by_action_prompt=True, action_alone=True), "both"),
        (Fatal(True, False, by_action=True, by_action_prompt=True, action_alone=True), "action"),
        (Fatal(True, False, by_action=True, by_action_prompt=False), "timing"),
        (Fatal(True, False), "contact"),
    ],
)
def test_third_definition(fatal: Fatal, verdict: str) -> None:
    assert d3_verdict(fatal)[0] == verdict


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        AttributionRow(
            "p", "seen", "LiftCube-v0", "seen", "none", 3, 7, "abc", 0.6, own_own=0.6, d2="video", missing="a, b"
        ),
        AttributionRow("p", "seen", "LiftCube-v0", "seen", "none", 4, 8, "abd", 1 / 3),
    ]
    path = tmp_path / table.TABLE
    path.write_text(to_csv(rows))
    first, second = table.read(tmp_path)
    assert first.own_own == 0.6 and math.isnan(first.oracle_own) and first.missing == "a, b"
    assert dataclasses.replace(second, progress=1 / 3).key == rows[1].key


def test_a_torn_table_is_refused_or_repaired(tmp_path: Path) -> None:
    row = AttributionRow("p", "seen", "LiftCube-v0", "seen", "none", 3, 7, "abc", 0.6)
    path = tmp_path / table.TABLE
    path.write_text(to_csv([row]) + "p,se")
    assert len(table.read(path, torn=True)) == 1
    with pytest.raises(ValueError, match="cut off"):
        table.read(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="line 1"):
        table.read(path)


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


def test_a_chunk_that_cannot_be_read_is_not_blamed() -> None:
    fatal = Fatal(solvable_start=True, solvable_end=False, readable=False, by_video=True, by_action=True)
    assert d3_verdict(dataclasses.replace(fatal, by_action_prompt=True))[0] == "abstain"
    assert d3_verdict(fatal)[0] == "timing"  # that it came too late is known without its frames
