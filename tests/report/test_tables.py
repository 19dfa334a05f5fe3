from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path

import pytest

from tests.report.conftest import play
from wambench.analysis import compare
from wambench.conventions import CONVENTIONS
from wambench.records import load
from wambench.report import tables


def test_numbers_are_json() -> None:
    assert [tables.number(value) for value in (0.123456, math.nan, math.inf, 1)] == [0.1235, None, None, 1.0]


def test_splits_have_the_order_of_the_suite() -> None:
    assert [one["name"] for one in tables.splits(["mine", "unseen-tasks", "seen"])] == ["seen", "unseen-tasks", "mine"]


@pytest.mark.parametrize("name", CONVENTIONS)
def test_robot_is_that_of_the_convention(name: str) -> None:
    convention = json.loads(json.dumps(dataclasses.asdict(CONVENTIONS[name])))
    assert tables.robot({"config": {}, "convention": convention}) == name
    assert tables.robot({"config": {"robot": "droid"}, "convention": convention}) == "droid"
    assert tables.robot({}) == next(iter(CONVENTIONS))
    assert tables.robot({"convention": {"action": "hover"}}) == "hover"


def test_comparisons_are_those_of_the_command(tmp_path: Path) -> None:
    runs = {
        "steady": play("tests.stubs:Steady", tmp_path / "a", name="steady"),
        "slow": play("tests.stubs:Steady", tmp_path / "b", name="slow", policy_args={"speed": 0.3}),
        "noop": play("noop", tmp_path / "c"),
    }
    made, notes = tables.comparisons(load(runs.values()))
    assert notes == [] and len(made) == 3
    for one in made:
        table = compare.compare([runs[one["a"]]], [runs[one["b"]]])
        assert [line["group"] for line in one["lines"]] == list(table["group"])
        expected = [tables.number(value) for value in table["difference"]]
        assert [line["difference"][0] for line in one["lines"]] == expected
        assert [line["holm"] for line in one["lines"]] == [tables.number(value) for value in table["p_holm"]]
    assert {(one["a"], one["b"]) for one in made} == set(itertools.combinations(["steady", "slow", "noop"], 2))


def test_what_is_not_compared_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("noop", "random", "tests.stubs:Steady")
    runs = [play(name, tmp_path / str(i), 1) for i, name in enumerate(names)]
    rows = load(runs)
    monkeypatch.setattr(tables, "COMPARED", 2)
    made, notes = tables.comparisons(rows)
    assert len(made) == 1 and "2 policies with the highest progress; 1 more have none here" in notes[0]
    monkeypatch.undo()
    rows.loc[rows["policy"] == "noop", "spec_hash"] = "another"
    made, notes = tables.comparisons(rows)
    assert len(made) == 1 and "different scenes" in notes[0] and "(and 1 more)" in notes[0]
