"""robosuite's arms on robosuite's table as a `MjSpec`: the part every scene shares.

Policies only ever act with the Panda, under one of two robots (`ROBOTS`): LIBERO's, with the PandaGripper, and DROID's,
with a Robotiq 2F-85. The other arms are for action-free video and pictures; they carry the PandaGripper, so that hand,
wrist camera and fingers are the same.
"""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import mujoco
import numpy as np

from wambench.conventions import BODIES
from wambench.envs import robotiq
from wambench.envs.arm import BASE_SITE
from wambench.interface import unknown_name

# robosuite's own initial pose of the Panda, with the hand turned to point straight down.
INITIAL_QPOS = np.array([0.0, np.pi / 16, 0.0, -np.pi / 2 - np.pi / 3, 0.0, np.pi - 0.2, np.pi / 4])
# Where the hand of every other arm starts: the grip site of the Panda's initial pose, straight above the table.
HOME = np.array([-0.103, 0.0, 1.011])
# Rotation of the grip site when the hand points straight down and the fingers open along y.
DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
BASE_X = -0.56  # of the arm's first axis, m


@dataclass(frozen=True)
class ArmModel:
    """An arm of robosuite.

    Attributes:
        joints: Names of its joints, from the base on.
        motors: Names of their torque actuators.
        initial: Start pose in rad: the hand points straight down at `HOME`, fingers opening along y.
    """

    joints: tuple[str, ...]
    motors: tuple[str, ...]
    initial: tuple[float, ...]


def _arm(joints: str, motors: str, initial: tuple[float, ...]) -> ArmModel:
    """Returns an arm whose joints are numbered, or listed with spaces between them; "torq_j1" and so on for motors."""
    names = joints.split() if " " in joints else [joints.format(i) for i in range(1, 8)]
    first = int(motors[-1])
    return ArmModel(
        tuple(f"robot0_{name}" for name in names),
        tuple(f"robot0_{motors[:-1]}{first + i}" for i in range(len(names))),
        initial,
    )


UR5E = "shoulder_pan_joint shoulder_lift_joint elbow_joint wrist_1_joint wrist_2_joint wrist_3_joint"
SAWYER = " ".join(f"right_j{i}" for i in range(7))
ARMS: Mapping[str, ArmModel] = MappingProxyType(
    {
        "Panda": _arm("joint{}", "torq_j1", tuple(INITIAL_QPOS)),
        "UR5e": _arm(UR5E, "torq_j1", (-0.2976, -1.403, 2.2283, -2.3961, -1.5708, -1.8684)),
        "Sawyer": _arm(SAWYER, "torq_right_j0", (-0.331, -1.1495, -0.0376, 2.2417, 0.0347, 0.479, -1.7923)),
        "Kinova3": _arm("Actuator{}", "torq_j1", (-0.0584, 0.6789, 0.0059, 1.8055, -0.006, 0.6572, -1.6198)),
        "IIWA": _arm("joint_{}", "torq_j1", (0.0, 0.6497, 0.0, -1.9243, 0.0, 0.5677, 0.0)),
    }
)
OTHER_ARMS = tuple(name for name in ARMS if name != "Panda")


@dataclass(frozen=True)
class Gripper:
    """What the fingers are called in the model, which all begin with "gripper0_right_".

    Attributes:
        model: robosuite's name.
        joints: Joints of the fingers; the first two are those that say how wide it is open.
        open: Their positions when it is.
        fingers: "left_finger" and "right_finger" -> bodies that are part of it.
        pads: A geom of each finger, "finger_left" and "finger_right": what touches a held object.
        tip: How far beyond the middle of the pads experts take the hand's position, in m along the hand, so that it
            lies 9 mm above the end of the fingers, as the grip site of a PandaGripper (None) does.
    """

    model: str
    joints: tuple[str, ...]
    open: tuple[float, ...]
    fingers: Mapping[str, tuple[str, ...]]
    pads: Mapping[str, str]
    tip: float | None = None


PANDA_GRIPPER = Gripper(
    "PandaGripper",
    ("finger_joint1", "finger_joint2"),
    (0.04, -0.04),
    MappingProxyType(
        {"left_finger": ("leftfinger", "finger_joint1_tip"), "right_finger": ("rightfinger", "finger_joint2_tip")}
    ),
    MappingProxyType({"finger_left": "finger1_pad_collision", "finger_right": "finger2_pad_collision"}),
)
ROBOTIQ = Gripper(
    "Robotiq85Gripper",
    tuple(joint.removeprefix(robotiq.PREFIX) for joint in (*robotiq.DRIVERS, *robotiq.FOLLOWERS)),
    (0.0,) * 6,
    MappingProxyType(
        {f"{side}_finger": (f"{side}_outer_knuckle", f"{side}_inner_finger") for side in ("left", "right")}
    ),
    MappingProxyType({f"finger_{side}": f"{side}_fingerpad_collision" for side in ("left", "right")}),
    tip=0.0093,
)


@dataclass(frozen=True)
class Robot:
    """A Panda as one laboratory builds it.

    Attributes:
        gripper: What it carries.
        initial: (7,) start pose in rad, the hand above the table.
        cameras: Name of a view -> camera of the model.
    """

    gripper: Gripper
    initial: tuple[float, ...]
    cameras: Mapping[str, str]


