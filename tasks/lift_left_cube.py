"""Lift the left cube of two: which one that is, only the place of the other tells.

Left and right are meant as in the picture of the main camera, which faces the robot: left is -y. Which cube is meant is
settled when the episode begins: carrying the other one over to the left does not make it the left one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import lift_cube, predicates, skills

CUBES = ("red_cube", "blue_cube")
APART = 0.07  # m in y, at the least: no doubt which one is on the left

Choice = Callable[[View], str]


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the scene of the cube tasks, with one of the cubes clearly on the left."""
    for _ in range(1000):
        placed = skills.cubes_and_bin(rng)
        if abs(placed["red_cube"].y - placed["blue_cube"].y) > APART:
            return placed
    raise RuntimeError("no room for one cube beside the other")


def left(view: View) -> str:
    """Returns the name of the cube that was on the left when the episode began."""
    return min(CUBES, key=lambda cube: float(view.start(cube)[1]))


def lifted(view: View, name: str) -> bool:
    """The hand holds the object still, its underside high above the table."""
    high = predicates.bottom(view, name) > lift_cube.HEIGHT and predicates.over_table(view, name)
    return high and predicates.held(view, name) and predicates.at_rest(view, name)


def raise_cube(view: View, cube: str, others: tuple[str, ...]) -> np.ndarray:
    """Lets go of another cube, grasps the cube, and raises it."""
    wrong = next((other for other in others if other in CUBES and view.grasped(other)), None)
    if wrong is not None:
        return skills.release(view, wrong)
    if view.grasped(cube):
        goal = np.array([*view.eef()[:2], view.table_z + lift_cube.HEIGHT + 0.06])
        return skills.servo(view, goal, skills.CLOSE, skills.hand_yaw(view))
    return skills.grasp(view, cube, view.pos(cube), skills.grip_yaw(view, cube, others))


def task(name: str, instruction: str, motion: str, choose: Choice) -> Task:
    """Returns the task of lifting the cube that `choose` names."""

    def done(view: View) -> bool:
        return lifted(view, choose(view))

    def expert(view: View) -> np.ndarray:
        cube = choose(view)
        return raise_cube(view, cube, (*(other for other in CUBES if other != cube), "bin"))

    return dataclasses.replace(
        lift_cube.TASK,
        name=name,
        version=0,
        instruction=instruction,
        motion=motion,
        about="The colour says nothing here: the same two cubes are told apart by where they stand.",
        nearest="LiftCube",
        place=place,
        stages=(
            Stage("reach", 0.2, lambda v: predicates.near(v, choose(v)) or predicates.held(v, choose(v))),
            Stage("grasp", 0.3, lambda v: predicates.held(v, choose(v)), after="reach"),
            Stage("lift", 0.5, done, after="grasp"),
        ),
        success=done,
        expert=expert,
        allowed_attacks=dict.fromkeys(("LiftCube", "HoistCube", "BinThenLift"), "in some scenes it is the red cube"),
    )


TASK = task(
    "LiftLeftCube",
    "lift the left cube",
    "move above the cube further left in the picture, close the fingers around it and raise it straight up",
    left,
)
