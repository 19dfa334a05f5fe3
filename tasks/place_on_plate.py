"""Place the red cube on the plate: set it down near the middle of the plate and let it go."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import predicates, skills
from wambench.tasks.push_cube import place

RADIUS = 0.04
RIM = 0.008  # height of the plate


def _over_plate(view: View) -> bool:
    return predicates.distance(view, "red_cube", "plate") < RADIUS


def _resting(view: View) -> bool:
    level = abs(predicates.bottom(view, "red_cube") - RIM) < predicates.TOUCH
    return _over_plate(view) and level and view.touching("red_cube", "plate")


def done(view: View) -> bool:
    """The cube stands on the plate, still, and no finger touches it."""
    alone = predicates.clear_of_fingers(view, "red_cube") and predicates.at_rest(view, "red_cube")
    return alone and _resting(view)


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
    version=1,
    verb="place on",
    novelty="seen",
    instruction="place the red cube on the plate",
    motion="close the fingers around the red cube, raise it, lower it onto the white plate and open the fingers",
    about="The cube must be let down onto the plate; the yellow zone beside it is the goal of another command.",
    nearest="PlaceInBin",
    objects=("red_cube", "plate", "zone"),
    place=place,
    stages=(
        Stage("grasp", 0.2, lambda v: predicates.held(v, "red_cube")),
        Stage("carry", 0.15, _over_plate, after="grasp"),
        Stage("lower", 0.15, lambda v: _over_plate(v) and predicates.lowered(v, "red_cube", RIM), after="grasp"),
        Stage("place", 0.5, done, after="lower"),
    ),
    success=done,
    expert=expert,
    horizon=180,
    allowed_attacks={
        "drag": "a held cube that is drawn up onto the plate and let go there has been placed on it",
        "pick": "picking the object up and letting it down there is what the words ask for",
    },
)
