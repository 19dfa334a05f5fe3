"""Stack the red cube on the blue cube."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import predicates, skills

CENTRED = 0.018


def stacked(view: View) -> bool:
    """The red cube rests on top of the blue one, which lies on the table, so that its centre is over the blue face."""
    return predicates.rests_on(view, "red_cube", "blue_cube", float(view.size("red_cube")[2]))


def done(view: View) -> bool:
    """The stack stands by itself, still."""
    alone = predicates.clear_of_fingers(view, "red_cube") and predicates.at_rest(view, "red_cube")
    return alone and stacked(view)


def _above(view: View) -> bool:
    return predicates.distance(view, "red_cube", "blue_cube") < 0.03


def _aligned(view: View) -> bool:
    return _above(view) and predicates.held(view, "red_cube")


def _lowered(view: View) -> bool:
    return _above(view) and predicates.lowered(view, "red_cube", 2 * float(view.size("blue_cube")[2]))


def expert(view: View) -> np.ndarray:
    """Grasps the red cube, lowers it onto the blue one, opens and leaves upwards."""
    goal = view.pos("blue_cube") + [0, 0, 2 * view.size("red_cube")[2]]
    if stacked(view) and (predicates.distance(view, "red_cube", "blue_cube") < CENTRED or not view.grasped("red_cube")):
        return skills.release(view, "red_cube")
    if view.grasped("red_cube"):
        return skills.put(view, "red_cube", goal, CENTRED)
    return skills.grasp(view, "red_cube", view.pos("red_cube"), skills.grip_yaw(view, "red_cube", ("blue_cube", "bin")))


TASK = Task(
    name="StackCubes",
    version=1,
    verb="stack",
    novelty="seen",
    instruction="stack the red cube on the blue cube",
    motion="close the fingers around the red cube, raise it, lower it onto the blue cube and open the fingers",
    about="The red cube must be let down within 2 cm of the middle of the blue one and stay there by itself.",
    nearest="PlaceInBin",
    objects=("red_cube", "blue_cube", "bin"),
    place=skills.cubes_and_bin,
    stages=(
        Stage("grasp", 0.2, lambda v: predicates.held(v, "red_cube")),
        Stage("align", 0.15, _aligned, after="grasp"),
        Stage("lower", 0.15, _lowered, after="grasp"),
        Stage("stack", 0.5, done, after="lower"),
    ),
    success=done,
    expert=expert,
    horizon=190,
    allowed_attacks={
        "pick": "picking the object up and letting it down there is what the words ask for",
    },
)
