"""Place the red cube on the plate: set it down near the middle of the plate and let it go."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import skills
from wambench.tasks.push_cube import place

RADIUS = 0.04
RIM = 0.008  # height of the plate


def _resting(view: View) -> bool:
    return skills.distance(view, "red_cube", "plate") < RADIUS and view.touching("red_cube", "plate")


def done(view: View) -> bool:
    """The cube stands on the plate and no finger touches it."""
    return _resting(view) and skills.clear_of_fingers(view, "red_cube")


def expert(view: View) -> np.ndarray:
    """Grasps the cube, lowers it until it touches the plate, opens and leaves upwards."""
    goal = view.pos("plate") + [0, 0, RIM + view.size("red_cube")[2]]
    if _resting(view):
        return skills.release(view, "red_cube")
    if view.grasped("red_cube"):
        return skills.put(view, "red_cube", goal, 0.025)
    return skills.grasp(view, "red_cube", view.pos("red_cube"), skills.grip_yaw(view, "red_cube"))


TASK = Task(
    name="PlaceOnPlate",
    version=0,
    verb="place on",
    novelty="seen",
    instruction="place the red cube on the plate",
    motion="close the fingers around the red cube, raise it, lower it onto the white plate and open the fingers",
    objects=("red_cube", "plate", "zone"),
    place=place,
    stages=(
        Stage("grasp", 0.3, lambda v: v.grasped("red_cube") or done(v)),
        Stage("carry", 0.3, lambda v: skills.distance(v, "red_cube", "plate") < RADIUS, after="grasp"),
        Stage("place", 0.4, done, after="carry"),
    ),
    success=done,
    expert=expert,
    horizon=180,
)
