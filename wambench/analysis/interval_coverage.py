"""How often intervals cover: `python -m wambench.analysis.interval_coverage RESULTS` prints the tables of it.

Samples are drawn from distributions whose mean is known, published rows among them, at several n a task. The percentile
bootstrap that the tables had before stands beside `intervals.bounded_mean`; nothing else uses it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wambench import records
from wambench.analysis.compare import KEY
from wambench.analysis.intervals import Estimate, bounded_mean, share_of

Strata = list[NDArray[np.float64]]
SIZES = (1, 2, 3, 5, 10, 20, 50)  # episodes a task
REPEATS = 400
RESAMPLES = 400  # of one bootstrap interval


class Population(NamedTuple):
    """What samples are drawn from: the values of each task, equally likely, and their bounds."""

    name: str
    strata: Strata
    lowest: float = 0.0


def bootstrap(strata: Strata, rng: np.random.Generator) -> Estimate:
    """Returns the mean over all values and its percentile bootstrap interval, values drawn anew within each stratum."""
    n = sum(map(len, strata))
    sums = np.zeros(RESAMPLES)
    for one in strata:
        sums += one[rng.integers(len(one), size=(RESAMPLES, len(one)))].sum(axis=1)
    low, high = np.percentile(sums / n, (2.5, 97.5))
    return Estimate(float(np.concatenate(strata).mean()), float(low), float(high))


def rows_of(runs: Sequence[Path]) -> Strata:
    """Returns the progress of every episode of some runs, by task."""
    rows = records.load(runs)
    return [task["progress"].to_numpy() for _, task in rows[rows["status"] == "ok"].groupby("task", sort=True)]


def differences_of(a: Path, b: Path) -> Strata:
    """Returns the differences of progress on the episodes that two runs share, by task."""
    ours, theirs = (records.load([run]).set_index(KEY)["progress"] for run in (a, b))
    paired = (ours - theirs).dropna().reset_index()
    return [task["progress"].to_numpy() for _, task in paired.groupby("task", sort=True)]


def populations(results: Path) -> Iterator[Population]:
    """Yields the distributions of the table."""
    reference = results / "reference"
    seen, envs, tasks = (
        rows_of([reference / f"dreamzero-{split}"]) for split in ("seen", "unseen-envs", "unseen-tasks")
    )
    yield Population("dreamzero, seen", seen)
    yield Population("dreamzero, unseen-envs", envs)
    yield Population("dreamzero, unseen-tasks", tasks)
    yield Population("random, unseen-envs", rows_of([reference / "random-unseen-envs"]))
    yield Population("one task (PushCube, unseen-envs)", [envs[-2]])
    yield Population("one task, 9 of 10 succeed", [np.repeat([0.0, 1.0], (1, 9))])
    yield Population("one task, half way or nothing", [np.repeat([0.0, 0.5], (3, 7))])
    yield Population("9 tasks, 49 of 50 succeed", [np.repeat([0.0, 1.0], (1, 49))] * 9)
    yield Population("4 tasks solved, 4 not, 1 half", [np.ones(2)] * 4 + [np.zeros(2)] * 4 + [np.array([0.0, 1.0])])
    pairs = (("unseen-envs", "pi05"), ("seen", "groot"))
    for split, other in pairs:
        strata = differences_of(reference / f"dreamzero-{split}", reference / f"{other}-0-{split}")
        yield Population(f"dreamzero minus {other}, {split}", strata, -1.0)
    yield Population("difference, one task, 1 of 10 differs", [np.repeat([0.0, 1.0], (9, 1))], -1.0)


def coverage(
    interval: Callable[[Strata], Estimate], population: Population, n: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Returns how often the interval of `n` values a task holds the mean of a population, and its mean width."""
    truth = float(np.mean([one.mean() for one in population.strata]))
    found = [interval([rng.choice(one, n) for one in population.strata]) for _ in range(REPEATS)]
    held = [one.low - 1e-9 <= truth <= one.high + 1e-9 for one in found]
    return float(np.mean(held)), float(np.mean([one.high - one.low for one in found]))


def share_lines() -> Iterator[str]:
    """Yields the lines of the table of `share_of`: three tasks, losses of 0.2 to 1, shares of three kinds."""
    rng = np.random.default_rng(0)
    kinds = {"all or nothing, 0.6": (0.0, 0.6), "all or nothing, 0.9": (0.0, 0.9), "anything from 0 to 1": (1.0, 0.5)}
    for name, (even, mean) in kinds.items():
        cells = []
        for n in SIZES:
            held = 0
            for _ in range(REPEATS):
                wholes = [rng.uniform(0.2, 1.0, n) for _ in range(3)]
                shares = [rng.uniform(0, 1, n) if even else rng.binomial(1, mean, n).astype(float) for _ in range(3)]
                _, low, high = share_of([a * b for a, b in zip(shares, wholes, strict=True)], wholes)
                held += low <= mean <= high
            cells.append(f"{held / REPEATS:.2f}")
        yield f"| {name} | {' | '.join(cells)} |"


def main(results: Path) -> None:
    """Prints both tables."""
    print(f"| population | {' | '.join(f'n = {n}' for n in SIZES)} |\n|---{'|---' * len(SIZES)}|")
    for population in populations(results):
        rng, cells = np.random.default_rng(0), []
        before, now = partial(bootstrap, rng=rng), partial(bounded_mean, lowest=population.lowest)
        for n in SIZES:
            old, _ = coverage(before, population, n, rng)
            new, width = coverage(now, population, n, rng)
            cells.append(f"{old:.2f}, **{new:.2f}** ({width:.2f})")
        print(f"| {population.name} | {' | '.join(cells)} |", flush=True)
    print(f"\n| share | {' | '.join(f'n = {n}' for n in SIZES)} |\n|---{'|---' * len(SIZES)}|")
    for one in share_lines():
        print(one, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
