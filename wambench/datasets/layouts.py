"""From the files of single episodes to the two layouts of LeRobot: v2.1 has a file per episode, v3.0 many in a file.

Where v2.1 is read: lerobot up to 0.3.3, openpi's pinned lerobot, GR00T, DreamZero; v3.0: lerobot from 0.4 on.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from wambench.datasets import statistics
from wambench.datasets.episode_files import parquet_path, read_known, video_path
from wambench.datasets.features import V21, Schema, features, modality, numbers, vectors, video_key
from wambench.datasets.video_file import join

CHUNK = 1000  # episodes (v2.1) or files (v3.0) in a folder
DATA_MB, VIDEO_MB = 100, 200  # a file of v3.0 is closed before it gets larger
BATCH = 500  # episodes whose statistics are in memory at a time
V21_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
V21_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V30_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
V30_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_PLAIN = {"metadata": None}
# pandas reads the tasks of v3.0 with their text as the index of the table.
TASKS_INDEX = {
    "index_columns": ["task"],
    "column_indexes": [],
    "columns": [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64", **_PLAIN},
        {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", **_PLAIN},
    ],
    "creator": {"library": "pyarrow", "version": pyarrow.__version__},
    "pandas_version": "2.2.0",
}


@dataclass(frozen=True)
class Plan:
    """What a dataset is made of, in order.

    Attributes:
        schema: Of the dataset.
        rows: Of each episode.
        texts: The instruction of each episode.
    """

    schema: Schema
    rows: tuple[int, ...]
    texts: tuple[str, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The instructions, each once, in the order in which they appear; a task's index is its place here."""
        return tuple(dict.fromkeys(self.texts))

    @property
    def total(self) -> int:
        """Rows of all episodes."""
        return sum(self.rows)


def assemble(plan: Plan, stage: Path, target: Path) -> None:
    """Makes the files of a dataset in the folder `target` from complete episodes in `stage`."""
    (target / "meta").mkdir(parents=True)
    _write_json(target / "meta" / "stats.json", _stats(plan, stage))
    if plan.schema.format == V21:
        _v21(plan, stage, target)
    else:
        _v30(plan, stage, target)


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=4) + "\n")


def _stats(plan: Plan, stage: Path) -> dict[str, statistics.Stats]:
    """Returns the statistics over all episodes, which are read one after the other."""
    indices = range(len(plan.rows))
    names = (*vectors(plan.schema), *numbers(plan.schema))
    running = {name: statistics.Running() for name in names}
    histograms = {camera: np.zeros((3, 256), np.int64) for camera in plan.schema.convention.cameras}
    for index in indices:
        known = read_known(stage, index)
        for name in names:
            running[name].add(known["stats"][name])
        for camera, counts in histograms.items():
            counts += np.array(known["histograms"][camera], np.int64)
    over = statistics.quantiles([parquet_path(stage, index) for index in indices], names, plan.total)
    found = {video_key(camera): statistics.of_pixels(counts, plan.total) for camera, counts in histograms.items()}
    return found | {name: {**running[name].stats(), **over[name]} for name in names}


# -- v2.1 --------------------------------------------------------------------------------------------------------------


