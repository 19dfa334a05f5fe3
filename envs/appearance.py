"""What the profile "full" adds to a scene: what objects are made of, a furnished room, and lights that cast shadows.

Nothing here is felt: no collision, no mass, no number that an episode or a task reads.
"""

from __future__ import annotations

import colorsys
import functools
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import mujoco
import numpy as np

CLOTH = ("mat", "napkin")
PIXELS = 128  # of a finish's texture, a square


@dataclass(frozen=True)
class Finish:
    """How a surface answers light.

    Attributes:
        specular, shininess: As in MuJoCo's materials, 0 to 1.
        grain: Makes the (h, w) brightness, 0 to 1, by which the colour is multiplied; None: even.
        repeat: How often the grain repeats over an object's face.
    """

    specular: float
    shininess: float
    grain: Callable[[np.random.Generator], np.ndarray] | None = None
    repeat: int = 1


def _smooth(noise: np.ndarray, width: int, axis: int) -> np.ndarray:
    """Returns a running mean that goes round the edge, so that the texture repeats without a seam."""
    return np.mean([np.roll(noise, shift, axis) for shift in range(width)], axis=0)


def _wood(rng: np.random.Generator) -> np.ndarray:
    """Bent years' rings, cut along the trunk, and fine pores."""
    y, x = np.mgrid[0:PIXELS, 0:PIXELS] / PIXELS
    bend = 0.06 * np.sin(2 * np.pi * x) + 0.03 * np.sin(4 * np.pi * x + 1.0)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (7 * y + 3 * bend) + 1.5 * np.sin(2 * np.pi * y))
    pores = _smooth(rng.random((PIXELS, PIXELS)), 24, 1)
    return 0.80 + 0.14 * rings + 0.5 * (pores - 0.5)


def _brushed(rng: np.random.Generator) -> np.ndarray:
    return 0.94 + 0.7 * (_smooth(rng.random((PIXELS, PIXELS)), 40, 1) - 0.5)


