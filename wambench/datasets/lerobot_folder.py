"""Reading LeRobot datasets, v3.0 and v2.1, for the trainings here: `lerobot://DIR`.

A dataset fits a control convention if it has its cameras (`observation.images.NAME`), and for demonstrations its
`action` and `observation.state` with as many numbers, at its control rate. Pictures of another size are shrunk by
areas.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wambench.datasets.features import ACTION, EXECUTED, STATE, STATE_NAMES, video_key
from wambench.interface import ControlConvention

SCHEME = "lerobot://"
VERSIONS = ("v2.1", "v3.0")
EVERY = 2  # control steps between the frames that are used, as `wambench collect` stores them


def require_packages() -> None:
    """Raises ValueError where PyAV or pyarrow is missing or does not fit the installed numpy."""
    try:
        import av  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ValueError(f"LeRobot datasets need pip install 'wambench[datasets]' ({error})") from None


def is_lerobot(name: str | Path) -> bool:
    """Returns whether a name of data is that of a LeRobot dataset."""
    return str(name).startswith(SCHEME)


@dataclass(frozen=True)
class Clip:
    """Where an episode is.

    Attributes:
        index: Its number.
        rows: Of its own.
        text: The instruction.
        numbers: The parquet file that holds it.
        films: Camera -> (file, number of the episode's first frame in it).
    """

    index: int
    rows: int
    text: str
    numbers: Path
    films: Mapping[str, tuple[Path, int]]


@dataclass(frozen=True)
class LeRobotFolder:
    """A dataset that fits a convention.

    Attributes:
        root: Its folder.
        convention: Cameras, size of the frames, control rate and lengths of state and action.
        fps: Rows per second.
        every: Control steps between the frames that are used.
        acted: Whether it has actions.
        clips: Its episodes.
    """

    root: Path
    convention: ControlConvention
    fps: int
    every: int
    acted: bool
    features: Mapping[str, Any]
    clips: tuple[Clip, ...]

    @property
    def steps_per_row(self) -> int:
        """Control steps from one row to the next."""
        return round(self.convention.control_hz / self.fps)

    def name_of(self, clip: Clip) -> str:
        """Returns what tells an episode from others, also from that of an older dataset in the same place."""
        return f"{clip.index}.{clip.rows}.{clip.numbers.stat().st_mtime_ns}"

    def rows_of(self, clip: Clip) -> NDArray[np.int64]:
        """Returns the rows whose frames are used: every so many control steps, and with actions the last."""
        rows = np.arange(0, clip.rows, max(1, self.every // self.steps_per_row))
        return np.append(rows, clip.rows - 1) if self.acted and rows[-1] != clip.rows - 1 else rows

    def frames(self, clip: Clip) -> NDArray[np.uint8]:
        """Returns the (F, h, w * cameras, 3) canvases of an episode at `rows_of`."""
        from wambench.datasets.video_file import read_frames

        wanted = self.rows_of(clip)
        views = []
        for camera in self.convention.cameras:
            path, first = clip.films[camera]
            shown = read_frames(path, first, clip.rows, self.fps, self.convention.image_size)
            kept = set(wanted.tolist())
            views.append(np.stack([frame for row, frame in enumerate(shown) if row in kept]))
        return np.concatenate(views, axis=2)

    def episode(self, clip: Clip) -> dict[str, NDArray[Any]]:
        """Returns steps (F,) of the frames, and for demonstrations actions and executed (T, A), states (F, S)."""
        rows = self.rows_of(clip)
        steps = rows * self.steps_per_row
        if not self.acted:
            return {"step": steps}
        names = [name for name in (ACTION, EXECUTED, STATE) if name in self.features]
        values = _vectors(clip, names)
        if len(values[ACTION]) != clip.rows:
            raise ValueError(f"{clip.numbers}: episode {clip.index} has {len(values['action'])} rows, not {clip.rows}")
        actions = values[ACTION][:-1]  # the last row has the final state; nothing follows its action
        return {
            "step": steps,
            "actions": actions,
            "executed": values.get(EXECUTED, values[ACTION])[:-1],
            "states": values[STATE][rows],
        }


def _vectors(clip: Clip, names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(clip.numbers, columns=names, filters=[("episode_index", "=", clip.index)])
        return {name: np.array(table.column(name).to_pylist(), np.float32) for name in names}
    except (OSError, KeyError, pyarrow.ArrowException) as error:
        raise ValueError(f"{clip.numbers}: damaged data file ({error})") from None


@functools.lru_cache(maxsize=8)
def open_folder(name: str, convention: ControlConvention) -> LeRobotFolder:
    """Returns the dataset that "lerobot://DIR" names.

    Raises:
        ValueError: It is none, has an unknown version, lacks a feature of the convention, or comes at another rate.
    """
    root = Path(name.removeprefix(SCHEME))
    require_packages()
    path = root / "meta" / "info.json"
    try:
        info = json.loads(path.read_text())
        version, fps, features = info["codebase_version"], info["fps"], info["features"]
    except FileNotFoundError:
        raise ValueError(f"{name}: no LeRobot dataset there: {path} is missing") from None
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    if version not in VERSIONS:
        raise ValueError(f"{name}: layout {version}; there are readers for {' and '.join(VERSIONS)}")
    acted = ACTION in features
    _check(name, features, fps, acted, convention)
    clips = (_clips_v30 if version == "v3.0" else _clips_v21)(root, info, convention)
    return LeRobotFolder(root, convention, int(fps), _every(root), acted, features, tuple(clips))


def _check(name: str, features: Mapping[str, Any], fps: float, acted: bool, convention: ControlConvention) -> None:
    """Raises ValueError unless the features are those of the convention."""
    wanted = {video_key(camera): None for camera in convention.cameras}
    lengths = (
        {ACTION: convention.action_dim, STATE: sum(len(STATE_NAMES[word]) for word in convention.state)}
        if acted
        else {}
    )
    missing = [key for key in (*wanted, *lengths) if key not in features]
    if missing:
        raise ValueError(f"{name}: feature {', '.join(missing)} is missing; it has {', '.join(features)}")
    stored = [key for key in wanted if features[key]["dtype"] != "video"]
    if stored:
        raise ValueError(f"{name}: {', '.join(stored)}: pictures as {features[stored[0]]['dtype']}; only video is read")
    for key, length in lengths.items():
        if list(features[key]["shape"]) != [length]:
            raise ValueError(
                f"{name}: {key} has shape {tuple(features[key]['shape'])}, the convention wants ({length},)"
            )
    ratio = convention.control_hz / fps
    if (acted and ratio != 1) or abs(ratio - round(ratio)) > 1e-9:
        raise ValueError(f"{name}: {fps:g} rows per second, and the convention has {convention.control_hz:g} actions")


def _every(root: Path) -> int:
    """Returns the spacing of frames that an export of ours tells of, the usual one for everything else."""
    try:
        return int(json.loads((root / "meta" / "wambench" / "dataset.json").read_text())["frame_every"])
    except (OSError, KeyError, ValueError):
        return EVERY


def _clips_v21(root: Path, info: Mapping[str, Any], convention: ControlConvention) -> list[Clip]:
    found = []
    for line in (root / "meta" / "episodes.jsonl").read_text().splitlines():
        values = json.loads(line)
        index = int(values["episode_index"])
        place = {"episode_chunk": index // int(info["chunks_size"]), "episode_index": index}
        films = {
            camera: (root / info["video_path"].format(**place, video_key=video_key(camera)), 0)
            for camera in convention.cameras
        }
        numbers = root / info["data_path"].format(**place)
        found.append(Clip(index, int(values["length"]), values["tasks"][0], numbers, films))
    return found


def _clips_v30(root: Path, info: Mapping[str, Any], convention: ControlConvention) -> list[Clip]:
    import pyarrow.parquet

    found = []
    for path in sorted((root / "meta" / "episodes").rglob("*.parquet")):
        names = [name for name in pyarrow.parquet.read_schema(path).names if not name.startswith("stats/")]
        for values in pyarrow.parquet.read_table(path, columns=names).to_pylist():
            films = {}
            for camera in convention.cameras:
                key = video_key(camera)
                chunk, file = values[f"videos/{key}/chunk_index"], values[f"videos/{key}/file_index"]
                film = info["video_path"].format(video_key=key, chunk_index=chunk, file_index=file)
                films[camera] = (root / film, round(values[f"videos/{key}/from_timestamp"] * info["fps"]))
            place = {"chunk_index": values["data/chunk_index"], "file_index": values["data/file_index"]}
            numbers = root / info["data_path"].format(**place)
            found.append(Clip(values["episode_index"], values["length"], values["tasks"][0], numbers, films))
    return sorted(found, key=lambda clip: clip.index)
