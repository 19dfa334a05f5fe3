"""What can be exported: folders of `wambench collect` and of `wambench run`, read episode by episode.

A row of a dataset is a moment: what is seen, and what is done from there on. An episode of T control steps has T + 1
rows: in the last one it is over and the action keeps the robot where it is, as trainings here fill up a last chunk.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wambench import tasks
from wambench.datasets.replay import Simulators, replay, task_of_today
from wambench.interface import ControlConvention, EpisodeSpec, fields_of_json
from wambench.records import ROWS, RUN, episode_stem, load_episode, read_rows

MANIFEST = "manifest.json"
DEMOS, VIDEO, RUNS = "demos", "video", "run"
RENDERED_SIZE = (256, 256)  # as in the data of LIBERO: what public policies are trained on
ENLARGED = 2  # stored frames that cannot be rendered again: each pixel as so many squared, which keeps its colour
Moments = Iterator["Moment"]


@dataclass(frozen=True)
class Moment:
    """One row.

    Attributes:
        images: Camera -> (h, w, 3) uint8.
        state: (S,) float32; None in video without actions, like everything below.
        action: (A,) float32: what is to be learned here: what the expert would do, or the policy did.
        executed: (A,) float32: what was done, noise included.
        progress: In [0, 1], now.
        success: The success predicate holds now.
    """

    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32] | None = None
    action: NDArray[np.float32] | None = None
    executed: NDArray[np.float32] | None = None
    progress: float = 0.0
    success: bool = False


@dataclass(frozen=True)
class Entry:
    """An episode that is to be exported, as JSON values.

    Attributes:
        folder, name: Where its file lies, and its name without an ending.
        task: Versioned id, "" if it is not known.
        text: The instruction.
        rows: Number of rows.
        about: What else is known of it, for `meta/wambench/episodes.jsonl`.
    """

    folder: str
    name: str
    task: str
    text: str
    rows: int
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """A folder of episodes.

    Attributes:
        folder: Where it is.
        kind: "demos", "video" or "run".
        convention: Of what was recorded.
        robot: Arm, "+" between several.
        fps: Rows per second.
        every: Control steps between the frames that were stored.
        about: What it says of itself, for the dataset card.
    """

    folder: Path
    kind: str
    convention: ControlConvention
    robot: str
    fps: int
    every: int
    about: Mapping[str, Any]

    @property
    def acted(self) -> bool:
        """Whether it has actions."""
        return self.kind != VIDEO

    @property
    def default_size(self) -> tuple[int, int]:
        """(height, width) of exported frames unless the user says otherwise."""
        height, width = self.convention.image_size
        if self.acted:
            return RENDERED_SIZE if height == width else self.convention.image_size
        return ENLARGED * height, ENLARGED * width


def open_source(folder: Path) -> Source:
    """Returns what a folder holds; raises ValueError if it is neither a corpus nor a run, or cannot be exported."""
    if not folder.is_dir():
        raise ValueError(f"no data at {folder}: there is no such folder")
    if (folder / MANIFEST).is_file():
        return _corpus(folder)
    if (folder / ROWS).is_file():
        return _run(folder)
    if (folder / "meta" / "info.json").is_file():
        raise ValueError(f"{folder} is a LeRobot dataset already")
    raise ValueError(
        f"{folder}: neither {MANIFEST} nor {ROWS}: export takes folders of `wambench collect` and of `wambench run`"
    )


def _corpus(folder: Path) -> Source:
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text())
        corpus, every = str(values["corpus"]), int(values["frame_every"])
        convention = ControlConvention(**fields_of_json(values["spec"]))
        robot = "+".join(values.get("arms", ["Panda"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged manifest ({error})") from None
    if corpus not in (DEMOS, VIDEO):
        raise ValueError(
            f"{folder} holds {corpus}, which are no episodes with a task: demos, video and runs are exported"
        )
    about = {name: values[name] for name in ("corpus", "seed", "rooms", "disturbances") if name in values}
    rate = convention.control_hz / (every if corpus == VIDEO else 1)
    return Source(folder, corpus, convention, robot, _whole(rate, folder), every, about)


def _run(folder: Path) -> Source:
    path = folder / RUN
    try:
        values = json.loads(path.read_text())
        convention = ControlConvention(**fields_of_json(values["convention"]))
        config = values["config"]
        about = {name: config.get(name) for name in ("policy", "name", "split", "factors", "seed")}
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged: {error}") from None
    return Source(
        folder, RUNS, convention, "Panda", _whole(convention.control_hz, folder), convention.frame_stride, about
    )


def _whole(rate: float, folder: Path) -> int:
    if abs(rate - round(rate)) > 1e-9:
        raise ValueError(f"{folder}: {rate:g} rows per second: LeRobot wants a whole number")
    return round(rate)


# -- which episodes there are ------------------------------------------------------------------------------------------


def entries(source: Source, wanted: Sequence[str] = ()) -> list[Entry]:
    """Returns the episodes of a source, sorted by name; a damaged file raises ValueError.

    Args:
        source: Where from.
        wanted: Names of tasks; none for all.
    """
    names = {tasks.find(name).name for name in wanted}
    found = _recorded(source, names) if source.kind == RUNS else _collected(source, names)
    if not found:
        there = f" of {', '.join(sorted(names))}" if names else ""
        raise ValueError(f"{source.folder}: no episodes{there}")
    for entry in found if source.acted else ():
        try:
            task_of_today(entry.task)
        except ValueError as error:
            raise ValueError(f"{Path(entry.folder) / entry.name}.npz: {error}") from None
    return found


def _collected(source: Source, names: set[str]) -> list[Entry]:
    found = []
    for path in sorted(source.folder.glob("*.npz")):  # the order in which trainings read them
        if names and path.name.split(".")[0] not in names:
            continue
        arrays = read_arrays(path, ("frame_steps", "instruction", "spec", "arm", "attempt"))
        steps = arrays["frame_steps"]
        spec = EpisodeSpec.from_json(str(arrays["spec"]))
        rows = int(steps[-1]) + 1 if source.acted else int((steps % source.every == 0).sum())
        about = {"arm": str(arrays["arm"]), "attempt": int(arrays["attempt"]), **_facts(spec)}
        found.append(Entry(str(source.folder), path.stem, spec.task, str(arrays["instruction"]), rows, about))
    return found


def _recorded(source: Source, names: set[str]) -> list[Entry]:
    """Returns the episodes of a run that could be played to their end."""
    found = []
    for row in read_rows(source.folder / ROWS, torn=True):
        path = source.folder / "episodes" / f"{episode_stem(row.key)}.npz"
        if row.status != "ok" or not path.is_file() or (names and row.task.rpartition("-v")[0] not in names):
            continue
        about = {
            "policy": row.policy,
            "split": row.split,
            "factor": row.factor,
            "episode": row.episode,
            "seed": row.seed,
        }
        found.append(Entry(str(source.folder), path.stem, row.task, row.prompt, row.steps + 1, about))
    return sorted(found, key=lambda entry: entry.name)


def _facts(spec: EpisodeSpec) -> dict[str, Any]:
    return {"split": spec.split, "factor": spec.factor, "seed": spec.seed}


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Returns some arrays of an npz file; a damaged file raises ValueError."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (KeyError, OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged episode ({error}); remove it, and collect it again") from None


# -- what happens in one -----------------------------------------------------------------------------------------------


def moments(source: Source, entry: Entry, simulators: Simulators, size: tuple[int, int]) -> tuple[EpisodeSpec, Moments]:
    """Returns the spec of an episode and its rows, one after the other; errors are ValueErrors that name its file."""
    if source.kind == RUNS:
        return _run_moments(entry, simulators)
    path = Path(entry.folder) / f"{entry.name}.npz"
    arrays = read_arrays(path, ("spec",) if source.acted else ("spec", "frames", "frame_steps"))
    spec = EpisodeSpec.from_json(str(arrays["spec"]))
    return spec, _demo_moments(path, spec, simulators) if source.acted else _video_moments(source, arrays, size)


def _demo_moments(path: Path, spec: EpisodeSpec, simulators: Simulators) -> Moments:
    arrays = read_arrays(path, ("actions", "executed", "states"))
    actions, executed, states = (arrays[name] for name in ("actions", "executed", "states"))
    if not len(states) == len(actions) + 1 == len(executed) + 1:
        raise ValueError(f"{path}: damaged episode ({len(states)} states of {len(actions)} actions)")
    env = simulators.of(task_of_today(spec.task))
    rest = resting(env.convention, executed[-1])
    played = replay(env, spec, executed, dict(enumerate(states)))
    for i, (seen, outcome) in enumerate(_naming(played, path)):
        action, done = (actions[i], executed[i]) if i < len(actions) else (rest, rest)
        yield Moment(seen.images, states[i], action, done, outcome.progress, outcome.success)


def _run_moments(entry: Entry, simulators: Simulators) -> tuple[EpisodeSpec, Moments]:
    path = Path(entry.folder) / "episodes" / f"{entry.name}.npz"
    episode = load_episode(path)
    executed = np.concatenate([chunk.executed for chunk in episode.chunks])
    states = {seen.step: seen.state for seen in episode.observations}

    def rows() -> Moments:
        env = simulators.of(task_of_today(entry.task))
        rest = resting(env.convention, executed[-1])
        for i, (seen, outcome) in enumerate(_naming(replay(env, episode.spec, executed, states), path)):
            done = (executed[i] if i < len(executed) else rest).astype(np.float32)
            yield Moment(seen.images, seen.state.astype(np.float32), done, done, outcome.progress, outcome.success)

    return episode.spec, rows()


def _video_moments(source: Source, arrays: Mapping[str, NDArray[Any]], size: tuple[int, int]) -> Moments:
    """Yields the stored frames at a constant rate; one that follows sooner, at the very end, is left out."""
    height, width = source.convention.image_size
    cameras = source.convention.cameras
    times = size[0] // height, size[1] // width
    for frame in arrays["frames"][arrays["frame_steps"] % source.every == 0]:
        views = np.split(frame, len(cameras), axis=1)
        large = [view.repeat(times[0], axis=0).repeat(times[1], axis=1) for view in views]
        yield Moment(dict(zip(cameras, large, strict=True)))


def check_size(source: Source, size: tuple[int, int]) -> None:
    """Raises ValueError if the frames of a source cannot be had in a size."""
    stored = source.convention.image_size
    if not source.acted and any(new % old or new < old for new, old in zip(size, stored, strict=True)):
        raise ValueError(
            f"{source.folder}: video without actions cannot be rendered again: its frames are {stored[0]}x{stored[1]}, "
            f"or a multiple, not {size[0]}x{size[1]}"
        )


def resting(convention: ControlConvention, last: NDArray[np.floating]) -> NDArray[np.float32]:
    """Returns the (A,) action after the end: the robot stays, and the gripper keeps its last command."""
    if convention.action == "joint_position":  # an absolute target: the last one holds
        return np.asarray(last, np.float32)
    return np.asarray(convention.hold_action(last), np.float32)


def _naming(played: Iterator[Any], path: Path) -> Iterator[Any]:
    """Gives an error of a replay the name of the episode's file."""
    try:
        yield from played
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from None


def read_spec_json(spec: EpisodeSpec) -> dict[str, Any]:
    """Returns a spec as JSON values."""
    values: dict[str, Any] = json.loads(spec.to_json())
    return values


def describe(source: Source) -> dict[str, Any]:
    """Returns a source as JSON values, without its place on this machine."""
    values = {"name": source.folder.resolve().name, "kind": source.kind, "frame_every": source.every}
    return values | {
        "robot": source.robot,
        "about": dict(source.about),
        "convention": dataclasses.asdict(source.convention),
    }
