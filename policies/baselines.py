"""Two baselines: a policy that keeps still and one that moves at random. A result worth reporting is above both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wambench.interface import ControlConvention, Observation, Plan

OPEN = -1.0


class Noop:
    """Keeps still with an open gripper.

    Args:
        chunk: Actions per plan.
    """

    def __init__(self, chunk: int = 16) -> None:
        self.convention = ControlConvention()
        self.chunk_steps = chunk

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode; there is nothing to forget."""

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns `chunk` actions of zero displacement."""
        actions = np.zeros((self.chunk_steps, self.convention.action_dim))
        actions[:, -1] = OPEN
        return Plan(actions)


class Random:
    """Moves smoothly between uniformly drawn actions.

    Args:
        chunk: Actions per plan: the steps from one uniformly drawn action to the next.
    """

    def __init__(self, chunk: int = 16) -> None:
        self.convention = ControlConvention()
        self.chunk_steps = chunk
        self.reset("", 0)

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode; equal seeds give equal actions."""
        self._rng = np.random.default_rng(seed)
        self._knot = self._draw()

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns the straight line from the last drawn action to the next one; the gripper is open or closed."""
        start = self._knot
        self._knot = self._draw()
        weight = (np.arange(self.chunk_steps) / self.chunk_steps)[:, None]
        actions = (1 - weight) * start + weight * self._knot
        actions[:, -1] = np.sign(start[-1])
        return Plan(actions)

    def _draw(self) -> np.ndarray:
        return self._rng.uniform(-1.0, 1.0, self.convention.action_dim)
