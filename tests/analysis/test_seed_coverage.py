"""An interval over scenes and training seeds holds the mean over both; one over scenes alone does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wambench.analysis.intervals import Estimate, over_seeds
from wambench.analysis.seed_coverage import POPULATIONS, Population, coverage, crossed, over_scenes, pigeonhole

LITTLE, MUCH = POPULATIONS[2], POPULATIONS[4]


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("population", POPULATIONS, ids=lambda one: one.name)
def test_it_holds_the_mean_over_scenes_and_trainings(population: Population, seeds: int) -> None:
    share, _ = coverage(crossed, population, seeds, 10, np.random.default_rng(0), repeats=120)
    assert share >= 0.90


def test_what_is_over_scenes_alone_or_draws_three_seeds_anew_does_not() -> None:
    rng, draws = np.random.default_rng(0), np.random.default_rng(1)
    scenes, _ = coverage(over_scenes, MUCH, 3, 10, rng, repeats=120)
    drawn, _ = coverage(lambda played: pigeonhole(played, draws), MUCH, 3, 10, rng, repeats=120)
    assert scenes < 0.6 and drawn < 0.88


def test_with_many_seeds_it_is_that_of_the_pigeonhole_bootstrap() -> None:
    rng = np.random.default_rng(0)
    played = LITTLE.draw(60, 40, rng)
    drawn, found = pigeonhole(played, rng), crossed(played)
    assert found.mean == pytest.approx(drawn.mean)
    assert found.high - found.low == pytest.approx(drawn.high - drawn.low, rel=0.12)


def test_the_truth_of_a_population_is_its_mean() -> None:
    assert MUCH.truth() == pytest.approx(0.5)  # tasks lie symmetrically
    played = Population("one sided", 0.4, 0.3, 0.5).draw(400, 400, np.random.default_rng(0))
    assert played.mean() == pytest.approx(0.5, abs=0.02) and played.shape == (400, 9, 400)


def test_margins_add_as_squares_with_the_quantile_of_each() -> None:
    scenes, means = Estimate(0.5, 0.44, 0.56), [0.4, 0.5, 0.6]
    found = over_seeds(scenes, [means])
    seeds = 4.302653 * math.sqrt(0.01 / 3)  # Student's t with two degrees of freedom; the variance of three means
    assert found.high - 0.5 == pytest.approx(math.hypot(0.06, seeds)) == 0.5 - found.low
    both = over_seeds(scenes, [means, means])  # four degrees of freedom, twice the variance
    assert both.high - 0.5 == pytest.approx(math.hypot(0.06, 2.776445 * math.sqrt(0.02 / 3)))


def test_it_is_never_narrower_and_stays_within_the_bounds() -> None:
    scenes = Estimate(0.9, 0.85, 0.95)
    wide = over_seeds(scenes, [[0.7, 1.0, 1.0]])
    assert wide.low < 0.85 and wide.high == 1.0
    assert over_seeds(scenes, [[0.9, 0.9, 0.9]]) == scenes


def test_fewer_than_three_seeds_say_nothing_of_new_ones() -> None:
    scenes = Estimate(0.5, 0.4, 0.6)
    for sides in ([[0.1, 0.9]], [[0.1, 0.5, 0.9], [0.5]], []):
        assert over_seeds(scenes, sides) == scenes
    assert math.isnan(over_seeds(Estimate(math.nan, math.nan, math.nan), [[0.1, 0.5, 0.9]]).low)
