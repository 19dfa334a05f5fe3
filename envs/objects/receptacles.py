"""Where things are put: they stand fixed where the episode puts them; an origin lies on the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wambench.envs.objects.parts import BOX, CYLINDER, GREY, WHITE, YELLOW, add_geom

if TYPE_CHECKING:
    import mujoco


def bin(body: mujoco.MjsBody) -> None:
    w, h, t = 0.075, 0.022, 0.004  # walls low enough that the palm passes over them when it grasps a cube beside
    add_geom(body, BOX, (w, w, t), (0, 0, t), GREY)
    for sx, sy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        size = (t if sx else w, t if sy else w, h)
        add_geom(body, BOX, size, (sx * (w - t), sy * (w - t), h), GREY)


def plate(body: mujoco.MjsBody) -> None:
    add_geom(body, CYLINDER, (0.065, 0.004), (0, 0, 0.004), WHITE)
    add_geom(body, CYLINDER, (0.045, 0.0005), (0, 0, 0.0085), (0.55, 0.70, 0.85), solid=False)


def zone(body: mujoco.MjsBody) -> None:
    add_geom(body, BOX, (0.05, 0.05, 0.0005), (0, 0, 0.0006), YELLOW, solid=False)