def _woven(rng: np.random.Generator) -> np.ndarray:
    """Threads over and under each other, four pixels wide."""
    y, x = np.mgrid[0:PIXELS, 0:PIXELS]
    over = (x // 4 + y // 4) % 2 == 0
    across = np.where(over, np.abs(x % 4 - 1.5), np.abs(y % 4 - 1.5))
    return 0.98 - 0.09 * across + 0.08 * (rng.random((PIXELS, PIXELS)) - 0.5)


FINISHES: Mapping[str, Finish] = MappingProxyType(
    {
        "wood": Finish(0.15, 0.2, _wood),
        "metal": Finish(0.9, 0.55, _brushed),
        "ceramic": Finish(0.7, 0.85),
        "cloth": Finish(0.0, 0.0, _woven, repeat=2),
        "plastic": Finish(0.35, 0.5),
    }
)


def finish_of(name: str, rgb: tuple[float, float, float]) -> str:
    """Returns the key of `FINISHES` for a part of an object: cloth by the object's name, all else by the colour.

    Args:
        name: The object's name.
        rgb: The part's colour, 0 to 1: browns are wood, greys metal, near-whites ceramic, all others plastic.
    """
    if name in CLOTH:
        return "cloth"
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
    if saturation < 0.15:
        return "ceramic" if value > 0.85 else "metal"
    brown = 0.04 < hue < 0.13 and 0.3 < saturation < 0.8 and value < 0.85
    return "wood" if brown else "plastic"


@functools.lru_cache(maxsize=len(FINISHES))
def _png(finish: str) -> bytes:
    grain = FINISHES[finish].grain
    assert grain is not None
    levels = np.clip(grain(np.random.default_rng(0)), 0.0, 1.0)
    return _encode(np.repeat((255 * levels)[..., None], 3, axis=2))


def _encode(picture: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _add_texture(spec: mujoco.MjSpec, name: str, png: bytes, kind: mujoco.mjtTexture) -> None:
    spec.assets[f"{name}.png"] = png
    spec.add_texture(name=name, type=kind, file=f"{name}.png")


def add_finishes(spec: mujoco.MjSpec, objects: Iterable[str]) -> None:
    """Gives every visible part of the named bodies, and of what hangs on them, a material of `FINISHES`."""
    for key, finish in FINISHES.items():
        material = spec.add_material(name=f"finish:{key}", specular=finish.specular, shininess=finish.shininess)
        material.texrepeat = [finish.repeat, finish.repeat]
        if finish.grain is not None:
            _add_texture(spec, f"finish:{key}", _png(key), mujoco.mjtTexture.mjTEXTURE_CUBE)
            textures = list(material.textures)
            textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = f"finish:{key}"
            material.textures = textures
    for name in objects:
        for geom in spec.body(name).find_all(mujoco.mjtObj.mjOBJ_GEOM):
            geom.material = f"finish:{finish_of(name, tuple(geom.rgba[:3]))}"


def _sky() -> np.ndarray:
    """Returns (h, w, 3) levels of 0 to 255: what is seen through the window, a pale sky over a hill."""
    y, x = np.mgrid[0:PIXELS, 0:PIXELS] / PIXELS
    high, low = np.array([150.0, 190.0, 235.0]), np.array([235.0, 242.0, 250.0])
    sky = high + (low - high) * y[..., None]
    hill = y > 0.78 + 0.06 * np.sin(5 * x + 0.5)
    picture = np.where(hill[..., None], np.array([142.0, 170.0, 128.0]), sky)
    return np.rot90(picture)  # MuJoCo lays a picture on the +x side of a box so that its left edge is below


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns the (4,) wxyz quaternion of a MuJoCo camera at `eye` (it looks along its own -z, +y up)."""
    z = (eye - target) / np.linalg.norm(eye - target)
    x = np.cross([0.0, 0.0, 1.0], z)
    x /= np.linalg.norm(x)
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, np.stack([x, np.cross(z, x), z], axis=1).ravel())
    return quat


TRIM = [0.90, 0.89, 0.86, 1.0]
REAR, SIDE = -1.985, 2.985  # where the inner faces of robosuite's rear and side walls are, m
SHOWCASE = "showcase"  # a camera of the profile "full": the whole arm, the table and the window
FILM = "film"  # nearer: the arm and what it does on the table


def furnish(spec: mujoco.MjSpec) -> None:
    """Adds skirting boards, a window in the wall behind the robot, and the cameras `SHOWCASE` and `FILM`."""

    def board(name: str, size: list[float], pos: list[float], quat: list[float] | None = None) -> mujoco.MjsGeom:
        return spec.worldbody.add_geom(
            name=f"room_{name}", type=mujoco.mjtGeom.mjGEOM_BOX, size=size, pos=pos, quat=quat or [1, 0, 0, 0],
            rgba=TRIM, contype=0, conaffinity=0, group=1, mass=0.0,
        )  # fmt: skip

    board("skirting_rear", [0.012, 1.5, 0.06], [REAR, 0, 0.06])
    for side in (1, -1):
        turn = [np.cos(np.pi / 8), 0.0, 0.0, -side * np.sin(np.pi / 8)]
        board(f"skirting_corner_{side}", [1.06, 0.012, 0.06], [-1.24, side * 2.24, 0.06], turn[:3] + [-turn[3]])
        board(f"skirting_{side}", [1.75, 0.012, 0.06], [1.25, side * SIDE, 0.06])
    _add_texture(spec, "room:sky", _encode(_sky()), mujoco.mjtTexture.mjTEXTURE_CUBE)
    pane = spec.add_material(name="room:sky", emission=0.55, specular=0.0)
    textures = list(pane.textures)
    textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = "room:sky"
    pane.textures = textures
    middle, half_width, half_height = 1.45, 0.70, 0.50
    board("pane", [0.004, half_width, half_height], [REAR, 0, middle]).material = "room:sky"
    for z in (-1, 1):
        board(f"frame_z{z}", [0.02, half_width + 0.05, 0.03], [REAR + 0.01, 0, middle + z * half_height])
    for y in (-1, 0, 1):
        board(f"frame_y{y}", [0.018, 0.03, half_height - 0.03], [REAR + 0.01, y * half_width, middle])
    eye = np.array([1.35, -0.62, 1.62])
    target = np.array([-0.30, 0.0, 1.02])
    spec.worldbody.add_camera(name=SHOWCASE, pos=list(eye), quat=list(look_at(eye, target)), fovy=48)
    eye, target = np.array([0.78, -0.72, 1.42]), np.array([-0.17, 0.02, 0.99])
    spec.worldbody.add_camera(name=FILM, pos=list(eye), quat=list(look_at(eye, target)), fovy=46)
    board("sill", [0.07, half_width + 0.09, 0.015], [REAR + 0.06, 0, middle - half_height - 0.04])


EXTENT = 11.4  # m, what MuJoCo measures for this room; written down because the reach is a multiple of it
SHADOW_REACH = 1.1  # m around the light's axis within which shadows are drawn


def cast_shadows(spec: mujoco.MjSpec) -> None:
    """Lets robosuite's light cast shadows around the table; how soft they are the renderer decides."""
    spec.lights[0].castshadow = True
    spec.visual.quality.shadowsize = 2048
    spec.stat.extent = EXTENT
    spec.visual.map.shadowclip = SHADOW_REACH / EXTENT
    # OpenGL caps the sum of all lights at 1, with shadows that of each; robosuite's, uncapped, make 1.3 on the table.
    spec.visual.headlight.ambient = [0.12] * 3
    spec.visual.headlight.diffuse = [0.14] * 3
