"""Which object an instruction names: arithmetic on words, no simulator."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wambench.envs.objects import OBJECTS


def movable(name: str) -> bool:
    """Returns whether a hand can move an object or a part of it: it is free, or has a joint."""
    item = OBJECTS[name]
    return item.free or item.joint_range is not None


def named_object(objects: Sequence[str], said: str) -> str:
    """Returns the movable object that an instruction names first, "" if it names none.

    An object is named by its own words: "red_cube" by "red cube". The first one named is the one to begin with, as in
    "stack the red cube on the blue cube". A list after a colon ("set the table: mug on the coaster, ...") names several
    in no order, which counts as none, and so does a relation ("the left cube").

    Args:
        objects: Names of what stands in the scene.
        said: The instruction.
    """
    if ":" in said:
        return ""
    places = {name: _place(name, said) for name in objects if movable(name)}
    return min((name for name in places if places[name] >= 0), key=lambda name: places[name], default="")


def _place(name: str, said: str) -> int:
    """Returns where the words of an object begin in a text, -1 if they are not in it."""
    found = re.search(rf"\b{re.escape(name.replace('_', ' '))}\b", said)
    return found.start() if found else -1
