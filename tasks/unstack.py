"""Unstack the cubes: take the red cube off the blue one and set it down on the table."""

from __future__ import annotations

import dataclasses

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import skills

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
    low = all(skills.height(view, cube) < 0.008 for cube in ("red_cube", "blue_cube"))
    return low and skills.distance(view, "red_cube", "blue_cube") > APART


def done(view: View) -> bool:
    """Both cubes are on the table, apart, and no finger touches the red one."""
    return _apart(view) and skills.clear_of_fingers(view, "red_cube")


def beside(view: View) -> np.ndarray:
    """Returns the (3,) place beside the blue cube, of four, that is furthest from the bin and within reach."""
    blue = view.pos("blue_cube")
    spots = [blue + BESIDE * np.array([dx, dy, 0.0]) for dx, dy in ((0, 1), (0, -1), (1, 0), (-1, 0))]
    free = [spot for spot in spots if -0.20 < spot[0] < 0.14 and abs(spot[1]) < 0.17]
    spot = max(free or spots, key=lambda s: float(np.linalg.norm((s - view.pos("bin"))[:2])))
    return np.array([*spot[:2], view.table_z + view.size("red_cube")[2] + 0.002])


def expert(view: View) -> np.ndarray:
    """Grasps the red cube, sets it down beside the blue one, opens and leaves upwards."""
    if _apart(view):
        return skills.release(view, "red_cube")
    if view.grasped("red_cube"):
        return skills.put(view, "red_cube", beside(view), 0.03)
    return skills.grasp(view, "red_cube", view.pos("red_cube"), skills.grip_yaw(view, "red_cube", ("blue_cube", "bin")))


TASK = Task(
    name="Unstack",
    version=0,
    verb="unstack",
    novelty="motion",
    instruction="unstack the cubes",
    motion="close the fingers around the upper, red cube, raise it, set it down on the table and open the fingers",
    objects=("red_cube", "blue_cube", "bin"),
    place=place,
    stages=(
        Stage("grasp", 0.3, lambda v: v.grasped("red_cube") or done(v)),
        Stage("apart", 0.3, lambda v: skills.distance(v, "red_cube", "blue_cube") > APART, after="grasp"),
        Stage("set down", 0.4, done, after="apart"),
    ),
    success=done,
    expert=expert,
    horizon=170,
)
