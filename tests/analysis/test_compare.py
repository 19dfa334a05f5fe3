"""`wambench compare`: pairs scenes, tests differences, says what n can show, and refuses what cannot be compared."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.records.test_run_folder import ROW
from wambench.analysis.compare import compare, detectable, holm, sign_flip_p, to_csv, to_text
from wambench.cli import main
from wambench.records import HEADER, Row, to_line

TASKS = {"TurnDial-v0": "motion", "HoistCube-v0": "word"}


def episodes(progress: Sequence[float], policy: str = "a", split: str = "unseen-tasks", **values: object) -> list[Row]:
    """Returns rows of both tasks in turn, with these progresses."""
    rows = []
    for i, value in enumerate(progress):
        task = list(TASKS)[i % 2]
        names = {"policy": policy, "split": split, "task": task, "novelty": TASKS[task], "factor": "all"}
        scene = {"episode": i // 2, "spec_hash": f"{task}{i}", "progress": value}
        rows.append(dataclasses.replace(ROW, **(names | scene | values)))  # type: ignore[arg-type]
    return rows


def run(folder: Path, rows: Sequence[Row]) -> Path:
    folder.mkdir()
    (folder / "episodes.csv").write_text(HEADER + "".join(map(to_line, rows)))
    return folder


def line(table: pd.DataFrame, group: str) -> pd.Series:
    return table[table["group"] == group].iloc[0]


def test_sign_flips_count_every_way_exactly() -> None:
    rng = np.random.default_rng(0)
    # 3 of 3 the same way: 2 of the 8 sign patterns are as far out
    assert sign_flip_p(np.array([0.2, 0.2, 0.2]), rng) == 0.25
    # |1 + 2 - 3| = 0: nothing is less far out
    assert sign_flip_p(np.array([1.0, 2.0, -3.0]), rng) == 1.0
    # |3 + 2 - 1| = 4: +++, ++-, and their mirrors
    assert sign_flip_p(np.array([3.0, 2.0, -1.0, 0.0]), rng) == 0.5
    assert sign_flip_p(np.zeros(5), rng) == 1.0 and math.isnan(sign_flip_p(np.zeros(0), rng))


def test_random_flips_agree_with_all_of_them() -> None:
    differences = np.random.default_rng(1).normal(0.4, 1.0, 14)
    exact = sign_flip_p(differences, np.random.default_rng(0), 2**14)
    assert sign_flip_p(differences, np.random.default_rng(0), 2**14 - 1) == pytest.approx(exact, abs=0.01)
    assert 0.005 < exact < 0.9


def test_the_test_keeps_its_level_and_finds_what_is_said_to_be_detectable() -> None:
    rng, n = np.random.default_rng(2), 40
    null = [sign_flip_p(rng.normal(0.0, 0.3, n), rng, 2000) for _ in range(400)]
    assert np.mean(np.array(null) < 0.05) == pytest.approx(0.05, abs=0.025)
    size = detectable(np.random.default_rng(3).normal(0.0, 0.3, 100_000)) * math.sqrt(100_000 / n)
    found = [sign_flip_p(rng.normal(size, 0.3, n), rng, 2000) < 0.05 for _ in range(400)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)
    assert math.isnan(detectable(np.full(9, 0.2))) and math.isnan(detectable(np.array([0.2])))


def test_holm_on_a_worked_example() -> None:
    corrected = holm([0.01, 0.04, math.nan, 0.03, 0.005])
    assert corrected[:2] == pytest.approx([0.03, 0.06]) and corrected[3:] == pytest.approx([0.06, 0.02])
    assert math.isnan(corrected[2]) and holm([0.7, 0.6]) == [1.0, 1.0]


def test_episodes_are_paired_by_scene_whatever_their_order(tmp_path: Path) -> None:
    ours, theirs = [0.6, 1.0, 0.2, 0.8, 0.4, 0.6], [0.5, 0.5, 0.1, 0.3, 0.3, 0.1]
    a = run(tmp_path / "a", episodes(ours))
    b = run(tmp_path / "b", episodes(theirs, policy="b")[::-1] + episodes([0.9] * 8, policy="b")[6:])
    table = compare([a], [b])
    assert list(table["group"]) == ["all", "motion", "word", "HoistCube-v0", "TurnDial-v0"]
    whole = line(table, "all")
    assert (whole["n"], whole["n_left_out"]) == (6, 0)
    assert (whole["a_unpaired"], whole["b_unpaired"]) == (0, 2)  # the fourth episodes of b have no partner
    assert "0, 2" in to_text(table, "x", "y").splitlines()[3] and "unpaired" in to_text(table, "x", "y")
    assert whole["difference"] == pytest.approx(0.3) and whole["a"] == pytest.approx(0.6)
    assert -0.1 < whole["low"] < 0.1 < 0.5 < whole["high"] < 0.7  # within each task nothing varies, but n is 6
    assert line(table, "motion")["difference"] == pytest.approx(0.1)
    assert whole["p"] == 2 / 2**6 and whole["p_holm"] == 3 * whole["p"]  # two kinds of novelty are their only task
    assert line(table, "motion")["p_holm"] == line(table, "TurnDial-v0")["p_holm"]
    assert to_csv(compare([a], [b])) == to_csv(table)
    mirrored = line(compare([b], [a]), "all")
    assert mirrored["difference"] == pytest.approx(-whole["difference"]) and mirrored["p"] == whole["p"]
    assert (mirrored["low"], mirrored["high"]) == pytest.approx((-whole["high"], -whole["low"]))


def test_all_and_the_only_task_are_one_test(tmp_path: Path) -> None:
    a, b = (run(tmp_path / name, episodes([value] * 10, policy=name)[::2]) for name, value in (("a", 0.8), ("b", 0.5)))
    table = compare([a], [b])
    assert list(table["group"]) == ["all", "motion", "TurnDial-v0"] and set(table["n"]) == {5}
    assert list(table["p_holm"]) == list(table["p"]) == [2 / 2**5] * 3


def test_no_interval_is_narrower_than_its_n_allows(tmp_path: Path) -> None:
    """Five equal differences of 0.3 have p = 0.06; an interval of no width beside that contradicted it."""
    a, b = (run(tmp_path / name, episodes([value] * 10, policy=name)[::2]) for name, value in (("a", 0.8), ("b", 0.5)))
    whole = line(compare([a], [b]), "all")
    assert whole["p"] > 0.05 and whole["low"] < 0.0 < whole["high"] < 1.0
    single = run(tmp_path / "c", episodes([0.8], policy="c"))
    wide = line(compare([single], [b]), "all")
    assert wide["n"] == 1 and wide["high"] - wide["low"] > 1.5 and wide["b_unpaired"] == 4
    assert "nan" not in to_text(compare([single], [b]), "x", "y")


def test_a_group_that_one_side_lacks_is_said(tmp_path: Path) -> None:
    seen = episodes([0.5, 0.5], split="seen")
    a = run(tmp_path / "a", episodes([0.5, 0.5]) + seen)
    table = compare([a], [run(tmp_path / "b", episodes([0.1, 0.2], policy="b"))])
    nothing = line(table, "seen all")
    assert (nothing["n"], nothing["a_unpaired"], nothing["b_unpaired"]) == (0, 2, 0) and math.isnan(nothing["p"])
    assert "nan" not in to_text(table, "x", "y")


def test_episodes_that_a_run_of_a_side_lacks_are_unpaired(tmp_path: Path) -> None:
    runs = [run(tmp_path / "a0", episodes([1.0, 0.0, 1.0, 0.0])), run(tmp_path / "a1", episodes([0.0, 0.0]))]
    whole = line(compare(runs, [run(tmp_path / "b", episodes([0.0] * 4, policy="b"))]), "all")
    assert (whole["n"], whole["a_unpaired"], whole["b_unpaired"]) == (2, 2, 2) and whole["a"] == 0.25
    assert (whole["a_lowest"], whole["a_highest"]) == (0.0, 0.5) and whole["b_lowest"] == whole["b_highest"]
    shown = to_text(compare(runs, [runs[1]]), "x", "y")
    assert "0.250 (0.000 to 0.500)" in shown


def test_errors_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = episodes([0.5, 0.5, 0.5, 0.5])
    a = run(tmp_path / "a", rows)
    b = run(tmp_path / "b", [dataclasses.replace(rows[0], status="env_error", progress=math.nan), *rows[1:]])
    whole = line(compare([a], [b]), "all")
    assert (whole["n"], whole["n_left_out"], whole["difference"], whole["p"]) == (3, 1, 0.0, 1.0)


def test_runs_of_a_side_are_averaged_episode_by_episode(tmp_path: Path) -> None:
    seeds = [run(tmp_path / f"a{i}", episodes(p)) for i, p in enumerate(([1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]))]
    other = run(tmp_path / "b", episodes([0.0] * 4, policy="b"))
    whole = line(compare(seeds, [other]), "all")
    assert whole["a"] == 0.5 and whole["n"] == 4 and whole["detectable"] > 0
    failed = run(tmp_path / "c", episodes([1.0] * 4, status="timeout"))
    assert line(compare([seeds[0], failed], [other]), "all")["n_left_out"] == 4


def trained(folder: Path, values: Sequence[float], weights: str = "") -> list[Path]:
    """Returns runs of as many trainings, each with one progress in 20 episodes; all with `weights` if it is given."""
    made = []
    for i, value in enumerate(values):
        path = run(folder / f"{folder.name}{i}", episodes([value] * 20, policy=folder.name))
        (path / "run.json").write_text(json.dumps({"config": {}, "weights_hash": weights or f"{folder.name}{i}"}))
        made.append(path)
    return made


def test_the_interval_may_be_over_the_training_seeds_of_both_sides(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).mkdir()
    a, b = trained(tmp_path / "a", (0.5, 0.6, 0.7)), trained(tmp_path / "b", (0.4, 0.5, 0.6))
    scenes, both = (line(compare(a, b, over), "all") for over in ("scenes", "scenes+seeds"))
    assert (scenes["interval"], both["interval"]) == ("scenes", "scenes+seeds")
    assert scenes["low"] > 0.0 > both["low"] and both["difference"] == scenes["difference"]
    assert both["p"] == scenes["p"]  # the test is over scenes
    note = to_text(compare(a, b, "scenes+seeds"), "x", "y").splitlines()[-1]
    assert "and over training seeds" in note and "test over scenes" in note
    alone = trained(tmp_path / "c", (0.4,))
    assert line(compare(a, alone, "scenes+seeds"), "all")["interval"] == "scenes"
    copies = trained(tmp_path / "d", (0.4, 0.5, 0.6), weights="the same")
    assert line(compare(a, copies, "scenes+seeds"), "all")["interval"] == "scenes"
    with pytest.raises(ValueError, match="interval 'seed'"):
        compare(a, b, "seed")


def test_what_cannot_be_compared_is_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    a = run(tmp_path / "a", episodes([0.5, 0.5]))
    seen = run(tmp_path / "seen", episodes([0.5, 0.5], split="seen"))
    with pytest.raises(ValueError, match=r"no episodes in common: .*a has 2 of split unseen-tasks; .*2 of split seen"):
        compare([a], [seen])
    other = run(tmp_path / "other", episodes([0.5, 0.5], spec_hash="elsewhere"))
    with pytest.raises(ValueError, match=r"different scenes in 2 of 2 episodes, e\.g\. episode 0 of HoistCube-v0"):
        compare([a], [other])
    assert main(["compare", str(a), str(tmp_path / "none")]) == 2
    assert "no run at" in capsys.readouterr().err
    assert main(["compare", str(a), ","]) == 2
    assert "both sides need a run" in capsys.readouterr().err


def test_the_command_prints_and_writes_the_table(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    a = run(tmp_path / "a", episodes([0.9] * 40))
    b = run(tmp_path / "b", episodes([0.1, 0.3] * 20, policy="b"))
    out = tmp_path / "table.csv"
    assert main(["compare", str(a), f"{b},{b}", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"A: {a}" in printed and "<0.0001" in printed and "Holm" in printed and "80% power" in printed
    table = pd.read_csv(out)
    assert list(table["group"]) == ["all", "motion", "word", "HoistCube-v0", "TurnDial-v0"]
    assert to_text(table, "x", "y").startswith("A: x\nB: y\n")
