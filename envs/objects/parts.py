"""What objects are made of: colours, contact parameters and the one way to add a geom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mujoco

RED = (0.85, 0.12, 0.10)
BLUE = (0.10, 0.25, 0.85)
GREEN = (0.10, 0.60, 0.20)
YELLOW = (0.95, 0.80, 0.10)
ORANGE = (0.95, 0.45, 0.05)
PURPLE = (0.50, 0.15, 0.60)
WHITE = (0.92, 0.92, 0.90)
GREY = (0.35, 0.36, 0.38)
WOOD = (0.55, 0.36, 0.20)
TEAL = (0.05, 0.50, 0.52)
IRON = (0.13, 0.13, 0.15)
STEEL = (0.68, 0.70, 0.73)

# Values of MuJoCo's mjtGeom and mjtJoint, written out so that tasks can be listed without importing it.
SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH = 2, 3, 4, 5, 6, 7
SLIDE_JOINT, HINGE_JOINT = 2, 3

# Sliding friction low enough that a push slides a cube instead of toppling it; finger pads have friction 2 and
# MuJoCo takes the larger of the two, so grasps hold.
SLIDE = (0.4, 0.005, 0.0001)
GRIP = (1.0, 0.02, 0.0005)
# MuJoCo's default contact lets a finger sink 2 mm into a 50 g cube; this is twice as stiff.
SOLREF = (0.01, 1.0)
# Dry friction of joints, stiff enough that a part which gravity pulls at does not creep: with MuJoCo's default of 0.9 a
# leaning lever sinks at 1 cm/s (the creep is proportional to (1 - d) / d).
STICK = [0.9999, 0.9999, 0.001, 0.5, 2.0]


@dataclass(frozen=True)
class Shell:
    """A mesh that is only looked at: (v, 3) vertices in m; (f, 3) indices of them, counter-clockwise from outside."""

    vertices: np.ndarray
    faces: np.ndarray


def lathe(profile: tuple[tuple[float, float], ...], slices: int = 28) -> Shell:
    """Returns the body that a closed outline makes when it turns about the z axis.

    Args:
        profile: (radius, height) of the outline's corners in m, counter-clockwise as seen with z up and the radius to
            the right; the first and the last lie on the axis.
        slices: How many faces go round.
    """
    around = 2 * np.pi * np.arange(slices) / slices
    rings = [np.stack([r * np.cos(around), r * np.sin(around), np.full(slices, z)], axis=1) for r, z in profile[1:-1]]
    vertices = np.concatenate([[[0.0, 0.0, profile[0][1]]], *rings, [[0.0, 0.0, profile[-1][1]]]])
    faces = []
    for i in range(slices):
        j = (i + 1) % slices
        faces.append((0, 1 + j, 1 + i))
        for ring in range(len(rings) - 1):
            low, high = 1 + ring * slices, 1 + (ring + 1) * slices
            faces += [(low + i, low + j, high + j), (low + i, high + j, high + i)]
        last = 1 + (len(rings) - 1) * slices
        faces.append((last + i, last + j, len(vertices) - 1))
    return Shell(vertices, np.array(faces))


@dataclass(frozen=True)
class SceneObject:
    """One object.

    Attributes:
        name: Its name in tasks and views.
        free: It has six degrees of freedom; otherwise it stands fixed where the episode puts it.
        half: Half extents of the bounding box in m, at scale 1.
        build: Adds geoms, joints and sites to the body.
        joint_range: Range of the main joint, or None.
        answers_to: Words that a person might call it by; a distractor is never beside a task whose instruction has one.
        puppet: It stands nowhere by itself: a script moves it, and nothing pushes it away (`envs.script`).
        meshes: What `build` shows with `add_shell`; only for fixed objects, because a mesh cannot change its size.
    """

    name: str
    free: bool
    half: tuple[float, float, float]
    build: Callable[[mujoco.MjsBody], None]
    joint_range: tuple[float, float] | None = None
    answers_to: tuple[str, ...] = ()
    puppet: bool = False
    meshes: Mapping[str, Shell] = field(default_factory=dict)


def add_geom(
    body: mujoco.MjsBody,
    kind: int,
    size: tuple[float, ...],
    pos: tuple[float, float, float],
    rgb: tuple[float, float, float],
    mass: float = 0.05,
    solid: bool = True,
    friction: tuple[float, float, float] = SLIDE,
    quat: tuple[float, float, float, float] = (1, 0, 0, 0),
    slippery: bool = False,
    hidden: bool = False,
) -> None:
    """Adds a geom; on a slippery one its own friction counts, not the larger one of the finger pads; a hidden one is
    felt and not seen."""
    body.add_geom(
        type=kind,
        size=list(size) + [0.0] * (3 - len(size)),
        pos=list(pos),
        quat=list(quat),
        rgba=[*rgb, float(not hidden)],
        mass=mass,
        contype=int(solid),
        conaffinity=int(solid),
        friction=list(friction),
        condim=4 if solid else 1,
        solref=list(SOLREF),
        group=1,
        priority=int(slippery),
        name=f"{body.name}_{len(body.geoms)}",
    )


def add_shell(body: mujoco.MjsBody, mesh: str, rgb: tuple[float, float, float]) -> None:
    """Adds a mesh of `SceneObject.meshes`, which is seen and not felt."""
    body.add_geom(
        type=MESH, meshname=mesh, rgba=[*rgb, 1.0], mass=0.0, contype=0, conaffinity=0, group=1,
        name=f"{body.name}_{len(body.geoms)}",
    )  # fmt: skip


def add_ring(
    body: mujoco.MjsBody, radius: float, height: float, rgb: tuple[float, float, float], sides: int = 8
) -> None:
    """Adds unseen walls around the z axis, 4 mm thick and `height` high from the body's origin, inside of a radius."""
    half = radius * np.tan(np.pi / sides)
    for i in range(sides):
        angle = 2 * np.pi * i / sides
        place = ((radius - 0.002) * np.cos(angle), (radius - 0.002) * np.sin(angle), height / 2)
        quat = (np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2))
        add_geom(body, BOX, (0.002, half, height / 2), place, rgb, quat=quat, hidden=True)
