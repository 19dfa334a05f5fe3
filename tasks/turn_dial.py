"""Turn the dial: push its upright peg around counter-clockwise with closed fingers.

Also what the other task of the dial and the lever shares: where the two stand.
"""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, skills

OBJECTS = ("dial", "lever")
TURNED = 1.0
TURN_TO = 1.3
RADIUS = 0.052  # of the hand's circle, a little outside the peg's
BEHIND = 0.95  # rad on that circle from the peg to where the hand comes down
TRAVEL = 0.17  # clears the lever, 14 cm high


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the dial on one side and the lever, leaning to its -y side, on the other."""
    side = float(rng.choice((-1.0, 1.0)))
    x, y, yaw = float(rng.uniform(-0.10, 0.08)), side * float(rng.uniform(0.10, 0.17)), float(rng.uniform(-0.5, 0.5))
    lever_x, lever_y = float(rng.uniform(-0.10, 0.08)), -side * float(rng.uniform(0.12, 0.19))
    return {
        "dial": Placement(x, y, yaw - 0.8, joint=float(rng.uniform(0.0, 0.15))),
        "lever": Placement(lever_x, lever_y, float(rng.uniform(-0.15, 0.15)), joint=-float(rng.uniform(0.5, 0.62))),
    }


def is_turned(view: View) -> bool:
    """The dial has been turned far enough."""
    return view.joint("dial") > TURNED


def expert(view: View) -> np.ndarray:
    """Comes down on the circle behind the peg, then follows the circle."""
    centre, peg = view.pos("dial")[:2], view.pos("dial/peg")
    arm, hand = peg[:2] - centre, view.eef() - [*centre, 0.0]
    angle, own = float(np.arctan2(arm[1], arm[0])), float(np.arctan2(hand[1], hand[0]))
    behind = (angle - own + np.pi) % (2 * np.pi) - np.pi
    on_circle = abs(float(np.hypot(hand[0], hand[1])) - RADIUS) < 0.03 and abs(hand[2] - peg[2]) < 0.03
    if on_circle and 0.2 < behind < 1.6 and view.width() < 0.03:
        ahead = float(np.clip(2.0 * (TURN_TO - view.joint("dial")), 0.0, 0.6))
        goal = np.array([*_on_circle(centre, own + ahead), peg[2]])
        return skills.servo(view, goal, skills.CLOSE, _facing(angle - behind), speed=0.6)
    start = np.array([*_on_circle(centre, angle - BEHIND), peg[2]])
    return skills.funnel(view, start, skills.CLOSE, _facing(angle - BEHIND), travel=TRAVEL)


def _facing(angle: float) -> float:
    """Returns the yaw that turns the broad side of the closed fingers along the circle, within the wrist's range."""
    return float(np.clip(angle + np.pi / 2, -0.6, 1.6))


def _on_circle(centre: np.ndarray, angle: float) -> np.ndarray:
    return centre + RADIUS * np.array([np.cos(angle), np.sin(angle)])


def _reached(view: View) -> bool:
    return predicates.near(view, "dial/peg", 0.05)


TASK = Task(
    name="TurnDial",
    version=1,
    verb="turn",
    novelty="motion",
    instruction="turn the dial",
    motion="close the fingers, move them beside the purple peg of the dial and push it around counter-clockwise",
    about="A motion on a circle that no demonstration has: whoever pushes straight slips off the peg.",
    nearest="PushCube",
    objects=OBJECTS,
    place=place,
    stages=(
        Stage("reach", 0.2, _reached),
        Stage("move", 0.15, lambda v: v.joint("dial") > 0.35, after="reach"),
        Stage("half turn", 0.15, lambda v: v.joint("dial") > 0.7, after="move"),
        Stage("turn", 0.5, is_turned, after="half turn"),
    ),
    success=is_turned,
    expert=expert,
    horizon=130,
    allowed_attacks=dict.fromkeys(
        ("shove", "sweep off"), "a hand that strikes the peg from the right side on its way turns the dial"
    ),
)
