"""The tasks' experts as a policy: proof that every episode can be solved, and no contestant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from wambench.interface import Observation, Outcome, Plan, World


class ExpertWorld(World, Protocol):
    """A world whose task has an expert."""

    def expert_action(self) -> np.ndarray:
        """Returns the (A,) action of the expert in the current state."""

    def advance(self, action: np.ndarray) -> Outcome:
        """Carries out one (A,) action without rendering."""


class Expert:
    """Asks the expert of the world it acts in at every control step: a closed loop, on privileged state.

    A plan reaches to the next video frame: the steps up to it are tried out in the world, which is then put back. So
    the expert is recorded at the video rate like everybody else.

    Args:
        world: The world of the rollout.
    """

    def __init__(self, world: ExpertWorld) -> None:
        self.world = world
        self.spec = world.convention
        self.chunk_steps = self.spec.frame_stride

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode; the expert keeps no memory."""

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns the actions up to the next video frame, or to the end of the episode."""
        state, actions = self.world.snapshot(), []
        for _ in range(self.spec.frame_stride):
            actions.append(self.world.expert_action())
            outcome = self.world.advance(actions[-1])
            if outcome.terminated or outcome.truncated:
                break
        self.world.restore(state)
        return Plan(np.stack(actions))
