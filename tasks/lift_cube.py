"""Lift the red cube: grasp it among two cubes and a bin, and hold it 8 cm above the table."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import predicates, skills

HEIGHT = 0.08


def done(view: View) -> bool:
    """The hand holds the cube still, high above the table."""
    high = predicates.height(view, "red_cube") > HEIGHT and predicates.over_table(view, "red_cube")
    return high and predicates.held(view, "red_cube") and predicates.at_rest(view, "red_cube")


def expert(view: View) -> np.ndarray:
    """Grasps the cube and raises it."""
    if view.grasped("red_cube"):
        goal = np.array([*view.eef()[:2], view.table_z + HEIGHT + 0.06])
        return skills.servo(view, goal, skills.CLOSE, skills.hand_yaw(view))
    return skills.grasp(view, "red_cube", view.pos("red_cube"), skills.grip_yaw(view, "red_cube", ("blue_cube", "bin")))


STAGES = (
    Stage("reach", 0.2, lambda v: predicates.near(v, "red_cube") or predicates.held(v, "red_cube")),
    Stage("grasp", 0.3, lambda v: predicates.held(v, "red_cube"), after="reach"),
    Stage("lift", 0.5, done, after="grasp"),
)
TASK = Task(
    name="LiftCube",
    version=1,
    verb="lift",
    novelty="seen",
    instruction="lift the red cube",
    motion="move above the red cube, close the fingers around it and raise it straight up",
    about="Two cubes and a bin stand there, and five other commands fit the scene: the colour and the verb decide.",
    nearest="PlaceInBin",
    objects=("red_cube", "blue_cube", "bin"),
    place=skills.cubes_and_bin,
    stages=STAGES,
    success=done,
    expert=expert,
    horizon=130,
    allowed_attacks={
        "LiftLeftCube": "in some scenes the red cube is the left one",
        "LiftRightCube": "in some scenes the red cube is the right one",
        "BinThenLift": "it ends with lifting the red cube",
    },
)
