"""Close the chest: push its upright lid over from behind and down."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import open_chest, skills

CLOSED = 0.08  # rad
WIDE_OPEN = (1.15, 1.35)
CONTACT = 0.013  # from the lid's plane to the middle of the closed fingers that push it
ALONG = 0.085  # from the hinge to where they push


def behind(view: View, angle: float, gap: float) -> np.ndarray:
    """Returns the (3,) place `gap` in front of the outside of the lid at an angle in rad, near its free edge."""
    frame = view.rot("chest")
    lid = -np.cos(angle) * frame[:, 0] + np.sin(angle) * frame[:, 2]
    outward = np.sin(angle) * frame[:, 0] + np.cos(angle) * frame[:, 2]
    return view.pos("chest/hinge") + ALONG * lid + gap * outward


def expert(view: View) -> np.ndarray:
    """Comes down behind the lid, then pushes along its arc; near the end it presses from above."""
    angle, frame = view.joint("chest"), view.rot("chest")
    yaw = skills.half_turn(float(np.arctan2(frame[1, 0], frame[0, 0])))
    local = frame.T @ (view.eef() - view.pos("chest/hinge"))
    outward = local[0] * np.sin(angle) + local[2] * np.cos(angle)
    along = -local[0] * np.cos(angle) + local[2] * np.sin(angle)
    if 0.0 < outward < 0.06 and 0.03 < along < 0.13 and abs(local[1]) < 0.04 and view.width() < 0.03:
        return skills.servo(view, behind(view, max(-0.2, angle - 0.35), CONTACT), skills.CLOSE, yaw, speed=0.6)
    start = behind(view, angle, CONTACT + 0.030)
    return skills.funnel(view, start, skills.CLOSE, yaw, radius=0.015, travel=open_chest.TRAVEL, slope=3.0)


def is_closed(view: View) -> bool:
    """The lid is shut."""
    return view.joint("chest") < CLOSED


def _at_lid(view: View) -> bool:
    return bool(np.linalg.norm(view.eef() - behind(view, view.joint("chest"), CONTACT)) < 0.045)


TASK = Task(
    name="CloseChest",
    version=0,
    verb="close",
    novelty="pairing",
    instruction="close the chest",
    motion="close the fingers, move them behind the upright red lid and push it over towards the robot and down",
    about="The drawer is closed away from the robot, the chest towards it: the hand must get behind the lid.",
    nearest="CloseDrawer",
    objects=open_chest.OBJECTS,
    place=lambda rng: open_chest.place(rng, WIDE_OPEN),
    stages=(
        Stage("reach", 0.2, _at_lid),
        Stage("touch", 0.1, lambda v: _at_lid(v) and v.touching("fingers", "chest"), after="reach"),
        Stage("half closed", 0.15, lambda v: v.joint("chest") < 0.6, after="touch"),
        Stage("closed", 0.55, is_closed, after="half closed"),
    ),
    success=is_closed,
    expert=expert,
    horizon=150,
)
