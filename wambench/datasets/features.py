"""What a LeRobot dataset of ours holds: its features, the names of their numbers, and the slices that GR00T reads.

The names follow the control convention, so that a robot with another convention needs two rows in the tables here.
Layouts: lerobot 0.3.3 (v2.1) and 0.4 (v3.0); `modality.json`: GR00T's data preparation guide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from wambench.interface import ControlConvention, unknown_name

if TYPE_CHECKING:
    import pyarrow

V21, V30 = "lerobot-v2.1", "lerobot-v3.0"
FORMATS = (V30, V21)
STATE, ACTION, EXECUTED = "observation.state", "action", "executed"
PROGRESS, SUCCESS, REWARD, DONE = "progress", "success", "next.reward", "next.done"
# GR00T reads the instruction by this column; no other one may begin with "annotation.".
ANNOTATION_KEY = "human.action.task_description"
ANNOTATION = f"annotation.{ANNOTATION_KEY}"
INDICES = ("frame_index", "episode_index", "index", "task_index")

_XYZ = ("x", "y", "z")
_JOINTS = tuple(f"joint_{i}" for i in range(1, 8))
# Word of `ControlConvention.state` -> names of its numbers.
STATE_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "eef_pos": _XYZ,
        "eef_axis_angle": _XYZ,
        "eef_rotation_6d": ("column_1.x", "column_1.y", "column_1.z", "column_2.x", "column_2.y", "column_2.z"),
        "gripper_qpos": ("left", "right"),
        "joint_position": _JOINTS,
        "gripper_position": ("closed",),
    }
)
# Word of `ControlConvention.action` -> its parts and the names of their numbers.
ACTION_NAMES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "osc_pose_delta": {"eef_pos_delta": _XYZ, "eef_axis_angle_delta": _XYZ, "gripper": ("close",)},
        "joint_position": {"joint_position": _JOINTS, "gripper_position": ("close",)},
        "joint_velocity": {"joint_velocity": _JOINTS, "gripper_position": ("close",)},
    }
)
# As LIBERO's data are named in GR00T (embodiment libero_sim), whose roll, pitch and yaw hold the axis-angle vector.
_LIBERO_POSE = ("x", "y", "z", "roll", "pitch", "yaw")
# Camera -> its name in GR00T's and DreamZero's configurations of LIBERO and DROID data.
VIDEO_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "agentview": "image",
        "wrist": "wrist_image",
        "exterior_1": "exterior_image_1_left",
        "exterior_2": "exterior_image_2_left",
    }
)


@dataclass(frozen=True)
class Schema:
    """What every episode of a dataset has in common.

    Attributes:
        convention: Of the robot; `image_size` is that of the videos.
        robot: Name of the arm, "+" between several.
        fps: Rows and frames per second.
        acted: Whether there are actions and states; action-free video has neither.
        format: A name of `FORMATS`.

    Raises:
        ValueError: The convention holds a word that has no row in the tables, or sizes are odd.
    """

    convention: ControlConvention
    robot: str
    fps: int
    acted: bool
    format: str

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown_name("format", self.format, FORMATS)
        if any(size % 2 for size in self.convention.image_size):
            height, width = self.convention.image_size
            raise ValueError(f"image_size must be even for video (yuv420p), not {height}x{width}")
        if self.acted:
            expected = self.convention.action_dim
            if len(self.action_names) != expected:
                raise ValueError(f"{self.convention.action} names {len(self.action_names)} numbers, not {expected}")

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the state's numbers."""
        return _named(self.state_parts)

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the action's numbers."""
        return _named(self.action_parts)

    @property
    def state_parts(self) -> dict[str, tuple[str, ...]]:
        """Part of the state -> names of its numbers, in order."""
        for word in self.convention.state:
            if word not in STATE_NAMES:
                raise unknown_name("part of a state", word, STATE_NAMES)
        return {word: STATE_NAMES[word] for word in self.convention.state}

    @property
    def action_parts(self) -> Mapping[str, tuple[str, ...]]:
        """Part of the action -> names of its numbers, in order."""
        if self.convention.action not in ACTION_NAMES:
            raise unknown_name("kind of action", self.convention.action, ACTION_NAMES)
        return ACTION_NAMES[self.convention.action]


