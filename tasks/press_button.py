"""Press the button: push its cap down and hold it."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import skills

DEPTH = 0.009


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the button in front of the robot, on the other side of the drawer cabinet."""
    side = float(rng.choice((-1.0, 1.0)))
    return {
        "drawer": Placement(float(rng.uniform(0.14, 0.18)), side * float(rng.uniform(0.10, 0.16))),
        "button": Placement(float(rng.uniform(-0.14, 0.08)), -side * float(rng.uniform(0.08, 0.20))),
    }


def expert(view: View) -> np.ndarray:
    """Presses with closed fingers from above."""
    top = view.pos("button/top")
    away = np.linalg.norm(view.eef()[:2] - top[:2])
    if away > 0.012:
        return skills.approach(view, top + [0, 0, 0.04], skills.CLOSE, radius=0.01)
    if view.width() > 0.02:
        return skills.servo(view, top + [0, 0, 0.04], skills.CLOSE)
    return skills.servo(view, top - [0, 0, 0.03], skills.CLOSE, speed=0.6)


TASK = Task(
    name="PressButton",
    version=0,
    verb="press",
    novelty="seen",
    instruction="press the button",
    motion="close the fingers, move above the red button and push it straight down",
    things=("drawer", "button"),
    place=place,
    stages=(
        Stage("reach", 0.3, lambda v: bool(np.linalg.norm(v.eef()[:2] - v.pos("button/top")[:2]) < 0.03)),
        Stage("touch", 0.3, lambda v: v.touching("fingers", "button"), after="reach"),
        Stage("press", 0.4, lambda v: v.joint("button") > DEPTH, after="touch"),
    ),
    success=lambda v: v.joint("button") > DEPTH,
    expert=expert,
    horizon=120,
)
