"""The noise that a chunk starts from, as a function of when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FACTOR = 1_000_003  # a prime above the number of steps of any episode


def generator_at(seed: int, step: int) -> torch.Generator:
    """Returns the random generator of a query.

    Two rollouts of an episode that ask at the same step start from the same noise, whatever was asked before.

    Args:
        seed: Of the episode.
        step: Env step of the query; further draws at a step add a number of their own.
    """
    return torch.Generator().manual_seed((seed * FACTOR + step) % 2**63)


def normal(shape: Sequence[int], generator: torch.Generator, device: torch.device | str) -> Tensor:
    """Returns standard normal numbers on a device, a function of the state of a generator of the CPU.

    On a GPU they are drawn there, by a generator that this one seeds: to draw them here and to send them over took most
    of a training step.
    """
    if torch.device(device).type == "cpu":
        return torch.randn(*shape, generator=generator)
    seed = int(torch.randint(2**62, (1,), generator=generator))
    own = torch.Generator(device).manual_seed(seed)
    return torch.randn(*shape, generator=own, device=device)
