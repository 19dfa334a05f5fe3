"""Action smoothing as described in DreamZero (arXiv 2602.15922, inference section): a filter over each chunk.

The chunk is upsampled to twice its rate by a cubic spline, filtered by Savitzky and Golay's polynomial fit (window 21,
order 3, Analytical Chemistry 36, 1964), and downsampled again. The first action is kept at the chunk's own start, so
that smoothing does not delay; a gripper that opens or closes has no curve to fit and is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.signal import savgol_filter

from wambench.interface import Guided, Observation, Plan, Policy

WINDOW = 21
ORDER = 3
RATE = 2


def check(length: int, window: int = WINDOW) -> None:
    """Raises ValueError for chunks of fewer actions than the filter has a window for."""
    if RATE * (length - 1) + 1 < window:
        raise ValueError(f"smoothing needs chunks of at least {(window + 1) // RATE} actions, got {length}")


def smooth(actions: np.ndarray, window: int = WINDOW, order: int = ORDER, gripper: int = -1) -> np.ndarray:
    """Returns (H, A) smoothed actions.

    Args:
        actions: (H, A) one chunk. H must be at least (window + 1) / 2, or there are fewer samples than the window has.
        window, order: Of the filter, in samples of the doubled rate.
        gripper: Column that is left as it is.

    A chunk that is too short raises ValueError.
    """
    check(len(actions), window)
    steps = np.arange(len(actions), dtype=np.float64)
    dense = np.linspace(0.0, steps[-1], RATE * (len(steps) - 1) + 1)
    filtered = savgol_filter(CubicSpline(steps, actions, axis=0)(dense), window, order, axis=0)[::RATE]
    filtered[:, gripper] = actions[:, gripper]
    return filtered.astype(actions.dtype)


class SmoothedPolicy:
    """A policy whose chunks are smoothed; everything else is the policy's own.

    Args:
        policy: Its plans must be long enough for the filter. One that says how long they are (`chunk_steps`) is checked
            at once and raises ValueError, another one at its first answer.
    """

    def __init__(self, policy: Policy) -> None:
        if hasattr(policy, "chunk_steps"):
            check(policy.chunk_steps)
        self._policy = policy
        self.convention = policy.convention
        if isinstance(policy, Guided):
            self.act_guided = self._guided  # an attribute of its own: protocols do not ask `__getattr__`

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode."""
        self._policy.reset(instruction, seed)

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns the policy's plan, smoothed."""
        return self._smoothed(self._policy.act(history))

    def _guided(self, history: Sequence[Observation], previous: np.ndarray, delay: int) -> Plan:
        assert isinstance(self._policy, Guided)
        return self._smoothed(self._policy.act_guided(history, previous, delay))

    def _smoothed(self, plan: Plan) -> Plan:
        actions = smooth(np.asarray(plan.actions, np.float64))
        return replace(plan, actions=np.clip(actions, *self.convention.limits()))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)
