"""What can stand on the table, generated as MJCF in code: free objects and articulated fixtures.

robosuite has no drawer, button, dial or lever, and mesh objects cannot change size in a compiled model. Everything
here is made of primitives, so that one compiled scene serves every size and colour (see `envs.scene`). An object's
origin lies at the centre of its footprint: at the centre of mass for free objects, on the table for fixtures.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from wambench.envs.objects import loose, mechanisms, movers, puppets, receptacles
from wambench.envs.objects.parts import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, YELLOW, SceneObject

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
            SceneObject("bottle", True, (0.026, 0.026, 0.065), loose.bottle()),
            SceneObject("small_bottle", True, (0.026, 0.026, 0.039), loose.bottle(0.6)),
            SceneObject("red_cube_2", True, CUBE, loose.box(CUBE, RED, 0.06)),
            SceneObject("blue_cube_2", True, CUBE, loose.box(CUBE, BLUE, 0.06)),
            SceneObject("mug", True, (0.027, 0.027, 0.036), loose.mug),
            SceneObject("peg", True, (0.0135, 0.0135, 0.042), loose.peg),
            SceneObject("lid", True, (0.070, 0.070, 0.018), loose.lid),
            SceneObject("tomato", True, (0.0190, 0.0190, 0.0145), loose.tomato),
            SceneObject("spoon", True, (0.070, 0.017, 0.0075), loose.spoon),
            SceneObject("book", True, loose.BOOK, loose.book),
            *(SceneObject(f"die_{i}", True, loose.DIE, loose.die) for i in range(1, 5)),
            SceneObject("bin", False, (0.075, 0.075, 0.022), receptacles.bin),
            SceneObject("plate", False, (0.065, 0.065, 0.004), receptacles.plate),
            SceneObject("mat", False, (0.072, 0.072, 0.001), receptacles.mat),
            SceneObject("zone", False, (0.05, 0.05, 0.001), receptacles.zone),
            SceneObject("red_tray", False, (0.062, 0.062, 0.022), receptacles.tray(0.062, (0.78, 0.25, 0.22))),
            SceneObject("blue_tray", False, (0.062, 0.062, 0.022), receptacles.tray(0.062, (0.28, 0.38, 0.80))),
            SceneObject(
                "pan", False, (0.052, 0.052, 0.021), receptacles.pan, meshes={"pan_shell": receptacles.PAN_SHELL}
            ),
            SceneObject("board", False, (0.072, 0.060, 0.006), receptacles.board),
            SceneObject("coaster", False, (0.048, 0.048, 0.002), receptacles.coaster),
            SceneObject("napkin", False, (0.080, 0.038, 0.0012), receptacles.napkin),
            SceneObject("holder", False, (0.032, 0.032, 0.011), receptacles.holed_block(0.032, 0.022, GREY)),
            SceneObject(
                "socket", False, (0.046, 0.046, 0.018), receptacles.holed_block(0.046, receptacles.BLOCK_HEIGHT, PURPLE)
            ),
            SceneObject("hook", False, (0.045, 0.035, 0.075), receptacles.hook),
            SceneObject("shelf", False, receptacles.SHELF, receptacles.shelf),
            SceneObject("hatch", False, mechanisms.HATCH, mechanisms.hatch, (-0.058, 0.058)),
            SceneObject("switch", False, (0.062, 0.040, 0.018), mechanisms.switch, (-0.2, 0.2)),
            SceneObject("chest", False, mechanisms.CHEST, mechanisms.chest, (0.0, 1.5)),
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
            SceneObject("belt", False, (0.05, 0.23, 0.010), movers.belt, (-0.03, 0.03)),
            SceneObject("gates", False, (0.23, 0.04, 0.039), movers.gates),
            SceneObject("ball", True, (0.022, 0.022, 0.022), movers.ball),
            SceneObject("turntable", False, (0.11, 0.11, 0.010), movers.turntable, (-3.2, 3.2)),
            SceneObject("tray", False, (0.06, 0.06, 0.006), movers.tray, (-0.12, 0.12)),
            SceneObject("pendulum", False, (0.03, 0.12, 0.12), movers.pendulum, (-0.9, 0.9)),
            SceneObject("beat_mark", False, (0.035, 0.028, 0.001), movers.beat_mark),
            SceneObject("pusher", False, (0.13, 0.034, 0.028), movers.pusher, (0.0, 0.3)),
            SceneObject("rails", False, (0.13, 0.12, 0.035), puppets.rails, (-0.005, 0.105)),
            SceneObject("lamp", False, (0.030, 0.030, 0.033), puppets.lamp),
            SceneObject("lamp_light", False, (0.026, 0.026, 0.026), puppets.light((1.0, 0.85, 0.1)), puppet=True),
            SceneObject("signal", False, (0.030, 0.030, 0.033), puppets.lamp),
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
    "dial/peg", "lever/knob", "spot", "brick_1", "brick_3",
    "hatch/handle", "switch/on", "switch/off", "peg", "socket", "mug", "hook/arm", "coaster", "pan", "lid", "tomato",
    "board", "mat", "napkin", "spoon", "die_1", "red_tray", "blue_tray", "chest/bar", "shelf", "small_bottle",
    "bell/top", "ball", "turntable", "tray/top", "pendulum/bob", "pusher/knuckles", *HAND_POINTS,
)  # fmt: skip

DISTRACTORS: tuple[SceneObject, ...] = (
    SceneObject("distractor_can", True, (0.0305, 0.0305, 0.050), loose.can, answers_to=("can", "bottle", "tin")),
    SceneObject("distractor_mug", True, (0.052, 0.036, 0.040), loose.distractor_mug, answers_to=("mug", "cup")),
    SceneObject(
        "distractor_carton",
        True,
        (0.030, 0.022, 0.060),
        loose.box((0.030, 0.022, 0.060), (0.60, 0.78, 0.30), 0.25),
        answers_to=("carton", "box", "block", "brick"),
    ),
)

PARKED = np.array([0.0, 6.0, -2.0])  # where unused distractors wait, weightless and out of every view
