"""Place the red cube in the bin: grasp it, carry it over the wall of the bin and let it go inside."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import skills

CLEAR = 0.066  # height of the cube's underside above the table at which the hand lets go: 2 cm over the wall


def done(view: View) -> bool:
    """The cube lies in the bin and no finger touches it."""
    return skills.inside(view, "red_cube") and skills.clear_of_fingers(view, "red_cube")


def expert(view: View) -> np.ndarray:
    """Grasps the cube and drops it over the middle of the bin."""
    goal = view.pos("bin") + [0, 0, CLEAR + view.size("red_cube")[2]]
    return skills.drop(view, "red_cube", goal, ("blue_cube", "bin"))


TASK = Task(
    name="PlaceInBin",
    version=0,
    verb="place in",
    novelty="seen",
    instruction="place the red cube in the bin",
    motion="close the fingers around the red cube, raise it, move it above the grey bin and open the fingers",
    objects=("red_cube", "blue_cube", "bin"),
    place=skills.cubes_and_bin,
    stages=(
        Stage("grasp", 0.3, lambda v: v.grasped("red_cube") or done(v)),
        Stage("carry", 0.3, lambda v: skills.distance(v, "red_cube", "bin") < 0.06, after="grasp"),
        Stage("place", 0.4, done, after="carry"),
    ),
    success=done,
    expert=expert,
    horizon=180,
)
