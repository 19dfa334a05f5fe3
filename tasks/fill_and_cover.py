"""Place the tomato in the pan and cover it: two commands that demonstrations never show in a row."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import cover_pan, predicates, skills


def done(view: View) -> bool:
    """The tomato lies in the pan, under its lid, and no finger touches the lid."""
    return cover_pan.is_filled(view) and cover_pan.done(view)


def put_in(view: View) -> bool:
    """The tomato lies in the pan and no finger touches it."""
    return cover_pan.is_filled(view) and predicates.clear_of_fingers(view, "tomato")


def expert(view: View) -> np.ndarray:
    """Puts the tomato in, then the lid on; a lid in the hand or on the pan too early goes back to the board."""
    if cover_pan.is_filled(view) and not view.grasped("tomato"):
        return cover_pan.cover(view)
    if view.grasped("lid") or predicates.distance(view, "lid", "pan") < 0.07:
        goal = view.pos("board") + [0, 0, cover_pan.BOARD_TOP + view.size("lid")[2]]
        return cover_pan.move_lid(view, goal, 0.03, predicates.bottom(view, "lid") < 0.02 and not view.grasped("lid"))
    return skills.release(view, "tomato") if cover_pan.is_filled(view) else cover_pan.fill(view)


TASK = Task(
    name="FillAndCover",
    version=0,
    verb="place in, cover",
    novelty="composition",
    instruction="place the tomato in the pan, then cover it with the lid",
    motion="close the fingers around the tomato, move it above the pan, open, then close them around the knob of the "
    "lid, lower it onto the pan and open",
    about="Covering alone is demonstrated, with an empty pan: whoever starts with the lid has locked the tomato out.",
    nearest="CoverPan",
    objects=cover_pan.OBJECTS,
    place=lambda rng: cover_pan.kitchen(rng, "board"),
    stages=(
        Stage("grasp tomato", 0.1, lambda v: predicates.held(v, "tomato")),
        Stage("fill", 0.2, put_in, after="grasp tomato"),
        Stage("grasp lid", 0.1, lambda v: predicates.held(v, "lid"), after="fill"),
        Stage("carry lid", 0.1, cover_pan.lid_over_pan, after="grasp lid"),
        Stage("cover", 0.5, done, after="carry lid"),
    ),
    success=done,
    expert=expert,
    horizon=420,
    allowed_attacks={
        "CookTomato": "from a lid on the board on, the two ask for the same",
    },
)
