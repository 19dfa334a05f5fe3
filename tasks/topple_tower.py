"""Topple the tower: knock three stacked bricks over from the side."""

from __future__ import annotations

import numpy as np

from wambench.envs.objects import OBJECTS
from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import skills

BRICKS = ("brick_1", "brick_2", "brick_3")
STANDOFF = 0.075


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns three upright bricks on top of each other."""
    x, y = float(rng.uniform(-0.08, 0.08)), float(rng.choice((-1, 1)) * rng.uniform(0.06, 0.16))
    yaws = rng.uniform(-0.3, 0.3) + rng.uniform(-0.04, 0.04, 3)
    height = 2 * OBJECTS["brick_1"].half[2]
    return {name: Placement(x, y, float(yaws[i]), z=height * i) for i, name in enumerate(BRICKS)}


def _height(view: View) -> float:
    """Returns the height of the top brick's centre as a part of its height in the tower."""
    return float((view.pos("brick_3")[2] - view.table_z) / (5 * view.size("brick_3")[2]))


def is_toppled(view: View) -> bool:
    """The top brick lies below half its height in the tower."""
    return _height(view) < 0.5


def expert(view: View) -> np.ndarray:
    """Comes down beside the top brick on the hand's own side, then pushes through it."""
    top, eef = view.pos("brick_3"), view.eef()
    if is_toppled(view):
        return skills.servo(view, np.array([*eef[:2], view.table_z + 0.15]), skills.CLOSE, speed=0.3)
    side = 1.0 if eef[1] > top[1] else -1.0
    beside = 0.02 < side * (eef[1] - top[1]) < 0.12 and abs(eef[0] - top[0]) < 0.03 and abs(eef[2] - top[2]) < 0.03
    if beside:
        return skills.servo(view, top + [0, -side * 0.06, 0], skills.CLOSE, speed=0.8)
    ceiling = top[2] - view.table_z + 0.06
    return skills.funnel(view, top + [0, side * STANDOFF, 0], skills.CLOSE, radius=0.016, travel=ceiling)


def _reached(view: View) -> bool:
    return bool(np.linalg.norm(view.eef() - view.pos("brick_3")) < 0.07) or is_toppled(view)


TASK = Task(
    name="ToppleTower",
    version=0,
    verb="topple",
    novelty="motion",
    instruction="topple the tower",
    motion="close the fingers, move them beside the top of the tower and push it sideways until it falls over",
    objects=BRICKS,
    place=place,
    stages=(
        Stage("reach", 0.3, _reached),
        Stage("touch", 0.2, lambda v: any(v.touching("fingers", b) for b in BRICKS) or is_toppled(v), after="reach"),
        Stage("topple", 0.5, is_toppled, after="touch"),
    ),
    success=is_toppled,
    expert=expert,
    horizon=120,
)
