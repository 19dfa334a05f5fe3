"""Unstack the cubes: take the red cube off the blue one and set it down on the table."""

from __future__ import annotations

import dataclasses

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, skills

HEIGHT = 0.0505  # of the lower cube, at the largest scale: smaller cubes start with a drop of some millimetres
BESIDE = 0.10
APART = 0.06


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the scene of the other cube tasks, with the red cube on the blue one."""
    placed = skills.cubes_and_bin(rng)
    blue = placed["blue_cube"]
    dx, dy = rng.uniform(-0.004, 0.004, 2)
    yaw = blue.yaw + float(rng.uniform(-0.2, 0.2))
    return {**placed, "red_cube": dataclasses.replace(blue, x=blue.x + dx, y=blue.y + dy, yaw=yaw, z=HEIGHT)}


def _apart(view: View) -> bool:
    return predicates.distance(view, "red_cube", "blue_cube") > APART


def _beside_each_other(view: View) -> bool:
    return all(predicates.on_table(view, cube) for cube in ("red_cube", "blue_cube")) and _apart(view)


def done(view: View) -> bool:
    """Both cubes rest on the table, apart, and no finger touches the red one."""
    alone = predicates.clear_of_fingers(view, "red_cube") and predicates.at_rest(view, "red_cube")
    return alone and _beside_each_other(view)


def _grasped(view: View) -> bool:
    stacked = view.touching("red_cube", "blue_cube") or predicates.bottom(view, "red_cube") > 0.03
    return stacked and predicates.held(view, "red_cube")


def _carried(view: View) -> bool:
    return predicates.raised(view, "red_cube") and _apart(view)


def _blue_stays(view: View) -> bool:
    """The blue cube is not what moves: the red one is taken off it, the blue one is not pulled away from under it."""
    return predicates.at_rest(view, "blue_cube") and predicates.clear_of_fingers(view, "blue_cube")


def beside(view: View) -> np.ndarray:
    """Returns the (3,) place beside the blue cube, of four, that is furthest from the bin and within reach."""
    blue = view.pos("blue_cube")
    spots = [blue + BESIDE * np.array([dx, dy, 0.0]) for dx, dy in ((0, 1), (0, -1), (1, 0), (-1, 0))]
    free = [spot for spot in spots if -0.20 < spot[0] < 0.14 and abs(spot[1]) < 0.17]
    spot = max(free or spots, key=lambda s: float(np.linalg.norm((s - view.pos("bin"))[:2])))
    return np.array([*spot[:2], view.table_z + view.size("red_cube")[2] + 0.002])


def expert(view: View) -> np.ndarray:
    """Grasps the red cube, sets it down beside the blue one, opens and leaves upwards."""
    if _beside_each_other(view):
        return skills.release(view, "red_cube")
    if view.grasped("red_cube"):
        return skills.put(view, "red_cube", beside(view), 0.03)
    return skills.grasp(view, "red_cube", view.pos("red_cube"), skills.grip_yaw(view, "red_cube", ("blue_cube", "bin")))


TASK = Task(
    name="Unstack",
    version=1,
    verb="unstack",
    novelty="motion",
    instruction="unstack the cubes",
    motion="close the fingers around the upper, red cube, raise it, set it down on the table and open the fingers",
    about="The stack must be taken apart by its upper cube; shoving it over or pulling the lower one away is not it.",
    nearest="StackCubes",
    objects=("red_cube", "blue_cube", "bin"),
    place=place,
    stages=(
        Stage("grasp", 0.2, _grasped),
        Stage("apart", 0.15, _carried, after="grasp", meanwhile=_blue_stays),
        Stage("lower", 0.15, lambda v: _apart(v) and predicates.lowered(v, "red_cube"), after="apart"),
        Stage("set down", 0.5, done, after="lower"),
    ),
    success=done,
    expert=expert,
    horizon=170,
)
