"""Uncover the pan: take its lid off and lay it on the cutting board."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import cover_pan, predicates

ON_BOARD = 0.045


def lid_on_board(view: View) -> bool:
    """The lid lies on the board."""
    return cover_pan.lid_lies_on(view, "board", cover_pan.BOARD_TOP, ON_BOARD)


def done(view: View) -> bool:
    """The lid lies on the board, still, and no finger touches it."""
    return lid_on_board(view) and predicates.clear_of_fingers(view, "lid") and predicates.at_rest(view, "lid")


def _lid_over_board(view: View) -> bool:
    return cover_pan.lid_over(view, "board", cover_pan.BOARD_TOP)


def uncover(view: View) -> np.ndarray:
    """Lays the lid down on the board."""
    goal = view.pos("board") + [0, 0, cover_pan.BOARD_TOP + view.size("lid")[2]]
    return cover_pan.move_lid(view, goal, 0.02, lid_on_board(view))


TASK = Task(
    name="UncoverPan",
    version=0,
    verb="uncover",
    novelty="motion",
    instruction="uncover the pan",
    motion="close the fingers around the black knob of the lid, raise it off the pan, lower it onto the wooden board "
    "and open the fingers",
    about="No demonstration takes anything off anything; the scene differs from that of CoverPan by the lid alone.",
    nearest="CoverPan",
    objects=cover_pan.OBJECTS,
    place=lambda rng: cover_pan.kitchen(rng, "pan"),
    stages=(
        Stage("grasp", 0.2, lambda v: predicates.held(v, "lid")),
        Stage("take off", 0.15, lambda v: predicates.raised(v, "lid", 0.05), after="grasp"),
        Stage("lower", 0.1, _lid_over_board, after="take off"),
        Stage("lay down", 0.55, done, after="lower"),
    ),
    success=done,
    expert=uncover,
    horizon=200,
    allowed_attacks={
        "pick": "picking the object up and letting it down there is what the words ask for",
        "FillAndCover": "its expert begins by clearing the lid away",
        "CookTomato": "it begins with uncovering the pan",
    },
)
