"""The noise that a chunk starts from, as a function of when it is asked for."""

from __future__ import annotations

import torch

FACTOR = 1_000_003  # a prime above the number of steps of any episode


def generator_at(seed: int, step: int) -> torch.Generator:
    """Returns the random generator of a query.

    Two rollouts of an episode that ask at the same step start from the same noise, whatever was asked before.

    Args:
        seed: Of the episode.
        step: Env step of the query; further draws at a step add a number of their own.
    """
    return torch.Generator().manual_seed((seed * FACTOR + step) % 2**63)
