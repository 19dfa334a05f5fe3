"""`wambench score`: recorded runs under the predicates of today, without their policies.

The recorded actions are played again from the recorded start, and the tasks of this wambench judge what happens. A row
of the run is never touched: what it would be now stands beside it. Where the scene has changed, the recorded states are
left, and nothing is claimed.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wambench import tasks
from wambench.datasets.replay import Simulators, check
from wambench.interface import ControlConvention, Episode, Outcome, SimulationDiverged, fields_of_json
from wambench.progress_bar import progress_bar
from wambench.records import ROWS, RUN, Row, episode_stem, load_episode, read_rows, write_whole

if TYPE_CHECKING:
    from wambench.envs.tabletop import TabletopEnv

SCORES = "scores.csv"
SAME, CHANGED, UNKNOWN = "same", "changed", "unknown"
EPSILON = 1e-6  # progress has six digits in a row
SIZE = (16, 16)  # nothing is rendered
COMPARED = ("progress", "success_end", "success_ever", "stages", "steps")


@dataclass(frozen=True)
class Score:
    """An episode as it was recorded, and as it would be scored now.

    Attributes:
        run, policy, split, task, factor, episode, seed: Which one.
        task_now: Versioned id of the task that judged it now.
        verdict: "same", "changed", or "unknown" if it cannot be played again.
        progress, success_end, success_ever, stages, steps: As recorded.
        progress_now, success_end_now, success_ever_now, stages_now, steps_now: Of today's predicates.
        behaviour: Type of failure (`attribution.failure_types`), "" of a success.
        video_skill, video_psnr_db: Over the imagined frames whose real ones were recorded (`analysis.imagination`); NaN
            without video.
        reason: Of a verdict that is not "same".
    """

    run: str
    policy: str
    split: str
    task: str
    factor: str
    episode: int
    seed: int
    task_now: str
    verdict: str
    progress: float
    progress_now: float
    success_end: bool
    success_end_now: bool | None
    success_ever: bool
    success_ever_now: bool | None
    stages: str
    stages_now: str
    steps: int
    steps_now: int | None
    behaviour: str = ""
    video_skill: float = math.nan
    video_psnr_db: float = math.nan
    reason: str = ""


def score(runs: Sequence[Path], out: Path | None = None, workers: int = 1) -> list[Score]:
    """Scores recorded runs and writes what came of it, beside each run or to `out`.

    Args:
        runs: Folders of runs.
        out: CSV for all of them; None: `scores.csv` in the folder of each.
        workers: Processes.

    Raises:
        ValueError: A run is none, or a file that would be written is there already.
    """
    places = {run: out or run / SCORES for run in runs}
    for place in dict.fromkeys(places.values()):
        if place.exists():
            raise ValueError(f"{place} is there already, and nothing is overwritten: remove it, or give another --out")
    jobs = [_Job(run, row, _convention(run)) for run in runs for row in _rows(run)]
    scores = []
    with progress_bar(total=len(jobs), desc="score", unit="episode") as bar:
        for one in _map(jobs, min(workers, max(1, len(jobs)))):
            scores.append(one)
            bar.update()
    for place in dict.fromkeys(places.values()):
        own = [one for job, one in zip(jobs, scores, strict=True) if places[job.run] == place]
        write_whole(place, to_csv(own))
    return scores


def to_csv(scores: Sequence[Score]) -> str:
    """Returns the scores as CSV; what is not known is empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(Score))
    for one in scores:
        writer.writerow("" if value is None or value != value else _short(value) for value in dataclasses.astuple(one))
    return buffer.getvalue()


def _short(value: object) -> object:
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def report(scores: Sequence[Score], most: int = 20) -> list[str]:
    """Returns what a user should know, line by line."""
    by = {kind: [one for one in scores if one.verdict == kind] for kind in (SAME, CHANGED, UNKNOWN)}
    lines = []
    for one in (by[CHANGED] + by[UNKNOWN])[:most]:
        what = ", ".join(
            f"{name} {_short(getattr(one, name))} -> {_short(getattr(one, name + '_now'))}"
            for name in COMPARED
            if one.verdict == CHANGED and getattr(one, name) != getattr(one, name + "_now")
        )
        lines.append(f"{one.run}: {one.task}.{one.factor}.{one.episode}: {'; '.join(filter(None, (what, one.reason)))}")
    left = len(by[CHANGED]) + len(by[UNKNOWN]) - most
    lines += [f"... and {left} more"] if left > 0 else []
    known = by[SAME] + by[CHANGED]
    counts = f"{len(scores)} episodes: {len(by[SAME])} as recorded, {len(by[CHANGED])} would change"
    lines.append(f"{counts}, {len(by[UNKNOWN])} cannot be scored")
    if known:
        before, now = (np.mean([getattr(one, name) for one in known]) for name in ("progress", "progress_now"))
        lines.append(f"mean progress of those that can: {before:.4f} as recorded, {now:.4f} now")
    return lines


@dataclass(frozen=True)
class _Job:
    run: Path
    row: Row
    convention: ControlConvention


