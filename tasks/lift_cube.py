"""Lift the red cube: grasp it among two cubes and a bin, and hold it 8 cm above the table."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import skills

HEIGHT = 0.08


def done(view: View) -> bool:
    """The cube is off the table."""
    return skills.height(view, "red_cube") > HEIGHT


def expert(view: View) -> np.ndarray:
    """Grasps the cube and raises it."""
    if view.grasped("red_cube"):
        goal = np.array([*view.eef()[:2], view.table_z + HEIGHT + 0.06])
        return skills.servo(view, goal, skills.CLOSE, skills.hand_yaw(view))
    return skills.grasp(view, "red_cube", view.pos("red_cube"), skills.grip_yaw(view, "red_cube", ("blue_cube", "bin")))


STAGES = (
    Stage("reach", 0.2, lambda v: skills.near(v, "red_cube") or done(v)),
    Stage("grasp", 0.4, lambda v: v.grasped("red_cube"), after="reach"),
    Stage("lift", 0.4, done, after="grasp"),
)
TASK = Task(
    name="LiftCube",
    version=0,
    verb="lift",
    novelty="seen",
    instruction="lift the red cube",
    motion="move above the red cube, close the fingers around it and raise it straight up",
    objects=("red_cube", "blue_cube", "bin"),
    place=skills.cubes_and_bin,
    stages=STAGES,
    success=done,
    expert=expert,
    horizon=130,
)
