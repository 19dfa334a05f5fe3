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
