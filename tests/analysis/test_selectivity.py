"""Shares of who goes for what was named: what counts, what is left out, and pairs with and without."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pandas as pd
import pytest

from tests.records.test_run_folder import ROW
from wambench import records
from wambench.analysis.intervals import text
from wambench.analysis.selectivity import conditions, differences, judged, to_csv, to_text
from wambench.cli import main
from wambench.records import HEADER, Row, to_line

ROOT = Path(__file__).parents[2]
CONDITIONS = {"none": "alone", "distractors": "distractors", "lookalike": "look-alike"}


def episodes(factor: str, first: list[str], split: str = "seen-v1", **values: object) -> list[Row]:
    """Returns rows of one task whose first touched objects are these; "" for none."""
    scene = {"named": "red_cube", "factor": factor, "split": split}
    return [
        dataclasses.replace(
            ROW,
            **(scene | {"episode": i, "seed": i, "first_touched": one, "nearest": one or "bin_lid"} | values),  # type: ignore[arg-type]
        )
        for i, one in enumerate(first)
    ]


def frame(rows: list[Row], weights: str = "w") -> pd.DataFrame:
    return pd.DataFrame([dataclasses.asdict(row) | {"weights": weights} for row in rows])


def test_an_episode_without_contact_is_no_choice() -> None:
    rows = episodes("none", ["red_cube", "red_cube", "red_cube", "blue_cube", ""])
    line = conditions(judged(frame(rows)))[0]
    assert (line.policy, line.split, line.condition, line.n, line.n_touched) == ("noop", "seen-v1", "none", 5, 4)
    assert line.named_first.mean == 0.75 and line.named_nearest.mean == pytest.approx(0.6)
    assert 0.2 < line.named_first.low < 0.5 and 0.9 < line.named_first.high < 1.0
    assert line.instead == "blue_cube 1"
    nothing = conditions(judged(frame(episodes("none", ["", ""]))))[0]
    assert nothing.n_touched == 0 and math.isnan(nothing.named_first.mean) and nothing.named_nearest.mean == 0.0


def test_errors_and_prompts_that_name_nothing_are_left_out() -> None:
    rows = episodes("none", ["red_cube", "blue_cube"])
    odd = [dataclasses.replace(rows[1], status="timeout"), dataclasses.replace(rows[1], named="", episode=7)]
    assert conditions(judged(frame([rows[0], *odd])))[0].n == 1
    old = [dataclasses.replace(row, named="", first_touched="", nearest="") for row in rows]
    with pytest.raises(ValueError, match="no row tells which object was touched"):
        judged(frame(old))


def test_what_was_touched_instead_is_told_most_frequent_first() -> None:
    touched = ["green_cube"] * 3 + ["blue_cube"] * 3 + ["bin"] + ["distractor_can"] + ["red_cube"]
    assert (
        conditions(judged(frame(episodes("lookalike", touched))))[0].instead == "blue_cube 3, green_cube 3, bin 1, ..."
    )


def test_pairs_are_of_the_same_scene_across_splits() -> None:
    alone = episodes("none", ["red_cube", "red_cube", "red_cube", ""], progress=0.8)
    beside = episodes(
        "distractors", ["red_cube", "distractor_can", "blue_cube", "red_cube"], "unseen-envs-v1", progress=0.5
    )
    other = [dataclasses.replace(beside[0], episode=9, seed=9)]
    rows = judged(frame(alone + beside + other))
    change = differences(rows)
    assert len(change) == 1
    assert (change[0].condition, change[0].n, change[0].n_touched) == ("distractors", 4, 3)
    assert change[0].progress.mean == pytest.approx(-0.3) and change[0].named_first.mean == pytest.approx(-2 / 3)
    assert change[0].progress.low < -0.3 < change[0].progress.high
    assert differences(judged(frame(beside))) == []


def test_training_seeds_are_players_of_their_own() -> None:
    rows = pd.concat([frame(episodes("none", ["red_cube"]), "x"), frame(episodes("none", ["blue_cube"]), "y")])
    assert [(line.policy, line.named_first.mean) for line in conditions(judged(rows))] == [
        ("noop (0)", 1.0),
        ("noop (1)", 0.0),
    ]


def test_tables_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = episodes("none", ["red_cube"] * 4) + episodes("lookalike", ["red_cube", "green_cube", "green_cube", ""])
    shown = to_text(conditions(judged(frame(rows))), differences(judged(frame(rows)))).splitlines()
    assert shown[0].split("  ")[0] == "policy" and "green_cube 2" in shown[1]
    assert "with - without" in shown[4] and "-0.67" in shown[5] and "nan" not in "".join(shown)
    assert (
        to_csv(conditions(judged(frame(rows))))
        .splitlines()[0]
        .startswith("policy,split,condition,n,n_touched,progress,")
    )
    (tmp_path / "episodes.csv").write_text(HEADER + "".join(map(to_line, rows)))
    out = tmp_path / "table.csv"
    assert main(["selectivity", str(tmp_path), "--out", str(out)]) == 0
    assert "lookalike" in capsys.readouterr().out and len(out.read_text().splitlines()) == 3
    assert main(["selectivity", str(tmp_path / "none")]) == 2
    assert "no run at" in capsys.readouterr().err


def test_the_pilot_of_the_docs_is_that_of_its_rows() -> None:
    rows = judged(records.load(sorted((ROOT / "results" / "selectivity").iterdir())))
    told = []
    for line in conditions(rows):
        policy, told_blue, _ = line.policy.partition("(instruction_of=BinThenLift)")
        condition = "told blue" if told_blue else CONDITIONS[line.condition]
        shares = (str(line.n), text(line.progress, 2), str(line.n_touched), text(line.named_first, 2))
        told.append(f"| `{policy}` | {condition} | {' | '.join(shares)} | {line.instead} |".replace("|  |", "| |"))
    page = (ROOT / "docs" / "selectivity.md").read_text().splitlines()
    assert len(told) == 8 and [line for line in told if line not in page] == []
