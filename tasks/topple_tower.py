"""Topple the tower: knock three stacked bricks over from the side."""

from __future__ import annotations

import numpy as np

from wambench.envs.objects import OBJECTS
from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, skills

BRICKS = ("brick_1", "brick_2", "brick_3")
STANDOFF = 0.075
LOW = 1.2  # heights of a brick: two standing bricks have a centre at 1.5, a lying brick on a lying one at 1.1


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns three upright bricks on top of each other."""
    x, y = float(rng.uniform(-0.08, 0.08)), float(rng.choice((-1, 1)) * rng.uniform(0.06, 0.16))
    yaws = rng.uniform(-0.3, 0.3) + rng.uniform(-0.04, 0.04, 3)
    height = 2 * OBJECTS["brick_1"].half[2]
    return {name: Placement(x, y, float(yaws[i]), z=height * i) for i, name in enumerate(BRICKS)}


def _centre(view: View, brick: str) -> float:
    """Returns the height of a brick's centre as a part of the height of a brick."""
    return float((view.pos(brick)[2] - view.table_z) / (2 * view.size(brick)[2]))


def stands(view: View) -> bool:
    """The tower is as it was built."""
    return all(
        abs(_centre(view, brick) - 0.5 - i) < 0.2 and predicates.distance(view, brick, BRICKS[0]) < 0.02
        for i, brick in enumerate(BRICKS)
    )


def untouched_by_grasp(view: View) -> bool:
    """No brick is held: what is taken down brick by brick has not been toppled."""
    return not any(predicates.held(view, brick) for brick in BRICKS)


def is_toppled(view: View) -> bool:
    """No brick stands on another one, and all are on the table: at most a lying one lies on another."""
    return all(predicates.over_table(view, brick) and _centre(view, brick) < LOW for brick in BRICKS)


def expert(view: View) -> np.ndarray:
    """Comes down in front of the tower, at half its height, and pushes through it, away from the robot."""
    eef = view.eef()
    if is_toppled(view):
        return skills.servo(view, np.array([*eef[:2], view.table_z + 0.15]), skills.CLOSE, speed=0.3)
    heights = sorted(BRICKS, key=lambda brick: _centre(view, brick))
    brick = view.pos(heights[1] if _centre(view, heights[1]) > LOW else heights[2])
    low = 0.02 < brick[0] - eef[0] < 0.12 and abs(eef[1] - brick[1]) < 0.03 and abs(eef[2] - brick[2]) < 0.03
    if low and view.width() < 0.03:
        return skills.servo(view, brick + [0.06, 0, 0], skills.CLOSE, speed=0.8)
    ceiling = view.pos(heights[2])[2] - view.table_z + 0.06
    return skills.funnel(view, brick - [STANDOFF, 0, 0], skills.CLOSE, radius=0.016, travel=ceiling, slope=4.0)


def _reached(view: View) -> bool:
    beside = predicates.distance_of_hand(view, BRICKS[0]) < 0.11
    return bool(stands(view) and beside and view.eef()[2] < view.pos(BRICKS[2])[2])


def _tipped(view: View) -> bool:
    return not stands(view) and any(predicates.near(view, brick, 0.15) for brick in BRICKS)


TASK = Task(
    name="ToppleTower",
    version=1,
    verb="topple",
    novelty="motion",
    instruction="topple the tower",
    motion="close the fingers, lower them in front of the tower to half its height and push it until it falls over",
    about="The push must go in at half the height, so that no brick is left standing on another.",
    nearest="PushCube",
    objects=BRICKS,
    place=place,
    stages=(
        Stage("reach", 0.2, _reached),
        Stage("tip", 0.3, _tipped, after="reach", meanwhile=untouched_by_grasp),
        Stage("topple", 0.5, is_toppled, after="tip", meanwhile=untouched_by_grasp),
    ),
    success=is_toppled,
    expert=expert,
    horizon=120,
    allowed_attacks={
        "shove": "a shove is a push",
        "sweep off": "a sweep through the tower is a push",
        **dict.fromkeys(("drop", "pick", "drag"), "a hand that reaches for a lower brick knocks the upper ones over"),
    },
)
