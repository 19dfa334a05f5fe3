"""How often intervals hold the mean over scenes and trainings: `python -m wambench.analysis.seed_coverage` prints it.

Progress is planted: a seed is better or worse in all tasks and in single ones, scenes are easier or harder, and an
episode is four coins. Beside `intervals.over_seeds` stand the interval over scenes alone, which does not claim to hold
the mean over trainings, and the percentile pigeonhole bootstrap; nothing else uses that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_hermitenorm

from wambench.analysis.intervals import Estimate, bounded_mean, over_seeds

TASKS = np.linspace(-2.0, 2.0, 9)  # log odds of a coin, by task
COINS = 4
SEEDS = (3, 5, 10)
SIZES = (5, 10, 50)  # scenes a task
REPEATS = 300
RESAMPLES = 400  # of one bootstrap interval
Played = NDArray[np.float64]  # (S, K, n): progress of S seeds in n scenes of each of K tasks


class Population(NamedTuple):
    """What is drawn from: standard deviations of log odds between seeds, between seeds in a task, between scenes."""

    name: str
    seeds: float
    seeds_in_task: float
    scenes: float

    def truth(self) -> float:
        """Returns the mean over all scenes and trainings, by Gauss-Hermite quadrature."""
        nodes, weights = roots_hermitenorm(61)
        spread = np.sqrt(self.seeds**2 + self.seeds_in_task**2 + self.scenes**2)
        return float((_chance(TASKS[:, None] + spread * nodes) @ weights).mean() / weights.sum())

    def draw(self, seeds: int, n: int, rng: np.random.Generator) -> Played:
        """Returns the progress of some trainings in n scenes of each task."""
        odds = TASKS[:, None] + self.scenes * rng.normal(size=(len(TASKS), n))
        own = self.seeds * rng.normal(size=(seeds, 1)) + self.seeds_in_task * rng.normal(size=(seeds, len(TASKS)))
        return rng.binomial(COINS, _chance(odds + own[:, :, None])) / COINS


POPULATIONS = (
    Population("neither differ", 0.0, 0.0, 0.0),
    Population("scenes differ", 0.0, 0.0, 1.0),
    Population("seeds differ a little", 0.3, 0.0, 1.0),
    Population("seeds differ in single tasks", 0.0, 0.7, 1.0),
    Population("seeds differ much", 1.0, 0.0, 1.0),
)


def _chance(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-odds))


def over_scenes(played: Played) -> Estimate:
    """Returns the mean and its interval over scenes, as tables have it by default."""
    return bounded_mean(list(played.mean(axis=0)))


def crossed(played: Played) -> Estimate:
    """Returns the mean and its interval over scenes and seeds, as `--interval scenes+seeds` has it."""
    return over_seeds(over_scenes(played), [played.mean(axis=(1, 2)).tolist()])


def pigeonhole(played: Played, rng: np.random.Generator) -> Estimate:
    """Returns the mean and its percentile pigeonhole bootstrap interval (Owen 2007).

    Seeds are drawn anew, and within each task scenes are: an episode weighs as often as its seed and its scene.
    """
    seeds, tasks, n = played.shape
    rows = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    columns = rng.multinomial(n, np.full(n, 1 / n), (RESAMPLES, tasks)) / n
    means = np.einsum("bs,bkn,skn->b", rows, columns, played) / tasks
    low, high = np.percentile(means, (2.5, 97.5))
    return Estimate(float(played.mean()), float(low), float(high))


def coverage(
    interval: Callable[[Played], Estimate],
    population: Population,
    seeds: int,
    n: int,
    rng: np.random.Generator,
    repeats: int = REPEATS,
) -> tuple[float, float]:
    """Returns how often an interval holds the mean of a population, and its mean width."""
    truth = population.truth()
    found = [interval(population.draw(seeds, n, rng)) for _ in range(repeats)]
    held = [one.low - 1e-9 <= truth <= one.high + 1e-9 for one in found]
    return float(np.mean(held)), float(np.mean([one.high - one.low for one in found]))


def lines() -> Iterator[str]:
    """Yields the lines of the table: shares that hold the mean, and the mean width of `over_seeds`."""
    yield f"| population | scenes a task | {' | '.join(f'{seeds} seeds' for seeds in SEEDS)} |"
    yield f"|---|---{'|---' * len(SEEDS)}|"
    draws = np.random.default_rng(1)
    kinds: Mapping[str, Callable[[Played], Estimate]] = {
        "scenes": over_scenes,
        "pigeonhole": lambda played: pigeonhole(played, draws),
        "crossed": crossed,
    }
    for population in POPULATIONS:
        for n in SIZES:
            cells = []
            for seeds in SEEDS:
                found = [coverage(kind, population, seeds, n, np.random.default_rng(0)) for kind in kinds.values()]
                (scenes, _), (drawn, _), (share, width) = found
                cells.append(f"{scenes:.2f}, {drawn:.2f}, **{share:.2f}** ({width:.2f})")
            yield f"| {population.name} | {n} | {' | '.join(cells)} |"


def main() -> None:
    """Prints the table."""
    for line in lines():
        print(line, flush=True)


if __name__ == "__main__":
    main()
