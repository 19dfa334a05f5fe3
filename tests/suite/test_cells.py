"""A measurement that is stopped is continued: what is known is not measured again."""

from pathlib import Path

import pandas as pd
import pytest

from wambench.suite import attacks, expert_success
from wambench.suite.cells import Cell, Found, cells_file, measure_all

CELLS = [Cell("A-v1", condition, 3, 0) for condition in ("one", "two")]


def measured(cell: Cell) -> Found:
    return {"length": len(cell.condition)}


def refused(cell: Cell) -> Found:
    raise AssertionError(f"{cell} was measured again")


def test_what_is_known_is_not_measured_again(tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    first = measure_all(CELLS, measured, 1, out, "test")
    assert first == {CELLS[0]: {"length": 3}, CELLS[1]: {"length": 3}}
    assert measure_all(CELLS, refused, 1, out, "test") == first
    with cells_file(out).open("a") as file:
        file.write('{"task": "A-v1", "condi')  # a kill in the middle of a line
    assert measure_all(CELLS, refused, 1, out, "test") == first


def test_a_task_whose_version_rose_is_measured_again(tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    measure_all(CELLS, measured, 1, out, "test")
    with pytest.raises(AssertionError, match="A-v2"):
        measure_all([Cell("A-v2", "one", 3, 0)], refused, 1, out, "test")


def test_a_promise_that_is_not_kept_is_named() -> None:
    row = {"task": "A", "version": 1, "verb": "a", "novelty": "seen", "horizon": 100, "n": 50, "steps": 50.0}
    row |= {"steps_95": 60.0, "train_success": 1.0, "train_progress": 1.0, "unseen_success": 0.9}
    row |= {"unseen_progress": 0.95, "after_random_success": 0.78, "after_random_progress": 0.9, "noop_progress": 0.0}
    assert expert_success.shortfalls(pd.DataFrame([row])) == [
        "A: success 0.90 in unseen environments, below 0.95",
        "A: success 0.78 after random actions, below 0.8",
    ]
    late = {**row, "unseen_success": 1.0, "after_random_success": 1.0, "steps_95": 70.0, "noop_progress": 0.1}
    assert expert_success.shortfalls(pd.DataFrame([late])) == [
        "A: doing nothing makes progress 0.10",
        "A: horizon 100 below 1.5 x 70 steps of the expert",
    ]


def test_an_attack_that_pays_is_named() -> None:
    row = {"task": "A-v1", "n": 4, "progress": 0.2, "most": 0.5, "successes": 0, "breaches": 0, "allowed": ""}
    rows = [{**row, "attack": name} for name in attacks.ATTACKS]
    rows[1] |= {"most": 1.0, "successes": 2, "breaches": 2}
    rows[2] |= {"most": 1.0, "successes": 4, "allowed": "it is what the words ask for"}
    frame = pd.DataFrame(rows)
    assert attacks.shortfalls(frame) == ["A-v1: shove earned up to 1.00, succeeded in 2 of 4"]
    assert "| A-v1 | 0.50 | 1.00 (2) | 1.00 (4)* |" in attacks.markdown(frame)
    assert "- it is what the words ask for: A-v1 (sweep off)" in attacks.markdown(frame)
