"""What moves by itself: driven joints so heavy that nothing slows them, and what stands around them.

A script sets position and speed of a driven joint before every control step; friction then carries what lies on it. A
puppet would not do: MuJoCo takes its speed for zero, so it slides away from under its load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wambench.envs.objects.parts import (
    BOX,
    CAPSULE,
    CYLINDER,
    GREY,
    HINGE_JOINT,
    ORANGE,
    SLIDE_JOINT,
    SPHERE,
    TEAL,
    WHITE,
    YELLOW,
    add_geom,
)

if TYPE_CHECKING:
    import mujoco

HEAVY = 1000.0  # armature, kg or kg m^2
DARK, STRIPE = (0.20, 0.20, 0.22), (0.55, 0.55, 0.50)
SKIN = (0.85, 0.62, 0.48)
ROUGH = (0.8, 0.005, 0.0001)
BELT_TOP, BELT_PERIOD, TUNNEL = 0.020, 0.05, 0.21  # height; distance of its stripes; where it comes out of a tunnel
DISC_TOP, DISC_RADIUS = 0.020, 0.11
TRAY_TOP = 0.012
ROD, PIVOT = 0.19, 0.24  # length of the pendulum; height of what it hangs on
BALL_RADIUS = 0.022


def _driven(body: mujoco.MjsBody, part: str, kind: int, axis: list[float], pos: list[float]) -> mujoco.MjsBody:
    """Returns a part that hangs on a driven joint, which has the object's name."""
    moving = body.add_body(name=f"{body.name}_{part}", pos=pos)
    moving.add_joint(name=body.name, type=kind, axis=axis, armature=HEAVY)
    return moving


def _tunnel(body: mujoco.MjsBody, along: int, at: float, half: float) -> None:
    """Adds a hood at one end of a lane along x (0) or y (1); things pass through it."""
    for side in (-1, 1):
        wall = (0.022, 0.004, 0.036) if along == 0 else (0.004, 0.022, 0.036)
        pos = (at, side * half, 0.036) if along == 0 else (side * half, at, 0.036)
        add_geom(body, BOX, wall, pos, GREY, solid=False)
    roof = (0.022, half, 0.004) if along == 0 else (half, 0.022, 0.004)
    back = (0.003, half, 0.036) if along == 0 else (half, 0.003, 0.036)
    end = at + (0.019 if at > 0 else -0.019)
    add_geom(body, BOX, roof, (at, 0, 0.074) if along == 0 else (0, at, 0.074), GREY, solid=False)
    add_geom(body, BOX, back, (end, 0, 0.036) if along == 0 else (0, end, 0.036), GREY, solid=False)


def belt(body: mujoco.MjsBody) -> None:
    """A conveyor belt that runs along y from one hood into another one; its stripes show how fast."""
    moving = _driven(body, "slab", SLIDE_JOINT, [0, 1, 0], [0, 0, 0])
    add_geom(moving, BOX, (0.045, 0.225, 0.009), (0, 0, 0.011), DARK, mass=1.0, friction=ROUGH)
    for i in range(-4, 5):
        add_geom(moving, BOX, (0.045, 0.006, 0.0004), (0, i * BELT_PERIOD, BELT_TOP), STRIPE, mass=0.01, solid=False)
    for at in (-TUNNEL, TUNNEL):
        _tunnel(body, 1, at, 0.050)


def gates(body: mujoco.MjsBody) -> None:
    """The two hoods between which a ball rolls along x."""
    for at in (-TUNNEL, TUNNEL):
        _tunnel(body, 0, at, 0.040)


def ball(body: mujoco.MjsBody) -> None:
    """A ball that rolls."""
    add_geom(body, SPHERE, (BALL_RADIUS,), (0, 0, 0), ORANGE, mass=0.05, friction=ROUGH)


def turntable(body: mujoco.MjsBody) -> None:
    """A disc that turns; positive is counter-clockwise from above."""
    add_geom(body, CYLINDER, (0.06, 0.005), (0, 0, 0.005), GREY)
    disc = _driven(body, "disc", HINGE_JOINT, [0, 0, 1], [0, 0, 0])
    add_geom(disc, CYLINDER, (DISC_RADIUS, 0.004), (0, 0, DISC_TOP - 0.004), WHITE, mass=0.5, friction=ROUGH)
    for x, y in ((0.5, 0.0), (-0.5, 0.0)):
        add_geom(disc, BOX, (0.05, 0.008, 0.0004), (x * 0.11, y, DISC_TOP), TEAL, mass=0.01, solid=False)


def tray(body: mujoco.MjsBody) -> None:
    """A tray that slides along y."""
    moving = _driven(body, "plate", SLIDE_JOINT, [0, 1, 0], [0, 0, 0])
    add_geom(moving, BOX, (0.060, 0.060, 0.005), (0, 0, TRAY_TOP - 0.005), YELLOW, mass=0.5, friction=ROUGH)
    add_geom(body, BOX, (0.008, 0.200, 0.0005), (0, 0, 0.0006), GREY, solid=False)
    moving.add_site(name=f"{body.name}/top", pos=[0, 0, TRAY_TOP])


def pendulum(body: mujoco.MjsBody) -> None:
    """A pendulum that swings along y behind the workspace, out of reach of what it could hit."""
    add_geom(body, CYLINDER, (0.008, PIVOT / 2), (0.05, 0, PIVOT / 2), GREY, solid=False)
    add_geom(body, BOX, (0.030, 0.008, 0.008), (0.025, 0, PIVOT), GREY, solid=False)
    swing = _driven(body, "bob", HINGE_JOINT, [1, 0, 0], [0, 0, PIVOT])
    add_geom(swing, CYLINDER, (0.004, ROD / 2), (0, 0, -ROD / 2), DARK, mass=0.05, solid=False)
    add_geom(swing, SPHERE, (0.030,), (0, 0, -ROD), ORANGE, mass=0.2, solid=False)
    swing.add_site(name=f"{body.name}/bob", pos=[0, 0, -ROD])


def beat_mark(body: mujoco.MjsBody) -> None:
    """The mark that the pendulum passes at one end of its swing."""
    add_geom(body, BOX, (0.035, 0.028, 0.0005), (0, 0, 0.0006), YELLOW, solid=False)


def pusher(body: mujoco.MjsBody) -> None:
    """A hand at the end of a forearm that reaches over the table along -x and draws back."""
    arm = _driven(body, "fist", SLIDE_JOINT, [-1, 0, 0], [0, 0, 0.034])
    add_geom(arm, BOX, (0.022, 0.034, 0.022), (0.022, 0, 0), SKIN, mass=0.3)
    quat = (0.7071068, 0.0, 0.7071068, 0.0)
    add_geom(arm, CAPSULE, (0.022, 0.09), (0.14, 0, 0.006), TEAL, mass=0.5, quat=quat)
    arm.add_site(name=f"{body.name}/knuckles", pos=[0, 0, 0])
