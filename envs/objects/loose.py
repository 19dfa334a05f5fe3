"""Objects with six degrees of freedom; an origin is a centre of mass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from wambench.envs.objects.parts import BOX, CAPSULE, CYLINDER, PURPLE, TEAL, WHITE, add_geom

if TYPE_CHECKING:
    import mujoco


def box(
    half: tuple[float, float, float], rgb: tuple[float, float, float], mass: float
) -> Callable[[mujoco.MjsBody], None]:
    return lambda body: add_geom(body, BOX, half, (0, 0, 0), rgb, mass)


def bottle(body: mujoco.MjsBody) -> None:
    # heavy at the base, as if half full: pushed low, an empty one tips over before it slides
    add_geom(body, CYLINDER, (0.026, 0.006), (0, 0, -0.059), TEAL, mass=0.15)
    add_geom(body, CYLINDER, (0.026, 0.039), (0, 0, -0.014), TEAL, mass=0.05)
    add_geom(body, CYLINDER, (0.012, 0.018), (0, 0, 0.043), TEAL, mass=0.01)
    add_geom(
        body, CYLINDER, (0.012, 0.006), (0, 0, 0.066), WHITE, mass=0.005
    )  # no rim: a bottle hung on one by a finger


def can(body: mujoco.MjsBody) -> None:
    add_geom(body, CYLINDER, (0.030, 0.050), (0, 0, 0), (0.75, 0.75, 0.78), mass=0.2)
    add_geom(body, CYLINDER, (0.0305, 0.025), (0, 0, 0), PURPLE, solid=False, mass=0.001)


def mug(body: mujoco.MjsBody) -> None:
    add_geom(body, CYLINDER, (0.036, 0.040), (0, 0, 0), (0.90, 0.55, 0.65), mass=0.2)
    add_geom(body, CAPSULE, (0.007, 0.022), (0.045, 0, 0), (0.90, 0.55, 0.65), mass=0.01)
