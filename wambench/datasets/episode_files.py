"""One episode of a dataset while it is being made: a parquet file, a video per camera, and what is known of both.

    STAGE/000007.parquet, STAGE/000007.agentview.mp4, ..., STAGE/000007.json

The JSON file is written last. An episode whose JSON file is there is complete, and is not made again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from wambench.datasets import statistics
from wambench.datasets.features import (
    ACTION,
    ANNOTATION,
    DONE,
    EXECUTED,
    INDICES,
    PROGRESS,
    REWARD,
    STATE,
    SUCCESS,
    Schema,
    columns,
    numbers,
    vectors,
    video_key,
)
from wambench.datasets.sources import Moment
from wambench.datasets.video_file import VideoWriter, count_frames
from wambench.records import write_whole

DISTURBED = 1e-3  # difference of an action from the wanted one, in units of its range, as in `training.dataset`


def parquet_path(stage: Path, index: int) -> Path:
    """Returns where the numbers of an episode are."""
    return stage / f"{index:06d}.parquet"


def video_path(stage: Path, index: int, camera: str) -> Path:
    """Returns where the video of a camera is."""
    return stage / f"{index:06d}.{camera}.mp4"


def json_path(stage: Path, index: int) -> Path:
    """Returns where statistics and facts of an episode are."""
    return stage / f"{index:06d}.json"


def write_episode(
    stage: Path, schema: Schema, moments: Iterable[Moment], place: dict[str, int], about: dict[str, Any]
) -> None:
    """Writes the files of an episode.

    Args:
        stage: Folder.
        schema: Of the dataset.
        moments: Its rows.
        place: "episode_index", "task_index", "first" (rows of all earlier episodes), "rows".
        about: What is known of it.

    Raises:
        ValueError: It has another number of rows.
        OSError: The disk is full.
    """
    index = place["episode_index"]
    cameras = schema.convention.cameras
    unfinished = {camera: _unfinished(stage, index, camera) for camera in cameras}
    try:
        rows, counts = _film(unfinished, schema, moments)
        if len(rows) != place["rows"]:
            raise ValueError(f"episode {about['name']} has {len(rows)} rows, and {place['rows']} were expected")
        for camera in cameras:
            _keep_video(unfinished[camera], video_path(stage, index, camera), len(rows))
    finally:
        for path in unfinished.values():
            path.unlink(missing_ok=True)
    table = _table(schema, rows, place)
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, buffer)
    write_whole(parquet_path(stage, index), buffer.getvalue().to_pybytes())
    found = {
        name: statistics.of_numbers(statistics.column(table, name)) for name in (*vectors(schema), *numbers(schema))
    }
    found |= {video_key(camera): statistics.of_pixels(counts[camera], len(rows)) for camera in cameras}
    facts = _facts(table, rows[-1]) if schema.acted else {}
    histograms = {camera: counts[camera].tolist() for camera in cameras}
    known = {"about": {**about, **facts}, "stats": found, "histograms": histograms, "rows": len(rows)}
    write_whole(json_path(stage, index), json.dumps(known))


def _facts(table: pyarrow.Table, last: Moment) -> dict[str, Any]:
    """Returns how an episode ended, and the share of its steps in which something else was done than was wanted."""
    apart = np.abs(statistics.column(table, ACTION) - statistics.column(table, EXECUTED)).max(axis=1)
    disturbed = round(float((apart[:-1] > DISTURBED).mean()), 4)
    return {"progress": last.progress, "success": last.success, "disturbed": disturbed}


def read_known(stage: Path, index: int) -> dict[str, Any]:
    """Returns statistics and facts of an episode that is complete."""
    values: dict[str, Any] = json.loads(json_path(stage, index).read_text())
    return values


def _film(
    paths: Mapping[str, Path], schema: Schema, moments: Iterable[Moment]
) -> tuple[list[Moment], dict[str, NDArray[np.int64]]]:
    """Writes the video of each camera; returns the moments without their images, and the histograms of these."""
    size = schema.convention.image_size
    counts = {camera: np.zeros((3, 256), np.int64) for camera in paths}
    rows: list[Moment] = []
    with contextlib.ExitStack() as files:
        films = {camera: files.enter_context(VideoWriter(path, size, schema.fps)) for camera, path in paths.items()}
        for moment in moments:
            for camera, film in films.items():
                film.write(moment.images[camera])
                counts[camera] += statistics.histogram(moment.images[camera])
            rows.append(dataclasses.replace(moment, images={}))
    return rows, counts


def _unfinished(stage: Path, index: int, camera: str) -> Path:
    return video_path(stage, index, camera).with_suffix(f".{os.getpid()}.tmp")


def _keep_video(written: Path, path: Path, frames: int) -> None:
    """Gives a video its name once it is known to be whole: the encoder does not tell of every failed write."""
    with written.open("rb") as file:
        os.fsync(file.fileno())
    if count_frames(written) != frames:
        raise OSError(f"{path}: could not be written whole; is the disk full?")
    written.replace(path)


def _table(schema: Schema, rows: list[Moment], place: dict[str, int]) -> pyarrow.Table:
    count = len(rows)
    values: dict[str, Any] = {}
    if schema.acted:
        progress = np.array([row.progress for row in rows], np.float32)
        values[STATE] = np.stack([_given(row.state) for row in rows])
        values[ACTION] = np.stack([_given(row.action) for row in rows])
        values[EXECUTED] = np.stack([_given(row.executed) for row in rows])
        values[PROGRESS] = progress
        values[SUCCESS] = np.array([row.success for row in rows])
        values[REWARD] = np.append(np.diff(progress), np.float32(0))
        values[DONE] = np.arange(count) == count - 1
    values["timestamp"] = (np.arange(count) / schema.fps).astype(np.float32)
    first, task = place["first"], place["task_index"]
    indices = (np.arange(count), np.full(count, place["episode_index"]), first + np.arange(count), np.full(count, task))
    values |= dict(zip(INDICES, indices, strict=True)) | {ANNOTATION: np.full(count, task)}
    layout = columns(schema)
    arrays = [_array(values[field.name], field.type) for field in layout]
    return pyarrow.Table.from_arrays(arrays, schema=layout)


def _given(values: Any) -> Any:
    if values is None:
        raise ValueError("a moment without state or action among those that have them")
    return np.asarray(values, np.float32)


def _array(values: Any, kind: pyarrow.DataType) -> pyarrow.Array:
    if pyarrow.types.is_fixed_size_list(kind):
        return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), kind.list_size)
    return pyarrow.array(values, kind)
