"""An adapter: what a server reads and answers, as data. One is a TOML file that a person can copy and edit.

`docs/remote.md` describes the format. Nothing is filled in: what an observation holds, what the numbers of an action
mean and which sign the gripper has stand in the file.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from wambench.conventions import CONVENTIONS
from wambench.interface import STATE_SIZES, ControlConvention, fields_of_json, unknown_name

FOLDER = Path(__file__).parent / "adapters"
PROTOCOLS = ("openpi", "roboarena", "gr00t", "vla-eval")
# What can be made of a state that has a position and an axis-angle rotation of the hand -> how many numbers it has.
# "eef_axis_angle_forward" is the rotation vector whose first number is not negative, so that its angle may exceed pi:
# where a hand hangs at half a turn, LIBERO's numbers do not jump, and ours do (`ControlConvention.rotation`).
DERIVED: Mapping[str, int] = MappingProxyType({"cartesian_position": 6, "eef_9d": 9, "eef_axis_angle_forward": 3})
# Word of a gripper command -> what stands for open and for closed.
GRIPPERS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"close_positive": (-1.0, 1.0), "open_positive": (1.0, -1.0), "closed_is_1": (0.0, 1.0), "open_is_1": (1.0, 0.0)}
)
LAYOUTS = ("row", "wrist_above")


@dataclass(frozen=True)
class Picture:
    """A picture of a message.

    Attributes:
        camera: Of our convention.
        size: (height, width) that it is brought to, with black bars where its shape is another; None: as it is.
        mirror: Left and right are exchanged, as in the data of openpi's LIBERO checkpoints.
    """

    camera: str
    size: tuple[int, int] | None = None
    mirror: bool = False


@dataclass(frozen=True)
class Vector:
    """A vector of a message.

    Attributes:
        parts: Of our state (`interface.STATE_SIZES`, `DERIVED`), one after the other.
        take: Which of their numbers; none for all.
        zeros: Instead: that many zeros, for what a server wants to see and does not use.
        dtype: "float32" or "float64".
    """

    parts: tuple[str, ...] = ()
    take: tuple[int, ...] = ()
    zeros: int = 0
    dtype: str = "float32"


@dataclass(frozen=True)
class Answer:
    """The actions of an answer.

    Attributes:
        keys: Their arrays, one behind the other; () where the answer itself is the array.
        widths: How many numbers each of them has; needed where there are several.
        gripper: What the last number means, a name of `GRIPPERS`.
        gripper_threshold: From where on the gripper closes, as share of closed; None: it is not rounded.
        clip: Numbers beyond the limits of the convention are cut to them, as a robot's driver does.
    """

    keys: tuple[str, ...]
    gripper: str
    widths: tuple[int, ...] = ()
    gripper_threshold: float | None = None
    clip: bool = False


@dataclass(frozen=True)
class Video:
    """The imagined frames of an answer, which may be missing.

    Attributes:
        key: Of the answer.
        layout: "row" are our canvases, the views left to right; "wrist_above" has the wrist's view above and the two
            others at half its size side by side below, in the order of our cameras.
        first: Control steps from the query to the first frame; 0 is the observed one, which is not imagined.
        every: Control steps from frame to frame.
    """

    key: str = "video"
    layout: str = "row"
    first: int = 1
    every: int = 1


@dataclass(frozen=True)
class Adapter:
    """What a server reads and answers.

    Attributes:
        protocol: A name of `PROTOCOLS`.
        convention: In which the policy acts; its pictures are rendered as it says.
        images: Key of the message -> picture.
        vectors: Key -> vector.
        texts: Key -> "instruction" or "instruction_lower".
        answer: The actions.
        execute: Actions of a chunk to carry out before the next query; None: all of them.
        history: Which frames are sent, in control steps from now, oldest first; () for the present one without an axis
            of time.
        everything: Instead: all frames since the last call, and the vectors of each.
        video: Imagined frames, if the server may send some.
        metadata: What the server must say of itself, entry by entry.
        sessions: Episodes that the server keeps apart; 0 for any number.
        flat: Of GR00T: keys stay "video.x" instead of {"video": {"x": ...}}, as with --use-sim-policy-wrapper.
    """

    protocol: str
    convention: ControlConvention
    images: Mapping[str, Picture]
    vectors: Mapping[str, Vector]
    texts: Mapping[str, str]
    answer: Answer
    execute: int | None = None
    history: tuple[int, ...] = ()
    everything: bool = False
    video: Video | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    sessions: int = 0
    flat: bool = False

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise unknown_name("protocol", self.protocol, PROTOCOLS)
        for picture in self.images.values():
            if picture.camera not in self.convention.cameras:
                raise unknown_name("camera", picture.camera, self.convention.cameras)
        for key, vector in self.vectors.items():
            self._check_vector(key, vector)
        for key, text in self.texts.items():
            if text not in ("instruction", "instruction_lower"):
                raise unknown_name(f"text of {key!r}", text, ("instruction", "instruction_lower"))
        for gripper in (self.answer.gripper, self.convention.gripper):
            if gripper not in GRIPPERS:
                raise unknown_name("gripper", gripper, GRIPPERS)
        if self.answer.widths or len(self.answer.keys) > 1:
            widths, width = self.answer.widths, self.convention.action_dim
            if len(widths) != len(self.answer.keys) or sum(widths) != width:
                raise ValueError(f"widths of the answer must be one for each key, in all {width}, not {list(widths)}")
        if self.video is not None and self.video.layout not in LAYOUTS:
            raise unknown_name("layout of video", self.video.layout, LAYOUTS)
        if self.execute is not None and self.execute < 1:
            raise ValueError(f"execute must be at least 1, not {self.execute}")
        if self.history and (self.history[-1] != 0 or sorted(set(self.history)) != list(self.history)):
            raise ValueError(f"history must rise to 0, which is now, not {list(self.history)}")
        if self.history and self.everything:
            raise ValueError("history and everything exclude each other")

    def _check_vector(self, key: str, vector: Vector) -> None:
        if bool(vector.parts) == bool(vector.zeros):
            raise ValueError(f"vector {key!r} needs either parts or zeros")
        for part in vector.parts:
            if part not in self.convention.state and part not in DERIVED:
                raise unknown_name(f"part of {key!r}", part, (*self.convention.state, *DERIVED))
        if vector.dtype not in ("float32", "float64"):
            raise unknown_name(f"dtype of {key!r}", vector.dtype, ("float32", "float64"))
        width = sum({**STATE_SIZES, **DERIVED}[part] for part in vector.parts)
        if any(not 0 <= index < width for index in vector.take):
            raise ValueError(f"take of {key!r} must be of 0 to {width - 1}, not {list(vector.take)}")

    def to_dict(self) -> dict[str, Any]:
        """Returns the adapter as the TOML file has it, JSON values."""
        values: dict[str, Any] = _plain(dataclasses.asdict(self))
        return {key: value for key, value in values.items() if value != {} and value is not None}


def load(name: str) -> Adapter:
    """Returns a shipped adapter by its name, or that of a file; a missing or wrong one raises ValueError."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        if name.endswith(".toml"):
            raise ValueError(f"no such file: {name}")
        raise unknown_name("adapter", name, shipped())
    try:
        return from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def shipped() -> list[str]:
    """Returns the names of the adapters that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def from_dict(values: Mapping[str, Any]) -> Adapter:
    """Returns the adapter of a TOML file's content; an entry that is missing, unknown or wrong raises ValueError."""
    _check_names("adapter", values, Adapter)
    made = dict(values)
    made["convention"] = _convention(values["convention"])
    made["images"] = {key: _part(f"images.{key}", entry, Picture) for key, entry in values["images"].items()}
    made["vectors"] = {key: _part(f"vectors.{key}", entry, Vector) for key, entry in values["vectors"].items()}
    made["answer"] = _part("answer", values["answer"], Answer)
    if values.get("video") is not None:
        made["video"] = _part("video", values["video"], Video)
    return Adapter(**fields_of_json(made))


