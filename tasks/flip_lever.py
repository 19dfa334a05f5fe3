"""Flip the lever: push its stick from the side it leans to over to the other side."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import skills, turn_dial

FLIPPED = 0.4
REACH = 0.060  # from the hinge to where the fingers push
STANDOFF = 0.045


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the scene of TurnDial with the lever leaning to its -y side."""
    poses = turn_dial.place(rng)
    lever = poses["lever"]
    return {**poses, "lever": Placement(lever.x, lever.y, lever.yaw, joint=-abs(lever.joint))}
