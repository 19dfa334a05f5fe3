"""What can stand on the table, generated as MJCF in code: free objects and articulated fixtures.

robosuite has no drawer, button, dial or lever, and mesh objects cannot change size in a compiled model. Everything
here is made of primitives, so that one compiled scene serves every size and colour (see `envs.scene`). An object's
origin lies at the centre of its footprint: at the centre of mass for free objects, on the table for fixtures.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from wambench.envs.objects import loose, mechanisms, puppets, receptacles
from wambench.envs.objects.parts import BLUE, GREEN, ORANGE, RED, YELLOW, SceneObject

CUBE = (0.022, 0.022, 0.022)
BRICK = (0.020, 0.020, 0.028)
# MuJoCo 3.9.0 ends with "9 contacts, expected at most 8" when exactly parallel box faces overlap in an octagon, so the
# middle brick of a tower is slimmer than its neighbours.
SLIM_BRICK = (0.0185, 0.0185, 0.028)

OBJECTS: Mapping[str, SceneObject] = MappingProxyType(
    {
        item.name: item
        for item in (
            SceneObject("red_cube", True, CUBE, loose.box(CUBE, RED, 0.06)),
            SceneObject("blue_cube", True, CUBE, loose.box(CUBE, BLUE, 0.06)),
            SceneObject("green_cube", True, CUBE, loose.box(CUBE, GREEN, 0.06)),
            SceneObject("brick_1", True, BRICK, loose.box(BRICK, ORANGE, 0.06)),
            SceneObject("brick_2", True, SLIM_BRICK, loose.box(SLIM_BRICK, YELLOW, 0.06)),
            SceneObject("brick_3", True, BRICK, loose.box(BRICK, ORANGE, 0.06)),
            SceneObject("bottle", True, (0.026, 0.026, 0.065), loose.bottle),
            SceneObject("bin", False, (0.075, 0.075, 0.022), receptacles.bin),
            SceneObject("plate", False, (0.065, 0.065, 0.004), receptacles.plate),
            SceneObject("zone", False, (0.05, 0.05, 0.001), receptacles.zone),
            SceneObject("drawer", False, (0.075, 0.085, 0.055), mechanisms.drawer, (0.0, 0.14)),
            SceneObject("button", False, (0.05, 0.05, 0.027), mechanisms.button, (0.0, 0.014)),
            SceneObject("dial", False, (0.07, 0.07, 0.04), mechanisms.dial, (0.0, 2.0)),
            SceneObject("lever", False, (0.035, 0.055, 0.06), mechanisms.lever, (-0.65, 0.65)),
            *(SceneObject(f"cup_{i}", False, puppets.CUP, puppets.cup, (0.0, 0.16), puppet=True) for i in range(3)),
            SceneObject("pea", False, (0.018, 0.018, 0.018), puppets.ball(RED, 0.018), puppet=True),
            *(
                SceneObject(f"sample_{i}", False, (0.026, 0.026, 0.026), puppets.ball(rgb, 0.026), puppet=True)
                for i, rgb in enumerate((RED, BLUE, GREEN))
            ),
            SceneObject("shown_cube", False, CUBE, puppets.ghost(CUBE, RED), puppet=True),
            *(SceneObject(f"mark_{i}", False, (0.035, 0.035, 0.001), puppets.mark) for i in range(3)),
            SceneObject("bell", False, (0.05, 0.05, 0.027), lambda body: mechanisms.button(body, BLUE), (0.0, 0.014)),
            SceneObject("rails", False, (0.13, 0.12, 0.035), puppets.rails, (-0.005, 0.105)),
            SceneObject("lamp", False, (0.022, 0.022, 0.033), puppets.lamp),
            SceneObject("lamp_light", False, (0.026, 0.026, 0.026), puppets.light((1.0, 0.85, 0.1)), puppet=True),
            SceneObject("signal", False, (0.022, 0.022, 0.033), puppets.lamp),
            SceneObject("signal_light", False, (0.026, 0.026, 0.026), puppets.light((0.15, 1.0, 0.25)), puppet=True),
            SceneObject("spot", False, (0.04, 0.04, 0.004), mechanisms.spot, (0.0, 0.007)),
        )
    }
)

# Key points whose world positions are labels for perception: an object's origin or its named site, and what every scene
# has: the grip site between the finger tips, and the pad of each finger.
HAND_POINTS = ("hand", "finger_left", "finger_right")
KEYPOINTS = (
    "red_cube", "blue_cube", "green_cube", "bottle", "bin", "plate", "zone", "drawer/handle", "button/top",
    "dial/peg", "lever/knob", "spot", "brick_1", "brick_3", *HAND_POINTS,
)  # fmt: skip

DISTRACTORS: tuple[SceneObject, ...] = (
    SceneObject("distractor_can", True, (0.0305, 0.0305, 0.050), loose.can, answers_to=("can", "bottle", "tin")),
    SceneObject("distractor_mug", True, (0.052, 0.036, 0.040), loose.mug, answers_to=("mug", "cup")),
    SceneObject(
        "distractor_carton",
        True,
        (0.030, 0.022, 0.060),
        loose.box((0.030, 0.022, 0.060), (0.60, 0.78, 0.30), 0.25),
        answers_to=("carton", "box", "block", "brick"),
    ),
)

PARKED = np.array([0.0, 6.0, -2.0])  # where unused distractors wait, weightless and out of every view
