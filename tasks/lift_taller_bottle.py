"""Lift the taller of two bottles of one colour."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import place_bottle, predicates, skills
from wambench.tasks.lift_left_cube import lifted


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns both bottles and the bin."""
    return skills.scatter(rng, {"bottle": 0.05, "small_bottle": 0.05, "bin": 0.125})


def done(view: View) -> bool:
    """The hand holds the taller bottle still, its foot high above the table."""
    return lifted(view, "bottle")


def expert(view: View) -> np.ndarray:
    """Grasps the taller bottle at its neck, a lying one across its body, and raises it."""
    if view.grasped("small_bottle"):
        return skills.release(view, "small_bottle")
    if view.grasped("bottle"):
        goal = np.array([*view.eef()[:2], view.table_z + 0.26])
        return skills.servo(view, goal, skills.CLOSE, skills.hand_yaw(view))
    axis = view.rot("bottle")[:, 2]
    standing = abs(axis[2]) > 0.8
    along = place_bottle.NECK if standing else place_bottle.BODY
    yaw = 0.0 if standing else skills.half_turn(float(np.arctan2(axis[1], axis[0])))
    return skills.grasp(view, "bottle", view.pos("bottle") + along * view.size("bottle")[2] * axis, yaw, 0.20)


TASK = Task(
    name="LiftTallerBottle",
    version=0,
    verb="lift",
    novelty="pairing",
    instruction="lift the taller bottle",
    motion="move above the teal bottle that stands higher, close the fingers around its neck and raise it straight up",
    about="The two bottles differ by 4 cm in height and in nothing else; no demonstration lifts a bottle.",
    nearest="LiftCube",
    objects=("bottle", "small_bottle", "bin"),
    place=place,
    stages=(
        Stage("reach", 0.2, lambda v: predicates.near(v, "bottle", 0.07) or predicates.held(v, "bottle")),
        Stage("grasp", 0.3, lambda v: predicates.held(v, "bottle"), after="reach"),
        Stage("lift", 0.5, done, after="grasp"),
    ),
    success=done,
    expert=expert,
    horizon=150,
    allowed_attacks={"pick": "a bottle that is picked up and held is lifted"},
)
