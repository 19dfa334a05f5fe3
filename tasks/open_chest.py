"""Open the chest: take its bar between the fingers and turn the lid up about its hinge.

Also what the other task of the chest shares: where it stands, and the way of its bar.
"""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import skills

OBJECTS = ("chest", "blue_cube")
OPENED = 1.05  # rad
OPEN_TO = 1.30
BAR_WIDTH = 0.009  # a little less than the bar is thick, m
AHEAD = 0.30  # rad by which the hand leads the bar
TRAVEL = 0.22  # clears the open lid


def place(rng: np.random.Generator, opened: tuple[float, float] = (0.0, 0.05)) -> dict[str, Placement]:
    """Returns the chest on one side, its lid at an angle within the range in rad, and a blue cube on the other."""
    side = float(rng.choice((-1.0, 1.0)))
    chest = Placement(
        float(rng.uniform(0.00, 0.08)), side * float(rng.uniform(0.04, 0.10)), float(rng.uniform(-0.2, 0.2)),
        joint=float(rng.uniform(*opened)),
    )  # fmt: skip
    cube = Placement(
        float(rng.uniform(-0.14, 0.04)), -side * float(rng.uniform(0.08, 0.16)), float(rng.uniform(-0.4, 0.4))
    )
    return {"chest": chest, "blue_cube": cube}


def offset(view: View) -> np.ndarray:
    """Returns the (3,) position of the hand relative to the bar, in the chest's frame."""
    return view.rot("chest").T @ (view.eef() - view.pos("chest/bar"))


def across(view: View) -> float:
    """Returns the yaw of a hand whose fingers close across the bar."""
    frame = view.rot("chest")
    return skills.half_turn(float(np.arctan2(frame[1, 0], frame[0, 0])) + np.pi / 2)


def bar_at(view: View, angle: float) -> np.ndarray:
    """Returns the (3,) place of the bar with the lid at an angle in rad."""
    local = view.rot("chest").T @ (view.pos("chest/bar") - view.pos("chest/hinge"))
    turn = angle - view.joint("chest")
    c, s = np.cos(turn), np.sin(turn)
    moved = np.array([c * local[0] + s * local[2], local[1], -s * local[0] + c * local[2]])
    return view.pos("chest/hinge") + view.rot("chest") @ moved


def is_open(view: View) -> bool:
    """The lid stands up."""
    return view.joint("chest") > OPENED


def expert(view: View) -> np.ndarray:
    """Turns the lid while the fingers hold the bar, closes them around it, else comes down over it with them open."""
    off, width, yaw = offset(view), view.width(), across(view)
    around = abs(off[0]) < 0.020 and abs(off[1]) < 0.024 and abs(off[2]) < 0.018
    if around and (width < 0.03 or view.joint("chest") < OPENED):
        held = view.touching("left_finger", "chest") and view.touching("right_finger", "chest") and width < 0.03
        goal = bar_at(view, min(OPEN_TO, view.joint("chest") + AHEAD)) if held else view.pos("chest/bar")
        return skills.servo(view, goal, skills.CLOSE, yaw, speed=0.6)
    return skills.funnel(view, view.pos("chest/bar"), skills.OPEN, yaw, radius=0.010, travel=TRAVEL, slope=3.0)


def at_bar(view: View) -> bool:
    """The hand is around the bar."""
    off = offset(view)
    return bool(abs(off[0]) < 0.025 and abs(off[1]) < 0.03 and abs(off[2]) < 0.025)


def holds_bar(view: View) -> bool:
    """The bar is between the fingers, and both touch it: closed fingers that shove it are nearer to each other."""
    return at_bar(view) and view.grasped("chest") and BAR_WIDTH < view.width() < 2 * BAR_WIDTH


TASK = Task(
    name="OpenChest",
    version=0,
    verb="open",
    novelty="pairing",
    instruction="open the chest",
    motion="lower the open fingers around the yellow bar on the red lid, close them and raise it in an arc away from "
    "the robot",
    about="Opening is demonstrated with a drawer that slides; this lid turns about a hinge.",
    nearest="OpenDrawer",
    objects=OBJECTS,
    place=place,
    stages=(
        Stage("reach", 0.15, at_bar),
        Stage("grasp", 0.15, holds_bar, after="reach"),
        Stage("half open", 0.15, lambda v: v.joint("chest") > OPENED / 2, after="grasp"),
        Stage("open", 0.55, is_open, after="half open"),
    ),
    success=is_open,
    expert=expert,
    horizon=170,
    allowed_attacks={
        "shove": "in one of four scenes closed fingers wedge themselves around the bar, and lift the lid by it"
    },
)
