"""Press the button: push its cap down and hold it."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import open_drawer, skills

DEPTH = 0.009
PUSH = -0.015  # how far below the cap's top the hand aims; pushed harder, the finger slides off


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the scene of the drawer tasks, open or closed, so that only the instruction tells this task apart."""
    return open_drawer.place(rng, (open_drawer.AJAR, open_drawer.PULLED_OUT)[int(rng.integers(2))])


def is_pressed(view: View) -> bool:
    """A finger holds the cap down."""
    return view.joint("button") > DEPTH and view.touching("fingers", "button")


def expert(view: View) -> np.ndarray:
    """Presses with closed fingers from above."""
    wide = float(np.clip((view.width() - 0.01) / 0.02, 0.0, 1.0))  # open fingers would straddle the cap
    aim = view.pos("button/top") + [0, 0, PUSH + 0.07 * wide]
    return skills.funnel(view, aim, skills.CLOSE, radius=0.022, travel=open_drawer.TRAVEL, slope=3.0)


def _is_close_above(view: View) -> bool:
    off = view.eef() - view.pos("button/top")
    return bool(np.linalg.norm(off[:2]) < 0.03 and off[2] < 0.06)  # in some start poses the hand hovers far above it


STAGES = (
    Stage("reach", 0.2, _is_close_above),
    Stage("touch", 0.3, lambda v: _is_close_above(v) and v.touching("fingers", "button"), after="reach"),
    Stage("press", 0.5, is_pressed, after="touch"),
)

TASK = Task(
    name="PressButton",
    version=1,
    verb="press",
    novelty="seen",
    instruction="press the button",
    motion="close the fingers, move above the red button and push it straight down",
    about="The cap must be held down for a second, with the drawer's handle in the way of a careless hand.",
    nearest="CloseDrawer",
    objects=open_drawer.OBJECTS,
    place=place,
    stages=STAGES,
    success=is_pressed,
    expert=expert,
    horizon=110,
    allowed_attacks={
        "OpenThenPress": "it ends with pressing the button",
        "CloseThenPress": "it ends with pressing the button",
    },
)
