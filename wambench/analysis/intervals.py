"""Estimates with 95 % intervals that admit their n: of rates, of bounded means within tasks, and of ratios.

They speak of new scenes of the same tasks; `over_seeds` makes them speak of new trainings as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
SEED = 0  # of random sign flips: equal rows give equal bytes
SCENES, SCENES_AND_SEEDS = INTERVALS = ("scenes", "scenes+seeds")  # what an interval is over
FEWEST_SEEDS = 3  # training seeds; from fewer nothing is said about new ones
PSEUDO = 1.0  # observations of the largest possible variance that every estimate of a variance is mixed with


class Estimate(NamedTuple):
    """A mean and its 95 % interval; NaN where there is no observation."""

    mean: float
    low: float
    high: float


NOTHING = Estimate(math.nan, math.nan, math.nan)


def text(estimate: Sequence[float], digits: int = 3, sign: bool = False) -> str:
    """Returns an estimate for people: "mean [low, high]", the mean alone without an interval, "-" without a mean."""
    mean, low, high = estimate
    if math.isnan(mean):
        return "-"
    form = f"{'+' if sign else ''}.{digits}f"
    return f"{mean:{form}}" if math.isnan(low) else f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def wilson(successes: int, n: int) -> Estimate:
    """Returns a rate and its Wilson score interval (Wilson 1927): all p with |rate - p| <= z sqrt(p (1 - p) / n)."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    return _score(successes / n, n) if n else NOTHING


def bounded_mean(strata: Sequence[NDArray[np.float64]], lowest: float = 0.0, highest: float = 1.0) -> Estimate:
    """Returns the mean over all values and a score interval for bounded values that were drawn within strata.

    The mean m of n values in [0, 1] has at most the variance of as many coins, m (1 - m) / n, for which Wilson's
    interval is made. It has r times that, because values lie between the bounds and because tasks are fixed, so that
    its interval is Wilson's with n / r trials. Survey statistics uses such an effective sample size for rates of
    stratified samples (Korn and Graubard, "Confidence intervals for proportions with small expected number of positive
    counts estimated from survey data", Survey Methodology 24, 1998; Dean and Pagano, "Evaluating confidence interval
    methods for binomial proportions in clustered surveys", J. Survey Statistics and Methodology 3, 2015). Here

        r = (W + (K - 1) min(1, T / (n - 1)) + PSEUDO) / (n - 1 + PSEUDO),    at most 1,

    with K strata, W the squared distances of values from the means of their strata, T those from the mean of all, both
    divided by m (1 - m). The degrees of freedom that the strata's means took are given the variance between all values,
    and one more the largest variance there is, so that values that happen to agree do not claim to be certain: without
    it five equal values would have an interval of no width. Values that are all 0 or all 1 have r = 1. In one stratum
    0s and 1s have Wilson's interval exactly. How often it covers: docs/experiments/2026-11-27-intervals.md.

    Args:
        strata: The values of each task, (n_task,) each, in [lowest, highest].
        lowest, highest: Bounds of a value, 0 and 1 for progress, -1 and 1 for a difference of two.

    Raises:
        ValueError: A value lies outside the bounds.
    """
    span = highest - lowest
    values = [(np.sort(np.asarray(one, dtype=np.float64)) - lowest) / span for one in strata if len(one)]
    if not values:
        return NOTHING
    every = np.concatenate(values)
    if every[np.isnan(every) | (every < -1e-9) | (every > 1.0 + 1e-9)].size:
        raise ValueError(f"a value lies outside [{lowest:g}, {highest:g}]")
    n, mean = len(every), min(1.0, max(0.0, math.fsum(every) / len(every)))
    low, high = _score(mean, n / _variance_ratio(values, mean))[1:]
    return Estimate(lowest + span * mean, lowest + span * low, lowest + span * high)


def _variance_ratio(strata: Sequence[NDArray[np.float64]], mean: float) -> float:
    """Returns r of `bounded_mean`: the variance within strata as a share of the largest that a mean allows."""
    largest = mean * (1.0 - mean)
    if largest < 1e-12:
        return 1.0
    n = sum(map(len, strata))
    within, total = _within(strata) / largest, _within([np.concatenate(strata)]) / largest
    between = (len(strata) - 1) * min(1.0, total / (n - 1)) if n > 1 else 0.0
    return min(1.0, (within + between + PSEUDO) / (n - 1 + PSEUDO))


def _within(strata: Sequence[NDArray[np.float64]]) -> float:
    """Returns the sum of squared distances of values from the means of their strata."""
    return math.fsum(((one - one.mean()) ** 2).sum() for one in strata)


