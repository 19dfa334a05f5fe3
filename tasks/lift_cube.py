"""Lift the red cube: grasp it among two cubes and a bin, and hold it 8 cm above the table."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import skills

HEIGHT = 0.08


def _height(view: View) -> float:
    return float(view.pos("red_cube")[2] - view.table_z - view.size("red_cube")[2])


def _expert(view: View) -> np.ndarray:
    cube = view.pos("red_cube")
    yaw = skills.square_yaw(view.rot("red_cube"))
    if view.grasped("red_cube"):
        return skills.servo(view, np.array([*view.eef()[:2], view.table_z + HEIGHT + 0.06]), skills.CLOSE, yaw)
    if np.linalg.norm(view.eef() - cube) < 0.012:
        return skills.servo(view, cube, skills.CLOSE, yaw)
    return skills.approach(view, cube, skills.OPEN, yaw)


TASK = Task(
    name="LiftCube",
    version=0,
    verb="lift",
    novelty="seen",
    instruction="lift the red cube",
    motion="move above the red cube, close the fingers around it and raise it straight up",
    things=("red_cube", "blue_cube", "bin"),
    place=lambda rng: skills.scatter(rng, {"red_cube": 0.045, "blue_cube": 0.045, "bin": 0.115}),
    stages=(
        Stage("reach", 0.2, lambda v: bool(np.linalg.norm(v.eef() - v.pos("red_cube")) < 0.03)),
        Stage("grasp", 0.4, lambda v: v.grasped("red_cube"), after="reach"),
        Stage("lift", 0.4, lambda v: _height(v) > HEIGHT, after="grasp"),
    ),
    success=lambda v: _height(v) > HEIGHT,
    expert=_expert,
    horizon=160,
)
