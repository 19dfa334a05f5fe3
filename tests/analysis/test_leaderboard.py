from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.records.test_run_folder import ROW
from wambench.analysis.intervals import stratified_bootstrap, wilson
from wambench.analysis.leaderboard import leaderboard, to_csv, to_text
from wambench.records import HEADER, Row, load, to_line

GOLDEN = Path(__file__).parents[1] / "golden"


def frame(*rows: Row, weights: str = "") -> pd.DataFrame:
    return pd.DataFrame([dataclasses.asdict(row) | {"weights": weights} for row in rows])


def vary(**values: object) -> Row:
    return dataclasses.replace(ROW, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),  # from the closed form in Newcombe (1998), table I, methods 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_agrees_with_published_values(successes: int, n: int, low: float, high: float) -> None:
    estimate = wilson(successes, n)
    assert estimate.mean == successes / n
    assert estimate.low == pytest.approx(low, abs=5e-5) and estimate.high == pytest.approx(high, abs=5e-5)
    mirrored = wilson(n - successes, n)
    assert mirrored.low == pytest.approx(1 - estimate.high) and mirrored.high == pytest.approx(1 - estimate.low)


def test_wilson_without_trials_knows_nothing() -> None:
    assert all(map(math.isnan, wilson(0, 0)))
    with pytest.raises(ValueError, match="3 successes in 2 trials"):
        wilson(3, 2)


def test_bootstrap_covers_the_mean_and_ignores_differences_between_tasks() -> None:
    rng = np.random.default_rng(0)
    covered, widths, pooled = 0, [], []
    for i in range(200):
        strata = [rng.normal(mean, 0.1, 20) for mean in (0.1, 0.5, 0.9)]
        mean, low, high = stratified_bootstrap(strata, np.random.default_rng(i), draws=500)
        covered += low <= 0.5 <= high
        widths.append(high - low)
        low, high = stratified_bootstrap([np.concatenate(strata)], np.random.default_rng(i), draws=500)[1:]
        pooled.append(high - low)
        assert low <= mean <= high
    assert 180 <= covered <= 198  # 95 % of 200 is 190; the percentile bootstrap of 60 values is a little narrow
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 0.1 / np.sqrt(60), rel=0.05)
    assert np.mean(pooled) > 3 * np.mean(widths)


def test_bootstrap_weighs_episodes_equally_and_repeats_itself() -> None:
    strata = [np.array([0.0, 0.0, 0.0, 1.0]), np.array([1.0])]
    first = stratified_bootstrap(strata, np.random.default_rng(0))
    assert first.mean == 0.4 and first.low == 0.2 and 0.6 <= first.high <= 0.8
    assert first == stratified_bootstrap(strata, np.random.default_rng(0))


def test_bootstrap_of_single_episodes_claims_no_interval() -> None:
    mean, low, high = stratified_bootstrap([np.array([0.2]), np.array([0.6])], np.random.default_rng(0))
    assert mean == 0.4 and math.isnan(low) and math.isnan(high)
    assert all(map(math.isnan, stratified_bootstrap([], np.random.default_rng(0))))


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
    assert to_csv(leaderboard(frame(*bad))).splitlines()[1] == "noop,seen,all,0,3" + "," * 10 + "0,,"


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
    assert (line["progress_low"], line["progress_high"]) == pytest.approx((0.5, 0.7))  # means of the two scenes
    assert (line["seed_lowest"], line["seed_highest"]) == pytest.approx((0.2, 0.9))


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
    assert " ".join(lines[0].split()) == "policy split group n errors progress success at end success ever"
    assert len({line.index("[") for line in lines[1:]}) == 1
