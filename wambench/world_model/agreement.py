"""Does another world rank policies as the simulator does? Arithmetic on tables of progress, policies by scenes.

Spearman's rank correlation, and the mean maximum rank violation of SIMPLER (Li et al., arXiv 2405.05941, section 3):

    MMRV = 1 / P sum_i max_j |R_i - R_j| [(S_i < S_j) != (R_i < R_j)],

with R the simulator's means and S the other world's: what a wrong order costs in progress, 0 at best. Intervals
resample scenes within tasks, the same for all policies and both worlds, and say nothing of other policies.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wambench.analysis.intervals import Estimate

RESAMPLES = 2000
ALL_ORDERS = 7  # policies up to which chance is counted over all orders
Table = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """How alike two worlds rank.

    Attributes:
        spearman: Of the policies' means; 0 where one world ranks no one.
        mmrv: In progress.
        chance: Share of random orders whose Spearman correlation is at least as large.
        policies, scenes: How many.
    """

    spearman: Estimate
    mmrv: Estimate
    chance: float
    policies: int
    scenes: int


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the (n,) ranks from 1; equal values share the mean of theirs. Differences below 1e-9 are none."""
    rounded = np.round(values, 9)
    below = (rounded[None, :] < rounded[:, None]).sum(axis=1)
    equal = (rounded[None, :] == rounded[:, None]).sum(axis=1)
    return np.asarray(below + (equal + 1) / 2, dtype=np.float64)


def spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Returns the correlation of the ranks of two (n,); 0 if all values of one are equal, which ranks no one."""
    a, b = (ranks(np.asarray(values, np.float64)) for values in (one, other))
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size > 0.0 else 0.0


def mean_maximum_rank_violation(real: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Returns the MMRV (see above) of (n,) means in another world against those of the simulator."""
    real, other = np.round(real, 9), np.round(other, 9)
    apart = np.abs(real[:, None] - real[None, :])
    wrong = (other[:, None] < other[None, :]) != (real[:, None] < real[None, :])
    return float((apart * wrong).max(axis=1).mean())


def chance(one: NDArray[np.float64], other: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Returns the share of orders of the policies whose correlation is at least that of the given one.

    All orders of up to `ALL_ORDERS` policies, else `RESAMPLES` random ones and the given one.
    """
    found, count = spearman(one, other), len(one)
    if count <= ALL_ORDERS:
        reached = [spearman(one, other[list(order)]) >= found - 1e-12 for order in itertools.permutations(range(count))]
        return float(np.mean(reached))
    reached = [spearman(one, other[rng.permutation(count)]) >= found - 1e-12 for _ in range(RESAMPLES)]
    return (sum(reached) + 1) / (RESAMPLES + 1)


def agreement(real: Table, other: Table, tasks: Sequence[str], rng: np.random.Generator) -> Agreement:
    """Returns how alike two worlds rank.

    Args:
        real: (P, S) progress of policies in scenes of the simulator.
        other: The same of the other world.
        tasks: (S,) the task of each scene: scenes are resampled within tasks.
        rng: Source of the draws.

    Raises:
        ValueError: Fewer than two policies, no scene, or shapes that differ.
    """
    if real.shape != other.shape or real.shape[1] != len(tasks):
        raise ValueError(f"tables of {real.shape} and {other.shape} for {len(tasks)} scenes")
    if real.shape[0] < 2 or real.shape[1] < 1:
        raise ValueError(f"a ranking needs at least 2 policies and a scene, not {real.shape[0]} and {real.shape[1]}")
    groups = [np.flatnonzero(np.asarray(tasks) == task) for task in dict.fromkeys(tasks)]
    drawn = []
    for _ in range(RESAMPLES):
        scenes = np.concatenate([rng.choice(group, len(group)) for group in groups])
        means = real[:, scenes].mean(axis=1), other[:, scenes].mean(axis=1)
        drawn.append((spearman(*means), mean_maximum_rank_violation(*means)))
    means = real.mean(axis=1), other.mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    found = spearman(*means), mean_maximum_rank_violation(*means)
    both = [Estimate(*map(float, one)) for one in zip(found, low, high, strict=True)]
    return Agreement(both[0], both[1], chance(*means, rng), *real.shape)
