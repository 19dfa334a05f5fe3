"""Two baselines: a policy that keeps still and one that moves at random. A result worth reporting is above both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wambench import conventions
from wambench.interface import Observation, Plan

REACH_RAD = 0.3  # a random motion takes a joint this far from where it is, at most


class Noop:
    """Keeps still with an open gripper.

    Args:
        chunk: Actions per plan.
        robot: A name of `conventions.CONVENTIONS`.
    """

    def __init__(self, chunk: int = 16, robot: str = conventions.ROBOT) -> None:
        self.convention = conventions.find(robot)
        self.chunk_steps = chunk

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode; there is nothing to forget."""

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns `chunk` actions that hold the robot where it is."""
        hold = self.convention.hold_action(None, history[-1].state if history else None)
        return Plan(np.tile(hold, (self.chunk_steps, 1)))


class Random:
    """Moves smoothly between uniformly drawn actions.

    Args:
        chunk: Actions per plan: the steps from one uniformly drawn action to the next.
        robot: A name of `conventions.CONVENTIONS`. Joint positions are drawn around the joints as they are.
    """

    def __init__(self, chunk: int = 16, robot: str = conventions.ROBOT) -> None:
        self.convention = conventions.find(robot)
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
        low, high = self.convention.limits()
        if self.convention.action == "joint_position":
            actions[:, :-1] = history[-1].state[: len(low) - 1] + REACH_RAD * actions[:, :-1]
        return Plan(actions.clip(low, high))

    def _draw(self) -> np.ndarray:
        return self._rng.uniform(-1.0, 1.0, self.convention.action_dim)
