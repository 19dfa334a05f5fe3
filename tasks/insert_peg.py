"""Insert the peg: draw it out of the grey holder and lower it into the hole of the purple block."""

from __future__ import annotations

import numpy as np

from wambench.envs.objects.receptacles import BLOCK_HEIGHT
from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, skills

GRIP_AT = 0.62  # where the fingers close, along the peg's axis in half heights: at its red head
IN_LINE = 0.0035  # m from the hole's middle at which the peg may go down
INSIDE = 0.012  # m: a peg in the hole cannot be further from its middle, whatever its size
DEEP = 0.012  # m between the peg's foot and the table
TRAVEL = 0.20


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the peg in its holder, the block and a red cube."""
    placed = skills.scatter(rng, {"holder": 0.065, "socket": 0.075, "red_cube": 0.05}, yaw=0.3)
    holder = placed["holder"]
    dx, dy = rng.uniform(-0.001, 0.001, 2)
    return {**placed, "peg": Placement(holder.x + float(dx), holder.y + float(dy), float(rng.uniform(-0.4, 0.4)))}


def in_line(view: View, tolerance: float = INSIDE) -> bool:
    """The peg is upright over the hole or in it."""
    return predicates.distance(view, "peg", "socket") < tolerance and predicates.upright(view, "peg")


def is_inserted(view: View) -> bool:
    """The peg stands in the hole, its foot near the table."""
    return in_line(view) and -predicates.SINK < predicates.bottom(view, "peg") < DEEP


def done(view: View) -> bool:
    """The peg stands in the hole, still, and no finger touches it."""
    return is_inserted(view) and predicates.clear_of_fingers(view, "peg") and predicates.at_rest(view, "peg")


def expert(view: View) -> np.ndarray:
    """Grasps the peg at its head, draws it out, holds it in line over the hole, lowers it and lets go."""
    if is_inserted(view) and predicates.bottom(view, "peg") < 0.6 * DEEP:
        return skills.release(view, "peg")
    peg, axis, half = view.pos("peg"), view.rot("peg")[:, 2], float(view.size("peg")[2])
    if not view.grasped("peg"):
        return skills.grasp(view, "peg", peg + GRIP_AT * half * axis, 0.0, TRAVEL, care=0.5)
    hole, foot = view.pos("socket"), peg - half * axis
    off, low = hole[:2] - foot[:2], float(foot[2] - view.table_z)
    away = float(np.linalg.norm(off))
    if low < BLOCK_HEIGHT + 0.03 and away < (IN_LINE if low > BLOCK_HEIGHT + 0.003 else INSIDE):
        down = np.array([*off, -0.03])
        return skills.servo(view, view.eef() + down, skills.CLOSE, skills.hand_yaw(view), speed=0.35)
    hover = np.array([*hole[:2], view.table_z + BLOCK_HEIGHT + 0.012])
    return skills.funnel(view, view.eef() + hover - foot, skills.CLOSE, skills.hand_yaw(view), 0.004, TRAVEL, slope=1.2)


TASK = Task(
    name="InsertPeg",
    version=0,
    verb="insert",
    novelty="seen",
    instruction="insert the peg in the purple block",
    motion="close the fingers around the red head of the peg, raise it out of the grey holder, move it above the hole "
    "of the purple block and lower it into the hole",
    about="The hole leaves 3 to 5 mm on each side of the peg: a miss sets it down on the block.",
    nearest="PlaceInBin",
    objects=("peg", "holder", "socket", "red_cube"),
    place=place,
    stages=(
        Stage("grasp", 0.15, lambda v: predicates.held(v, "peg")),
        Stage("draw out", 0.15, lambda v: predicates.raised(v, "peg", BLOCK_HEIGHT), after="grasp"),
        Stage("align", 0.1, lambda v: in_line(v) and predicates.held(v, "peg"), after="draw out"),
        Stage("insert", 0.6, done, after="align"),
    ),
    success=done,
    expert=expert,
    horizon=240,
    allowed_attacks={"pick": "picking the object up and letting it down there is what the words ask for"},
)
