"""The control conventions of the suite: which robot, which numbers, which cameras, which rates.

Every task can be played under each of them; an environment is made for one (`--robot`), and a policy declares one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from wambench.interface import ControlConvention, unknown_name

# robosuite's and LIBERO's: displacements of the hand of a Panda, a front and a wrist camera.
LIBERO = ControlConvention()
# That of the DROID data (arXiv 2403.12945) and of the checkpoints trained on them, as DreamZero's and openpi's are.
DROID = ControlConvention(
    cameras=("exterior_1", "exterior_2", "wrist"),
    image_size=(180, 320),
    control_hz=15.0,
    video_hz=5.0,
    action="joint_position",  # absolute, rad
    action_frame="joint",
    rotation="axis_angle",
    gripper="closed_is_1",  # 0 is open
    action_dim=8,
    state=("joint_position", "gripper_position", "eef_pos", "eef_axis_angle"),
)
# The same robot, told joint velocities in [-1, 1] as openpi's pi0-DROID and pi0.5-DROID answer them.
DROID_VELOCITY = dataclasses.replace(DROID, action="joint_velocity")
# Numbers of every word of a state vector.
STATE_SIZES: Mapping[str, int] = MappingProxyType(
    {"eef_pos": 3, "eef_axis_angle": 3, "eef_rotation_6d": 6, "gripper_qpos": 2, "joint_position": 7,
     "gripper_position": 1}
)  # fmt: skip
ROBOT = "libero"  # unless asked otherwise
CONVENTIONS: Mapping[str, ControlConvention] = MappingProxyType(
    {"libero": LIBERO, "droid": DROID, "droid-velocity": DROID_VELOCITY}
)
# Convention -> the robot that an episode is recorded with (`EpisodeSpec.robot`): equal scenes are equal episodes,
# whether its joints are told positions or velocities.
BODIES: Mapping[str, str] = MappingProxyType({"libero": "libero", "droid": "droid", "droid-velocity": "droid"})


def find(robot: str) -> ControlConvention:
    """Returns the convention of a name; raises ValueError with the nearest match for any other."""
    if robot not in CONVENTIONS:
        raise unknown_name("robot", robot, CONVENTIONS)
    return CONVENTIONS[robot]


def part_of_state(word: str, convention: ControlConvention) -> slice:
    """Returns where a word's numbers lie in the state vector, for example those of "eef_pos"."""
    sizes = [STATE_SIZES[name] for name in convention.state]
    at = convention.state.index(word)
    return slice(sum(sizes[:at]), sum(sizes[: at + 1]))


def robot_of(convention: ControlConvention) -> str:
    """Returns the name of the robot that a policy's convention asks for, by what its actions mean.

    Anything that is no action of ours gets the usual robot; the mismatch is told before the first episode.
    """
    return next((name for name, known in CONVENTIONS.items() if known.action == convention.action), ROBOT)