WRIST_CAMERA = "robot0_eye_in_hand"
ROBOTS: Mapping[str, Robot] = MappingProxyType(
    {
        "libero": Robot(
            PANDA_GRIPPER,
            tuple(INITIAL_QPOS),
            MappingProxyType({"agentview": "agentview", "wrist": WRIST_CAMERA}),
        ),
        # The reset posture of the DROID data (droid's robot_env.py).
        "droid": Robot(
            ROBOTIQ,
            (0.0, -np.pi / 5, 0.0, -4 * np.pi / 5, 0.0, 3 * np.pi / 5, 0.0),
            MappingProxyType({"exterior_1": "exterior_1", "exterior_2": "exterior_2", "wrist": WRIST_CAMERA}),
        ),
    }
)


def robot_named(convention: str) -> Robot:
    """Returns the robot of a convention's name."""
    return ROBOTS[BODIES[convention]]


TEXTURE_PIXELS = 256  # more cannot be seen in the views of a policy, and loading stays quick


def initial_qpos(values: Mapping[str, float], initial: Sequence[float] = tuple(INITIAL_QPOS)) -> np.ndarray:
    """Returns the (7,) start pose of a Panda in rad for offsets of the base ("pan"), shoulder ("reach") and elbow.

    The wrist joints take the offsets back, so that the hand keeps its orientation and only its position moves.
    """
    q = np.array(initial)
    q[0] += values["pan"]
    q[6] += values["pan"]
    q[1] += values["reach"]
    q[3] += values["elbow"]
    q[5] += values["elbow"] - values["reach"]
    return q


def initial_hand(values: Mapping[str, float]) -> np.ndarray:
    """Returns the (3,) start of another arm's grip site in m, for offsets of the Panda's joints as in `initial_qpos`.

    Turned about the base by "pan", lowered by "reach" and moved outwards by "elbow", about as far as the Panda's hand.
    """
    radius = HOME[0] - BASE_X + 0.35 * values["elbow"]
    turn = values["pan"]
    return np.array([BASE_X + radius * np.cos(turn), radius * np.sin(turn), HOME[2] - 0.35 * values["reach"]])


def find_arm(name: str) -> str:
    """Returns the name of an arm that exists; raises ValueError with the nearest match for any other."""
    if name not in ARMS:
        raise unknown_name("arm", name, ARMS)
    return name


@functools.lru_cache(maxsize=len(ARMS) + 1)
def _tabletop_xml(arm: str, gripper: str) -> str:
    # robosuite takes half a second to import (list, leaderboard and plots never get here), and warns about optional
    # parts that nobody here uses.
    logging.disable(logging.WARNING)
    from robosuite.models.arenas import TableArena
    from robosuite.models.bases import robot_base_factory
    from robosuite.models.grippers import gripper_factory
    from robosuite.models.robots.robot_model import create_robot
    from robosuite.models.tasks import ManipulationTask

    logging.disable(logging.NOTSET)
    robot = create_robot(arm, idn=0)
    robot.add_base(robot_base_factory(robot.default_base, idn=0))
    robot.add_gripper(gripper_factory(gripper, idn="0_right"), robot.eef_name["right"])
    robot.set_base_xpos(robot.base_xpos_offset["table"](0.8))
    arena = TableArena(table_full_size=(0.8, 0.8, 0.05), table_friction=(0.4, 0.005, 0.0001))
    arena.set_origin([0, 0, 0])
    return str(ManipulationTask(mujoco_arena=arena, mujoco_robots=[robot], mujoco_objects=[]).get_xml())


def tabletop_spec(arm: str = "Panda", robot: str = "libero") -> mujoco.MjSpec:
    """Returns a new spec of an arm on its mount before the table (top at z = 0.8 m, robosuite's `TableArena`).

    Args:
        arm: A name of `ARMS`; whichever it is, it carries the gripper of the robot and the wrist camera.
        robot: A name of `ROBOTS`. Only a Panda is a DROID robot.
    """
    if robot == "droid" and arm != "Panda":
        raise ValueError(f"a DROID robot is a Panda, not a {arm}")
    spec = mujoco.MjSpec.from_string(_tabletop_xml(find_arm(arm), ROBOTS[robot].gripper.model))
    # robosuite reserves 1.3 GB a scene for contacts; these scenes use under 1 MB
    spec.njmax = spec.nconmax = -1
    spec.memory = 32 * 2**20
    if arm != "Panda":
        # MuJoCo lets a link collide with a parent that does not move: Sawyer's first joint is jammed by its own base
        first = spec.joint(ARMS[arm].joints[0]).parent
        spec.add_exclude(bodyname1=first.parent.name, bodyname2=first.name)
        for geom in first.parent.geoms:  # what does not move needs no mass, and its mesh can then be simplified
            geom.mass = 0.0
    if robot == "droid":
        robotiq.prepare(spec)
        robotiq.add_cameras(spec)
    if arm == "IIWA":  # robosuite hangs this site on the first link that turns
        spec.delete(spec.site(BASE_SITE))
        spec.body("robot0_base").add_site(name=BASE_SITE)
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
