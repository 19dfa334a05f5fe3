"""Chunks of released GR00T checkpoints: poses relative to the state at the chunk's start, and min-max normalisation.

Reference implementation, checked against the release by `make parity`; no command uses it.

A pose is 9 numbers: position, and the first two rows of its rotation matrix.
"""

from __future__ import annotations

import numpy as np


def matrices(rows: np.ndarray) -> np.ndarray:
    """Returns (..., 3, 3) rotation matrices of (..., 6) first two rows, made orthonormal (Gram-Schmidt)."""
    first, second = rows[..., :3], rows[..., 3:]
    first = first / np.linalg.norm(first, axis=-1, keepdims=True)
    second = second - (first * second).sum(axis=-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=-2)


def _pose(position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    return np.concatenate([position, rotation[..., :2, :].reshape(*rotation.shape[:-2], 6)], axis=-1)


def to_relative(poses: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Returns (H, 9) poses seen from the state's (9,): inverse(state) * pose."""
    frame = matrices(state[3:])
    return _pose((poses[:, :3] - state[:3]) @ frame, frame.T @ matrices(poses[:, 3:]))


def to_absolute(poses: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Returns the (H, 9) poses whose relative form is given."""
    frame = matrices(state[3:])
    return _pose(poses[:, :3] @ frame.T + state[:3], frame @ matrices(poses[:, 3:]))


def minmax(x: np.ndarray, low: np.ndarray, high: np.ndarray, clip: bool = True) -> np.ndarray:
    """Returns x with low at -1 and high at 1; a constant number gives 0."""
    spread = high - low
    inside = np.where(spread > 0, (x - low) / np.where(spread > 0, spread, 1.0) * 2.0 - 1.0, 0.0)
    return np.clip(inside, -1.0, 1.0) if clip else inside


def undo_minmax(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns the values of normalised x; always clipped, so what lay outside does not come back."""
    return (np.clip(x, -1.0, 1.0) + 1.0) / 2.0 * (high - low) + low
