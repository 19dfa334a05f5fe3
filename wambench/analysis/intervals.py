"""Estimates with intervals: Wilson's for rates, a bootstrap within tasks for means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
RESAMPLES = 10_000
SEED = 0  # of every interval: equal rows give equal bytes
DRAWS_AT_ONCE = 2_000_000


class Estimate(NamedTuple):
    """A mean and its 95 % interval; NaN where there is nothing to tell it from."""

    mean: float
    low: float
    high: float


def wilson(successes: int, n: int) -> Estimate:
    """Returns a rate and its Wilson score interval (Wilson 1927): all p with |rate - p| <= z sqrt(p (1 - p) / n)."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan)
    rate, squared = successes / n, Z95**2
    middle = (rate + squared / (2 * n)) / (1 + squared / n)
    half = Z95 / (1 + squared / n) * math.sqrt(rate * (1 - rate) / n + squared / (4 * n**2))
    return Estimate(rate, max(0.0, middle - half), min(1.0, middle + half))


def stratified_bootstrap(
    strata: Sequence[NDArray[np.float64]], rng: np.random.Generator, draws: int = RESAMPLES
) -> Estimate:
    """Returns the mean over all values and its percentile bootstrap interval.

    Episodes are drawn anew within each stratum, so that the tasks themselves are not a source of chance.

    Args:
        strata: The values of each task, (n_task,) each.
        rng: Source of the draws.
        draws: Number of bootstrap means.

    Returns:
        The interval is NaN if no stratum has two values: there is no spread to draw from.
    """
    values = [np.asarray(stratum, dtype=np.float64) for stratum in strata if len(stratum)]
    n = sum(map(len, values))
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan)
    mean = math.fsum(np.concatenate(values)) / n
    if max(map(len, values)) < 2:
        return Estimate(mean, math.nan, math.nan)
    sums = np.zeros(draws)
    for stratum in values:
        for start in range(0, draws, block := max(1, DRAWS_AT_ONCE // len(stratum))):
            part = sums[start : start + block]
            part += stratum[rng.integers(len(stratum), size=(len(part), len(stratum)))].sum(axis=1)
    low, high = np.percentile(sums / n, (2.5, 97.5))
    return Estimate(mean, float(low), float(high))
