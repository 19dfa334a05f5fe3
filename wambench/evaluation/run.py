"""A run: every task x factor x episode of a split, played by one policy and recorded; continues where it stopped."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wambench import tasks
from wambench.envs.episodes import episode_spec
from wambench.evaluation import latency
from wambench.evaluation.config import RANDOM, RunConfig
from wambench.evaluation.process_pool import LostJob, Pool
from wambench.evaluation.worker import EpisodeJob, MakeSim, lost_row, set_up, tabletop
from wambench.interface import EpisodeSpec
from wambench.records import Row, RunFolder, episode_stem, provenance, write_whole

FIXED = ("split_hash", "weights_hash")  # rows made with others do not belong into one table


def plan(config: RunConfig) -> list[EpisodeJob]:
    """Returns the episodes of a run in the order of its table."""
    jobs = []
    for name in config.tasks:
        for factor in config.factors:
            for index in range(config.episodes):
                spec = episode_spec(tasks.find(name), config.split, factor, index, config.seed, config.visual)
                jobs.append(EpisodeJob(spec, index, prompt(config, name, spec)))
    return jobs


def prompt(config: RunConfig, task: str, spec: EpisodeSpec) -> str:
    """Returns the instruction of another task (`instruction_of`), or nothing, for the episode's own."""
    if not config.instruction_of:
        return ""
    if config.instruction_of != RANDOM:
        return tasks.find(config.instruction_of).instruction
    others = [name for name in tasks.SPLITS[config.split].tasks if name != task]
    return tasks.find(others[np.random.default_rng([spec.seed, 1]).integers(len(others))]).instruction


def run(config: RunConfig, make_sim: MakeSim = tabletop) -> list[Row]:
    """Plays what `config.folder` does not hold yet and returns all rows of the run.

    Args:
        config: What is played.
        make_world: Module-level function that makes the simulator of a task in a worker.

    Raises:
        ValueError: The folder holds something else, or the policy and the simulators do not fit.
        OSError: The folder cannot be written to; what is recorded stays.
        WorkerFailed: No worker could be set up.
    """
    jobs = plan(config)
    source = latency.parse(config.latency)
    source.check(episode_stem(job.key) for job in jobs)
    with RunFolder(config.folder, config.recorded(), [job.key for job in jobs]) as folder:
        todo = [job for job in jobs if job.key not in folder.rows]
        if todo:
            _play(config, len(jobs), todo, folder, make_sim)
        folder.finish()
        wrapped = sum(source.wraps(episode_stem(row.key), row.queries) for row in folder.rows.values())
        if wrapped:
            what = f"{config.latency} began again in {wrapped} of {len(jobs)} episodes"
            print(f"wambench: {what}, which asked more often than it tells", file=sys.stderr)
        if config.latency == latency.MEASURED and (todo or not (config.folder / latency.TRACE).exists()):
            write_whole(config.folder / latency.TRACE, trace(config.folder, jobs, config.clock == "wall"))
        return [folder.rows[job.key] for job in jobs]


def trace(folder: Path, jobs: Sequence[EpisodeJob], waited: bool = False) -> str:
    """Returns the latencies of a run's calls as CSV, for `--latency`, from the files of its episodes.

    Args:
        folder: Of the run.
        jobs: Its episodes.
        waited: Tell what the clock said (whole control steps) instead of what the calls took: what counts on the wall
            clock, where handing over takes time too.
    """
    lines = [",".join(latency.TRACE_COLUMNS)]
    for job in jobs:
        path = folder / "episodes" / f"{episode_stem(job.key)}.npz"
        if not path.exists():  # its worker died
            continue
        with np.load(path, allow_pickle=False) as arrays:
            calls = arrays["delays"] / job.spec.control_hz if waited else arrays["latency_s"]
        lines += [f"{','.join(map(str, job.key))},{i},{float(seconds)!r}" for i, seconds in enumerate(calls)]
    return "\n".join(lines) + "\n"


def _play(config: RunConfig, total: int, todo: Sequence[EpisodeJob], folder: RunFolder, make_sim: MakeSim) -> None:
    payload = config, make_sim, todo[0].spec.task
    with Pool(set_up, payload, min(config.workers, len(todo)), daemon=config.clock != "wall") as pool:
        folder.begin({**provenance.of_run(config.split), **pool.info}, FIXED)
        with tqdm(total=total, initial=len(folder.rows), unit="episode") as bar:
            for index, result in pool.results(todo, config.time_limit_s):
                row, files = (lost_row(config, todo[index], result), {}) if isinstance(result, LostJob) else result
                folder.write(row, files)
                bar.set_postfix_str(summary(folder.rows.values()), refresh=False)
                bar.update()


def summary(rows: Collection[Row]) -> str:
    """Returns the mean progress of the episodes that could be played, and the number of those that could not."""
    progress = [row.progress for row in rows if row.status == "ok"]
    mean = float(np.mean(progress)) if progress else math.nan
    errors = len(rows) - len(progress)
    return f"progress {mean:.2f}" + (f", {errors} errors" if errors else "")
