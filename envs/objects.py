"""What can stand on the table, generated as MJCF in code: free objects and articulated fixtures.

robosuite has no drawer, button, dial or lever, and mesh objects cannot change size in a compiled model. Everything
here is made of primitives, so that one compiled scene serves every size and colour (see `envs.scene`). An object's
origin lies at the centre of its footprint: at the centre of mass for free objects, on the table for fixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mujoco

RED = (0.85, 0.12, 0.10)
BLUE = (0.10, 0.25, 0.85)
GREEN = (0.10, 0.60, 0.20)
YELLOW = (0.95, 0.80, 0.10)
ORANGE = (0.95, 0.45, 0.05)
PURPLE = (0.50, 0.15, 0.60)
WHITE = (0.92, 0.92, 0.90)
GREY = (0.35, 0.36, 0.38)
WOOD = (0.55, 0.36, 0.20)
TEAL = (0.05, 0.50, 0.52)

# Values of MuJoCo's mjtGeom and mjtJoint, written out so that tasks can be listed without importing it.
SPHERE, CAPSULE, CYLINDER, BOX = 2, 3, 5, 6
SLIDE_JOINT, HINGE_JOINT = 2, 3

# Sliding friction low enough that a push slides a cube instead of toppling it; finger pads have friction 2 and
# MuJoCo takes the larger of the two, so grasps hold.
SLIDE = (0.4, 0.005, 0.0001)
GRIP = (1.0, 0.02, 0.0005)
# MuJoCo's default contact lets a finger sink 2 mm into a 50 g cube; this is twice as stiff.
SOLREF = (0.01, 1.0)
# Dry friction of joints, stiff enough that a part which gravity pulls at does not creep: with MuJoCo's default of 0.9 a
# leaning lever sinks at 1 cm/s (the creep is proportional to (1 - d) / d).
STICK = [0.9999, 0.9999, 0.001, 0.5, 2.0]


@dataclass(frozen=True)
class SceneObject:
    """One object.

    Attributes:
        name: Its name in tasks and views.
        free: It has six degrees of freedom; otherwise it stands fixed where the episode puts it.
        half: Half extents of the bounding box in m, at scale 1.
        build: Adds geoms, joints and sites to the body.
        joint_range: Range of the main joint, or None.
    """

    name: str
    free: bool
    half: tuple[float, float, float]
    build: Callable[[mujoco.MjsBody], None]
    joint_range: tuple[float, float] | None = None


def _geom(
    body: mujoco.MjsBody,
    kind: int,
    size: tuple[float, ...],
    pos: tuple[float, float, float],
    rgb: tuple[float, float, float],
    mass: float = 0.05,
    solid: bool = True,
    friction: tuple[float, float, float] = SLIDE,
    quat: tuple[float, float, float, float] = (1, 0, 0, 0),
    slippery: bool = False,
) -> None:
    """Adds a geom; on a slippery one its own friction counts, not the larger one of the finger pads."""
    body.add_geom(
        type=kind,
        size=list(size) + [0.0] * (3 - len(size)),
        pos=list(pos),
        quat=list(quat),
        rgba=[*rgb, 1.0],
        mass=mass,
        contype=int(solid),
        conaffinity=int(solid),
        friction=list(friction),
        condim=4 if solid else 1,
        solref=list(SOLREF),
        group=1,
        priority=int(slippery),
        name=f"{body.name}_{len(body.geoms)}",
    )


def _box(
    half: tuple[float, float, float], rgb: tuple[float, float, float], mass: float
) -> Callable[[mujoco.MjsBody], None]:
    return lambda body: _geom(body, BOX, half, (0, 0, 0), rgb, mass)


def _bottle(body: mujoco.MjsBody) -> None:
    # heavy at the base, as if half full: pushed low, an empty one tips over before it slides
    _geom(body, CYLINDER, (0.026, 0.006), (0, 0, -0.059), TEAL, mass=0.15)
    _geom(body, CYLINDER, (0.026, 0.039), (0, 0, -0.014), TEAL, mass=0.05)
    _geom(body, CYLINDER, (0.012, 0.018), (0, 0, 0.043), TEAL, mass=0.01)
    _geom(body, CYLINDER, (0.012, 0.006), (0, 0, 0.066), WHITE, mass=0.005)  # no rim: a bottle hung on one by a finger


def _bin(body: mujoco.MjsBody) -> None:
    w, h, t = 0.075, 0.022, 0.004  # walls low enough that the palm passes over them when it grasps a cube beside
    _geom(body, BOX, (w, w, t), (0, 0, t), GREY)
    for sx, sy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        size = (t if sx else w, t if sy else w, h)
        _geom(body, BOX, size, (sx * (w - t), sy * (w - t), h), GREY)


def _plate(body: mujoco.MjsBody) -> None:
    _geom(body, CYLINDER, (0.065, 0.004), (0, 0, 0.004), WHITE)
    _geom(body, CYLINDER, (0.045, 0.0005), (0, 0, 0.0085), (0.55, 0.70, 0.85), solid=False)


def _zone(body: mujoco.MjsBody) -> None:
    _geom(body, BOX, (0.05, 0.05, 0.0005), (0, 0, 0.0006), YELLOW, solid=False)


def _drawer(body: mujoco.MjsBody) -> None:
    """A cabinet whose drawer slides towards -x; the handle is a post that the fingers can straddle along y."""
    depth, width, height, t = 0.075, 0.085, 0.055, 0.005
    _geom(body, BOX, (depth, width, t), (0, 0, 2 * height - t), WOOD)
    _geom(body, BOX, (t, width, height), (depth - t, 0, height), WOOD)
    for side in (1, -1):
        _geom(body, BOX, (depth, t, height), (0, side * (width - t), height), WOOD)
    tray = body.add_body(name=f"{body.name}_tray")
    tray.add_joint(
        name=body.name,
        type=SLIDE_JOINT,
        axis=[-1, 0, 0],
        range=[0, 0.14],
        limited=1,
        damping=4.0,
        frictionloss=1.0,
        solimp_friction=STICK,
    )
    inner, low = width - 3 * t, 0.008
    face = -depth - 0.004
    _geom(tray, BOX, (depth - 0.01, inner, 0.003), (-0.006, 0, low), WOOD, mass=0.15)
    _geom(tray, BOX, (0.004, width - 0.002, height - 0.014), (face, 0, height - 0.004), (0.70, 0.50, 0.30), mass=0.1)
    for side in (1, -1):
        _geom(tray, BOX, (depth - 0.01, 0.003, 0.02), (-0.006, side * (inner - 0.003), low + 0.02), WOOD, mass=0.05)
    _geom(tray, BOX, (0.018, 0.006, 0.006), (face - 0.020, 0, 0.055), GREY, mass=0.02)
    _geom(tray, BOX, (0.012, 0.012, 0.024), (face - 0.042, 0, 0.064), ORANGE, mass=0.03, friction=GRIP)
    tray.add_site(name=f"{body.name}/handle", pos=[face - 0.042, 0, 0.066])


def _button(body: mujoco.MjsBody) -> None:
    _geom(body, BOX, (0.05, 0.05, 0.018), (0, 0, 0.018), GREY)
    cap = body.add_body(name=f"{body.name}_cap", pos=[0, 0, 0.036])
    cap.add_joint(
        name=body.name, type=SLIDE_JOINT, axis=[0, 0, -1], range=[0, 0.014], limited=1,
        stiffness=150.0, springref=-0.01, damping=4.0,
    )  # fmt: skip
    _geom(cap, CYLINDER, (0.028, 0.009), (0, 0, 0.009), RED, mass=0.03)
    cap.add_site(name=f"{body.name}/top", pos=[0, 0, 0.018])


def _dial(body: mujoco.MjsBody) -> None:
    """A turntable with an upright peg at 5 cm from its vertical axis; positive is counter-clockwise from above."""
    _geom(body, CYLINDER, (0.07, 0.010), (0, 0, 0.010), GREY)
    disc = body.add_body(name=f"{body.name}_disc", pos=[0, 0, 0.022])
    disc.add_joint(
        name=body.name,
        type=HINGE_JOINT,
        axis=[0, 0, 1],
        range=[0, 2.0],
        limited=1,
        damping=0.02,
        frictionloss=0.03,
        solimp_friction=STICK,
    )
    _geom(disc, CYLINDER, (0.064, 0.008), (0, 0, 0.008), WHITE, mass=0.1)
    _geom(disc, BOX, (0.022, 0.005, 0.001), (0.022, 0, 0.0172), PURPLE, solid=False, mass=0.001)
    _geom(disc, CYLINDER, (0.011, 0.028), (0.050, 0, 0.044), PURPLE, mass=0.03, slippery=True)
    disc.add_site(name=f"{body.name}/peg", pos=[0.050, 0, 0.050])


def _lever(body: mujoco.MjsBody) -> None:
    """A stick on a hinge along x: it leans to -y at negative and to +y at positive angles."""
    _geom(body, BOX, (0.035, 0.055, 0.015), (0, 0, 0.015), GREY)
    stick = body.add_body(name=f"{body.name}_stick", pos=[0, 0, 0.034])
    stick.add_joint(
        name=body.name,
        type=HINGE_JOINT,
        axis=[-1, 0, 0],
        range=[-0.65, 0.65],
        limited=1,
        damping=0.02,
        frictionloss=0.06,
        solimp_friction=STICK,
    )
    _geom(stick, CAPSULE, (0.009, 0.038), (0, 0, 0.045), GREEN, mass=0.03, slippery=True)
    _geom(stick, SPHERE, (0.016,), (0, 0, 0.092), GREEN, mass=0.02, slippery=True)
    stick.add_site(name=f"{body.name}/knob", pos=[0, 0, 0.092])


SPOT_DOMES = ((0.0, 0.0), (0.024, 0.014), (-0.022, 0.018), (0.016, -0.022), (-0.018, -0.018))


def _spot(body: mujoco.MjsBody) -> None:
    """Domes that stand 4 mm out of the table and stay down once a finger has swept over them: dirt as physics.

    The state of the spot is in qpos, so snapshots need nothing special. What a finger feels is an unseen, slippery dome
    2 mm higher than the brown one, so that a finger that comes from the side and glides a millimetre above the table
    makes the brown one vanish.
    """
    for i, (x, y) in enumerate(SPOT_DOMES):
        dome = body.add_body(name=f"{body.name}_{i}dome", pos=[x, y, 0])
        dome.add_joint(
            name=body.name if i == 0 else f"{body.name}/{i}", type=SLIDE_JOINT, axis=[0, 0, -1],
            range=[0, 0.007], limited=1, damping=2.0, frictionloss=0.4, solimp_friction=STICK,
        )  # fmt: skip
        _geom(dome, SPHERE, (0.030,), (0, 0, 0.004 - 0.030), (0.25, 0.15, 0.05), mass=0.01, solid=False)
        felt, smooth = (0, 0, 0.006 - 0.035), (0.05, 0.005, 0.0001)
        _geom(dome, SPHERE, (0.035,), felt, WHITE, mass=0.001, friction=smooth, slippery=True)
        dome.geoms[-1].rgba[3] = 0.0


def _thing(name: str, free: bool, half: tuple[float, float, float], build: Callable[[mujoco.MjsBody], None],
           joint_range: tuple[float, float] | None = None) -> SceneObject:  # fmt: skip
    return SceneObject(name, free, half, build, joint_range)


CUBE = (0.022, 0.022, 0.022)
BRICK = (0.020, 0.020, 0.028)
# MuJoCo 3.9.0 ends with "9 contacts, expected at most 8" when exactly parallel box faces overlap in an octagon, so the
# middle brick of a tower is slimmer than its neighbours.
SLIM_BRICK = (0.0185, 0.0185, 0.028)

OBJECTS: Mapping[str, SceneObject] = MappingProxyType(
    {
        item.name: item
        for item in (
            _thing("red_cube", True, CUBE, _box(CUBE, RED, 0.06)),
            _thing("blue_cube", True, CUBE, _box(CUBE, BLUE, 0.06)),
            _thing("green_cube", True, CUBE, _box(CUBE, GREEN, 0.06)),
            _thing("brick_1", True, BRICK, _box(BRICK, ORANGE, 0.06)),
            _thing("brick_2", True, SLIM_BRICK, _box(SLIM_BRICK, YELLOW, 0.06)),
            _thing("brick_3", True, BRICK, _box(BRICK, ORANGE, 0.06)),
            _thing("bottle", True, (0.026, 0.026, 0.065), _bottle),
            _thing("bin", False, (0.075, 0.075, 0.022), _bin),
            _thing("plate", False, (0.065, 0.065, 0.004), _plate),
            _thing("zone", False, (0.05, 0.05, 0.001), _zone),
            _thing("drawer", False, (0.075, 0.085, 0.055), _drawer, (0.0, 0.14)),
            _thing("button", False, (0.05, 0.05, 0.027), _button, (0.0, 0.014)),
            _thing("dial", False, (0.07, 0.07, 0.04), _dial, (0.0, 2.0)),
            _thing("lever", False, (0.035, 0.055, 0.06), _lever, (-0.65, 0.65)),
            _thing("spot", False, (0.04, 0.04, 0.004), _spot, (0.0, 0.007)),
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


def _can(body: mujoco.MjsBody) -> None:
    _geom(body, CYLINDER, (0.030, 0.050), (0, 0, 0), (0.75, 0.75, 0.78), mass=0.2)
    _geom(body, CYLINDER, (0.0305, 0.025), (0, 0, 0), PURPLE, solid=False, mass=0.001)


def _mug(body: mujoco.MjsBody) -> None:
    _geom(body, CYLINDER, (0.036, 0.040), (0, 0, 0), (0.90, 0.55, 0.65), mass=0.2)
    _geom(body, CAPSULE, (0.007, 0.022), (0.045, 0, 0), (0.90, 0.55, 0.65), mass=0.01)


DISTRACTORS: tuple[SceneObject, ...] = (
    _thing("distractor_can", True, (0.0305, 0.0305, 0.050), _can),
    _thing("distractor_mug", True, (0.052, 0.036, 0.040), _mug),
    _thing("distractor_carton", True, (0.030, 0.022, 0.060), _box((0.030, 0.022, 0.060), (0.60, 0.78, 0.30), 0.25)),
)

PARKED = np.array([0.0, 6.0, -2.0])  # where unused distractors wait, weightless and out of every view
