"""Set the table: the mug on the coaster, the spoon on the napkin, the tomato on the plate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, skills

TRAVEL = 0.17


@dataclass(frozen=True)
class Setting:
    """Where an item belongs: on what, at which height above the table and how near to its middle (m); and where along
    its own axes, in half extents, the fingers close around it."""

    on: str
    top: float
    radius: float
    grip: tuple[float, float, float] = (0.0, 0.0, 0.0)


SETTINGS = {
    "spoon": Setting("napkin", 0.0024, 0.032, (-0.12, 0.0, 0.35)),
    "mug": Setting("coaster", 0.004, 0.026, (0.0, 0.0, 0.33)),
    "tomato": Setting("plate", 0.008, 0.040),
}


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns coaster, plate and napkin in a row at the far side, in this order or the other way round, and the mug,
    the spoon and the tomato in a row before them, in any order."""
    side = float(rng.choice((-1.0, 1.0)))

    def about(x: float, y: float, yaw: float) -> Placement:
        dx, dy = rng.uniform(-0.012, 0.012, 2)
        return Placement(x + float(dx), y + float(dy), float(rng.uniform(-yaw, yaw)))

    placed = {
        "coaster": about(0.06, 0.145 * side, 0.3),
        "plate": about(0.06, 0.0, 0.3),
        "napkin": about(0.06, -0.145 * side, 0.15),
    }
    places = rng.permutation([-0.14, 0.0, 0.14])
    for item, y in zip(SETTINGS, places, strict=True):
        placed[item] = about(-0.125, float(y), 0.3)
    return placed


def is_set(view: View, item: str) -> bool:
    """An item lies or stands where it belongs."""
    goal = SETTINGS[item]
    if not view.touching(item, goal.on) or predicates.distance(view, item, goal.on) > goal.radius:
        return False
    level = abs(predicates.bottom(view, item) - goal.top) < predicates.TOUCH
    return level and (item != "mug" or predicates.upright(view, item))


def left_alone(view: View, item: str) -> bool:
    """An item is where it belongs, still, and no finger touches it."""
    return is_set(view, item) and predicates.clear_of_fingers(view, item) and predicates.at_rest(view, item)


def done(view: View) -> bool:
    """Everything is where it belongs."""
    return all(left_alone(view, item) for item in SETTINGS)


def lay(view: View, item: str) -> np.ndarray:
    """Grasps an item, sets it down where it belongs and lets go."""
    goal, size = SETTINGS[item], view.size(item)
    if is_set(view, item):
        return skills.release(view, item)
    if view.grasped(item):
        return skills.put(view, item, view.pos(goal.on) + [0, 0, goal.top + size[2]], 0.6 * goal.radius, 0.012, TRAVEL)
    frame = view.rot(item)
    at = view.pos(item) + frame @ (np.array(goal.grip) * size)
    along = skills.half_turn(float(np.arctan2(frame[1, 0], frame[0, 0])))
    yaw = skills.grip_yaw(view, item) if item == "tomato" else along
    return skills.grasp(view, item, np.array([*at[:2], max(at[2], view.table_z + 0.011)]), yaw, TRAVEL, care=0.7)


def expert(view: View) -> np.ndarray:
    """Sets down what it holds, else goes for the first item that is not yet in its place."""
    left = [item for item in SETTINGS if not left_alone(view, item)]
    if not left:
        return skills.release(view, "tomato")
    return lay(view, next((item for item in left if view.grasped(item) or is_set(view, item)), left[0]))


def _stages(item: str) -> tuple[Stage, Stage]:
    grasp = f"grasp {item}"
    return (
        Stage(grasp, 0.05, lambda v: predicates.held(v, item)),
        Stage(f"set {item}", 0.1, lambda v: left_alone(v, item), after=grasp),
    )


TASK = Task(
    name="SetTable",
    version=0,
    verb="set",
    novelty="seen",
    instruction="set the table: mug on the coaster, spoon on the napkin, tomato on the plate",
    motion="close the fingers around the mug, the spoon and the tomato, one after the other, and lower each onto the "
    "brown coaster, the cream napkin and the white plate in turn",
    about="Three things of three shapes have three places, and what is in place must not be brushed off again.",
    nearest="PlaceOnPlate",
    objects=("plate", "coaster", "napkin", "mug", "spoon", "tomato"),
    place=place,
    stages=(*(stage for item in SETTINGS for stage in _stages(item)), Stage("table set", 0.55, done)),
    success=done,
    expert=expert,
    horizon=820,
)
