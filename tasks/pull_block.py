"""Pull the red cube to a zone that lies towards the robot, with the fingers on the far side of the cube."""

from __future__ import annotations

import dataclasses

import numpy as np

from wambench.envs.task import Placement, Stage, View
from wambench.tasks import predicates, push_cube


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns cube, plate and zone; the zone lies between the cube and the robot."""
    return push_cube.place_towards(rng, np.pi, 0.6)


def _slides(view: View) -> bool:
    """The cube stays on the table; unlike a push, a pull may hold it."""
    return predicates.slides(view, "red_cube")


def _reached(view: View) -> bool:
    far = predicates.distance(view, "red_cube", "zone") > push_cube.NEAR
    hooked = predicates.behind(view, "red_cube", "zone", 0.05) or predicates.held(view, "red_cube")
    return far and hooked and _slides(view)


def _halfway(view: View) -> bool:
    return predicates.distance(view, "red_cube", "zone") < push_cube.NEAR


TASK = dataclasses.replace(
    push_cube.TASK,
    name="PullBlock",
    verb="pull",
    novelty="motion",
    instruction="pull the red cube to the yellow zone",
    motion="close the fingers, lower them on the far side of the red cube and drag it back onto the yellow square",
    about="The motion is that of a push, in the one direction that no demonstration has: the hand must reach over.",
    nearest="PushCube",
    place=place,
    stages=(
        Stage("reach", 0.2, _reached),
        Stage("halfway", 0.3, _halfway, after="reach", meanwhile=_slides),
        Stage("zone", 0.5, push_cube.done, after="halfway", meanwhile=_slides),
    ),
    allowed_attacks={
        **push_cube.TASK.allowed_attacks,
        "drag": "dragging a cube that is held over the table is pulling it",
    },
)