def _rows(run: Path) -> list[Row]:
    path = run / ROWS
    if not path.is_file():
        raise ValueError(f"no run at {run}: there is no {path}")
    return read_rows(path, torn=True)


def _convention(run: Path) -> ControlConvention:
    path = run / RUN
    try:
        return ControlConvention(**fields_of_json(json.loads(path.read_text())["convention"]))
    except FileNotFoundError:
        raise ValueError(f"{run}: there is no {RUN}, which says how its robot was controlled") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged: {error}") from None


_SIMULATORS: dict[ControlConvention, Simulators] = {}  # of this process


def _map(jobs: list[_Job], workers: int) -> Iterator[Score]:
    if workers == 1:
        try:
            yield from map(_score, jobs)
        finally:
            while _SIMULATORS:
                _SIMULATORS.popitem()[1].close()
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_score, jobs, chunksize=5)


def _score(job: _Job) -> Score:
    """Returns the score of an episode; whatever keeps it from being played is its reason."""
    row, path = job.row, job.run / "episodes" / f"{episode_stem(job.row.key)}.npz"
    if row.status != "ok":
        return _unknown(job, f"it ended in an error ({row.status}), which stays")
    if not path.is_file():
        return _unknown(job, f"its recording {path.name} is missing")
    simulators = _SIMULATORS.setdefault(job.convention, Simulators(job.convention, SIZE))
    try:
        env = simulators.of(row.task.rpartition("-v")[0])
        recorded = load_episode(path)
        episode = dataclasses.replace(recorded, spec=dataclasses.replace(recorded.spec, task=env.task.id))
        outcome = play(env, episode)
    except (ValueError, KeyError, SimulationDiverged) as error:
        return _unknown(job, " ".join(str(error).split()))
    return _compared(job, env.task.id, outcome, _behaviour(env, episode), recorded)


def play(env: TabletopEnv, episode: Episode) -> Outcome:
    """Returns the outcome after the recorded actions, or where the episode is over now.

    Raises:
        ValueError: There are no actions, or a recorded state was left.
    """
    if not episode.chunks:
        raise ValueError("no action was recorded")
    states = {seen.step: seen.state for seen in episode.observations}
    outcome = env.begin(episode.spec, render=False)
    check(0, env.proprioception(), states[0])
    for action in np.concatenate([chunk.executed for chunk in episode.chunks]):
        if outcome.terminated or outcome.truncated:
            break
        outcome = env.advance(action)
        if outcome.steps in states:
            check(outcome.steps, env.proprioception(), states[outcome.steps])
    return outcome


def _behaviour(env: TabletopEnv, episode: Episode) -> str:
    """Returns the type of failure, "" of a success and where the expert's own episode tells nothing."""
    from wambench.attribution.replay import behaviour

    try:
        return behaviour(env, episode)
    except (ValueError, SimulationDiverged):
        return ""


def _compared(job: _Job, task: str, outcome: Outcome, behaviour: str, episode: Episode) -> Score:
    row = job.row
    stages = ";".join(outcome.stages)
    now = (outcome.progress, outcome.success, outcome.success_ever, stages, outcome.steps)
    before = (row.progress, row.success_end, row.success_ever, row.stages, row.steps)
    same = abs(now[0] - before[0]) < EPSILON and now[1:] == before[1:]
    reasons = [] if task == row.task else [f"judged by {task}"]
    if not (outcome.terminated or outcome.truncated):
        reasons.append("now it would not be over: what follows its last action is not known")
    skill, psnr = video(episode)
    return dataclasses.replace(
        _unknown(job, "; ".join(reasons) if not same or reasons[1:] else ""),
        task_now=task,
        verdict=SAME if same else CHANGED,
        progress_now=outcome.progress,
        success_end_now=outcome.success,
        success_ever_now=outcome.success_ever,
        stages_now=stages,
        steps_now=outcome.steps,
        behaviour=behaviour,
        video_skill=skill,
        video_psnr_db=psnr,
    )


def video(episode: Episode) -> tuple[float, float]:
    """Returns skill and PSNR in dB of what was imagined, over all frames; NaN if nothing was."""
    from wambench.analysis.imagination import score_episode

    frames = score_episode(episode)
    kept = sum(frame.kept for frame in frames)
    if not frames or kept == 0:
        return math.nan, math.nan
    moving = [frame.psnr_db for frame in frames if math.isfinite(frame.psnr_db)]
    return 1 - sum(frame.imagined for frame in frames) / kept, float(np.mean(moving)) if moving else math.nan


def _unknown(job: _Job, reason: str) -> Score:
    row = job.row
    name = row.task.rpartition("-v")[0]
    today = tasks.TASKS[name].id if name in tasks.TASKS else ""
    return Score(
        run=job.run.name, policy=row.policy, split=row.split, task=row.task, factor=row.factor, episode=row.episode,
        seed=row.seed, task_now=today, verdict=UNKNOWN, progress=row.progress, progress_now=math.nan,
        success_end=row.success_end, success_end_now=None, success_ever=row.success_ever, success_ever_now=None,
        stages=row.stages, stages_now="", steps=row.steps, steps_now=None, reason=reason,
    )  # fmt: skip
