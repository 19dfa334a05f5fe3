"""`wambench export`: what was collected or recorded, as a LeRobot dataset.

Work is done in `OUT.partial`, and a dataset has its name only when it is complete, so that nothing half-written can be
read. The plan is fixed at the beginning (`OUT.partial/plan.json`); the same command goes on after any kill.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wambench.datasets import card, episode_files, sources
from wambench.datasets.features import FORMATS, V30, Schema
from wambench.datasets.layouts import Plan, assemble
from wambench.datasets.lerobot_folder import require_packages
from wambench.datasets.replay import Simulators
from wambench.datasets.sources import Entry, Source
from wambench.interface import unknown_name
from wambench.progress_bar import progress_bar
from wambench.records import locked, write_whole

OWN = Path("meta") / "wambench"  # in a dataset: what LeRobot has no place for
DATASET, EPISODES = "dataset.json", "episodes.jsonl"
PLAN, STAGE, TARGET = "plan.json", "episodes", "dataset"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class ExportConfig:
    """What is exported.

    Attributes:
        data: Folders of `wambench collect` (demonstrations or video) or of runs; all of one convention.
        out: Folder of the dataset.
        format: A name of `features.FORMATS`.
        tasks: Names of tasks; none for all.
        episodes: Of each task and source, the first so many; None for all.
        image_size: (height, width) of the videos; None for 256x256, where frames can be rendered again.
        license: Of the data, as the hub spells it.
        workers: Processes, without influence on the dataset.

    Raises:
        ValueError: Says what was asked and what exists.
    """

    data: tuple[Path, ...]
    out: Path
    format: str = V30
    tasks: tuple[str, ...] = ()
    episodes: int | None = None
    image_size: tuple[int, int] | None = None
    license: str = "mit"
    workers: int = 1

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown_name("format", self.format, FORMATS)
        if not self.data:
            raise ValueError("export needs a folder of data")
        if self.workers < 1 or (self.episodes is not None and self.episodes < 1):
            raise ValueError("workers and episodes must be at least 1")
        if self.image_size is not None and min(self.image_size) < 16:
            raise ValueError(f"image_size must be at least 16x16, not {self.image_size[0]}x{self.image_size[1]}")

    def identity(self) -> dict[str, Any]:
        """Returns what a started export must agree in, as JSON values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("out", "workers")}
        values["data"] = [str(path.resolve()) for path in self.data]
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain

    def command(self) -> str:
        """Returns the command line that makes the same dataset, without places of this machine."""
        words = ["wambench export", *(path.resolve().name for path in self.data), f"--format {self.format}"]
        words += [f"--tasks {','.join(self.tasks)}"] if self.tasks else []
        words += [f"--episodes {self.episodes}"] if self.episodes is not None else []
        words += [f"--image-size {'x'.join(map(str, self.image_size))}"] if self.image_size else []
        words += [f"--license {self.license}"] if self.license != ExportConfig.license else []
        return " ".join([*words, f"--out {self.out.name}"])


def export(config: ExportConfig, tell: Tell = lambda _: None) -> Path:
    """Makes the dataset and returns its folder; continues where an earlier call was ended.

    Raises:
        ValueError: Source or target are wrong, or an episode is damaged; nothing is left that a reader would accept.
        OSError: The disk is full; the same call goes on when there is space again.
    """
    require_packages()
    partial = config.out.with_name(config.out.name + ".partial")
    if _is_complete(config):
        shutil.rmtree(partial, ignore_errors=True)
        tell(f"{config.out} is complete already")
        return config.out
    begun = partial.exists()
    if not begun:
        opened = _open(config)  # before anything is written
        planned = _plan(config, opened)
        partial.mkdir(parents=True)
    with locked(partial):
        if not begun:
            write_whole(partial / PLAN, json.dumps(planned))
        return _make(config, partial, tell)


def _is_complete(config: ExportConfig) -> bool:
    """Returns whether the dataset is there; raises ValueError if something else is."""
    if not config.out.exists() or (config.out.is_dir() and not any(config.out.iterdir())):
        return False
    try:
        stored = json.loads((config.out / OWN / DATASET).read_text())
        made_by, made_of = stored["made_by"], stored["made_of"]
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{config.out} is there and is no export of wambench: give another --out") from None
    if made_by != config.command():
        raise ValueError(f"{config.out} holds another export ({made_by}): give another --out")
    if made_of != fingerprint(_plan(config, _open(config))["episodes"]):
        raise ValueError(f"{config.out} was made when the data were others: give another --out")
    return True


def fingerprint(episodes: list[dict[str, Any]]) -> str:
    """Returns the first 16 hex digits of the SHA-256 of a plan's episodes, without their place on this machine."""
    values = [{name: value for name, value in one.items() if name != "folder"} for one in episodes]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _open(config: ExportConfig) -> list[Source]:
    """Returns the sources; raises ValueError if they cannot stand in one dataset."""
    opened = [sources.open_source(folder) for folder in config.data]
    first = opened[0]
    for other in opened[1:]:
        differing = [
            f"{name} {ours!r} there and {theirs!r} here"
            for name, ours, theirs in _compared(first, other)
            if ours != theirs
        ]
        if differing:
            raise ValueError(f"{first.folder} and {other.folder} do not go into one dataset: {'; '.join(differing)}")
    size = config.image_size or first.default_size
    for source in opened:
        sources.check_size(source, size)
    _schema(config, first)
    return opened


def _compared(first: Source, other: Source) -> Iterator[tuple[str, Any, Any]]:
    for name in ("cameras", "control_hz", "action", "action_frame", "rotation", "gripper", "action_dim", "state"):
        yield name, getattr(first.convention, name), getattr(other.convention, name)
    for name in ("acted", "fps", "robot"):
        yield name, getattr(first, name), getattr(other, name)


