"""A run: every task x factor x episode of a split, played by one policy and recorded; continues where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wambench import policies, task_module, tasks
from wambench.conventions import ROBOT
from wambench.envs.episodes import episode_spec, played_by
from wambench.evaluation import latency
from wambench.evaluation.config import RANDOM, RunConfig
from wambench.evaluation.inference_process import InferenceProcess
from wambench.evaluation.process_pool import LostJob, Pool
from wambench.evaluation.worker import Connect, EpisodeJob, Make, MakeSim, Result, lost_result, set_up, tabletop
from wambench.interface import EpisodeSpec
from wambench.progress_bar import progress_bar
from wambench.records import Row, RunFolder, episode_stem, provenance, write_whole
from wambench.records.rows import MACHINE
from wambench.records.run_folder import GROWING

if TYPE_CHECKING:
    from wambench.evaluation.ray_cluster import RayPool

Tell = Callable[[str], None]
# Rows made with others do not belong into one table.
FIXED = ("split_hash", "weights_hash", "task_module_hash", "robot", "server_hash", "world_model")
LATEST = ("policy_hash",)  # of a file that may have been mended meanwhile


def to_stderr(line: str) -> None:
    """Says a line to the user."""
    print(f"wambench: {line}", file=sys.stderr, flush=True)


def plan(config: RunConfig) -> list[EpisodeJob]:
    """Returns the episodes of a run in the order of its table.

    Without `config.robot` they are those of the usual robot; which one a policy asks for is known once it is loaded.
    """
    jobs = []
    for name in config.tasks:
        for factor in config.factors:
            for index in range(config.episodes):
                spec = episode_spec(tasks.find(name), config.split, factor, index, config.seed, config.visual)
                spec = played_by(spec, config.robot or ROBOT)
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


def run(config: RunConfig, make_sim: MakeSim = tabletop, tell: Tell = to_stderr, quiet: bool = False) -> list[Row]:
    """Plays what `config.folder` does not hold yet and returns all rows that it then holds.

    An error is kept as it is, with two exceptions that are played again: what the machine ended (a killed worker, a
    full disk), and everything that is no "ok" if `config.retry_errors`.

    Args:
        config: What is played.
        make_sim: Module-level function that makes the simulator of a task in a worker.
        tell: Is told, line by line, where it is recorded, what is played again, and the first error.
        quiet: Show no progress.

    Raises:
        ValueError: The folder holds something else, or the policy and the simulators do not fit.
        OSError: The folder cannot be written to; what is recorded stays.
        WorkerFailed: No worker could be set up.
    """
    jobs = plan(config)
    source = latency.parse(config.latency)
    source.check(episode_stem(job.key) for job in jobs)
    place = config.folder
    with RunFolder(place, config.recorded()) as folder:
        todo = [job for job in jobs if job.key not in folder.rows or is_retried(folder.rows[job.key], config)]
        _tell_errors([folder.rows[job.key] for job in jobs if job.key in folder.rows], config, tell)
        if todo:
            _play(config, todo, folder, make_sim, tell, quiet)
        folder.finish()
        rows = folder.in_order()
        wrapped = sum(source.wraps(episode_stem(row.key), row.queries) for row in rows)
        if wrapped:
            asked = f"{wrapped} of {len(rows)} episodes, which asked more often than it tells"
            tell(f"{config.latency} began again in {asked}")
        if config.latency == latency.MEASURED and (todo or not (place / latency.TRACE).exists()):
            covered = dataclasses.replace(config, **{name: folder.config[name] for name in GROWING})
            write_whole(place / latency.TRACE, trace(place, plan(covered), config.clock == "wall"))
        return rows


def is_retried(row: Row, config: RunConfig) -> bool:
    """Returns whether an episode that has a row is played again."""
    return row.of_machine or (config.retry_errors and row.status != "ok")


def _tell_errors(rows: Sequence[Row], config: RunConfig, tell: Tell) -> None:
    """Says which errors among the rows that are there already are played again, and which stay."""
    errors = [row for row in rows if row.status != "ok"]
    retried = [row for row in errors if is_retried(row, config)]
    if retried:
        of_machine = sum(row.of_machine for row in retried)
        what = f", {of_machine} of them errors of the machine (killed worker, full disk)" if of_machine else ""
        tell(f"{len(retried)} of {len(rows)} recorded episodes are errors that are played again{what}")
    kept = len(errors) - len(retried)
    if kept:
        tell(f"{kept} of {len(rows)} recorded episodes are errors; --retry-errors plays them again")


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
            rate = json.loads(arrays["meta"].tobytes())["spec"]["control_hz"]
            calls = arrays["delays"] / rate if waited else arrays["latency_s"]
        lines += [f"{','.join(map(str, job.key))},{i},{float(seconds)!r}" for i, seconds in enumerate(calls)]
    return "\n".join(lines) + "\n"


def _play(
    config: RunConfig, todo: Sequence[EpisodeJob], folder: RunFolder, make_sim: MakeSim, tell: Tell, quiet: bool
) -> None:
    with _workers(config, todo, make_sim, tell) as (pool, inference):
        _begin(config, folder, pool.info, tell)
        robot = pool.info.get("robot", ROBOT)
        todo = [dataclasses.replace(job, spec=played_by(job.spec, robot)) for job in todo]
        done = len(folder.rows.keys() - {job.key for job in todo})
        failed = False
        with progress_bar(total=done + len(todo), initial=done, unit="episode", disable=quiet) as bar:
            for index, result in pool.results(todo, config.time_limit_s):
                lost = isinstance(result, LostJob)
                row, files = lost_result(config, todo[index], result) if lost else result
                folder.write(row, files)
                hangs = lost and result.timeout
                if inference and (row.of_machine or hangs) and inference.mend(hangs):
                    bar.clear()
                    tell("the policy's process died or hung, and was started anew")
                if row.status != "ok" and not failed:
                    failed = True
                    bar.clear()
                    tell(_first_error(row, folder.path))
                bar.set_postfix_str(summary(folder.rows.values()), refresh=False)
                bar.update()


@contextlib.contextmanager
def _workers(
    config: RunConfig, todo: Sequence[EpisodeJob], make_sim: MakeSim, tell: Tell
) -> Iterator[tuple[Pool | RayPool, InferenceProcess | None]]:
    """Yields the workers of a run, here or on a cluster, and the process of its policy if it has one here."""
    count, task = min(config.workers, len(todo)), todo[0].spec.task
    # not smoothed: whoever asks smooths what is answered
    make = Make(config.policy, config.policy_args, robot=config.robot, device=config.policy_device)

    def payload(connect: Connect | None) -> tuple[RunConfig, MakeSim, Connect | None, str]:
        return config, make_sim, connect, task

    with contextlib.ExitStack() as stack:
        if config.cluster:
            from wambench.evaluation import ray_cluster

            replicas = ray_cluster.Replicas(make, config.batch, config.policy_device) if config.shared else None
            ray = stack.enter_context(ray_cluster.connected(config.cluster, count, replicas))
            pool = ray_cluster.RayPool(ray, set_up, payload, count, replicas, _called, _machine_error, tell)
            yield stack.enter_context(pool), None
            return
        inference = None
        if config.shared:
            inference = stack.enter_context(InferenceProcess(make, config.batch, config.policy_device))
        given = payload(inference.connect if inference else None)
        yield stack.enter_context(Pool(set_up, given, count, daemon=config.clock != "wall")), inference


def _called(job: EpisodeJob) -> str:
    return episode_stem(job.key)


def _machine_error(result: Result | LostJob) -> str:
    """Returns why an episode should be played again at once, on another machine; "" if it should not."""
    if isinstance(result, LostJob):
        return ""
    return result[0].error.removeprefix(MACHINE) if result[0].of_machine else ""


def _begin(config: RunConfig, folder: RunFolder, of_workers: Mapping[str, Any], tell: Tell) -> None:
    """Writes where the rows come from, or checks that it has not changed since the run was begun."""
    hashes = {
        "policy_hash": policies.source_hash(config.policy),
        "task_module_hash": task_module.source_hash(config.split),
    }
    if folder.origin and folder.origin.get("policy_hash") not in (None, hashes["policy_hash"]):
        tell(f"{config.policy} has changed since {folder.path} was begun; rows that are there stay")
    origin = {**provenance.of_run(config.split), **of_workers, **config.shared_by(), **hashes}
    folder.begin(origin, FIXED, LATEST)
    tell(f"{config.label} on {config.split}, recorded in {folder.path}")


def _first_error(row: Row, folder: Path) -> str:
    stem = episode_stem(row.key)
    return f"first error: {stem}, {row.status}: {row.error}; more in {folder / 'errors' / f'{stem}.txt'}"


def summary(rows: Collection[Row]) -> str:
    """Returns the mean progress of the episodes that could be played, and the number of those that could not."""
    progress = [row.progress for row in rows if row.status == "ok"]
    mean = f"progress {np.mean(progress):.2f}" if progress else "progress unknown"
    errors = len(rows) - len(progress)
    return mean + (f", {errors} errors" if errors else "")