def _named(parts: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(f"{part}.{name}" for part, names in parts.items() for name in names)


def video_key(camera: str) -> str:
    """Returns the name of a camera's feature."""
    return f"observation.images.{camera}"


def vectors(schema: Schema) -> dict[str, tuple[str, ...]]:
    """Returns vector features and the names of their numbers."""
    if not schema.acted:
        return {}
    return {STATE: schema.state_names, ACTION: schema.action_names, EXECUTED: schema.action_names}


def numbers(schema: Schema) -> dict[str, str]:
    """Returns features of one number and their types, in the order of the columns."""
    own = {PROGRESS: "float32", SUCCESS: "bool", REWARD: "float32", DONE: "bool"} if schema.acted else {}
    annotated = {ANNOTATION: "int64"} if schema.format == V21 else {}
    return {**own, "timestamp": "float32", **dict.fromkeys(INDICES, "int64"), **annotated}


def features(schema: Schema) -> dict[str, dict[str, Any]]:
    """Returns the `features` of `meta/info.json`."""
    rate = {"fps": schema.fps} if schema.format == V30 else {}
    found: dict[str, dict[str, Any]] = {
        video_key(camera): _video_feature(schema) for camera in schema.convention.cameras
    }
    for name, names in vectors(schema).items():
        found[name] = {"dtype": "float32", "shape": [len(names)], "names": list(names), **rate}
    for name, dtype in numbers(schema).items():
        found[name] = {"dtype": dtype, "shape": [1], "names": None, **rate}
    return found


def _video_feature(schema: Schema) -> dict[str, Any]:
    height, width = schema.convention.image_size
    info = {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": schema.fps,
        "video.channels": 3,
        "has_audio": False,
    }
    names = ["height", "width", "channels"]
    return {"dtype": "video", "shape": [height, width, 3], "names": names, "info": info}


def columns(schema: Schema) -> pyarrow.Schema:
    """Returns the columns of the parquet files."""
    import pyarrow

    kinds = {"float32": pyarrow.float32(), "int64": pyarrow.int64(), "bool": pyarrow.bool_()}
    fields = [
        pyarrow.field(name, pyarrow.list_(pyarrow.float32(), len(names))) for name, names in vectors(schema).items()
    ]
    fields += [pyarrow.field(name, kinds[dtype]) for name, dtype in numbers(schema).items()]
    return pyarrow.schema(fields)


def modality(schema: Schema) -> dict[str, Any]:
    """Returns GR00T's and DreamZero's `meta/modality.json`: slices [start, end) of state and action.

    A state of hand pose and gripper, and its action, have the keys of GR00T's libero_sim embodiment, one number each
    but the gripper's; everything else is cut into the parts of the convention.
    """
    video = {
        VIDEO_KEYS.get(camera, camera): {"original_key": video_key(camera)} for camera in schema.convention.cameras
    }
    if "exterior_1" in schema.convention.cameras:
        video = {key.replace("wrist_image", "wrist_image_left"): value for key, value in video.items()}
    slices = {"state": schema.state_parts, "action": dict(schema.action_parts)} if schema.acted else {}
    if schema.convention.action == "osc_pose_delta" and schema.convention.rotation == "axis_angle":
        slices = {kind: _libero(sum(map(len, parts.values()))) for kind, parts in slices.items()}
    cut = {kind: _slices(parts) for kind, parts in slices.items()}
    return {**cut, "video": video, "annotation": {ANNOTATION_KEY: {}}}


def _libero(count: int) -> dict[str, tuple[str, ...]]:
    fingers = tuple(str(i) for i in range(count - len(_LIBERO_POSE)))
    return {**{name: (name,) for name in _LIBERO_POSE}, "gripper": fingers}


def _slices(parts: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, int]]:
    found, start = {}, 0
    for part, names in parts.items():
        found[part] = {"start": start, "end": start + len(names)}
        start += len(names)
    return found
