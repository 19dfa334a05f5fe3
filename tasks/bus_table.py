"""Clear the table: put three cubes into the bin, one after the other."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, skills
from wambench.tasks.place_in_bin import CLEAR, binned

# In this order; each has its own place in the bin (m, from the middle), so that they do not pile up.
SPOTS = {"red_cube": (0.030, 0.030), "green_cube": (0.030, -0.030), "blue_cube": (-0.030, 0.0)}
CUBES = tuple(SPOTS)


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns three cubes and the bin, anywhere in the workspace."""
    return skills.scatter(rng, {"bin": 0.115, **dict.fromkeys(CUBES, 0.042)})


def done(view: View) -> bool:
    """All cubes are in the bin."""
    return all(binned(view, cube) for cube in CUBES)


def expert(view: View) -> np.ndarray:
    """Brings a cube that it holds to the bin, else goes for the first that is not yet there."""
    left = [cube for cube in CUBES if not binned(view, cube)]
    if not left:
        return skills.release(view, CUBES[-1])
    cube = next((cube for cube in left if view.grasped(cube) or predicates.within_bin(view, cube)), left[0])
    goal = view.pos("bin") + view.rot("bin") @ [*SPOTS[cube], CLEAR + view.size(cube)[2]]
    return skills.drop(view, cube, goal, _others(cube))


def _others(cube: str) -> tuple[str, ...]:
    """Returns what may stand in the way of the fingers."""
    return (*(other for other in CUBES if other != cube), "bin")


def _stages(cube: str) -> tuple[Stage, Stage]:
    grasp = f"grasp {cube}"
    return (
        Stage(grasp, 0.05, lambda v: predicates.held(v, cube)),
        Stage(f"place {cube}", 0.2, lambda v: binned(v, cube), after=grasp),
    )


TASK = Task(
    name="BusTable",
    version=1,
    verb="clear",
    novelty="seen",
    instruction="clear the table: put all three cubes in the bin",
    motion="close the fingers around each cube, one after the other, raise it, move it above the grey bin and open",
    about="Three grasps and three throws in a row, in any order, and none of the cubes may come to lie on the rim.",
    nearest="PlaceInBin",
    objects=("red_cube", "blue_cube", "green_cube", "bin"),
    place=place,
    stages=(*(stage for cube in CUBES for stage in _stages(cube)), Stage("clear", 0.25, done)),
    success=done,
    expert=expert,
    horizon=480,
)
