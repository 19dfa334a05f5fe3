"""From the numbers of a network to actions of the environment."""

from __future__ import annotations

import numpy as np

from wambench.policies.actions import smoothing


def to_commands(actions: np.ndarray, smooth: bool) -> np.ndarray:
    """Returns (H, A) actions in [-1, 1] whose last number opens (-1) or closes (1) the gripper.

    Args:
        actions: (H, A) in the environment's units, not clipped.
        smooth: Filter the chunk first (`smoothing`).
    """
    out = smoothing.smooth(actions) if smooth else actions.copy()
    out[:, -1] = np.where(out[:, -1] > 0.0, 1.0, -1.0)
    return np.clip(out, -1.0, 1.0)
