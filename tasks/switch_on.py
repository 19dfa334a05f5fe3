"""Switch on: push down the green half of the rocker. Also what `switch_off` shares with it."""

from __future__ import annotations

import dataclasses

import numpy as np

from wambench.envs.objects.mechanisms import SWITCH_THROW
from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import skills, slide_hatch_left

THROWN = 0.7 * SWITCH_THROW
DOWN = 0.033  # height of the grip site above the table with the finger tips on a half that is down, 4 mm lower


def press(view: View, half: str) -> np.ndarray:
    """Presses one half of the rocker, "on" or "off", with closed fingers from above, and stays there."""
    wide = float(np.clip((view.width() - 0.01) / 0.02, 0.0, 1.0))  # open fingers would press both halves
    aim = np.array([*view.pos(f"switch/{half}")[:2], view.pos("switch")[2] + DOWN + 0.07 * wide])
    return skills.funnel(view, aim, skills.CLOSE, radius=0.012, travel=slide_hatch_left.TRAVEL, slope=3.0)


def task(name: str, half: str, colour: str) -> Task:
    """Returns the task of pressing one half of the rocker, "on" or "off", which starts the other way round."""
    sign = 1.0 if half == "on" else -1.0

    def place(rng: np.random.Generator) -> dict[str, Placement]:
        placed = slide_hatch_left.place(rng)
        return {**placed, "switch": dataclasses.replace(placed["switch"], joint=-sign * SWITCH_THROW)}

    def above(view: View) -> bool:
        off = view.eef() - view.pos(f"switch/{half}")
        return bool(np.linalg.norm(off[:2]) < 0.03 and off[2] < 0.06)

    def touched(view: View) -> bool:
        return above(view) and view.touching("fingers", "switch")

    def done(view: View) -> bool:
        return sign * view.joint("switch") > THROWN

    return Task(
        name=name,
        version=0,
        verb=f"switch {half}",
        novelty="seen",
        instruction=f"switch {half}",
        motion=f"close the fingers, move above the raised {colour} half of the white switch and push it straight down",
        about="One half of a rocker stands up by 16 mm; pressing the other half does nothing.",
        nearest="PressButton",
        objects=slide_hatch_left.OBJECTS,
        place=place,
        stages=(
            Stage("reach", 0.25, above),
            Stage("touch", 0.25, touched, after="reach"),
            Stage("press", 0.5, done, after="touch"),
        ),
        success=done,
        expert=lambda view: press(view, half),
        horizon=120,
    )


TASK = task("SwitchOn", "on", "green")
