"""What the stages and success predicates of the tasks are made of: where an object is, how it lies, who holds it.

Every predicate is a function of the current state alone; `ProgressTracker` adds for how long it must hold. All lengths
in m, in the world frame. A predicate that says where something is bounds it on every side, from below as well: a cube
on the floor of the room is not on the table.
"""

from __future__ import annotations

import math

import numpy as np

from wambench.envs.task import View

TABLE_HALF = 0.40  # the table's top is a square of twice this size around the origin
TOUCH = 0.006  # an object whose underside is this near to a surface rests on it
SINK = 0.015  # a lying bottle's bounding box, which is what `bottom` looks at, reaches this far below the bottle
NEARLY_DOWN = 0.035  # what is in the hand this closely above a surface is let down and not dropped
PINCH = 0.012  # fingers that are closer than this hold nothing
REST = 0.10  # m/s: slower than this an object is at rest; pushed or carried it has 0.15 and more
# The bin's walls stand this far from its middle on the inside and are this high; its floor is this thick.
BIN_INNER, BIN_WALL, BIN_FLOOR = 0.067, 0.044, 0.008


def distance(view: View, a: str, b: str) -> float:
    """Returns the horizontal distance between the origins of two objects."""
    apart = (view.pos(a) - view.pos(b))[:2]
    return math.sqrt(apart @ apart)


def height(view: View, name: str) -> float:
    """Returns how far a cube's centre is above where it is when the cube lies on the table."""
    return float(view.pos(name)[2] - view.table_z - view.size(name)[2])


def bottom(view: View, name: str) -> float:
    """Returns the height above the table of the lowest point of an object's bounding box."""
    return float(view.pos(name)[2] - view.table_z - np.abs(view.rot(name)[2]) @ view.size(name))


def near(view: View, name: str, radius: float = 0.03) -> bool:
    """Returns whether the grip site is within `radius` of the object's origin, or of a named site."""
    apart = view.eef() - view.pos(name)
    return math.sqrt(apart @ apart) < radius


def distance_of_hand(view: View, name: str) -> float:
    """Returns the horizontal distance between the grip site and an object's origin."""
    apart = (view.eef() - view.pos(name))[:2]
    return math.sqrt(apart @ apart)


def clear_of_fingers(view: View, name: str) -> bool:
    """Returns whether no finger touches the object."""
    return not view.touching("fingers", name)


def at_rest(view: View, name: str, speed: float = REST) -> bool:
    """Returns whether an object's centre moves slower than `speed` (m/s)."""
    velocity = view.vel(name)
    return bool(velocity @ velocity < speed * speed)


def upright(view: View, name: str) -> bool:
    """Returns whether an object's own axis points up, within 25 degrees."""
    return bool(view.rot(name)[2, 2] > 0.906)


def over_table(view: View, name: str) -> bool:
    """Returns whether an object's origin is above the table's top, and not beside it."""
    place = view.pos(name)
    return bool(np.abs(place[:2]).max() < TABLE_HALF and bottom(view, name) > -SINK)


def on_table(view: View, name: str) -> bool:
    """Returns whether an object is as low as the table's top and over it; contacts are not asked, for they flicker."""
    return over_table(view, name) and bottom(view, name) < TOUCH


def slides(view: View, name: str) -> bool:
    """Returns whether an object is where pushing can have brought it: over the table and not lifted from it."""
    return over_table(view, name) and bottom(view, name) < 0.012


def held(view: View, name: str) -> bool:
    """Returns whether the hand holds an object: both fingers touch it, apart, with it between them."""
    return view.grasped(name) and in_hand(view, name)


def in_hand(view: View, name: str) -> bool:
    """Returns whether an object is between the fingers, which are apart, whether or not they touch it."""
    local = view.rot(name).T @ (view.eef() - view.pos(name))
    return view.width() > PINCH and bool((np.abs(local) < view.size(name) + 0.012).all())


def raised(view: View, name: str, above: float = 0.01) -> bool:
    """Returns whether the hand holds an object with its underside higher than `above` over the table."""
    return held(view, name) and bottom(view, name) > above


def lowered(view: View, name: str, surface: float = 0.0) -> bool:
    """Returns whether an object is closely above a surface at a height over the table, or on it, and still in the hand.

    The fingers need not touch it any more: they open within a step or two of its arrival.
    """
    return -SINK < bottom(view, name) - surface < NEARLY_DOWN and in_hand(view, name)


def rests_on(view: View, name: str, below: str, radius: float) -> bool:
    """Returns whether an object rests on another one that lies on the table, its origin within `radius` of the other's.

    Both are taken to be boxes that lie on a face.
    """
    top = float(view.pos(below)[2] - view.table_z + np.abs(view.rot(below)[2]) @ view.size(below))
    level = abs(bottom(view, name) - top) < TOUCH and view.touching(name, below)
    return level and distance(view, name, below) < radius and on_table(view, below)


def over_bin(view: View, name: str, bin_name: str = "bin") -> bool:
    """Returns whether an object's origin is over the floor of the bin, at whatever height."""
    return bool(np.abs(_in_bin_frame(view, name, bin_name)).max() < BIN_INNER)


def within_bin(view: View, name: str, bin_name: str = "bin") -> bool:
    """Returns whether an object is in the bin: on its floor, or wholly between its walls on what lies there.

    An object that rests on the rim is neither: it is too high for the floor, and reaches over the walls.
    """
    place, low = np.abs(_in_bin_frame(view, name, bin_name)), bottom(view, name)
    if low < -SINK or place.max() > BIN_INNER:
        return False
    if low < BIN_FLOOR + TOUCH:
        return True
    turned = view.rot(bin_name).T @ view.rot(name)
    reach = place + np.abs(turned[:2]) @ view.size(name)
    return bool(reach.max() < BIN_INNER + 0.006 and low < BIN_WALL + 0.012)


def _in_bin_frame(view: View, name: str, bin_name: str) -> np.ndarray:
    """Returns the (2,) horizontal place of an object in the bin's frame."""
    return (view.rot(bin_name).T @ (view.pos(name) - view.pos(bin_name)))[:2]


def behind(view: View, name: str, goal: str, reach: float) -> bool:
    """Returns whether the hand is low behind an object as seen from a goal, where it can push it there.

    Args:
        view: The scene.
        name: The object.
        goal: Where it shall go.
        reach: Largest horizontal distance between the hand and the object's origin.
    """
    item, eef = view.pos(name), view.eef()
    way, arm = (view.pos(goal) - item)[:2], (eef - item)[:2]
    ahead = way / max(1e-6, math.sqrt(way @ way))
    low = eef[2] < view.pos(name)[2] + view.size(name)[2]
    return bool(low and math.sqrt(arm @ arm) < reach and arm @ ahead < -0.3 * view.size(name)[0])
