"""Cover the pan: put its lid, which lies on the cutting board, on it.

Also what the other tasks of the kitchen share: where pan, board and tomato stand, and when the lid is on.
"""

from __future__ import annotations

import numpy as np

from wambench.envs.objects.receptacles import PAN_FLOOR, PAN_HEIGHT
from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, skills

OBJECTS = ("pan", "lid", "tomato", "board")
BOARD_TOP = 0.012
CENTRED = 0.012  # m: a lid nearer to the middle of the pan covers it, whatever its size
KNOB = 0.6  # where the fingers close, above the middle of the lid's height in half heights: clear of its disc
TRAVEL = 0.16


def kitchen(rng: np.random.Generator, lid_on: str) -> dict[str, Placement]:
    """Returns pan and board side by side, the lid on the one named, and the tomato before them."""
    side = float(rng.choice((-1.0, 1.0)))
    pan = Placement(
        float(rng.uniform(0.00, 0.05)), side * float(rng.uniform(0.08, 0.11)), float(rng.uniform(-0.5, 0.5))
    )
    board = Placement(
        float(rng.uniform(0.00, 0.05)), -side * float(rng.uniform(0.08, 0.11)), float(rng.uniform(-0.3, 0.3))
    )
    under, height = (pan, PAN_HEIGHT) if lid_on == "pan" else (board, BOARD_TOP)
    dx, dy = rng.uniform(-0.004, 0.004, 2)
    lid = Placement(under.x + float(dx), under.y + float(dy), float(rng.uniform(-3, 3)), surface=height)
    tomato = Placement(float(rng.uniform(-0.16, -0.12)), float(rng.uniform(-0.13, 0.13)), float(rng.uniform(-1, 1)))
    return {"pan": pan, "board": board, "lid": lid, "tomato": tomato}


def lid_lies_on(view: View, below: str, height: float, radius: float) -> bool:
    """The lid lies level on something of a height above the table, its middle within `radius` of the other's."""
    level = abs(predicates.bottom(view, "lid") - height) < predicates.TOUCH and predicates.upright(view, "lid")
    return level and predicates.distance(view, "lid", below) < radius and view.touching("lid", below)


def is_covered(view: View) -> bool:
    """The lid lies on the rim of the pan."""
    return lid_lies_on(view, "pan", PAN_HEIGHT, CENTRED)


def done(view: View) -> bool:
    """The lid lies on the pan, still, and no finger touches it."""
    return is_covered(view) and predicates.clear_of_fingers(view, "lid") and predicates.at_rest(view, "lid")


def is_filled(view: View) -> bool:
    """The tomato lies in the pan."""
    low = -predicates.SINK < predicates.bottom(view, "tomato") < PAN_FLOOR + predicates.TOUCH
    return low and predicates.distance(view, "tomato", "pan") < 0.04


def move_lid(view: View, goal: np.ndarray, close_xy: float, lies: bool) -> np.ndarray:
    """Grasps the lid by its knob, sets it down with its middle at `goal` and lets go; `lies`: it is there already."""
    if lies:
        return skills.release(view, "lid")
    if view.grasped("lid"):
        return skills.put(view, "lid", goal, close_xy, 0.012, TRAVEL)
    knob = view.pos("lid") + KNOB * view.size("lid")[2] * view.rot("lid")[:, 2]
    return skills.grasp(view, "lid", knob, 0.0, TRAVEL, care=0.5)


def cover(view: View) -> np.ndarray:
    """Sets the lid down on the pan."""
    goal = view.pos("pan") + [0, 0, PAN_HEIGHT + view.size("lid")[2]]
    return move_lid(view, goal, 0.5 * CENTRED, is_covered(view))


def fill(view: View) -> np.ndarray:
    """Drops the tomato into the pan."""
    half = view.size("tomato")[2]
    if is_filled(view):
        return skills.release(view, "tomato")
    if view.grasped("tomato"):
        return skills.put(view, "tomato", view.pos("pan") + [0, 0, PAN_FLOOR + half + 0.012], 0.012, 0.012, TRAVEL)
    return skills.grasp(view, "tomato", view.pos("tomato"), skills.grip_yaw(view, "tomato"), TRAVEL, care=0.7)


def lid_over(view: View, below: str, height: float) -> bool:
    """The hand holds the lid no more than 5 cm above something of a height above the table."""
    close = -predicates.SINK < predicates.bottom(view, "lid") - height < 0.05
    return close and predicates.distance(view, "lid", below) < 0.04 and predicates.held(view, "lid")


def lid_over_pan(view: View) -> bool:
    """The hand holds the lid closely above the pan."""
    return lid_over(view, "pan", PAN_HEIGHT)


TASK = Task(
    name="CoverPan",
    version=0,
    verb="cover",
    novelty="seen",
    instruction="cover the pan with its lid",
    motion="close the fingers around the black knob of the lid, raise it off the board, lower it onto the pan and open "
    "the fingers",
    about="The lid must lie level on the rim: set down askew it slips into the pan.",
    nearest="PlaceOnPlate",
    objects=OBJECTS,
    place=lambda rng: kitchen(rng, "board"),
    stages=(
        Stage("grasp", 0.2, lambda v: predicates.held(v, "lid")),
        Stage("carry", 0.2, lid_over_pan, after="grasp"),
        Stage("cover", 0.6, done, after="carry"),
    ),
    success=done,
    expert=cover,
    horizon=200,
    allowed_attacks={
        "pick": "picking the object up and letting it down there is what the words ask for",
        "FillAndCover": "it ends with covering the pan",
        "CookTomato": "it ends with covering the pan",
    },
)
