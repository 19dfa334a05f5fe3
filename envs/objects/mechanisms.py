"""Fixtures with moving parts; an origin lies on the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wambench.envs.objects.parts import (
    BOX,
    CAPSULE,
    CYLINDER,
    GREEN,
    GREY,
    GRIP,
    HINGE_JOINT,
    ORANGE,
    PURPLE,
    RED,
    SLIDE_JOINT,
    SPHERE,
    STICK,
    WHITE,
    WOOD,
    YELLOW,
    add_geom,
)

if TYPE_CHECKING:
    import mujoco


def drawer(body: mujoco.MjsBody) -> None:
    """A cabinet whose drawer slides towards -x; the handle is a post that the fingers can straddle along y."""
    depth, width, height, t = 0.075, 0.085, 0.055, 0.005
    add_geom(body, BOX, (depth, width, t), (0, 0, 2 * height - t), WOOD)
    add_geom(body, BOX, (t, width, height), (depth - t, 0, height), WOOD)
    for side in (1, -1):
        add_geom(body, BOX, (depth, t, height), (0, side * (width - t), height), WOOD)
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
    add_geom(tray, BOX, (depth - 0.01, inner, 0.003), (-0.006, 0, low), WOOD, mass=0.15)
    add_geom(tray, BOX, (0.004, width - 0.002, height - 0.014), (face, 0, height - 0.004), (0.70, 0.50, 0.30), mass=0.1)
    for side in (1, -1):
        add_geom(tray, BOX, (depth - 0.01, 0.003, 0.02), (-0.006, side * (inner - 0.003), low + 0.02), WOOD, mass=0.05)
    add_geom(tray, BOX, (0.018, 0.006, 0.006), (face - 0.020, 0, 0.055), GREY, mass=0.02)
    add_geom(tray, BOX, (0.012, 0.012, 0.024), (face - 0.042, 0, 0.064), ORANGE, mass=0.03, friction=GRIP)
    tray.add_site(name=f"{body.name}/handle", pos=[face - 0.042, 0, 0.066])


def button(body: mujoco.MjsBody, rgb: tuple[float, float, float] = RED) -> None:
    add_geom(body, BOX, (0.05, 0.05, 0.018), (0, 0, 0.018), GREY)
    cap = body.add_body(name=f"{body.name}_cap", pos=[0, 0, 0.036])
    cap.add_joint(
        name=body.name, type=SLIDE_JOINT, axis=[0, 0, -1], range=[0, 0.014], limited=1,
        stiffness=150.0, springref=-0.01, damping=4.0,
    )  # fmt: skip
    add_geom(cap, CYLINDER, (0.028, 0.009), (0, 0, 0.009), rgb, mass=0.03)
    cap.add_site(name=f"{body.name}/top", pos=[0, 0, 0.018])


def dial(body: mujoco.MjsBody) -> None:
    """A turntable with an upright peg at 5 cm from its vertical axis; positive is counter-clockwise from above."""
    add_geom(body, CYLINDER, (0.07, 0.010), (0, 0, 0.010), GREY)
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
    add_geom(disc, CYLINDER, (0.064, 0.008), (0, 0, 0.008), WHITE, mass=0.1)
    add_geom(disc, BOX, (0.022, 0.005, 0.001), (0.022, 0, 0.0172), PURPLE, solid=False, mass=0.001)
    add_geom(disc, CYLINDER, (0.011, 0.028), (0.050, 0, 0.044), PURPLE, mass=0.03, slippery=True)
    disc.add_site(name=f"{body.name}/peg", pos=[0.050, 0, 0.050])


def lever(body: mujoco.MjsBody) -> None:
    """A stick on a hinge along x: it leans to -y at negative and to +y at positive angles."""
    add_geom(body, BOX, (0.035, 0.055, 0.015), (0, 0, 0.015), GREY)
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
    add_geom(stick, CAPSULE, (0.009, 0.038), (0, 0, 0.045), GREEN, mass=0.03, slippery=True)
    add_geom(stick, SPHERE, (0.016,), (0, 0, 0.092), GREEN, mass=0.02, slippery=True)
    stick.add_site(name=f"{body.name}/knob", pos=[0, 0, 0.092])


HATCH = (0.045, 0.125, 0.025)
HATCH_TRAVEL = 0.058


def hatch(body: mujoco.MjsBody) -> None:
    """A long box, open above, and a cover half as long that slides along y over it: positive is +y."""
    x, y, z = HATCH
    t, wood = 0.004, (0.80, 0.70, 0.55)
    add_geom(body, BOX, (x, y, t), (0, 0, t), (0.30, 0.20, 0.13))
    for sx, sy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        add_geom(body, BOX, (t if sx else x, t if sy else y, z), (sx * (x - t), sy * (y - t), z), wood)
    cover = body.add_body(name=f"{body.name}_cover", pos=[0, 0, 2 * z + 0.004])
    cover.add_joint(
        name=body.name, type=SLIDE_JOINT, axis=[0, 1, 0], range=[-HATCH_TRAVEL, HATCH_TRAVEL], limited=1,
        damping=4.0, frictionloss=0.8, solimp_friction=STICK,
    )  # fmt: skip
    add_geom(cover, BOX, (x, 0.066, 0.003), (0, 0, 0), (0.25, 0.45, 0.42), mass=0.12)
    add_geom(cover, BOX, (0.012, 0.012, 0.022), (0, 0, 0.025), ORANGE, mass=0.03, slippery=True)
    cover.add_site(name=f"{body.name}/handle", pos=[0, 0, 0.025])


SWITCH_THROW = 0.20


def switch(body: mujoco.MjsBody) -> None:
    """A rocker: its green half, at +x, is down when it is on (positive angles), its red half when it is off."""
    add_geom(body, BOX, (0.062, 0.040, 0.012), (0, 0, 0.012), WHITE)
    rocker = body.add_body(name=f"{body.name}_rocker", pos=[0, 0, 0.030])
    rocker.add_joint(
        name=body.name, type=HINGE_JOINT, axis=[0, 1, 0], range=[-SWITCH_THROW, SWITCH_THROW], limited=1,
        damping=0.01, frictionloss=0.05, solimp_friction=STICK,
    )  # fmt: skip
    for side, rgb in ((1, GREEN), (-1, RED)):
        add_geom(rocker, BOX, (0.023, 0.030, 0.005), (side * 0.023, 0, 0), rgb, mass=0.02)
        rocker.add_site(name=f"{body.name}/{'on' if side > 0 else 'off'}", pos=[side * 0.032, 0, 0.005])


CHEST = (0.055, 0.060, 0.028)
CHEST_BAR = 0.032  # height of the bar's middle above the lid


def chest(body: mujoco.MjsBody) -> None:
    """A box with a lid hinged at its far side; the lid's bar lies along y, positive angles open."""
    x, y, z = CHEST
    t, red = 0.004, (0.62, 0.20, 0.16)
    add_geom(body, BOX, (x, y, t), (0, 0, t), red)
    for sx, sy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        add_geom(body, BOX, (t if sx else x, t if sy else y, z), (sx * (x - t), sy * (y - t), z), red)
    top = body.add_body(name=f"{body.name}_lid", pos=[x, 0, 2 * z + 0.004])
    top.add_joint(
        name=body.name, type=HINGE_JOINT, axis=[0, 1, 0], range=[0.0, 1.5], limited=1,
        damping=0.02, frictionloss=0.06, solimp_friction=STICK,
    )  # fmt: skip
    add_geom(top, BOX, (x, y, 0.003), (-x, 0, 0), (0.75, 0.30, 0.22), mass=0.06)
    for side in (1, -1):
        stand = CHEST_BAR / 2
        add_geom(top, BOX, (0.003, 0.003, stand), (-2 * x + 0.014, side * 0.030, stand), GREY, mass=0.004)
    along = (0.7071, 0.7071, 0.0, 0.0)
    at = (-2 * x + 0.014, 0, CHEST_BAR)
    add_geom(top, CAPSULE, (0.006, 0.030), at, YELLOW, mass=0.01, quat=along, friction=GRIP)
    top.add_site(name=f"{body.name}/bar", pos=list(at))
    body.add_site(name=f"{body.name}/hinge", pos=[x, 0, 2 * z + 0.004])


SPOT_DOMES = ((0.0, 0.0), (0.024, 0.014), (-0.022, 0.018), (0.016, -0.022), (-0.018, -0.018))


def spot(body: mujoco.MjsBody) -> None:
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
        add_geom(dome, SPHERE, (0.030,), (0, 0, 0.004 - 0.030), (0.25, 0.15, 0.05), mass=0.01, solid=False)
        felt, smooth = (0, 0, 0.006 - 0.035), (0.05, 0.005, 0.0001)
        add_geom(dome, SPHERE, (0.035,), felt, WHITE, mass=0.001, friction=smooth, slippery=True)
        dome.geoms[-1].rgba[3] = 0.0
