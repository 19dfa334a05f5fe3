"""The factor "lookalike": one more object of the named one's shape in another colour, and where it stands.

Only objects that are named with their colour have one: beside a second bottle "the bottle" would be ambiguous. Nothing
else of the scene changes, so that episodes with and without it are pairs. Pure arithmetic, no simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from wambench.envs.naming import named_object
from wambench.envs.objects import OBJECTS
from wambench.envs.task import Placement

if TYPE_CHECKING:
    from wambench.envs.task import Task

ALIKE = (("green_cube", "blue_cube", "red_cube"),)  # equal in shape, size and mass; the first that is free stands in
AREA = ((-0.20, 0.16), (-0.20, 0.20))  # x and y in m: where tasks place their own objects, and some 4 cm around
# Horizontal distances in m between origins. As near as an open hand around the named object allows, and no farther than
# other objects stand, so that the look-alike is a temptation and not a decoration.
NEAREST, FARTHEST = 0.10, 0.22
FARTHEST_OF_ALL = 0.32  # where a crowded table leaves no room so near: 1 episode in 100
GAP = 0.02  # in m, between footprints, of which the circles around them are taken
# Its middle keeps out of the way of the named object to any other, and of the hand that comes from behind to push.
LANE, BEHIND = 0.065, 0.10
TRIES = 5000


def lookalike_of(task: Task) -> str:
    """Returns the object that stands in for a look-alike in a task, "" if it has none.

    The instruction must name an object with its colour, whatever stands there must not have the look-alike's, and
    nothing may move by itself.
    """
    named = named_object(task.objects, task.instruction)
    if task.script:
        return ""
    for alike in ALIKE:
        if named in alike:
            colours = task.instruction.split()
            return next((n for n in alike if n not in task.objects and n.split("_")[0] not in colours), "")
    return ""


def place_lookalike(task: Task, poses: Mapping[str, Placement], rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the look-alike's name and placement beside the objects of an episode; only uses draws of `rng`.

    Raises:
        ValueError: The task has no look-alike.
        RuntimeError: There is no room for it.
    """
    own = lookalike_of(task)
    if not own:
        raise ValueError(f"task {task.name!r} has no look-alike")
    named = named_object(task.objects, task.instruction)
    target = _xy(poses[named])
    others = {name: _xy(placed) for name, placed in poses.items() if name in task.objects and name != named}
    for trial in range(TRIES):
        farthest = FARTHEST if trial < TRIES // 2 else FARTHEST_OF_ALL
        away, angle = rng.uniform(NEAREST, farthest), rng.uniform(-np.pi, np.pi)
        yaw = rng.uniform(-0.4, 0.4)
        at = target + away * np.array([np.cos(angle), np.sin(angle)])
        inside = all(low <= value <= high for value, (low, high) in zip(at, AREA, strict=True))
        if inside and _fits(at, target, own, others):
            return {own: Placement(float(at[0]), float(at[1]), float(yaw))}
    raise RuntimeError(f"no room for a look-alike in an episode of {task.id}")


def _xy(placed: Placement) -> np.ndarray:
    return np.array([placed.x, placed.y])


def _fits(at: np.ndarray, target: np.ndarray, own: str, others: Mapping[str, np.ndarray]) -> bool:
    """Returns whether there is room at a place, beside the ways from the named object to the others."""
    for name, other in others.items():
        if np.linalg.norm(at - other) < _radius(name) + _radius(own) + GAP:
            return False
        way = other - target
        ahead = way / max(1e-9, float(np.linalg.norm(way)))
        if _distance(at, target - BEHIND * ahead, other) < LANE:
            return False
    return True


def _radius(name: str) -> float:
    """Returns the radius in m of the circle around an object's footprint."""
    return float(np.hypot(*OBJECTS[name].half[:2]))


def _distance(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Returns the distance of a point from a line segment."""
    way = end - start
    along = np.clip((point - start) @ way / max(1e-12, float(way @ way)), 0.0, 1.0)
    return float(np.linalg.norm(start + along * way - point))
