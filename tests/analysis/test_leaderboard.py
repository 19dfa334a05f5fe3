from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.records.test_run_folder import ROW
from wambench.analysis.leaderboard import leaderboard, to_csv, to_text
from wambench.records import HEADER, Row, load, to_line

GOLDEN = Path(__file__).parents[1] / "golden"


def frame(*rows: Row, weights: str = "") -> pd.DataFrame:
    return pd.DataFrame([dataclasses.asdict(row) | {"weights": weights} for row in rows])


def vary(**values: object) -> Row:
    return dataclasses.replace(ROW, **values)  # type: ignore[arg-type]


def test_errors_are_no_failures_and_do_not_vanish() -> None:
    good = [vary(episode=i, progress=1.0, success_end=True) for i in range(3)]
    bad = [
        vary(episode=3, status="env_error", progress=math.nan, success_end=False),
        vary(episode=4, status="policy_error", progress=0.0, success_end=False),
        vary(episode=5, status="timeout", progress=0.5, success_end=False),
    ]
    line = leaderboard(frame(*good, *bad)).iloc[0]
    assert (line["n"], line["n_error"], line["progress"], line["success_end"]) == (3, 3, 1.0, 1.0)
    nothing = leaderboard(frame(*bad)).iloc[0]
    assert (nothing["n"], nothing["n_error"]) == (0, 3) and math.isnan(nothing["progress"])
    assert to_csv(leaderboard(frame(*bad))).splitlines()[1] == "noop,seen,all,0,3" + "," * 10 + "0,,,v0,0,,,,scenes"


def test_training_seeds_are_no_episodes() -> None:
    """Three trainings on the same two scenes are two scenes, and what the trainings differ by is beside them."""
    progress = {"a": (0.0, 0.4), "b": (0.5, 0.9), "c": (1.0, 0.8)}
    tables = [
        frame(*(vary(episode=i, progress=p, success_end=p == 1.0) for i, p in enumerate(values)), weights=weights)
        for weights, values in progress.items()
    ]
    line = leaderboard(pd.concat(tables)).iloc[0]
    assert (line["n"], line["seeds"]) == (2, 3)
    assert line["progress"] == pytest.approx(0.6) and line["success_end"] == pytest.approx(1 / 6)
    assert line["progress_low"] < 0.3 and line["progress_high"] > 0.8  # two scenes say little, however alike
    assert (line["seed_lowest"], line["seed_highest"]) == pytest.approx((0.2, 0.9))


def test_the_spread_of_training_seeds_stands_beside_the_interval() -> None:
    """Two trainings of 1.0 and 0.0: every scene has a mean of 0.5, which says nothing of the next training."""
    tables = [frame(*(vary(episode=i, progress=p) for i in range(5)), weights=w) for w, p in (("a", 1.0), ("b", 0.0))]
    shown = to_text(leaderboard(pd.concat(tables))).splitlines()
    assert "training seeds" in shown[0] and "2: 0.000 to 1.000" in shown[1] and "0.500 [0.500, 0.500]" not in shown[1]
    assert "training seeds" not in to_text(leaderboard(frame(ROW)))


def trained(**progress: float) -> pd.DataFrame:
    """Returns rows of trainings, each with one progress in all of twenty scenes."""
    return pd.concat(
        frame(*(vary(episode=i, progress=p, success_end=p == 1.0) for i in range(20)), weights=w)
        for w, p in progress.items()
    )


def test_intervals_may_be_over_training_seeds_as_well() -> None:
    rows = trained(a=0.4, b=0.5, c=0.6)
    scenes, both = (leaderboard(rows, interval=over).iloc[0] for over in ("scenes", "scenes+seeds"))
    assert (scenes["interval"], both["interval"]) == ("scenes", "scenes+seeds")
    assert both["progress"] == scenes["progress"] and both["progress_low"] < 0.3 < scenes["progress_low"]
    shown = to_text(leaderboard(rows, interval="scenes+seeds")).splitlines()[-1]
    assert "scenes of the same tasks and over training seeds]" in shown
    assert "over training seeds" not in to_text(leaderboard(rows))
    assert to_csv(leaderboard(rows)) == to_csv(leaderboard(rows, interval="scenes"))
    with pytest.raises(ValueError, match=r"interval 'seeds'.*scenes\+seeds"):
        leaderboard(rows, interval="seeds")


