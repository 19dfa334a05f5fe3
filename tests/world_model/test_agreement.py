"""Ranks, their correlation, and what a wrong order costs: by hand, and where scenes are resampled."""

import numpy as np
import pytest

from wambench.world_model import agreement

RNG = np.random.default_rng


def test_ranks_share_the_mean_of_equal_places() -> None:
    assert agreement.ranks(np.array([0.3, 0.1, 0.3, 0.9])).tolist() == [2.5, 1.0, 2.5, 4.0]
    assert agreement.ranks(np.array([0.3, 0.1 + 0.2])).tolist() == [1.5, 1.5]  # sums that round differently are equal


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ([0.0, 0.2, 0.5, 0.9], 1.0),
        ([0.9, 0.5, 0.2, 0.0], -1.0),
        ([0.2, 0.0, 0.5, 0.9], 0.8),  # 1 - 6 * 2 / (4 * 15)
        ([0.4, 0.4, 0.4, 0.4], 0.0),  # ranks no one
    ],
)
def test_spearman_of_four(other: list[float], expected: float) -> None:
    assert agreement.spearman(np.array([0.1, 0.2, 0.3, 0.4]), np.array(other)) == pytest.approx(expected)


def test_a_wrong_order_costs_the_progress_between_the_two() -> None:
    real = np.array([0.1, 0.3, 0.8])
    assert agreement.mean_maximum_rank_violation(real, np.array([1.0, 2.0, 3.0])) == 0.0
    # the last two are exchanged: 0.5 lost for each of them, nothing for the first
    assert agreement.mean_maximum_rank_violation(real, np.array([1.0, 3.0, 2.0])) == pytest.approx(1.0 / 3)


def test_chance_counts_all_orders_of_few_policies() -> None:
    three = np.array([0.1, 0.2, 0.3])
    assert agreement.chance(three, three, RNG(0)) == pytest.approx(1 / 6)
    assert agreement.chance(three, np.full(3, 0.5), RNG(0)) == 1.0
    eight = np.arange(8.0)
    assert agreement.chance(eight, eight, RNG(0)) < 0.01


def test_the_interval_is_as_wide_as_scenes_disagree() -> None:
    rng = RNG(1)
    skill = np.array([0.2, 0.5, 0.8])[:, None]
    tasks = ["a"] * 10 + ["b"] * 10
    sure = np.repeat(skill, 20, axis=1)
    found = agreement.agreement(sure, sure, tasks, rng)
    assert found.spearman == (1.0, 1.0, 1.0) and found.mmrv == (0.0, 0.0, 0.0)
    assert (found.policies, found.scenes) == (3, 20)
    noisy = np.clip(skill + rng.normal(0, 0.6, (3, 20)), 0, 1)
    unsure = agreement.agreement(sure, noisy, tasks, rng)
    assert unsure.spearman.low < 1.0 and unsure.spearman.low <= unsure.spearman.mean <= unsure.spearman.high


def test_scenes_are_drawn_within_tasks() -> None:
    """In one task the first policy is better, in the other the second: no draw may leave one of them out."""
    real = np.array([[1.0] * 5 + [0.0] * 5, [0.0] * 5 + [0.9] * 5])
    found = agreement.agreement(real, real, ["a"] * 5 + ["b"] * 5, RNG(0))
    assert found.spearman == (1.0, 1.0, 1.0)


def test_a_world_that_says_nothing_ranks_at_chance() -> None:
    real = RNG(0).random((5, 12))
    found = agreement.agreement(real, np.zeros((5, 12)), ["a"] * 12, RNG(0))
    assert found.spearman == (0.0, 0.0, 0.0) and found.chance == 1.0 and found.mmrv.mean > 0.0


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 policies"):
        agreement.agreement(np.zeros((1, 3)), np.zeros((1, 3)), ["a"] * 3, RNG(0))
    with pytest.raises(ValueError, match="for 2 scenes"):
        agreement.agreement(np.zeros((2, 3)), np.zeros((2, 3)), ["a"] * 2, RNG(0))
