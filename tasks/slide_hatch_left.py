"""Slide the hatch to the left: push its handle sideways with closed fingers.

Left is that of the main camera's picture, -y. Also what the other tasks of the hatch and the switch share.
"""

from __future__ import annotations

import numpy as np

from wambench.envs.objects.mechanisms import HATCH_TRAVEL, SWITCH_THROW
from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import skills

OBJECTS = ("hatch", "switch")
THERE = 0.048  # of the 58 mm to each side
TRAVEL = 0.19  # clears the handle, 10 cm high
CONTACT, STANDOFF = 0.024, 0.050  # from the hand to the middle of the handle


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the hatch, half open on both sides, and the switch before it, on or off."""
    side = float(rng.choice((-1.0, 1.0)))
    hatch = Placement(
        float(rng.uniform(0.06, 0.12)), float(rng.uniform(-0.04, 0.04)), float(rng.uniform(-0.12, 0.12)),
        joint=float(rng.uniform(-0.012, 0.012)),
    )  # fmt: skip
    switch = Placement(
        float(rng.uniform(-0.17, -0.10)), side * float(rng.uniform(0.05, 0.17)), float(rng.uniform(-0.2, 0.2)),
        joint=SWITCH_THROW * float(rng.choice((-1.0, 1.0))),
    )  # fmt: skip
    return {"hatch": hatch, "switch": switch}


def way(view: View, side: float) -> np.ndarray:
    """Returns the (3,) direction in which the hatch opens to a side: -1 left, +1 right."""
    return side * view.rot("hatch")[:, 1]


def offset(view: View) -> np.ndarray:
    """Returns the (3,) position of the hand relative to the handle, in the hatch's frame."""
    return view.rot("hatch").T @ (view.eef() - view.pos("hatch/handle"))


def push_aside(view: View, side: float) -> np.ndarray:
    """Comes down beside the handle, on the side away from where it shall go, and pushes."""
    ahead, off, along = way(view, side), offset(view), view.rot("hatch")[:, 0]
    yaw = float(np.arctan2(along[1], along[0]))
    behind = -side * off[1]
    level = view.pos("hatch/handle")
    if 0.012 < behind < 0.075 and abs(off[0]) < 0.018 and abs(off[2]) < 0.025 and view.width() < 0.03:
        left_to_go = HATCH_TRAVEL - side * view.joint("hatch")
        return skills.servo(view, level + ahead * (min(0.05, left_to_go) - CONTACT), skills.CLOSE, yaw, speed=0.6)
    return skills.funnel(view, level - ahead * STANDOFF, skills.CLOSE, yaw, travel=TRAVEL, radius=0.014, slope=3.0)


def task(name: str, side: float, where: str) -> Task:
    """Returns the task of sliding the hatch to a side."""

    def reached(view: View) -> bool:
        off = offset(view)
        return bool(0.0 < -side * off[1] < 0.06 and abs(off[0]) < 0.03 and abs(off[2]) < 0.03)

    def touched(view: View) -> bool:
        return reached(view) and view.touching("fingers", "hatch")

    def done(view: View) -> bool:
        return side * view.joint("hatch") > THERE

    return Task(
        name=name,
        version=0,
        verb="slide",
        novelty="seen",
        instruction=f"slide the hatch to the {where}",
        motion="close the fingers, move them beside the orange handle of the hatch and push it to the "
        f"{where} of the picture",
        about="The same half-open hatch can go either way: only one word says which, and from where to push.",
        nearest="PushCube",
        objects=OBJECTS,
        place=place,
        stages=(
            Stage("reach", 0.2, reached),
            Stage("touch", 0.1, touched, after="reach"),
            Stage("move", 0.2, lambda v: side * v.joint("hatch") > THERE / 2, after="touch"),
            Stage("slide", 0.5, done, after="move"),
        ),
        success=done,
        expert=lambda view: push_aside(view, side),
        horizon=140,
        allowed_attacks=dict.fromkeys(
            ("shove", "sweep off"), "a hand that strikes the handle from the right side on its way slides the hatch"
        ),
    )


TASK = task("SlideHatchLeft", -1.0, "left")