def test_two_training_seeds_are_too_few_for_an_interval_over_them() -> None:
    two = leaderboard(trained(a=0.4, b=0.6), interval="scenes+seeds")
    assert two.iloc[0]["interval"] == "scenes" and to_csv(two) == to_csv(leaderboard(trained(a=0.4, b=0.6)))
    other = trained(a=0.4, b=0.5, c=0.6).assign(policy="other")
    shown = to_text(leaderboard(pd.concat([trained(a=0.4, b=0.6), other]), interval="scenes+seeds"))
    assert "and over training seeds where there are 3 or more" in shown


def test_an_error_of_one_seed_leaves_the_scene_out_of_the_means_of_all() -> None:
    rows = trained(a=0.4, b=0.4, c=0.4)
    odd = (rows["episode"] == 0) & (rows["weights"] == "a")
    wrong = rows.assign(
        status=rows["status"].mask(odd, "timeout"), progress=rows["progress"].mask(rows["episode"] == 0, 1)
    )
    line = leaderboard(wrong, interval="scenes+seeds").iloc[0]
    same = leaderboard(wrong[wrong["episode"] > 0], interval="scenes+seeds").iloc[0]
    assert line["n_error"] == 1 and list(line[["n", "progress_low", "progress_high"]]) == list(
        same[["n", "progress_low", "progress_high"]]
    )


@pytest.mark.parametrize("tasks", [1, 9])
def test_progress_of_nothing_but_successes_is_no_surer_than_the_rate(tasks: int) -> None:
    rows = [vary(task=f"T{k}", episode=i, progress=1.0, success_end=True) for k in range(tasks) for i in range(5)]
    line = leaderboard(frame(*rows)).iloc[0]
    assert (line["progress_low"], line["progress_high"]) == (line["success_end_low"], 1.0)
    single = leaderboard(frame(*rows[::5])).iloc[0]
    assert single["progress_low"] < 0.75 and not math.isnan(single["progress_low"])


def test_lines_may_be_of_tasks() -> None:
    rows = [vary(task=task, factor="all", novelty="word") for task in ("B", "A")] + [vary(task="A", factor="camera")]
    assert list(leaderboard(frame(*rows), "task")["group"]) == ["A", "B", "camera: A"]
    with pytest.raises(ValueError, match="grouping"):
        leaderboard(frame(ROW), "verb")


def test_an_error_of_one_seed_leaves_the_scene_out_of_all() -> None:
    wrong = vary(episode=1, status="policy_error", progress=0.0)
    tables = [
        frame(vary(episode=0, progress=1.0), last, weights=w) for w, last in (("a", wrong), ("b", vary(episode=1)))
    ]
    line = leaderboard(pd.concat(tables)).iloc[0]
    assert (line["n"], line["n_error"], line["progress"]) == (1, 1, 1.0)


def test_seeds_with_other_episodes_are_refused() -> None:
    tables = [frame(vary(episode=0), weights="a"), frame(vary(episode=1), weights="b")]
    with pytest.raises(ValueError, match="2 training seeds have not all played episode 0"):
        leaderboard(pd.concat(tables))


