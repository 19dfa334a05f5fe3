"""Where things are put: they stand fixed where the episode puts them; an origin lies on the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from wambench.envs.objects.parts import (
    BOX,
    CAPSULE,
    CYLINDER,
    GREY,
    IRON,
    ORANGE,
    SPHERE,
    STEEL,
    WHITE,
    WOOD,
    YELLOW,
    add_geom,
    add_ring,
    add_shell,
    lathe,
)  # fmt: skip

if TYPE_CHECKING:
    import mujoco


def bin(body: mujoco.MjsBody) -> None:
    tray(0.075, GREY)(body)


def tray(w: float, rgb: tuple[float, float, float]) -> Callable[[mujoco.MjsBody], None]:
    """Returns a square tray of half width `w` in m."""

    def build(body: mujoco.MjsBody) -> None:
        h, t = 0.022, 0.004  # walls low enough that the palm passes over them when it grasps a cube beside
        add_geom(body, BOX, (w, w, t), (0, 0, t), rgb)
        for sx, sy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            size = (t if sx else w, t if sy else w, h)
            add_geom(body, BOX, size, (sx * (w - t), sy * (w - t), h), rgb)

    return build


def plate(body: mujoco.MjsBody) -> None:
    add_geom(body, CYLINDER, (0.065, 0.004), (0, 0, 0.004), WHITE)
    add_geom(body, CYLINDER, (0.045, 0.0005), (0, 0, 0.0085), (0.55, 0.70, 0.85), solid=False)


def zone(body: mujoco.MjsBody) -> None:
    add_geom(body, BOX, (0.05, 0.05, 0.0005), (0, 0, 0.0006), YELLOW, solid=False)


PAN_RADIUS, PAN_HEIGHT, PAN_FLOOR = 0.052, 0.042, 0.006
PAN_SHELL = lathe(
    ((0, 0), (0.042, 0.0), (0.049, 0.006), (PAN_RADIUS, PAN_HEIGHT), (0.048, PAN_HEIGHT), (0.045, 0.008),
     (0.040, PAN_FLOOR), (0, PAN_FLOOR))
)  # fmt: skip


def mat(body: mujoco.MjsBody) -> None:
    add_geom(body, BOX, (0.072, 0.072, 0.0005), (0, 0, 0.0006), (0.16, 0.55, 0.30), solid=False)
    add_geom(body, BOX, (0.060, 0.060, 0.0002), (0, 0, 0.0012), (0.24, 0.66, 0.38), solid=False)


def pan(body: mujoco.MjsBody) -> None:
    """A pan whose handle points to +x."""
    add_shell(body, "pan_shell", IRON)
    add_geom(body, CYLINDER, (0.048, PAN_FLOOR / 2), (0, 0, PAN_FLOOR / 2), IRON, hidden=True)
    add_ring(body, PAN_RADIUS, PAN_HEIGHT, IRON)
    along = (0.7071, 0.0, 0.7071, 0.0)
    add_geom(body, CAPSULE, (0.008, 0.040), (PAN_RADIUS + 0.038, 0, 0.032), (0.25, 0.14, 0.08), quat=along)


def board(body: mujoco.MjsBody) -> None:
    """A wooden cutting board, as large as the largest lid."""
    add_geom(body, BOX, (0.072, 0.060, 0.006), (0, 0, 0.006), (0.72, 0.52, 0.32))
    add_geom(body, CYLINDER, (0.007, 0.0004), (0.058, 0.046, 0.012), (0.30, 0.20, 0.12), solid=False)


def coaster(body: mujoco.MjsBody) -> None:
    add_geom(body, CYLINDER, (0.048, 0.002), (0, 0, 0.002), (0.62, 0.40, 0.22))
    add_geom(body, CYLINDER, (0.040, 0.0004), (0, 0, 0.004), (0.80, 0.62, 0.42), solid=False)


def napkin(body: mujoco.MjsBody) -> None:
    add_geom(body, BOX, (0.080, 0.038, 0.0012), (0, 0, 0.0012), (0.93, 0.90, 0.82))
    add_geom(body, BOX, (0.080, 0.006, 0.0003), (0, 0.024, 0.0024), (0.75, 0.20, 0.20), solid=False)


HOLE, BLOCK_HEIGHT = 0.0185, 0.036  # half of the square hole's side; of the block that a peg goes into


def holed_block(outer: float, height: float, rgb: tuple[float, float, float]) -> Callable[[mujoco.MjsBody], None]:
    """Returns a block with a square hole through its middle: half its side, and its height, in m."""

    def build(body: mujoco.MjsBody) -> None:
        t, m, h = (outer - HOLE) / 2, (outer + HOLE) / 2, height / 2
        for sign in (1, -1):
            add_geom(body, BOX, (t, outer, h), (sign * m, 0, h), rgb)
            add_geom(body, BOX, (HOLE, t, h), (0, sign * m, h), rgb)
        add_geom(body, BOX, (HOLE, HOLE, 0.0005), (0, 0, 0.0005), (0.05, 0.04, 0.06), solid=False)

    return build


HOOK_HEIGHT, HOOK_REACH = 0.150, 0.075


def hook(body: mujoco.MjsBody) -> None:
    """A stand with an arm that points to +y and ends in a tip that keeps a mug from sliding off."""
    add_geom(body, BOX, (0.045, 0.035, 0.006), (0, 0, 0.006), WOOD)
    add_geom(body, BOX, (0.008, 0.008, HOOK_HEIGHT / 2), (0, -0.008, HOOK_HEIGHT / 2), WOOD)
    along = (0.7071, 0.7071, 0.0, 0.0)
    add_geom(body, CAPSULE, (0.004, HOOK_REACH / 2), (0, HOOK_REACH / 2, HOOK_HEIGHT - 0.010), STEEL, quat=along)
    body.geoms[-1].condim = 6  # rolling friction: without it a mug swings for half a minute
    body.geoms[-1].friction = [1.0, 0.02, 0.003]
    add_geom(body, SPHERE, (0.006,), (0, HOOK_REACH, HOOK_HEIGHT - 0.007), ORANGE)
    body.add_site(name=f"{body.name}/arm", pos=[0, HOOK_REACH * 0.55, HOOK_HEIGHT - 0.010])


SHELF = (0.060, 0.095, 0.045)


def shelf(body: mujoco.MjsBody) -> None:
    """A board on two sides, high enough that a flat book fits below it."""
    x, y, z = SHELF
    add_geom(body, BOX, (x, y, 0.005), (0, 0, 2 * z - 0.005), (0.66, 0.46, 0.28))
    for side in (1, -1):
        add_geom(body, BOX, (x, 0.005, z - 0.005), (0, side * (y - 0.005), z - 0.005), WOOD)
