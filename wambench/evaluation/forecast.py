"""What a run would play, how long that would take, and how much disk it would fill; nothing is played or written.

Time and disk are those of a recorded run of the same policy, if one is near: the median seconds and bytes of its
episodes, task by task, and once for each task what its longest episode took more, which is mostly the compiling of its
scene. Without one they follow from `SECONDS`, `COMPILING_S` and `BYTES`, every episode being taken to use up its
horizon. The start of the worker processes is not counted.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from wambench import policies, tasks
from wambench.evaluation.config import RUNS, RunConfig
from wambench.evaluation.run import is_retried
from wambench.records import ROWS, RUN, Row, episode_stem, read_rows
from wambench.records.run_folder import FREE, GROWING, rows_in

# Seconds of one worker per control step, profile "fast", mean over the published rows (results/reference, two cores of
# a CPU, n = 580 to 2080 episodes of each policy); a test computes them again. A policy that is not here is counted with
# the simulator alone.
SECONDS: Mapping[str, float] = MappingProxyType(
    {
        "noop": 0.0026, "random": 0.0032, "dreamzero": 0.0099, "pi0": 0.0099, "pi05": 0.0105, "ki": 0.0103,
        "groot": 0.0071, "l1": 0.0057,
    }
)  # fmt: skip
SIMULATOR = SECONDS["noop"]
COMPILING_S = 2.0  # of a task's scene, once in every worker; PressButton and OpenDrawer took 1.6 and 1.9 s
# Bytes of an episode's file per control step: of DreamZero nano 23 and 27 kB (45 episodes of seen and of unseen-envs),
# of pi0 4.5 and 6.1 kB (27 and 8 episodes). Imagined frames are the difference.
BYTES, BYTES_WITH_VIDEO = 5_300, 25_200
IMAGINES = ("dreamzero", "cem")
OTHERWISE = ("split", "seed", "name", "instruction_of")  # what may differ in a run that takes as long


@dataclass(frozen=True)
class Forecast:
    """What would be played.

    Attributes:
        label: How the rows would call the policy.
        split: What would be played.
        folder: Where it would be recorded.
        asked: (task, factor) -> number of episodes.
        missing: The same of those that are not there yet.
        workers: Processes.
        seconds: How long it would take.
        bytes: What would be written, videos not counted.
        basis: What both rest on.
        at_most: They are upper bounds.
    """

    label: str
    split: str
    folder: Path
    asked: Mapping[tuple[str, str], int]
    missing: Mapping[tuple[str, str], int]
    workers: int
    seconds: float
    bytes: float
    basis: str
    at_most: bool


def forecast(config: RunConfig) -> Forecast:
    """Returns what `run` would do with a configuration.

    Raises:
        ValueError: As `run`: the folder holds another run, or what is there is damaged.
    """
    there = rows_in(config.folder, config.recorded())
    cells = [(name, factor) for name in config.tasks for factor in config.factors]
    missing = {cell: sum(_is_missing(there, config, *cell, i) for i in range(config.episodes)) for cell in cells}
    like = recorded_like(config)
    if like is None:
        steps = sum(number * tasks.find(name).horizon for (name, _), number in missing.items())
        per_step = SECONDS.get(config.policy, SIMULATOR)
        scenes = len({name for (name, _), number in missing.items() if number}) * COMPILING_S
        seconds, size = (
            scenes + steps * per_step,
            float(steps * (BYTES_WITH_VIDEO if config.policy in IMAGINES else BYTES)),
        )
        basis = _describe_rates(config)
    else:
        run, rows = like
        seconds = _extrapolated(missing, [(row.task, row.wall_s) for row in rows], once=True)
        size = _extrapolated(missing, [(row.task, float(file.stat().st_size)) for row, file in _files(run, rows)])
        basis = f"{len(rows)} episodes of {run}"
    workers = max(1, min(config.workers, sum(missing.values())))
    asked = dict.fromkeys(cells, config.episodes)
    return Forecast(
        config.label, config.split, config.folder, asked, missing, workers, seconds / workers, size, basis, like is None
    )


def _is_missing(there: Mapping[Any, Row], config: RunConfig, task: str, factor: str, index: int) -> bool:
    row = there.get((tasks.find(task).id, factor, index))
    return row is None or is_retried(row, config)


def recorded_like(config: RunConfig) -> tuple[Path, list[Row]] | None:
    """Returns the largest run beside this one, or in `runs/`, that takes as long per episode, and its rows without
    errors; None if there is none: it has the same policy, arguments, pictures and clock."""
    wanted = _what_takes_time(json.loads(json.dumps(config.recorded())))
    found: list[tuple[Path, list[Row]]] = []
    for run in sorted({file.parent for place in {RUNS, config.folder.parent} for file in place.glob(f"*/{RUN}")}):
        try:
            theirs = json.loads((run / RUN).read_text())["config"]
            if _what_takes_time(theirs) != wanted or not (run / ROWS).exists():
                continue
            rows = [row for row in read_rows(run / ROWS) if row.status == "ok" and math.isfinite(row.wall_s)]
        except (OSError, ValueError, KeyError, TypeError):  # nothing to learn from a damaged run
            continue
        if rows and any(_files(run, rows)):
            found.append((run, rows))
    return max(found, key=lambda one: len(one[1]), default=None)


def _what_takes_time(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in (*GROWING, *FREE, *OTHERWISE)}


def _files(run: Path, rows: Sequence[Row]) -> Iterator[tuple[Row, Path]]:
    for row in rows:
        file = run / "episodes" / f"{episode_stem(row.key)}.npz"
        if file.is_file():
            yield row, file


def _extrapolated(
    missing: Mapping[tuple[str, str], int], known: Sequence[tuple[str, float]], once: bool = False
) -> float:
    """Returns the sum over missing episodes: each takes the median of its task, or of all episodes if that is unknown.

    Args:
        missing: (task, factor) -> number of episodes.
        known: (task id, value) of recorded ones.
        once: Add, for each task, how far the largest value is above the median.
    """
    by_task: dict[str, list[float]] = {}
    for task, value in known:
        by_task.setdefault(task, []).append(value)
    medians = {task: statistics.median(values) for task, values in by_task.items()}
    overall = statistics.median(value for _, value in known)
    total = 0.0
    for name in dict.fromkeys(name for name, _ in missing):
        task = tasks.find(name).id
        number = sum(n for (other, _), n in missing.items() if other == name)
        total += number * medians.get(task, overall)
        if once and number:
            total += max(by_task[task]) - medians[task] if task in by_task else COMPILING_S
    return total


def _describe_rates(config: RunConfig) -> str:
    basis = "the rates of docs/running.md, every episode using up its time"
    if config.policy not in SECONDS:
        own = "the expert's" if config.policy == policies.EXPERT else "the policy's"
        basis += f", {own} own time not counted"
    return basis + (f", profile fast; {config.visual} takes longer" if config.visual != "fast" else "")


def to_text(told: Forecast) -> str:
    """Returns a forecast for people: a line for each task, a column for each factor, then time and disk."""
    factors = list(dict.fromkeys(factor for _, factor in told.asked))
    names = list(dict.fromkeys(name for name, _ in told.asked))
    lines = [["task", *factors]]
    lines += [[name, *(_cell(told.missing[name, f], told.asked[name, f]) for f in factors)] for name in names]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    asked, missing = sum(told.asked.values()), sum(told.missing.values())
    there = f", {asked - missing} of them there already" if missing < asked else ""
    about = "at most" if told.at_most else "about"
    workers = f"{told.workers} worker" + "s" * (told.workers > 1)
    return "\n".join(
        [
            f"{told.label} on {told.split}, into {told.folder}",
            *(f"  {line}" for line in table),
            f"  {asked} episodes{there}; {missing} to play",
            f"  {about} {duration(told.seconds)} with {workers}, and {size(told.bytes)} of disk",
            f"  by {told.basis}",
        ]
    )


def _cell(missing: int, asked: int) -> str:
    return f"{asked}" if missing == asked else f"{missing} of {asked}"


def duration(seconds: float) -> str:
    """Returns seconds as "40 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Returns bytes as "0.4 MB", "12 MB" or "3.5 GB"."""
    if count < 1e9:
        return f"{count / 1e6:.1f} MB" if count < 1e7 else f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB"
