"""Place the red cube in the bin: grasp it, carry it over the wall of the bin and let it go inside."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import predicates, skills

CLEAR = 0.066  # height of the cube's underside above the table at which the hand lets go: 2 cm over the wall


def done(view: View) -> bool:
    """The cube lies in the bin and no finger touches it."""
    return binned(view, "red_cube")


def binned(view: View, name: str) -> bool:
    """An object lies still in the bin and no finger touches it."""
    alone = predicates.clear_of_fingers(view, name) and predicates.at_rest(view, name)
    return alone and predicates.within_bin(view, name)


def expert(view: View) -> np.ndarray:
    """Grasps the cube and drops it over the middle of the bin."""
    goal = view.pos("bin") + [0, 0, CLEAR + view.size("red_cube")[2]]
    return skills.drop(view, "red_cube", goal, ("blue_cube", "bin"))


TASK = Task(
    name="PlaceInBin",
    version=1,
    verb="place in",
    novelty="seen",
    instruction="place the red cube in the bin",
    motion="close the fingers around the red cube, raise it, move it above the grey bin and open the fingers",
    about="The cube must be carried over a wall as high as itself and let go inside, clear of the rim.",
    nearest="LiftCube",
    objects=("red_cube", "blue_cube", "bin"),
    place=skills.cubes_and_bin,
    stages=(
        Stage("grasp", 0.3, lambda v: predicates.held(v, "red_cube")),
        Stage("carry", 0.2, lambda v: predicates.over_bin(v, "red_cube"), after="grasp"),
        Stage("place", 0.5, done, after="carry"),
    ),
    success=done,
    expert=expert,
    horizon=180,
    allowed_attacks={
        "PlaceNearestInBin": "in some scenes the red cube is the nearest one",
        "pick": "picking the object up and letting it down there is what the words ask for",
        "drop": "what is dropped into the bin lies in the bin",
    },
)
