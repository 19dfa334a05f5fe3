"""A policy: it moves the open hand to a point above the middle of the table. Put your model in its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wambench.interface import ControlConvention, Observation, Plan

STEP_M = 0.05  # what an action of 1 moves the hand by
OPEN = -1.0


class MyPolicy:
    """Moves the hand to (0, 0, height).

    Args:
        height: Of the point, in m; the table's top is at 0.8 m. `--policy-args height=0.95` sets it.
    """

    # What it expects to see and what its actions mean; wambench compares it with the environment's before a run.
    convention = ControlConvention(image_size=(96, 96))

    def __init__(self, height: float = 1.0) -> None:
        self._target = np.array([0.0, 0.0, height])

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode: here a model reads the instruction, and seeds its noise."""
        self._instruction = instruction
        self._rng = np.random.default_rng(seed)

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns 8 actions, of which 4 are carried out before the next query.

        Args:
            history: Everything seen since the last call, at five frames a second; the last entry is the present.
                `.images["agentview"]` and `.images["wrist"]` are (96, 96, 3) uint8; `.state` is (8,) float64: the
                hand's position (m), its orientation (axis-angle, rad), and the positions of both fingers (m).
        """
        now = history[-1]
        actions = np.zeros((8, self.convention.action_dim))
        actions[:, :3] = np.clip((self._target - now.state[:3]) / STEP_M, -1.0, 1.0)
        actions[:, -1] = OPEN
        return Plan(actions, execute=4)
