"""A task: touch the red cube with closed fingers. Put your objects, stages and expert in their place."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import skills


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns where every object stands at the start (m); all randomness comes from `rng`."""
    return {
        "red_cube": Placement(x=float(rng.uniform(-0.05, 0.05)), y=float(rng.uniform(0.02, 0.10))),
        "blue_cube": Placement(x=float(rng.uniform(-0.05, 0.05)), y=float(rng.uniform(-0.14, -0.06))),
    }


def is_near(view: View) -> bool:
    """The hand is close to the red cube."""
    return bool(np.linalg.norm(view.eef() - view.pos("red_cube")) < 0.08)


def is_touched(view: View) -> bool:
    """The closed fingers touch the red cube. This is success, and therefore the last stage."""
    return view.width() < 0.02 and view.touching("fingers", "red_cube")


def expert(view: View) -> np.ndarray:
    """Closes the fingers and comes down on the cube, from any state that a failed rollout leaves behind."""
    return skills.funnel(view, view.pos("red_cube") + [0.0, 0.0, 0.01], skills.CLOSE, radius=0.02)


TASK = Task(
    name="MyTask",
    version=0,  # raise it whenever stages, success, horizon or scene change
    verb="touch",
    novelty="motion",
    instruction="touch the red cube",
    motion="close the fingers, move above the red cube and come down until they touch it",
    about="The fingers must be closed before they touch.",
    nearest="PressButton",
    objects=("red_cube", "blue_cube"),
    place=place,
    stages=(Stage("reach", 0.4, is_near), Stage("touch", 0.6, is_touched, after="reach")),
    success=is_touched,
    expert=expert,
    horizon=100,  # control steps, 20 a second
)
TASKS = (TASK,)  # what --task-module reads; without SPLITS they form one split, named after this file