def _score(rate: float, n: float) -> Estimate:
    """Returns Wilson's interval for a rate in `n` trials, which need not be a whole number."""
    squared = Z95**2
    middle = (rate + squared / (2 * n)) / (1 + squared / n)
    half = Z95 / (1 + squared / n) * math.sqrt(rate * (1 - rate) / n + squared / (4 * n**2))
    return Estimate(rate, min(rate, max(0.0, middle - half)), max(rate, min(1.0, middle + half)))


def share_of(parts: Sequence[NDArray[np.float64]], wholes: Sequence[NDArray[np.float64]]) -> Estimate:
    """Returns sum(part) / sum(whole) over all episodes and its interval.

    "Of the progress lost, how much is lost to video" is such a ratio: episodes that lost more weigh more. Its variance
    is that of the residuals part - ratio * whole (linearisation: Cochran, "Sampling Techniques", 1977, chapter 6),
    within tasks, estimated as in `bounded_mean`: the degrees of freedom that the tasks' means took have the variance
    between all residuals, and PSEUDO more that of an episode of mean size which is lost to the part wholly, or not at
    all, whichever is farther from the ratio.

    Args:
        parts: Of each task, (n_task,) values.
        wholes: Likewise, what they are parts of.

    Returns:
        NaN if nothing is lost at all. The interval is symmetric and may reach beyond 0 and 1, as a share may.
    """
    pairs = [(np.asarray(a, float), np.asarray(b, float)) for a, b in zip(parts, wholes, strict=True) if len(a)]
    whole = math.fsum(math.fsum(b) for _, b in pairs)
    if whole == 0.0:
        return NOTHING
    ratio = math.fsum(math.fsum(a) for a, _ in pairs) / whole
    residuals = [a - ratio * b for a, b in pairs]
    n = sum(map(len, residuals))
    total = _within([np.concatenate(residuals)]) / (n - 1) if n > 1 else 0.0
    farthest = max(ratio**2, (1.0 - ratio) ** 2) * math.fsum(math.fsum(b**2) for _, b in pairs) / n
    variance = (_within(residuals) + (len(residuals) - 1) * total + PSEUDO * farthest) / (n - 1 + PSEUDO)
    half = Z95 * math.sqrt(n * variance) / whole
    return Estimate(ratio, ratio - half, ratio + half)


def over_seeds(
    scenes: Estimate, sides: Sequence[Sequence[float]], lowest: float = 0.0, highest: float = 1.0
) -> Estimate:
    """Returns an estimate whose interval is over new scenes and new trainings at once, the two being crossed.

    Every training seed has played every scene, so that the variance of the mean is the sum of what scenes and what
    seeds contribute (a two-way layout: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007). Each
    end lies as far from the mean as the root of the summed squares of both margins,

        d = sqrt(d_scenes^2 + (t sqrt(V))^2),    V = sum over sides of s^2 / S,

    which keeps for each part the quantile that its own n asks for (variance estimates recovery: Zou and Donner,
    "Construction of confidence intervals about effect measures", Statistics in Medicine 27, 2008). d_scenes is the
    margin of the interval over scenes, s the standard deviation of the S means of single seeds of a side, t the 97.5 %
    quantile of Student's distribution with Satterthwaite's degrees of freedom, S - 1 for one side. The noise of single
    episodes counts in both parts, as it does in the pigeonhole bootstrap: the interval errs on the wide side. That
    bootstrap's own percentiles hold the mean in 0.72 to 0.81 of the samples with three seeds that differ much
    (docs/experiments/2026-11-28-intervals-over-seeds.md), because three seeds cannot be drawn anew more widely than
    they lie.

    Args:
        scenes: The mean over seeds and its interval over scenes.
        sides: The mean of each training seed, over the same scenes: one sequence for a rate, two for a difference.
        lowest, highest: Bounds of the mean; the interval does not leave them.

    Returns:
        `scenes` itself if it is not known, or if a side has fewer than `FEWEST_SEEDS` seeds.
    """
    if not sides or min(map(len, sides)) < FEWEST_SEEDS or math.isnan(scenes.low):
        return scenes
    parts = [(float(np.var(means, ddof=1)) / len(means), len(means) - 1) for means in sides]
    variance = math.fsum(part for part, _ in parts)
    if variance < 1e-18:
        return scenes
    from scipy.special import stdtrit

    freedom = variance**2 / math.fsum(part**2 / own for part, own in parts)
    seeds = float(stdtrit(freedom, 0.975)) * math.sqrt(variance)
    low = scenes.mean - math.hypot(scenes.mean - scenes.low, seeds)
    high = scenes.mean + math.hypot(scenes.high - scenes.mean, seeds)
    return Estimate(scenes.mean, max(lowest, low), min(highest, high))
