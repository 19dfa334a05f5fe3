"""Place the blue cube in the bin, then lift the red one: the two commands in a row."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import place_in_bin, predicates, skills
from wambench.tasks.lift_left_cube import lifted, raise_cube


def done(view: View) -> bool:
    """The hand holds the red cube still, high above the table, and the blue one lies in the bin."""
    return place_in_bin.binned(view, "blue_cube") and lifted(view, "red_cube")


def expert(view: View) -> np.ndarray:
    """Drops the blue cube into the bin, then raises the red one; a red one in the hand too early is let go."""
    binned = place_in_bin.binned(view, "blue_cube")
    if not binned and view.grasped("red_cube"):
        return skills.release(view, "red_cube")
    if binned:
        return raise_cube(view, "red_cube", ("blue_cube", "bin"))
    goal = view.pos("bin") + [0, 0, place_in_bin.CLEAR + view.size("blue_cube")[2]]
    return skills.drop(view, "blue_cube", goal, ("red_cube", "bin"))


TASK = Task(
    name="BinThenLift",
    version=0,
    verb="place in, lift",
    novelty="composition",
    instruction="place the blue cube in the bin, then lift the red cube",
    motion="close the fingers around the blue cube, move it above the grey bin, open, then close them around the red "
    "cube and raise it",
    about="Two grasps for two purposes, and each is only ever demonstrated with the red cube and alone.",
    nearest="PlaceInBin",
    objects=("red_cube", "blue_cube", "bin"),
    place=skills.cubes_and_bin,
    stages=(
        Stage("grasp blue", 0.1, lambda v: predicates.held(v, "blue_cube")),
        Stage("place blue", 0.25, lambda v: place_in_bin.binned(v, "blue_cube"), after="grasp blue"),
        Stage("grasp red", 0.15, lambda v: predicates.held(v, "red_cube"), after="place blue"),
        Stage("lift red", 0.5, done, after="grasp red"),
    ),
    success=done,
    expert=expert,
    horizon=360,
)
