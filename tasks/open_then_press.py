"""Open the drawer, then press the button: two commands that demonstrations only show one at a time."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import open_drawer, predicates, press_button, skills


def done(view: View) -> bool:
    """A finger holds the cap down, and the drawer is open."""
    return open_drawer.is_open(view) and press_button.is_pressed(view)


def leave_handle(view: View) -> np.ndarray | None:
    """Returns the action that frees the fingers from the handle upwards, or None once they are clear of it."""
    off = open_drawer.offset(view)
    if np.hypot(off[0], off[1]) > 0.05 or off[2] > 0.06:
        return None
    up = 0.05 if view.width() > 0.05 else 0.0
    return skills.servo(view, view.eef() + [0, 0, up], skills.OPEN, skills.hand_yaw(view))


def expert(view: View) -> np.ndarray:
    """Opens the drawer, lets go of its handle, presses the button."""
    if not open_drawer.is_open(view):
        return open_drawer.expert(view)
    free = leave_handle(view)
    return press_button.expert(view) if free is None else free


def _on_handle(view: View) -> bool:
    return predicates.near(view, "drawer/handle", 0.04) and view.touching("fingers", "drawer")


def _at_button(view: View) -> bool:
    return open_drawer.is_open(view) and predicates.distance_of_hand(view, "button") < 0.04


TASK = Task(
    name="OpenThenPress",
    version=0,
    verb="open, press",
    novelty="composition",
    instruction="open the drawer, then press the button",
    motion="pull the orange handle straight towards the robot, let it go, then push the red button straight down",
    about="Both halves are demonstrated apart; the fingers must leave the handle without shutting the drawer again.",
    nearest="OpenDrawer",
    objects=open_drawer.OBJECTS,
    place=open_drawer.place,
    stages=(
        Stage("grasp handle", 0.1, _on_handle),
        Stage("open", 0.3, open_drawer.is_open, after="grasp handle"),
        Stage("reach button", 0.1, _at_button, after="open"),
        Stage("press", 0.5, done, after="reach button"),
    ),
    success=done,
    expert=expert,
    horizon=280,
)
