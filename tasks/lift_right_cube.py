"""Lift the right cube of two: the opposite of `lift_left_cube`, in the same scene."""

from __future__ import annotations

from wambench.envs.task import View
from wambench.tasks import lift_left_cube


def right(view: View) -> str:
    """Returns the name of the cube that was on the right when the episode began."""
    return max(lift_left_cube.CUBES, key=lambda cube: float(view.start(cube)[1]))


TASK = lift_left_cube.task(
    "LiftRightCube",
    "lift the right cube",
    "move above the cube further right in the picture, close the fingers around it and raise it straight up",
    right,
)
