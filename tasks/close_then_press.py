"""Close the drawer, then press the button: the two commands in a row, which demonstrations only show apart."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import close_drawer, open_drawer, predicates, press_button


def done(view: View) -> bool:
    """A finger holds the cap down, and the drawer is shut."""
    return close_drawer.is_closed(view) and press_button.is_pressed(view)


def expert(view: View) -> np.ndarray:
    """Shuts the drawer, then presses the button."""
    return press_button.expert(view) if close_drawer.is_closed(view) else close_drawer.expert(view)


def _at_handle(view: View) -> bool:
    off = open_drawer.offset(view)
    return bool(abs(off[2]) < 0.03 and np.hypot(off[0] + 0.03, off[1]) < 0.04)


def _at_button(view: View) -> bool:
    return close_drawer.is_closed(view) and predicates.distance_of_hand(view, "button") < 0.04


TASK = Task(
    name="CloseThenPress",
    version=0,
    verb="close, press",
    novelty="composition",
    instruction="close the drawer, then press the button",
    motion="push the orange handle straight away from the robot with closed fingers, then push the red button down",
    about="Both halves are demonstrated apart; a policy that stops after the first has done less than half.",
    nearest="CloseDrawer",
    objects=open_drawer.OBJECTS,
    place=lambda rng: open_drawer.place(rng, open_drawer.PULLED_OUT),
    stages=(
        Stage("reach handle", 0.1, _at_handle),
        Stage("close", 0.3, close_drawer.is_closed, after="reach handle"),
        Stage("reach button", 0.1, _at_button, after="close"),
        Stage("press", 0.5, done, after="reach button"),
    ),
    success=done,
    expert=expert,
    horizon=250,
)
