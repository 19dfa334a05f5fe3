"""Objects with six degrees of freedom; an origin is a centre of mass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from wambench.envs.objects.parts import (
    BLUE,
    BOX,
    CAPSULE,
    CYLINDER,
    ELLIPSOID,
    GREEN,
    GRIP,
    ORANGE,
    PURPLE,
    RED,
    STEEL,
    TEAL,
    WHITE,
    add_geom,
)  # fmt: skip

if TYPE_CHECKING:
    import mujoco


def box(
    half: tuple[float, float, float], rgb: tuple[float, float, float], mass: float
) -> Callable[[mujoco.MjsBody], None]:
    return lambda body: add_geom(body, BOX, half, (0, 0, 0), rgb, mass)


def bottle(tall: float = 1.0) -> Callable[[mujoco.MjsBody], None]:
    """Returns a bottle whose body is `tall` times as high as the ordinary one's; neck and cap stay as they are."""

    def build(body: mujoco.MjsBody) -> None:
        shoulder, base = round(0.025 * tall, 6), round(-0.065 * tall, 6)
        middle = round((base + 0.012 + shoulder) / 2, 6)
        # heavy at the base, as if half full: pushed low, an empty one tips over before it slides
        add_geom(body, CYLINDER, (0.026, 0.006), (0, 0, base + 0.006), TEAL, mass=0.15)
        add_geom(body, CYLINDER, (0.026, shoulder - middle), (0, 0, middle), TEAL, mass=0.05)
        add_geom(body, CYLINDER, (0.012, 0.018), (0, 0, shoulder + 0.018), TEAL, mass=0.01)
        # no rim: a bottle hung on one by a finger
        add_geom(body, CYLINDER, (0.012, 0.006), (0, 0, shoulder + 0.041), WHITE, mass=0.005)

    return build


def can(body: mujoco.MjsBody) -> None:
    add_geom(body, CYLINDER, (0.030, 0.050), (0, 0, 0), (0.75, 0.75, 0.78), mass=0.2)
    add_geom(body, CYLINDER, (0.0305, 0.025), (0, 0, 0), PURPLE, solid=False, mass=0.001)


def distractor_mug(body: mujoco.MjsBody) -> None:
    add_geom(body, CYLINDER, (0.036, 0.040), (0, 0, 0), (0.90, 0.55, 0.65), mass=0.2)
    add_geom(body, CAPSULE, (0.007, 0.022), (0.045, 0, 0), (0.90, 0.55, 0.65), mass=0.01)


MUG_RADIUS, MUG_LOOP = 0.027, 0.043  # of the mug's wall, and from its axis to the middle of the handle's opening
CERAMIC = (0.20, 0.42, 0.66)


def mug(body: mujoco.MjsBody) -> None:
    """A mug whose handle is a loop in its x-z plane, wide enough for a hook of 8 mm."""
    add_geom(body, CYLINDER, (MUG_RADIUS, 0.036), (0, 0, 0), CERAMIC, mass=0.05, friction=GRIP)
    add_geom(body, CYLINDER, (MUG_RADIUS, 0.004), (0, 0, -0.032), CERAMIC, mass=0.12, solid=False)  # a thick foot
    add_geom(body, CYLINDER, (MUG_RADIUS - 0.003, 0.0006), (0, 0, 0.036), (0.16, 0.09, 0.05), mass=0.0, solid=False)
    across, upright = (0.7071, 0.0, 0.7071, 0.0), (1.0, 0.0, 0.0, 0.0)
    for z in (0.024, -0.024):
        add_geom(body, CAPSULE, (0.004, 0.015), (MUG_RADIUS + 0.013, 0, z), CERAMIC, mass=0.004, quat=across)
    add_geom(body, CAPSULE, (0.004, 0.024), (MUG_RADIUS + 0.028, 0, 0), CERAMIC, mass=0.004, quat=upright)
    body.add_site(name=f"{body.name}/handle", pos=[MUG_LOOP, 0, 0])


def peg(body: mujoco.MjsBody) -> None:
    """An upright peg with a red head, heavy below so that it stands."""
    add_geom(body, CYLINDER, (0.0135, 0.016), (0, 0, -0.026), (0.80, 0.62, 0.36), mass=0.08)
    add_geom(body, CYLINDER, (0.0135, 0.016), (0, 0, 0.006), (0.80, 0.62, 0.36), mass=0.02)
    add_geom(body, CYLINDER, (0.0135, 0.010), (0, 0, 0.032), RED, mass=0.01, friction=GRIP)


def lid(body: mujoco.MjsBody) -> None:
    """The lid of the pan: a disc with a knob on its middle; its origin is in the middle of its height."""
    add_geom(body, CYLINDER, (0.070, 0.003), (0, 0, -0.015), STEEL, mass=0.10)
    add_geom(body, ELLIPSOID, (0.052, 0.052, 0.010), (0, 0, -0.012), STEEL, mass=0.0, solid=False)
    add_geom(body, CYLINDER, (0.012, 0.014), (0, 0, 0.004), (0.10, 0.10, 0.11), mass=0.02, friction=GRIP)


def tomato(body: mujoco.MjsBody) -> None:
    """A flat tomato; what is felt is a box, which neither rolls nor wobbles."""
    add_geom(body, ELLIPSOID, (0.0240, 0.0240, 0.0155), (0, 0, 0), (0.88, 0.16, 0.08), mass=0.0, solid=False)
    add_geom(body, BOX, (0.0190, 0.0190, 0.0145), (0, 0, 0), RED, mass=0.06, friction=GRIP, hidden=True)
    add_geom(body, ELLIPSOID, (0.009, 0.009, 0.0025), (0, 0, 0.015), GREEN, mass=0.0, solid=False)


def spoon(body: mujoco.MjsBody) -> None:
    """A spoon that lies along x, its bowl at +x."""
    along = (0.7071, 0.0, 0.7071, 0.0)
    add_geom(body, CAPSULE, (0.0075, 0.042), (-0.014, 0, 0), STEEL, mass=0.03, quat=along, friction=GRIP)
    add_geom(body, ELLIPSOID, (0.024, 0.017, 0.0063), (0.050, 0, 0), STEEL, mass=0.012)
    add_geom(body, ELLIPSOID, (0.016, 0.010, 0.002), (0.051, 0, 0.0052), (0.45, 0.46, 0.48), mass=0.0, solid=False)


BOOK = (0.055, 0.042, 0.014)


def book(body: mujoco.MjsBody) -> None:
    """A closed book that lies flat, its spine at -x."""
    x, y, z = BOOK
    add_geom(body, BOX, BOOK, (0, 0, 0), BLUE, mass=0.18)
    add_geom(body, BOX, (x - 0.003, y + 0.0006, z - 0.004), (0.004, 0, 0), (0.95, 0.93, 0.86), mass=0.0, solid=False)
    add_geom(body, BOX, (0.022, 0.026, 0.0006), (0.004, 0, z), (0.93, 0.80, 0.35), mass=0.0, solid=False)


DIE = (0.0145, 0.0145, 0.0145)


def die(body: mujoco.MjsBody) -> None:
    """A large die; its one dot is as much as a small picture can show."""
    add_geom(body, BOX, DIE, (0, 0, 0), ORANGE, mass=0.03)
    add_geom(body, CYLINDER, (0.006, 0.0004), (0, 0, DIE[2]), WHITE, mass=0.0, solid=False)