def test_single_factors_and_novelties_are_groups_of_their_own() -> None:
    rows = [
        vary(split="unseen-tasks", factor="all", novelty=n, task=n, progress=p)
        for n, p in [("word", 1.0), ("motion", 0.0)]
    ]
    rows += [vary(split="unseen-tasks", factor="camera", novelty="word", progress=0.25)]
    table = leaderboard(frame(*rows))
    assert dict(zip(table["group"], table["progress"], strict=True)) == {
        "all": 0.5,
        "motion": 0.0,
        "word": 1.0,
        "camera": 0.25,
    }
    assert list(leaderboard(frame(ROW))["group"]) == ["all"]


def example() -> list[Row]:
    """Returns the rows of the golden file: two policies, two splits, errors and a single factor among them."""
    rng = np.random.default_rng(7)
    novelties = {"LiftCube-v0": "seen", "PressButton-v0": "seen", "TurnDial-v0": "motion", "HoistCube-v0": "word"}
    rows = []
    for policy, skill in (("noop", 0.0), ("dreamzero", 0.7)):
        for task, novelty in novelties.items():
            split = "seen" if novelty == "seen" else "unseen-tasks"
            for factor in ("none",) if split == "seen" else ("all", "camera"):
                for episode in range(5):
                    progress = float(rng.binomial(4, skill)) / 4
                    status = "env_error" if rng.random() < 0.06 else "ok"
                    values = {"progress": progress, "success_end": progress == 1, "success_ever": progress >= 0.75}
                    names = {"policy": policy, "split": split, "task": task, "novelty": novelty, "factor": factor}
                    rows.append(vary(**names, **values, episode=episode, status=status))
    return rows


def test_golden_leaderboard(golden: Callable[[str, str], None], tmp_path: Path) -> None:
    golden("episodes.csv", HEADER + "".join(map(to_line, example())))
    golden("leaderboard.csv", to_csv(leaderboard(load([GOLDEN / "episodes.csv"]))))


def test_bytes_do_not_depend_on_the_order_of_runs(tmp_path: Path) -> None:
    lines = [to_line(row) for row in example()]
    runs = []
    for i in range(3):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "episodes.csv").write_text(HEADER + "".join(lines[i::3][:: 1 if i else -1]))
        runs.append(tmp_path / str(i))
    expected = (GOLDEN / "leaderboard.csv").read_text()
    assert to_csv(leaderboard(load(runs))) == to_csv(leaderboard(load(runs[::-1]))) == expected


def test_table_for_people_shows_n_and_intervals_beside_every_number() -> None:
    lines = to_text(leaderboard(load([GOLDEN / "episodes.csv"]))).splitlines()
    assert (
        " ".join(lines[0].split()) == "policy split group n errors progress success at end success ever task versions"
    )
    assert len({line.index("[") for line in lines[1:-1]}) == 1 and "95% interval" in lines[-1]


def test_versions_of_the_tasks_are_said_and_never_mixed() -> None:
    old, new, other = vary(task="A-v0"), vary(task="A-v1", episode=1), vary(task="B-v1")
    assert leaderboard(frame(old)).iloc[0]["versions"] == "v0"
    assert leaderboard(frame(old, other)).iloc[0]["versions"] == "v0 v1"
    assert "task versions" in to_text(leaderboard(frame(old))).splitlines()[0]
    with pytest.raises(ValueError, match="has rows of A-v0 and A-v1, which are two tasks"):
        leaderboard(frame(old, new))


def test_video_skill_weighs_episodes_by_what_moves_in_them() -> None:
    rows = [
        vary(episode=0, video_frames=2, video_error=10.0, kept_error=100.0),
        vary(episode=1, video_frames=1, video_error=50.0, kept_error=20.0),
        vary(episode=2),  # nothing moved, or it was recorded by an earlier version
    ]
    line = leaderboard(frame(*rows)).iloc[0]
    assert (line["video_frames"], line["video_skill"]) == (3, pytest.approx(0.5))
    assert line["video_skill_low"] < 0.5 < line["video_skill_high"]
    assert "video skill" in to_text(leaderboard(frame(*rows))).splitlines()[0]
    assert "video skill" not in to_text(leaderboard(frame(ROW)))
