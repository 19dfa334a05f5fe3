"""Pull the red cube to a zone that lies towards the robot, with the fingers on the far side of the cube."""

from __future__ import annotations

import dataclasses

import numpy as np

from wambench.envs.task import Placement
from wambench.tasks import push_cube


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns cube, plate and zone; the zone lies between the cube and the robot."""
    return push_cube.place_towards(rng, np.pi, 0.6)


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
)
