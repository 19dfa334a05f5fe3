"""A small run that fulfils the rules, made of what the experts of a split would have reached, without a simulator."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wambench import tasks
from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import plan
from wambench.evaluation.worker import to_row
from wambench.interface import Chunk, ControlConvention, Episode, Plan
from wambench.records import RunFolder, encode_episode, episode_stem, provenance

SPLIT = "dynamic"
Make = Callable[..., Path]


def write_run(
    folder: Path, error: str = "", edit: Callable[[Any, Any], Any] = lambda row, job: row, **values: Any
) -> Path:
    """Writes a run whose episodes reach more stages the higher their number is, and returns its folder.

    Args:
        folder: Of the run.
        error: Status of its first episode, if that is one.
        edit: Given a row and its job, returns the row that is written: how a forger would change it.
        values: Of the run.json, and `policy`, `split`, `tasks`, `episodes`, `seed` of the configuration.
    """
    names = ("policy", "split", "tasks", "episodes", "seed", "factors", "visual")
    given = {"policy": "noop", "split": SPLIT, "episodes": 10, **{n: values.pop(n) for n in names if n in values}}
    config = RunConfig.resolve(out=folder, **given)
    origin = provenance.of_run(config.split) | {
        "commit": "1" * 40, "renderer": "none", "device": "cpu", "weights_hash": None, "corpus": None,
        "convention": dataclasses.asdict(ControlConvention()), "policy_hash": None, "task_module_hash": None, **values,
    }  # fmt: skip
    rng = np.random.default_rng(zlib.crc32(str(origin["weights_hash"]).encode()))
    with RunFolder(folder, config.recorded()) as run:
        run.begin(origin)
        for number, job in enumerate(plan(config)):
            stages = tasks.find(job.spec.task).stages
            reached = stages[: job.index % (len(stages) + 1)]
            progress = round(sum(stage.weight for stage in reached), 6)
            actions = rng.uniform(-1, 1, (12, 7))
            chunk = Chunk(0, b"", Plan(actions, 12), actions, 0.01, 0, progress)
            done = len(reached) == len(stages)
            status = error if error and number == 0 else "ok"
            told = tuple(stage.name for stage in reached)
            said = "it fell" if status != "ok" else ""
            episode = Episode(job.spec, status, said, progress, done, done, told, 12, 1.0, (chunk,), ())
            files = {f"episodes/{episode_stem(job.key)}.npz": encode_episode(episode, ())}
            run.write(edit(to_row(config, job, episode), job), files)
        run.finish()
    return folder


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    """Changes a JSON file in place."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a run that fulfils the rules."""
    return write_run(tmp_path_factory.mktemp("good") / "noop-dynamic")