def _v21(plan: Plan, stage: Path, target: Path) -> None:
    meta, cameras = target / "meta", plan.schema.convention.cameras
    with (meta / "episodes.jsonl").open("w") as episodes, (meta / "episodes_stats.jsonl").open("w") as stats:
        for index, (rows, text) in enumerate(zip(plan.rows, plan.texts, strict=True)):
            place = {"episode_chunk": index // CHUNK, "episode_index": index}
            _take(parquet_path(stage, index), target / V21_DATA.format(**place))
            for camera in cameras:
                film = V21_VIDEO.format(**place, video_key=video_key(camera))
                _take(video_path(stage, index, camera), target / film)
            _line(episodes, {"episode_index": index, "tasks": [text], "length": rows})
            _line(stats, {"episode_index": index, "stats": _moments(read_known(stage, index)["stats"])})
    with (meta / "tasks.jsonl").open("w") as tasks:
        for number, text in enumerate(plan.tasks):
            _line(tasks, {"task_index": number, "task": text})
    _write_json(meta / "modality.json", modality(plan.schema))
    count = len(plan.rows)
    totals = {"total_videos": count * len(cameras), "total_chunks": -(-count // CHUNK)}
    paths = {"data_path": V21_DATA, "video_path": V21_VIDEO}
    _write_json(meta / "info.json", _info(plan, "v2.1") | totals | paths | {"features": features(plan.schema)})


def _moments(stats: dict[str, statistics.Stats]) -> dict[str, statistics.Stats]:
    return {name: {kind: values[kind] for kind in statistics.MOMENTS} for name, values in stats.items()}


def _take(path: Path, place: Path) -> None:
    """Puts a file into the dataset without using disk space twice, where the file system can do that."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, place)
    except OSError:
        shutil.copyfile(path, place)


def _line(file: Any, values: Any) -> None:
    file.write(json.dumps(values) + "\n")


def _info(plan: Plan, version: str) -> dict[str, Any]:
    count = len(plan.rows)
    return {
        "codebase_version": version,
        "robot_type": plan.schema.robot,
        "total_episodes": count,
        "total_frames": plan.total,
        "total_tasks": len(plan.tasks),
        "chunks_size": CHUNK,
        "fps": plan.schema.fps,
        "splits": {"train": f"0:{count}"},
    }


# -- v3.0 --------------------------------------------------------------------------------------------------------------


def _v30(plan: Plan, stage: Path, target: Path) -> None:
    cameras = plan.schema.convention.cameras
    placed = _join_data(plan, stage, target)
    for camera in cameras:
        for place, film in zip(placed, _join_films(plan, stage, target, camera), strict=True):
            place |= film
    _write_episodes(plan, stage, placed, target / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    names = pyarrow.array(plan.tasks, pyarrow.string())
    numbered = pyarrow.array(range(len(plan.tasks)), pyarrow.int64())
    tasks = pyarrow.table({"task_index": numbered, "task": names})
    tasks = tasks.replace_schema_metadata({"pandas": json.dumps(TASKS_INDEX)})
    pyarrow.parquet.write_table(tasks, target / "meta" / "tasks.parquet")
    sizes = {"data_files_size_in_mb": DATA_MB, "video_files_size_in_mb": VIDEO_MB}
    paths = {"data_path": V30_DATA, "video_path": V30_VIDEO}
    _write_json(
        target / "meta" / "info.json", _info(plan, "v3.0") | sizes | paths | {"features": features(plan.schema)}
    )


def groups(paths: Sequence[Path], megabytes: float) -> Iterator[range]:
    """Yields the numbers of consecutive files that go into one file of at most so many megabytes."""
    first, size = 0, 0
    for number, path in enumerate(paths):
        own = path.stat().st_size
        if number > first and size + own > megabytes * 2**20:
            yield range(first, number)
            first, size = number, 0
        size += own
    yield range(first, len(paths))


def _join_data(plan: Plan, stage: Path, target: Path) -> list[dict[str, Any]]:
    """Writes the data files, one row group an episode, and returns where each episode is."""
    paths = [parquet_path(stage, index) for index in range(len(plan.rows))]
    placed: list[dict[str, Any]] = []
    first = 0
    for number, group in enumerate(groups(paths, DATA_MB)):
        chunk, file = divmod(number, CHUNK)
        path = target / V30_DATA.format(chunk_index=chunk, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            writer = None
            for index in group:
                table = pyarrow.parquet.read_table(paths[index])
                if writer is None:
                    writer = stack.enter_context(pyarrow.parquet.ParquetWriter(path, table.schema))
                writer.write_table(table)
                end = first + plan.rows[index]
                where = {"data/chunk_index": chunk, "data/file_index": file}
                placed.append({**where, "dataset_from_index": first, "dataset_to_index": end})
                first = end
    return placed


def _join_films(plan: Plan, stage: Path, target: Path, camera: str) -> Iterator[dict[str, Any]]:
    """Writes the videos of a camera and yields where each episode is in them."""
    key, fps = video_key(camera), plan.schema.fps
    paths = [video_path(stage, index, camera) for index in range(len(plan.rows))]
    for number, group in enumerate(groups(paths, VIDEO_MB)):
        chunk, file = divmod(number, CHUNK)
        path = target / V30_VIDEO.format(video_key=key, chunk_index=chunk, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        counts = join([paths[index] for index in group], path, fps)
        if counts != [plan.rows[index] for index in group]:
            raise OSError(f"{path}: could not be written whole; is the disk full?")
        first = 0
        for count in counts:
            span: dict[str, float] = {"chunk_index": chunk, "file_index": file}
            span |= {"from_timestamp": first / fps, "to_timestamp": (first + count) / fps}
            yield {f"videos/{key}/{name}": value for name, value in span.items()}
            first += count


def _write_episodes(plan: Plan, stage: Path, placed: Sequence[dict[str, Any]], path: Path) -> None:
    """Writes the table of episodes, some of them at a time."""
    path.parent.mkdir(parents=True)
    writer = None
    with contextlib.ExitStack() as stack:
        for start in range(0, len(placed), BATCH):
            lines = []
            for index in range(start, min(start + BATCH, len(placed))):
                known = read_known(stage, index)["stats"]
                stats = {f"stats/{name}/{kind}": value for name, own in known.items() for kind, value in own.items()}
                line = {"episode_index": index, "tasks": [plan.texts[index]], "length": plan.rows[index]}
                own = {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
                lines.append({**line, **placed[index], **stats, **own})
            table = pyarrow.Table.from_pylist(lines)
            if writer is None:
                writer = stack.enter_context(pyarrow.parquet.ParquetWriter(path, table.schema))
            writer.write_table(table.cast(writer.schema))
