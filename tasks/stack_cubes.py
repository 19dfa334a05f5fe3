"""Stack the red cube on the blue cube."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import skills

CENTRED = 0.018


def stacked(view: View) -> bool:
    """The red cube rests on top of the blue one."""
    rise = view.pos("red_cube")[2] - view.pos("blue_cube")[2]
    half = view.size("red_cube")[2]
    above = skills.distance(view, "red_cube", "blue_cube") < half and abs(rise - 2 * half) < 0.006
    return above and view.touching("red_cube", "blue_cube")


def done(view: View) -> bool:
    """The stack stands by itself."""
    return stacked(view) and skills.clear_of_fingers(view, "red_cube")


def expert(view: View) -> np.ndarray:
    """Grasps the red cube, lowers it onto the blue one, opens and leaves upwards."""
    goal = view.pos("blue_cube") + [0, 0, 2 * view.size("red_cube")[2]]
    if stacked(view) and (skills.distance(view, "red_cube", "blue_cube") < CENTRED or not view.grasped("red_cube")):
        return skills.release(view, "red_cube")
    if view.grasped("red_cube"):
        return skills.put(view, "red_cube", goal, CENTRED)
    return skills.grasp(view, "red_cube", view.pos("red_cube"), skills.grip_yaw(view, "red_cube", ("blue_cube", "bin")))


TASK = Task(
    name="StackCubes",
    version=0,
    verb="stack",
    novelty="seen",
    instruction="stack the red cube on the blue cube",
    motion="close the fingers around the red cube, raise it, lower it onto the blue cube and open the fingers",
    objects=("red_cube", "blue_cube", "bin"),
    place=skills.cubes_and_bin,
    stages=(
        Stage("grasp", 0.3, lambda v: v.grasped("red_cube") or done(v)),
        Stage("align", 0.3, lambda v: skills.above(v, "red_cube", "blue_cube"), after="grasp"),
        Stage("stack", 0.4, done, after="align"),
    ),
    success=done,
    expert=expert,
    horizon=190,
)
