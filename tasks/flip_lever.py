"""Flip the lever: push its stick from the side it leans to over to the other side."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import predicates, skills, turn_dial

FLIPPED = 0.4
FLIP_TO = 0.55
HEIGHT = 0.112  # of the hand above the table: the finger tips beside the knob, the palm above it
CONTACT, STANDOFF = 0.041, 0.060  # from the hand to the knob


def is_flipped(view: View) -> bool:
    """The stick leans to the other side."""
    return view.joint("lever") > FLIPPED


def expert(view: View) -> np.ndarray:
    """Comes down on the side the stick leans to, then pushes the knob across."""
    frame = view.rot("lever")
    yaw = float(np.arctan2(frame[1, 0], frame[0, 0]))
    knob = view.pos("lever/knob")
    off = frame.T @ (view.eef() - knob)
    level = np.array([knob[0], knob[1], view.table_z + HEIGHT])
    low = abs(view.eef()[2] - level[2]) < 0.03
    if low and -0.12 < off[1] < -0.02 and abs(off[0]) < 0.03 and view.width() < 0.03:
        push = float(np.clip((FLIP_TO - view.joint("lever")) / 0.2, 0.0, 1.0))
        return skills.servo(view, level + frame[:, 1] * (0.06 * push - CONTACT), skills.CLOSE, yaw, speed=0.7)
    aim = level - frame[:, 1] * STANDOFF
    return skills.funnel(view, aim, skills.CLOSE, yaw, travel=turn_dial.TRAVEL, radius=0.016)


def _reached(view: View) -> bool:
    return predicates.near(view, "lever/knob", 0.07)


TASK = Task(
    name="FlipLever",
    version=1,
    verb="flip",
    novelty="motion",
    instruction="flip the lever",
    motion="close the fingers, move them to the side the green lever leans to and push it over to the other side",
    about="The stick must be pushed from the side it leans to, 11 cm above the table, past its upright position.",
    nearest="CloseDrawer",
    objects=turn_dial.OBJECTS,
    place=turn_dial.place,
    stages=(
        Stage("reach", 0.2, _reached),
        Stage("upright", 0.3, lambda v: v.joint("lever") > -0.1, after="reach"),
        Stage("flip", 0.5, is_flipped, after="upright"),
    ),
    success=is_flipped,
    expert=expert,
    horizon=130,
    allowed_attacks=dict.fromkeys(
        ("shove", "sweep off"), "a hand that strikes the knob from the side it leans to flips the lever"
    ),
)
