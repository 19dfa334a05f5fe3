"""Place the tomato on the shelf: set it down on the board."""

from __future__ import annotations

import numpy as np

from wambench.envs.objects.receptacles import SHELF
from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, skills

TOP = 2 * SHELF[2]  # height of the board above the table
TRAVEL = 0.20
FREE = 0.16  # m across the table between tomato and mug, at least


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the shelf at the far side, the tomato before it, and a mug beside the tomato."""
    side = float(rng.choice((-1.0, 1.0)))
    shelf = Placement(float(rng.uniform(0.07, 0.12)), float(rng.uniform(-0.08, 0.08)), float(rng.uniform(-0.15, 0.15)))
    apart = float(rng.uniform(0.03, 0.14))
    tomato = Placement(float(rng.uniform(-0.16, -0.08)), side * apart, float(rng.uniform(-1, 1)))
    # nearer to the tomato than FREE, the mug would stand under the open hand
    beside = float(rng.uniform(max(0.07, FREE - apart), 0.16))
    mug = Placement(float(rng.uniform(-0.16, -0.08)), -side * beside, float(rng.uniform(-0.4, 0.4)))
    return {"shelf": shelf, "tomato": tomato, "mug": mug}


def over_board(view: View) -> bool:
    """The tomato is above the board."""
    local = view.rot("shelf").T @ (view.pos("tomato") - view.pos("shelf"))
    inside = np.abs(local[:2]) < np.array(SHELF[:2]) - 0.02
    return bool(inside.all() and predicates.bottom(view, "tomato") > TOP - predicates.TOUCH)


def lies(view: View) -> bool:
    """The tomato lies on the board."""
    level = predicates.bottom(view, "tomato") < TOP + predicates.TOUCH
    return over_board(view) and level and view.touching("tomato", "shelf")


def done(view: View) -> bool:
    """The tomato lies on the board, still, and no finger touches it."""
    return lies(view) and predicates.clear_of_fingers(view, "tomato") and predicates.at_rest(view, "tomato")


def expert(view: View) -> np.ndarray:
    """Grasps the tomato, sets it down on the middle of the board and lets go."""
    if lies(view):
        if predicates.clear_of_fingers(view, "tomato"):
            return skills.servo(view, np.array([*view.eef()[:2], view.table_z + TRAVEL]), skills.OPEN)
        return skills.release(view, "tomato")
    if view.grasped("tomato"):
        return skills.put(view, "tomato", view.pos("shelf") + [0, 0, TOP + view.size("tomato")[2]], 0.02, 0.010, TRAVEL)
    return skills.grasp(view, "tomato", view.pos("tomato"), skills.grip_yaw(view, "tomato"), TRAVEL, care=0.7)


TASK = Task(
    name="PlaceTomatoOnShelf",
    version=0,
    verb="place on",
    novelty="pairing",
    instruction="place the tomato on the shelf",
    motion="close the fingers around the tomato, raise it high, lower it onto the wooden board of the shelf and open "
    "the fingers",
    about="The board is 9 cm high, more than anything that is placed in the demonstrations.",
    nearest="PlaceOnPlate",
    objects=("tomato", "shelf", "mug"),
    place=place,
    stages=(
        Stage("grasp", 0.2, lambda v: predicates.held(v, "tomato")),
        Stage("lower", 0.2, lambda v: over_board(v) and predicates.lowered(v, "tomato", TOP), after="grasp"),
        Stage("place", 0.6, done, after="lower"),
    ),
    success=done,
    expert=expert,
    horizon=220,
    allowed_attacks={
        "pick": "picking the object up and letting it down there is what the words ask for",
    },
)
