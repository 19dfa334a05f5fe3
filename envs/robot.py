"""robosuite's Panda on robosuite's table as a `MjSpec`: the part every scene shares."""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Mapping
from pathlib import Path

import mujoco
import numpy as np

OPEN_FINGERS = np.array([0.04, -0.04])
# robosuite's own initial pose of the Panda, with the hand turned to point straight down.
INITIAL_QPOS = np.array([0.0, np.pi / 16, 0.0, -np.pi / 2 - np.pi / 3, 0.0, np.pi - 0.2, np.pi / 4])
TEXTURE_PIXELS = 256  # more cannot be seen in the views of a policy, and loading stays quick


def initial_qpos(values: Mapping[str, float]) -> np.ndarray:
    """Returns the (7,) start pose in rad for offsets of the base ("pan"), shoulder ("reach") and elbow.

    The wrist joints take the offsets back, so that the hand keeps its orientation and only its position moves.
    """
    q = INITIAL_QPOS.copy()
    q[0] += values["pan"]
    q[6] += values["pan"]
    q[1] += values["reach"]
    q[3] += values["elbow"]
    q[5] += values["elbow"] - values["reach"]
    return q


@functools.lru_cache(maxsize=1)
def _tabletop_xml() -> str:
    # robosuite takes half a second to import (list, leaderboard and plots never get here), and warns about optional
    # parts that nobody here uses.
    logging.disable(logging.WARNING)
    from robosuite.models.arenas import TableArena
    from robosuite.models.bases import robot_base_factory
    from robosuite.models.grippers import gripper_factory
    from robosuite.models.robots.robot_model import create_robot
    from robosuite.models.tasks import ManipulationTask

    logging.disable(logging.NOTSET)
    panda = create_robot("Panda", idn=0)
    panda.add_base(robot_base_factory(panda.default_base, idn=0))
    panda.add_gripper(gripper_factory("PandaGripper", idn="0_right"), panda.eef_name["right"])
    panda.set_base_xpos(panda.base_xpos_offset["table"](0.8))
    arena = TableArena(table_full_size=(0.8, 0.8, 0.05), table_friction=(0.4, 0.005, 0.0001))
    arena.set_origin([0, 0, 0])
    return str(ManipulationTask(mujoco_arena=arena, mujoco_robots=[panda], mujoco_objects=[]).get_xml())


def tabletop_spec() -> mujoco.MjSpec:
    """Returns a new spec of the Panda on its mount before the table (top at z = 0.8 m, robosuite's `TableArena`)."""
    spec = mujoco.MjSpec.from_string(_tabletop_xml())
    # robosuite reserves 1.3 GB a scene for contacts; these scenes use under 1 MB
    spec.njmax = spec.nconmax = -1
    spec.memory = 32 * 2**20
    return spec


@functools.lru_cache(maxsize=64)
def _texture_png(name: str) -> bytes:
    import robosuite
    from PIL import Image

    path = Path(robosuite.__file__).parent / "models" / "assets" / "textures" / f"{name}.png"
    image = Image.open(path).convert("RGB").resize((TEXTURE_PIXELS, TEXTURE_PIXELS), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def add_materials(spec: mujoco.MjSpec, slots: Mapping[str, tuple[str, ...]]) -> None:
    """Adds one material "slot:texture" per texture, so that a geom can switch among them without recompiling.

    Args:
        spec: A tabletop spec.
        slots: Name of an existing material -> names of robosuite's textures; the new ones copy its properties.
    """
    for slot, names in slots.items():
        like = spec.material(slot)
        for name in names:
            file = f"{slot}-{name}.png"
            spec.assets[file] = _texture_png(name)
            spec.add_texture(name=f"{slot}:{name}", type=mujoco.mjtTexture.mjTEXTURE_2D, file=file)
            material = spec.add_material(name=f"{slot}:{name}", reflectance=like.reflectance, specular=like.specular)
            material.shininess, material.texrepeat, material.texuniform = (
                like.shininess,
                like.texrepeat,
                like.texuniform,
            )
            textures = list(material.textures)
            textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = f"{slot}:{name}"
            material.textures = textures
