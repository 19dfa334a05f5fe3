"""The cross-entropy method: a maximum is searched for by drawing points, and drawing again around the best of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Search:
    """How a maximum is searched for.

    Attributes:
        samples: Points to compare in every iteration.
        elites: How many of them the next iteration is drawn around.
        iterations: How often.
        spread: Standard deviation of the first draw.

    Raises:
        ValueError: A number makes no sense by itself or beside the others.
    """

    samples: int
    elites: int
    iterations: int
    spread: float

    def __post_init__(self) -> None:
        if not 2 <= self.elites < self.samples:
            raise ValueError(f"elites must be at least 2, and fewer than all: got {self.elites} of {self.samples}")
        if self.iterations < 1 or not 0.0 < self.spread < float("inf"):
            raise ValueError(
                f"iterations must be at least 1 and spread positive, got {self.iterations} and {self.spread}"
            )


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        best: The point with the largest score of all; the start, if nothing scored more.
        before, after: Score of the start and of the best.
    """

    best: Tensor
    before: float
    after: float


def maximise(score: Callable[[Tensor], Tensor], start: Tensor, how: Search, generator: torch.Generator) -> Found:
    """Returns the best point that was drawn.

    Every iteration draws from a normal distribution that is independent in every number. The mean and the standard
    deviation are those of the last iteration's elites. The best point so far takes part in each, at first the start.

    Args:
        score: (N, ...) points -> (N,) how good they are.
        start: (...) the first mean.
        how: See `Search`.
        generator: Draws the points.
    """
    best, mean, spread = start, start, torch.full_like(start, how.spread)
    before = after = -float("inf")
    for iteration in range(how.iterations):
        drawn = mean + spread * torch.randn((how.samples, *start.shape), generator=generator)
        drawn[0] = best
        scores = score(drawn)
        if iteration == 0:
            before = after = float(scores[0])
        if float(scores.max()) > after:
            best, after = drawn[int(scores.argmax())], float(scores.max())
        elites = drawn[scores.topk(how.elites).indices]
        mean, spread = elites.mean(dim=0), elites.std(dim=0, unbiased=False)
    return Found(best, before, after)
