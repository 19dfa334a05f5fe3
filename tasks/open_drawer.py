"""Open the drawer: straddle its handle from above, grasp it and pull it towards the robot.

Also what the other tasks of the drawer and the button share: where the two stand.
"""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, skills

OBJECTS = ("drawer", "button")
OPENED = 0.10
PULL_TO = 0.14
TRAVEL = 0.16  # clears the cabinet, 11 cm high
AJAR, PULLED_OUT = (0.0, 0.03), (0.09, 0.13)


def place(rng: np.random.Generator, opened: tuple[float, float] = AJAR) -> dict[str, Placement]:
    """Returns the drawer on one side and the button on the other, with the drawer open within the range in m."""
    side = float(rng.choice((-1.0, 1.0)))
    x, y, yaw = float(rng.uniform(0.14, 0.18)), side * float(rng.uniform(0.10, 0.15)), float(rng.uniform(-0.1, 0.1))
    button = Placement(float(rng.uniform(-0.14, 0.06)), -side * float(rng.uniform(0.09, 0.20)))
    return {"drawer": Placement(x, y, yaw, joint=float(rng.uniform(*opened))), "button": button}


def axis(view: View) -> tuple[np.ndarray, float]:
    """Returns the (3,) direction in which the drawer closes and the yaw of a hand that faces it."""
    into = view.rot("drawer")[:, 0]
    return into, float(np.arctan2(into[1], into[0]))


def offset(view: View) -> np.ndarray:
    """Returns the (3,) position of the hand relative to the handle, in the drawer's frame."""
    return view.rot("drawer").T @ (view.eef() - view.pos("drawer/handle"))


def is_open(view: View) -> bool:
    """The drawer is open wide."""
    return view.joint("drawer") > OPENED


def expert(view: View) -> np.ndarray:
    """Pulls while the fingers hold the handle, closes when they straddle it, else comes down over it with them open."""
    handle, (into, yaw), off, width = view.pos("drawer/handle"), axis(view), offset(view), view.width()
    if abs(off[0]) < 0.022 and abs(off[1]) < 0.026 and abs(off[2]) < 0.024 and width > 0.018:
        held = float(np.clip((0.05 - width) / 0.015, 0.0, 1.0) * np.clip(2.2 + off[0] / 0.012, 0.3, 1.0))
        pull = held * (PULL_TO - view.joint("drawer"))
        return skills.servo(view, handle - into * pull, skills.CLOSE, yaw, speed=0.7)
    if -0.05 < off[0] < 0.028 and abs(off[1]) < 0.026 and abs(off[2]) < 0.035 and width > 0.05:
        return skills.servo(view, handle, skills.OPEN, yaw)  # nothing between the hand and the handle
    shut = float(np.clip((0.06 - width) / 0.02, 0.0, 1.0))  # no way down past the handle yet
    return skills.funnel(view, handle + [0, 0, 0.06 * shut], skills.OPEN, yaw, radius=0.016, travel=TRAVEL)


def _hand_on_handle(view: View) -> bool:
    return predicates.near(view, "drawer/handle", 0.04) and view.touching("fingers", "drawer")


STAGES = (
    Stage("reach", 0.1, lambda v: predicates.near(v, "drawer/handle", 0.03)),
    Stage("grasp", 0.2, _hand_on_handle, after="reach"),
    Stage("half open", 0.2, lambda v: v.joint("drawer") > 0.06, after="grasp"),
    Stage("open", 0.5, is_open, after="half open"),
)

TASK = Task(
    name="OpenDrawer",
    version=1,
    verb="open",
    novelty="seen",
    instruction="open the drawer",
    motion="lower the open fingers around the orange handle, close them and pull it straight towards the robot",
    about="The handle is a post that the fingers must straddle from above; a button beside it invites another command.",
    nearest="CloseDrawer",
    objects=OBJECTS,
    place=place,
    stages=STAGES,
    success=is_open,
    expert=expert,
    horizon=150,
    allowed_attacks={
        "OpenThenPress": "it begins with opening the drawer",
    },
)
