"""Push the bottle into the yellow zone, low, so that it stays standing."""

from __future__ import annotations

import dataclasses

import numpy as np

from wambench.envs.task import Placement, Stage, View
from wambench.tasks import predicates, push_cube, skills

HALF_FINGER, HALF_PALM = 0.012, 0.028
HEIGHT = 0.016
TRAVEL = 0.20  # clears the bottle


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns bottle, plate and zone; the zone lies away from the robot or beside the bottle."""
    return push_cube.place_towards(rng, 0.0, 1.75, "bottle")


def done(view: View) -> bool:
    """The bottle stands in the middle of the zone, still, and is not held; one that lies was knocked over."""
    arrived = predicates.distance(view, "bottle", "zone") < push_cube.RADIUS and predicates.on_table(view, "bottle")
    return arrived and _standing(view) and predicates.at_rest(view, "bottle")


def _standing(view: View) -> bool:
    return push_cube.pushed(view, "bottle") and predicates.upright(view, "bottle")


def _reached(view: View) -> bool:
    far = predicates.distance(view, "bottle", "zone") > push_cube.NEAR
    return far and predicates.behind(view, "bottle", "zone", 0.09) and _standing(view)


def _halfway(view: View) -> bool:
    return predicates.distance(view, "bottle", "zone") < push_cube.NEAR


def expert(view: View) -> np.ndarray:
    """Pushes low behind the bottle, then backs away upwards."""
    radius = float(view.size("bottle")[0])
    away = predicates.distance(view, "bottle", "zone")
    # pushed, the bottle leans against the hand and rocks back when it leaves: that is no reason to push again
    if away < 0.024 or (away < 0.036 and predicates.clear_of_fingers(view, "bottle")):
        return skills.back_off(view, "bottle", radius + HALF_PALM)
    standoff = radius + HALF_FINGER
    return skills.push(view, "bottle", view.pos("zone"), standoff, HEIGHT, TRAVEL, speed=0.4, gap=0.06, slope=5.0)


TASK = dataclasses.replace(
    push_cube.TASK,
    name="PushBottle",
    novelty="pairing",
    instruction="push the bottle to the yellow zone",
    motion="close the fingers, lower them behind the bottle and slide it, standing, onto the yellow square",
    about="A push low enough that the tall bottle slides and does not tip over; a bottle that lies does not count.",
    nearest="PushCube",
    objects=("bottle", "plate", "zone"),
    place=place,
    stages=(
        Stage("reach", 0.2, _reached),
        Stage("halfway", 0.3, _halfway, after="reach", meanwhile=_standing),
        Stage("zone", 0.5, done, after="halfway", meanwhile=_standing),
    ),
    success=done,
    expert=expert,
    horizon=260,
    allowed_attacks={
        "push": "pushing the object there is what the words ask for",
        "shove": "a shove that happens to have the right direction is a push",
    },
)
