"""Close the drawer: push its handle into the cabinet with closed fingers."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import open_drawer, skills

CLOSED = 0.01
STANDOFF = 0.040  # between the hand and the handle before the push


def is_closed(view: View) -> bool:
    """The drawer is shut."""
    return view.joint("drawer") < CLOSED


def expert(view: View) -> np.ndarray:
    """Comes down between the robot and the handle, then pushes."""
    handle, (into, yaw), off = view.pos("drawer/handle"), open_drawer.axis(view), open_drawer.offset(view)
    before = -0.10 < off[0] < -0.010 and abs(off[1]) < 0.04 and abs(off[2]) < 0.035
    if before and view.width() < 0.03:
        aligned = float(np.clip(1.8 - abs(off[1]) / 0.015, 0.0, 1.0))
        push = aligned * (view.joint("drawer") + 0.02) - 0.02
        return skills.servo(view, handle + into * push, skills.CLOSE, yaw, speed=0.8)
    aim = handle - into * STANDOFF
    return skills.funnel(view, aim, skills.CLOSE, yaw, radius=0.02, travel=open_drawer.TRAVEL, slope=1.5)


def _reached(view: View) -> bool:
    off = open_drawer.offset(view)
    return bool(abs(off[2]) < 0.03 and np.hypot(off[0] + 0.03, off[1]) < 0.04)


TASK = Task(
    name="CloseDrawer",
    version=1,
    verb="close",
    novelty="seen",
    instruction="close the drawer",
    motion="close the fingers, move them in front of the orange handle and push it straight away from the robot",
    about="The hand must come down between itself and the pulled-out handle, low in front of the robot.",
    nearest="OpenDrawer",
    objects=open_drawer.OBJECTS,
    place=lambda rng: open_drawer.place(rng, open_drawer.PULLED_OUT),
    stages=(
        Stage("reach", 0.2, _reached),
        Stage("push", 0.15, lambda v: v.joint("drawer") < 0.08, after="reach"),
        Stage("half closed", 0.15, lambda v: v.joint("drawer") < 0.04, after="push"),
        Stage("closed", 0.5, is_closed, after="half closed"),
    ),
    success=is_closed,
    expert=expert,
    horizon=130,
    allowed_attacks={
        "CloseThenPress": "it begins with closing the drawer",
        "shove": "a shove at the handle that happens to have the right direction shuts the drawer",
    },
)
