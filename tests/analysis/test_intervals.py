"""Intervals admit their n: they cover at any n, none has no width, and textbook values come out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wambench.analysis.intervals import bounded_mean, share_of, text, wilson


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


def drawn(rng: np.random.Generator, means: tuple[float, ...], n: int) -> list[np.ndarray]:
    """Returns `n` values of each task: stages of a quarter, as progress has them."""
    return [rng.binomial(4, mean, n) / 4 for mean in means]


@pytest.mark.parametrize("n", [1, 2, 5, 20])
@pytest.mark.parametrize("means", [(0.5,), (0.9,), (0.1, 0.5, 0.9), (0.95, 0.98, 1.0)])
def test_the_mean_is_covered_at_any_n(means: tuple[float, ...], n: int) -> None:
    rng, covered, truth = np.random.default_rng(0), 0, float(np.mean(means))
    for _ in range(400):
        mean, low, high = bounded_mean(drawn(rng, means, n))
        assert 0.0 <= low <= mean <= high <= 1.0
        covered += low <= truth <= high
    assert covered >= 0.9 * 400


def test_differences_between_tasks_are_no_chance() -> None:
    rng, within, pooled = np.random.default_rng(0), [], []
    for _ in range(100):
        strata = [rng.uniform(mean - 0.1, mean + 0.1, 20) for mean in (0.1, 0.5, 0.9)]
        _, low, high = bounded_mean(strata)
        within.append(high - low)
        _, low, high = bounded_mean([np.concatenate(strata)])
        pooled.append(high - low)
    assert np.mean(pooled) > 2 * np.mean(within) > 0


def test_in_one_task_successes_have_wilsons_interval() -> None:
    for successes, n in ((0, 1), (1, 1), (5, 5), (3, 7), (0, 20)):
        values = np.array([1.0] * successes + [0.0] * (n - successes))
        assert bounded_mean([values]) == pytest.approx(wilson(successes, n))
    several = bounded_mean([np.ones(5)] * 9)
    assert several == pytest.approx(wilson(45, 45))


def test_no_interval_is_without_width() -> None:
    for strata in ([np.full(5, 0.4)], [np.array([0.4])], [np.array([0.2]), np.array([0.6])], [np.full(50, 0.5)] * 9):
        mean, low, high = bounded_mean(strata)
        assert low < mean < high
    assert all(map(math.isnan, bounded_mean([])))


def test_the_interval_narrows_with_n_and_repeats_itself() -> None:
    rng = np.random.default_rng(0)
    widths = [high - low for _, low, high in (bounded_mean(drawn(rng, (0.3, 0.7), n)) for n in (1, 5, 50, 500))]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(2 * 1.96 * math.sqrt(0.21 / 4 / 1000), rel=0.1)
    strata = drawn(rng, (0.3, 0.7), 9)
    assert bounded_mean(strata) == bounded_mean([one[::-1] for one in strata])


def test_bounds_may_be_others_and_are_kept() -> None:
    mean, low, high = bounded_mean([np.full(5, 0.3)], -1.0, 1.0)
    assert mean == pytest.approx(0.3) and -0.2 < low < 0.0 < 0.5 < high < 0.7
    mirrored = bounded_mean([np.full(5, -0.3)], -1.0, 1.0)
    assert (mirrored.low, mirrored.high) == pytest.approx((-high, -low))
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        bounded_mean([np.array([0.5, 1.2])])


def test_a_share_weighs_episodes_by_what_they_lost() -> None:
    parts, wholes = [np.array([0.9, 0.0]), np.array([0.1])], [np.array([1.0, 0.1]), np.array([0.9])]
    found = share_of(parts, wholes)
    assert found.mean == pytest.approx(1.0 / 2.0)
    assert found.low < found.mean < found.high
    assert np.isnan(share_of([np.zeros(3)], [np.zeros(3)]).mean)
    single = share_of([np.ones(1)], [np.ones(1)])
    assert single.high - single.low > 1.5, "one episode says hardly anything"
    alike = share_of([np.full(4, 0.2)], [np.full(4, 0.5)])
    assert alike.mean == pytest.approx(0.4) and 0.2 < alike.high - alike.low < 1.0


@pytest.mark.parametrize("n", [2, 5, 20])
def test_the_share_is_covered(n: int) -> None:
    rng, covered = np.random.default_rng(1), 0
    for _ in range(300):
        wholes = [rng.uniform(0.2, 1.0, n) for _ in range(3)]
        parts = [whole * rng.binomial(1, 0.6, n) for whole in wholes]
        _, low, high = share_of(parts, wholes)
        covered += low <= 0.6 <= high
    assert covered >= 0.88 * 300


def test_text_of_an_estimate() -> None:
    assert text((0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"
    assert text((0.5, -0.25, 0.75), 2, sign=True) == "+0.50 [-0.25, +0.75]"
    assert text((0.5, math.nan, math.nan)) == "0.500" and text((math.nan,) * 3) == "-"
