"""Cook the tomato: take the lid off the pan, put the tomato in, put the lid back on."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Stage, Task, View
from wambench.tasks import cover_pan, fill_and_cover, predicates, uncover_pan


def expert(view: View) -> np.ndarray:
    """Takes the lid off while the tomato is outside, then fills and covers."""
    filled = cover_pan.is_filled(view) and not view.grasped("tomato")
    in_the_way = view.grasped("lid") or predicates.distance(view, "lid", "pan") < 0.07
    if not filled and in_the_way and not view.grasped("tomato"):
        return uncover_pan.uncover(view)
    return fill_and_cover.expert(view)


def _taken_off(view: View) -> bool:
    return predicates.distance(view, "lid", "pan") > 0.08 and predicates.clear_of_fingers(view, "lid")


TASK = Task(
    name="CookTomato",
    version=0,
    verb="cook",
    novelty="motion",
    instruction="cook the tomato: lid off, tomato in, lid on",
    motion="raise the lid off the pan by its black knob and lay it on the board, close the fingers around the tomato, "
    "let it down into the pan, then lower the lid onto the pan again",
    about="Six stages over half a minute, and the lid is needed twice, in opposite directions.",
    nearest="CoverPan",
    objects=cover_pan.OBJECTS,
    place=lambda rng: cover_pan.kitchen(rng, "pan"),
    stages=(
        Stage("grasp lid", 0.05, lambda v: predicates.held(v, "lid")),
        Stage("lid off", 0.1, _taken_off, after="grasp lid"),
        Stage("grasp tomato", 0.05, lambda v: predicates.held(v, "tomato"), after="lid off"),
        Stage("tomato in", 0.15, fill_and_cover.put_in, after="grasp tomato"),
        Stage("lid above", 0.15, cover_pan.lid_over_pan, after="tomato in"),
        Stage("lid on", 0.5, fill_and_cover.done, after="lid above"),
    ),
    success=fill_and_cover.done,
    expert=expert,
    horizon=820,
    allowed_attacks={
        "FillAndCover": "its expert clears away a lid that lies on the pan first",
    },
)
