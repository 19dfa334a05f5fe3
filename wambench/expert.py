"""The tasks' experts as a policy: proof that every episode can be solved, and no contestant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from wambench.interface import Observation, Plan, World


class ExpertWorld(World, Protocol):
    """A world whose task has an expert."""

    def expert_action(self) -> np.ndarray:
        """Returns the (A,) action of the expert in the current state."""


class Expert:
    """Asks the expert of the world it acts in at every control step: a closed loop, on privileged state.

    Args:
        world: The world of the rollout.
    """

    def __init__(self, world: ExpertWorld) -> None:
        self.world = world
        self.spec = world.convention

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode; the expert keeps no memory."""

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns one action, for the current step."""
        return Plan(self.world.expert_action()[None])
