"""Place the cube nearest the bin in it, and leave the other one where it is."""

from __future__ import annotations

import dataclasses

import numpy as np

from wambench.envs.task import Placement, Stage, View
from wambench.tasks import place_in_bin, predicates, skills
from wambench.tasks.lift_left_cube import CUBES

NEARER = 0.05  # m, at the least, between the distances of the two cubes from the bin


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the scene of the cube tasks, with one of the cubes clearly nearer to the bin."""
    for _ in range(1000):
        placed = skills.cubes_and_bin(rng)
        away = [np.hypot(placed[c].x - placed["bin"].x, placed[c].y - placed["bin"].y) for c in CUBES]
        if abs(away[0] - away[1]) > NEARER:
            return placed
    raise RuntimeError("no room for one cube nearer to the bin")


def nearest(view: View) -> str:
    """Returns the name of the cube that was nearest to the bin when the episode began."""
    return min(CUBES, key=lambda cube: float(np.linalg.norm(view.start(cube) - view.start("bin"))))


def _other(view: View) -> str:
    return next(cube for cube in CUBES if cube != nearest(view))


def done(view: View) -> bool:
    """The cube lies in the bin, the other one does not, and no finger touches the first."""
    return place_in_bin.binned(view, nearest(view)) and not predicates.within_bin(view, _other(view))


def expert(view: View) -> np.ndarray:
    """Grasps the cube and drops it over the middle of the bin; a wrong one in the hand is let go first."""
    cube, other = nearest(view), _other(view)
    if view.grasped(other) and not predicates.over_bin(view, other):
        return skills.release(view, other)
    goal = view.pos("bin") + [0, 0, place_in_bin.CLEAR + view.size(cube)[2]]
    return skills.drop(view, cube, goal, (other, "bin"))


TASK = dataclasses.replace(
    place_in_bin.TASK,
    name="PlaceNearestInBin",
    version=0,
    instruction="place the cube nearest the bin in it",
    motion="close the fingers around the cube beside the grey bin, raise it, move it above the bin and open",
    about="Which cube is meant depends on three places at once, and the other cube must stay outside.",
    nearest="PlaceInBin",
    place=place,
    stages=(
        Stage("grasp", 0.2, lambda v: predicates.held(v, nearest(v))),
        Stage("carry", 0.2, lambda v: predicates.over_bin(v, nearest(v)), after="grasp"),
        Stage("place", 0.6, done, after="carry"),
    ),
    success=done,
    expert=expert,
    horizon=200,
    allowed_attacks={
        **place_in_bin.TASK.allowed_attacks,
        "PlaceInBin": "in some scenes the red cube is the nearest one",
        "DepositCube": "in some scenes the red cube is the nearest one",
        "BinThenLift": "in some scenes the blue cube is the nearest one",
    },
)
