"""Rotation matrices and axis-angle vectors, for the experts' motions and for the attribution instrument. Pure numpy.

States of the simulator are converted by MuJoCo itself (`envs.tabletop.axis_angle`) and by robosuite's rule
(`envs.arm.rotation_from_axis_angle`), and released checkpoints by theirs (`policies.vla.openpi.axis_angle`): those
files say what differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def about_axis(axis: np.ndarray, angle: float) -> np.ndarray:
    """Returns the (3, 3) rotation by `angle` rad about a unit vector (3,) (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * cross @ cross


def rotation_matrix(vector: np.ndarray) -> np.ndarray:
    """Returns the (3, 3) rotation of an axis-angle vector (3,) in rad."""
    angle = float(np.linalg.norm(vector))
    return np.eye(3) if angle < 1e-9 else about_axis(vector / angle, angle)


def rotation_vector(rotation: np.ndarray, arctan2: Callable[[float, float], float] = math.atan2) -> np.ndarray:
    """Returns the (3,) axis-angle vector in rad of a (3, 3) rotation whose angle is well below pi.

    Args:
        rotation: See above.
        arctan2: The arc tangent to use. Numpy's and the C library's differ in the last digit in a third of all cases,
            so that each caller keeps the one with which its published trajectories were made.
    """
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    sine = float(np.linalg.norm(axis)) / 2
    cosine = (float(np.trace(rotation)) - 1) / 2
    return axis / 2 if sine < 1e-9 else axis / (2 * sine) * arctan2(sine, cosine)


def rotation_of_sine(vector: np.ndarray) -> np.ndarray:
    """Returns the (3, 3) rotation whose axis times the sine of its angle is a vector (3,); angles up to pi / 2.

    That vector is half the difference of a rotation's off-diagonal entries, which a network can predict without a jump.
    """
    sine = float(np.linalg.norm(vector))
    return np.eye(3) if sine < 1e-9 else about_axis(vector / sine, float(np.arcsin(min(1.0, sine))))