def _convention(value: Any) -> ControlConvention:
    """Returns a convention by name, or one of that name with some entries changed (`base`), or written out."""
    if isinstance(value, str):
        value = {"base": value}
    changes = fields_of_json(value)
    base = changes.pop("base", None)
    if base is not None and base not in CONVENTIONS:
        raise unknown_name("convention", str(base), CONVENTIONS)
    known = [one.name for one in dataclasses.fields(ControlConvention)]
    for name in changes:
        if name not in known:
            raise unknown_name("entry of [convention]:", name, ["base", *known])
    return dataclasses.replace(CONVENTIONS[base], **changes) if base else ControlConvention(**changes)


def _part(where: str, values: Any, cls: Any) -> Any:
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a table, not {values!r}")
    _check_names(where, values, cls)
    return cls(**fields_of_json(values))


def _check_names(where: str, values: Mapping[str, Any], cls: Any) -> None:
    """Raises ValueError for an entry that a table lacks or does not know."""
    fields = {one.name: one for one in dataclasses.fields(cls)}
    for name in values:
        if name not in fields:
            raise unknown_name(f"entry of {where}:", name, fields)
    missing = dataclasses.MISSING
    needed = [n for n, one in fields.items() if one.default is missing and one.default_factory is missing]
    lacking = [name for name in needed if name not in values]
    if lacking:
        raise ValueError(f"{where} lacks {', '.join(lacking)}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def mismatched_metadata(adapter: Adapter, metadata: Mapping[str, Any]) -> list[str]:
    """Returns one line for each entry of the server's metadata that is not as the adapter expects."""
    return [
        f"{key}: the server says {_plain(metadata.get(key))!r}, the adapter expects {_plain(expected)!r}"
        for key, expected in adapter.metadata.items()
        if _plain(metadata.get(key)) != _plain(expected)
    ]
