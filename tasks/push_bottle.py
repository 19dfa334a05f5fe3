"""Push the bottle into the yellow zone, low, so that it stays standing if it can."""

from __future__ import annotations

import dataclasses

import numpy as np

from wambench.envs.task import Placement, Stage, View
from wambench.tasks import push_cube, skills

HALF_FINGER, HALF_PALM = 0.012, 0.028
HEIGHT = 0.016
TRAVEL = 0.20  # clears the bottle


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns bottle, plate and zone; the zone lies away from the robot or beside the bottle."""
    return push_cube.place_towards(rng, 0.0, 1.75, "bottle")


def done(view: View) -> bool:
    """The bottle stands or lies in the middle of the zone."""
    low = view.pos("bottle")[2] - view.table_z < view.size("bottle")[2] + 0.01
    return skills.distance(view, "bottle", "zone") < push_cube.RADIUS and bool(low)


def _beside(view: View) -> bool:
    away = np.linalg.norm((view.eef() - view.pos("bottle"))[:2])
    return bool(away < 0.09 and view.eef()[2] < view.table_z + 0.06)


def expert(view: View) -> np.ndarray:
    """Pushes low behind the bottle, then backs away upwards."""
    radius = float(view.size("bottle")[0])
    if skills.distance(view, "bottle", "zone") < 0.02:
        return skills.back_off(view, "bottle", radius + HALF_PALM)
    standoff = radius + HALF_FINGER
    return skills.push(view, "bottle", view.pos("zone"), standoff, HEIGHT, TRAVEL, speed=0.4, gap=0.06, slope=5.0)


TASK = dataclasses.replace(
    push_cube.TASK,
    name="PushBottle",
    novelty="pairing",
    instruction="push the bottle to the yellow zone",
    motion="close the fingers, lower them behind the bottle and slide it over the table onto the yellow square",
    objects=("bottle", "plate", "zone"),
    place=place,
    stages=(
        Stage("reach", 0.2, lambda v: _beside(v) or done(v)),
        Stage("halfway", 0.3, lambda v: skills.distance(v, "bottle", "zone") < push_cube.NEAR, after="reach"),
        Stage("zone", 0.5, done, after="halfway"),
    ),
    success=done,
    expert=expert,
    horizon=180,
)
