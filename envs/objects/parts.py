"""What objects are made of: colours, contact parameters and the one way to add a geom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

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

# Values of MuJoCo's mjtGeom and mjtJoint, written out so that tasks can be listed without importing it.
SPHERE, CAPSULE, CYLINDER, BOX = 2, 3, 5, 6
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
    """

    name: str
    free: bool
    half: tuple[float, float, float]
    build: Callable[[mujoco.MjsBody], None]
    joint_range: tuple[float, float] | None = None
    answers_to: tuple[str, ...] = ()
    puppet: bool = False


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
) -> None:
    """Adds a geom; on a slippery one its own friction counts, not the larger one of the finger pads."""
    body.add_geom(
        type=kind,
        size=list(size) + [0.0] * (3 - len(size)),
        pos=list(pos),
        quat=list(quat),
        rgba=[*rgb, 1.0],
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
