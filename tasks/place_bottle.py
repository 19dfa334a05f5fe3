"""Place the bottle in the bin: grasp it, carry it over the wall of the bin and let it go inside."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, skills
from wambench.tasks.place_in_bin import binned

NECK, BODY = 0.78, -0.30  # where the fingers close, along the axis, in half heights: standing, lying
TRAVEL = 0.20


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns bottle, blue cube and bin."""
    return skills.scatter(rng, {"bottle": 0.045, "blue_cube": 0.045, "bin": 0.125})


def done(view: View) -> bool:
    """The bottle stands, leans or lies in the bin, still, and no finger touches it."""
    return binned(view, "bottle")


def expert(view: View) -> np.ndarray:
    """Grasps a standing bottle at its neck, a lying one across its body, and lowers it into the bin."""
    bottle, axis = view.pos("bottle"), view.rot("bottle")[:, 2]
    goal = view.pos("bin") + [0, 0, 0.012 + view.size("bottle")[2]]
    if predicates.within_bin(view, "bottle"):
        return skills.release(view, "bottle")
    if view.grasped("bottle"):
        return skills.put(view, "bottle", goal, 0.03, 0.02, TRAVEL)
    standing = abs(axis[2]) > 0.8
    at = bottle + (NECK if standing else BODY) * view.size("bottle")[2] * axis
    yaw = 0.0 if standing else skills.half_turn(float(np.arctan2(axis[1], axis[0])))
    return skills.grasp(view, "bottle", at, yaw, TRAVEL)


TASK = Task(
    name="PlaceBottleInBin",
    version=1,
    verb="place in",
    novelty="pairing",
    instruction="place the bottle in the bin",
    motion="close the fingers around the bottle, raise it, move it above the grey bin and open the fingers",
    about="A tall, slender object that tips over when it is touched wrongly, and is then grasped across its body.",
    nearest="PlaceInBin",
    objects=("bottle", "blue_cube", "bin"),
    place=place,
    stages=(
        Stage("grasp", 0.3, lambda v: predicates.held(v, "bottle")),
        Stage("carry", 0.2, lambda v: predicates.over_bin(v, "bottle"), after="grasp"),
        Stage("place", 0.5, done, after="carry"),
    ),
    success=done,
    expert=expert,
    horizon=220,
    allowed_attacks={
        "pick": "picking the object up and letting it down there is what the words ask for",
        "drop": "what is dropped into the bin lies in the bin",
    },
)
