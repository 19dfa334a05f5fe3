"""How well the experts solve every task: the proof that a benchmark's tasks can be done at all."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wambench import registration, tasks
from wambench.envs.episodes import TRAINING, episode_spec
from wambench.progress_bar import progress_bar

RANDOM_S = 3.0  # of random actions before the expert takes over
CONDITIONS = ("train", "unseen", "after_random", "noop")


@dataclass(frozen=True)
class _Job:
    task: str
    condition: str
    episodes: int
    seed: int


def table(names: tuple[str, ...], episodes: int, seed: int = 0, workers: int = 1) -> pd.DataFrame:
    """Returns one row per task: the expert's success and progress in each condition, and the progress of doing nothing.

    Args:
        names: Task names.
        episodes: Episodes per task and condition.
        seed: Seed of the episodes: the training stream for "train" and "after_random", else the evaluation's.
        workers: Processes.

    Conditions: "train" and "unseen" environments; "after_random": the expert takes over after 3 s of uniform random
    actions and has the task's full horizon; "noop": open gripper, no motion, unseen environments.
    """
    jobs = [_Job(name, condition, episodes, seed) for name in names for condition in CONDITIONS]
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs))) as pool:
        rows = []
        with progress_bar(total=len(jobs), desc="experts", unit="cell") as bar:
            for measured in pool.imap(_measure, jobs):
                rows.append(measured)
                bar.update()
    by_task: dict[str, dict[str, object]] = {name: {} for name in names}
    for job, (success, progress, steps) in zip(jobs, rows, strict=True):
        row = by_task[job.task]
        if job.condition == "noop":
            row["noop_progress"] = progress
            continue
        row[f"{job.condition}_success"] = success
        row[f"{job.condition}_progress"] = progress
        row[f"{job.condition}_steps"] = steps
    facts = [(t.name, t.verb, t.novelty, t.horizon) for t in (tasks.TASKS[name] for name in names)]
    frame = pd.DataFrame(facts, columns=["task", "verb", "novelty", "horizon"])
    frame["n"] = episodes
    return frame.join(pd.DataFrame([by_task[name] for name in names]))


def _measure(job: _Job) -> tuple[float, float, float]:
    """Returns the rate of success at the end, the mean progress and the median number of steps."""

    env = registration.make(job.task)
    train = job.condition in ("train", "after_random")
    results = []
    for index in range(job.episodes):
        split, factor = (TRAINING, "none") if train else (env.split, "all")
        episode = episode_spec(env.task, split, factor, index + 2_000_000 * train, job.seed)
        outcome = env.begin(episode, render=False)
        if job.condition == "after_random":
            rng = np.random.default_rng([job.seed, index])
            for action in rng.uniform(-1, 1, (round(RANDOM_S * episode.control_hz), 7)):
                env.advance(action)
        still, steps = np.array([0.0] * 6 + [-1.0]), 0
        while steps < env.task.horizon and not outcome.terminated:
            steps += 1
            outcome = env.advance(still if job.condition == "noop" else env.expert_action())
        results.append((outcome.success, outcome.progress, steps))
    success, progress, steps = np.array(results, dtype=float).T
    return float(success.mean()), float(progress.mean()), float(np.median(steps))


def markdown(frame: pd.DataFrame) -> str:
    """Returns the table for the README."""
    lines = [
        "| task | verb | what is new | steps | success train | success unseen | progress train | progress unseen "
        "| success after 3 s of random actions | no-op progress |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in frame.to_dict("records"):
        lines.append(
            f"| {row['task']} | {row['verb']} | {row['novelty']} | {row['train_steps']:.0f} of {row['horizon']} "
            f"| {row['train_success']:.2f} | {row['unseen_success']:.2f} | {row['train_progress']:.3f} "
            f"| {row['unseen_progress']:.3f} | {row['after_random_success']:.2f} | {row['noop_progress']:.2f} |"
        )
    return "\n".join(lines)
