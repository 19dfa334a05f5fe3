"""Things that a script moves, and what stands around them; an origin is a puppet's own middle, or lies on the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from wambench.envs.objects.parts import BLUE, BOX, CYLINDER, GREEN, GREY, GRIP, RED, SLIDE_JOINT, SPHERE, add_geom

if TYPE_CHECKING:
    import mujoco

CUP_BLUE = (0.20, 0.42, 0.62)
CUP = (0.034, 0.034, 0.055)
RAIL_GAP, RAIL_LENGTH = 0.10, 0.10  # between rails; how far a post slides
LAMP_HEIGHT = 0.045  # of the middle of its bulb above the table


def ball(rgb: tuple[float, float, float], radius: float) -> Callable[[mujoco.MjsBody], None]:
    """Returns the builder of a ball that can be seen and not touched."""
    return lambda body: add_geom(body, SPHERE, (radius,), (0, 0, 0), rgb, solid=False)


def ghost(half: tuple[float, float, float], rgb: tuple[float, float, float]) -> Callable[[mujoco.MjsBody], None]:
    """Returns the builder of a box that can be seen and not touched."""
    return lambda body: add_geom(body, BOX, half, (0, 0, 0), rgb, solid=False)


def mark(body: mujoco.MjsBody) -> None:
    """A square painted on the table."""
    add_geom(body, BOX, (0.035, 0.035, 0.0005), (0, 0, 0.0006), (0.45, 0.50, 0.58), solid=False)


def cup(body: mujoco.MjsBody) -> None:
    """A cup upside down: a script moves it over the table, and the hand can only lift it, by the knob on its bottom."""
    shell = body.add_body(name=f"{body.name}_shell")
    shell.add_joint(name=body.name, type=SLIDE_JOINT, axis=[0, 0, 1], range=[0, 0.16], limited=1, damping=1.0)
    add_geom(shell, CYLINDER, (0.034, 0.004), (0, 0, 0.004), CUP_BLUE, mass=0.02)
    add_geom(shell, CYLINDER, (0.031, 0.030), (0, 0, 0.038), CUP_BLUE, mass=0.05)
    add_geom(shell, CYLINDER, (0.027, 0.006), (0, 0, 0.074), CUP_BLUE, mass=0.02)
    add_geom(shell, BOX, (0.011, 0.011, 0.015), (0, 0, 0.095), CUP_BLUE, mass=0.01, friction=GRIP)
    shell.add_site(name=f"{body.name}/knob", pos=[0, 0, 0.096])


def lamp(body: mujoco.MjsBody) -> None:
    """A lamp with a dark bulb, which its light (`light`) covers while it is lit."""
    add_geom(body, CYLINDER, (0.030, 0.014), (0, 0, 0.014), GREY)
    add_geom(body, SPHERE, (0.020,), (0, 0, LAMP_HEIGHT), (0.16, 0.16, 0.17))


def light(rgb: tuple[float, float, float]) -> Callable[[mujoco.MjsBody], None]:
    """Returns the builder of the light of a lamp."""
    return lambda body: add_geom(body, SPHERE, (0.026,), (0, 0, 0), rgb, solid=False)


def rails(body: mujoco.MjsBody) -> None:
    """Three posts on rails along x, one for each colour; a post stays where it is left."""
    for i, rgb in enumerate((RED, BLUE, GREEN)):
        y = RAIL_GAP * (i - 1)
        add_geom(body, BOX, (0.080, 0.008, 0.005), (0.05, y, 0.005), GREY)
        post = body.add_body(name=f"{body.name}_{i}post", pos=[0, y, 0])
        post.add_joint(
            name=body.name if i == 0 else f"{body.name}/{i}",
            type=SLIDE_JOINT,
            axis=[1, 0, 0],
            range=[-0.005, RAIL_LENGTH + 0.005],
            limited=1,
            damping=4.0,
        )
        add_geom(post, BOX, (0.016, 0.016, 0.008), (0, 0, 0.019), rgb, mass=0.05)
        add_geom(post, CYLINDER, (0.012, 0.022), (0, 0, 0.048), rgb, mass=0.05, slippery=True)
        post.add_site(name=f"{body.name}/post_{i}", pos=[0, 0, 0.048])