def _schema(config: ExportConfig, source: Source) -> Schema:
    size = config.image_size or source.default_size
    convention = dataclasses.replace(source.convention, image_size=size)
    return Schema(convention, source.robot, source.fps, source.acted, config.format)


def _plan(config: ExportConfig, opened: list[Source]) -> dict[str, Any]:
    """Returns the plan as JSON values: what was asked, and every episode, in order."""
    episodes = []
    for number, source in enumerate(opened):
        counts: dict[str, int] = {}
        for entry in sources.entries(source, config.tasks):
            counts[entry.task] = counts.get(entry.task, 0) + 1
            if config.episodes is None or counts[entry.task] <= config.episodes:
                episodes.append({"source": number, **dataclasses.asdict(entry)})
    return {"asked": config.identity(), "episodes": episodes}


@dataclass(frozen=True)
class _Job:
    """An episode to be made."""

    source: Source
    entry: Entry
    schema: Schema
    stage: Path
    place: tuple[int, int, int]  # number of the episode, of its task, and of its first row


def _make(config: ExportConfig, partial: Path, tell: Tell) -> Path:
    planned = _read_plan(config, partial)
    opened = _open(config)
    schema = _schema(config, opened[0])
    made_of = fingerprint(planned["episodes"])
    listed = [(opened[values.pop("source")], Entry(**values)) for values in planned["episodes"]]
    plan = Plan(schema, tuple(entry.rows for _, entry in listed), tuple(entry.text for _, entry in listed))
    stage, target = partial / STAGE, partial / TARGET
    stage.mkdir(exist_ok=True)
    for left in stage.glob("*.tmp"):
        left.unlink()
    numbers = {text: number for number, text in enumerate(plan.tasks)}
    firsts = _running_sums(plan.rows)
    jobs = [
        _Job(source, entry, schema, stage, (index, numbers[entry.text], firsts[index]))
        for index, (source, entry) in enumerate(listed)
        if not episode_files.json_path(stage, index).exists()
    ]
    with progress_bar(total=len(listed), initial=len(listed) - len(jobs), desc="export", unit="episode") as bar:
        for _ in _run(jobs, min(config.workers, max(1, len(jobs)))):
            bar.update()
    shutil.rmtree(target, ignore_errors=True)
    assemble(plan, stage, target)
    _describe(config, opened, plan, stage, target, made_of)
    if config.out.exists():
        config.out.rmdir()  # empty, as `_is_complete` has seen
    os.rename(target, config.out)
    shutil.rmtree(partial)
    tell(f"{len(plan.rows)} episodes, {plan.total} frames at {schema.fps} Hz")
    return config.out


def _read_plan(config: ExportConfig, partial: Path) -> dict[str, Any]:
    try:
        planned: dict[str, Any] = json.loads((partial / PLAN).read_text())
    except FileNotFoundError:  # killed before there was one
        planned = _plan(config, _open(config))
        write_whole(partial / PLAN, json.dumps(planned))
    asked, now = planned["asked"], config.identity()
    odd = [name for name in now if asked.get(name) != now[name]]
    if odd:
        raise ValueError(
            f"{partial} holds another export that was begun ({', '.join(f'{n} {asked.get(n)!r}' for n in odd)}): "
            "finish it, remove it, or give another --out"
        )
    return planned


def _running_sums(rows: tuple[int, ...]) -> list[int]:
    sums, total = [], 0
    for count in rows:
        sums.append(total)
        total += count
    return sums


_SIMULATORS: dict[str, Simulators] = {}  # of this process


def _run(jobs: list[_Job], workers: int) -> Iterator[int]:
    if workers == 1:
        try:
            yield from map(_do, jobs)
        finally:  # at exit the display is gone before the simulators are
            while _SIMULATORS:
                _SIMULATORS.popitem()[1].close()
        return
    # spawn: a forked child of a process that has rendered hangs
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(_do, jobs)


def _do(job: _Job) -> int:
    """Makes the files of an episode."""
    size = job.schema.convention.image_size
    key = f"{job.source.convention} {size}"
    if key not in _SIMULATORS:
        _SIMULATORS[key] = Simulators(job.source.convention, size)
    spec, moments = sources.moments(job.source, job.entry, _SIMULATORS[key], size)
    index, task, first = job.place
    place = {"episode_index": index, "task_index": task, "first": first, "rows": job.entry.rows}
    origin = {"source": job.source.folder.resolve().name, "name": job.entry.name, "task": job.entry.task}
    about = {**origin, "kind": job.source.kind, **job.entry.about, "spec": sources.read_spec_json(spec)}
    episode_files.write_episode(job.stage, job.schema, moments, place, about)
    return index


def _describe(config: ExportConfig, opened: list[Source], plan: Plan, stage: Path, target: Path, made_of: str) -> None:
    """Writes what LeRobot has no place for, and the dataset card."""
    abouts: list[dict[str, Any]] = []
    (target / OWN).mkdir()
    with (target / OWN / EPISODES).open("w") as file:
        for index in range(len(plan.rows)):
            about = episode_files.read_known(stage, index)["about"]
            file.write(json.dumps({"episode_index": index, **about}) + "\n")
            abouts.append({name: about.get(name) for name in ("task", "progress", "success")})
    described = [sources.describe(source) for source in opened]
    convention = dataclasses.asdict(plan.schema.convention)
    stored = {"made_by": config.command(), "made_of": made_of, "convention": convention}
    stored |= {"frame_every": opened[0].every, "sources": described}
    (target / OWN / DATASET).write_text(json.dumps(stored, indent=1) + "\n")
    (target / "README.md").write_text(card.card(plan, described, abouts, config.command(), config.license))
