"""How well the experts solve every task: the proof that a benchmark's tasks can be done at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from wambench import registration, tasks
from wambench.conventions import ROBOT, find
from wambench.envs.episodes import CONTROL_HZ, TRAINING, episode_spec
from wambench.suite.cells import Cell, Found, measure_all

EPISODES = 50  # per task and condition, unless asked otherwise
RANDOM_S = 3.0  # of random actions before the expert takes over
CONDITIONS = ("train", "unseen", "after_random", "noop")
ROOM = 1.5  # a horizon is at least this many times the steps that 95 % of the expert's episodes need
SOLVED, RECOVERED = 0.95, 0.8  # least success at the end: from the start, and after random actions
HEAD = """# Can it be done? The experts

`wambench experts{robot} --episodes {n}`: {n} seeds per task and condition. Steps are at {hz:g} Hz, of training and
unseen environments together: their median, the 95th percentile, and the horizon with how many times the latter it is.
An episode ends when success has held for a second, which the steps include. "Unseen" varies all factors. After 3 s of
uniform random actions the expert has the full horizon. The no-op keeps still with an open gripper in unseen
environments. The training scenes have indices from 2,000,000; a demonstration that failed twice is tried again
there, so a policy may have been shown a few of them.
"""


def table(
    names: tuple[str, ...],
    episodes: int,
    seed: int = 0,
    workers: int = 1,
    out: Path | None = None,
    robot: str = ROBOT,
) -> pd.DataFrame:
    """Returns one row per task: the expert's success and progress in each condition, and the progress of doing nothing.

    Args:
        names: Task names.
        episodes: Episodes per task and condition.
        seed: Seed of the episodes: the training stream for "train" and "after_random", else the evaluation's.
        workers: Processes.
        out: The table's file; what is known is written beside it, and measured once (`cells`).
        robot: A name of `conventions.CONVENTIONS`: who plays.

    Conditions: "train" and "unseen" environments; "after_random": the expert takes over after 3 s of uniform random
    actions and has the task's full horizon; "noop": open gripper, no motion, unseen environments. `steps` is the median
    and `steps_95` the 95th percentile in training and unseen environments together.
    """
    rate = find(robot).control_hz
    cells = [Cell(tasks.find(name).id, one, episodes, seed, robot) for name in names for one in CONDITIONS]
    found = measure_all(cells, _measure, workers, out, "experts")
    rows = []
    for task in (tasks.find(name) for name in names):
        of = {condition: found[Cell(task.id, condition, episodes, seed, robot)] for condition in CONDITIONS}
        steps = [float(n) for one in ("train", "unseen") for n in str(of[one]["steps"]).split()]
        row: Found = {"task": task.name, "version": task.version, "verb": task.verb, "novelty": task.novelty}
        row |= {"horizon": round(task.horizon * rate / CONTROL_HZ), "n": episodes, "steps": float(np.median(steps))}
        row["steps_95"] = float(np.percentile(steps, 95))
        for condition in CONDITIONS[:3]:
            row |= {f"{condition}_{what}": of[condition][what] for what in ("success", "progress")}
        row["noop_progress"] = of["noop"]["progress"]
        rows.append(row)
    frame = pd.DataFrame(rows)
    frame.attrs["robot"] = robot
    return frame


def _measure(cell: Cell) -> Found:
    """Returns the rate of success at the end, the mean progress and the number of steps of every episode."""
    env = registration.make(cell.task, robot=cell.robot)
    train = cell.condition in ("train", "after_random")
    results = []
    for index in range(cell.episodes):
        split, factor = (TRAINING, "none") if train else (env.split, "all")
        episode = episode_spec(env.task, split, factor, index + 2_000_000 * train, cell.seed, robot=cell.robot)
        outcome = env.begin(episode, render=False)
        if cell.condition == "after_random":
            rng = np.random.default_rng([cell.seed, index])
            for action in rng.uniform(-1, 1, (round(RANDOM_S * episode.control_hz), 7)):
                env.advance(env.hand_action(action))
        still, steps = env.convention.hold_action(None, env.proprioception()), 0
        while steps < episode.horizon and not outcome.terminated:
            steps += 1
            outcome = env.advance(still if cell.condition == "noop" else env.expert_action())
        results.append((outcome.success, outcome.progress, steps))
    env.close()
    success, progress, steps_taken = np.array(results, dtype=float).T
    numbers = " ".join(f"{steps:.0f}" for steps in steps_taken)
    return {"success": float(success.mean()), "progress": float(progress.mean()), "steps": numbers}


def shortfalls(frame: pd.DataFrame) -> list[str]:
    """Returns one line for every promise that a row of the table does not keep."""
    lines = []
    for row in frame.to_dict("records"):
        limits = (
            ("train_success", SOLVED, "in training environments"),
            ("unseen_success", SOLVED, "in unseen environments"),
            ("after_random_success", RECOVERED, "after random actions"),
        )
        lines += [
            f"{row['task']}: success {row[column]:.2f} {where}, below {least}"
            for column, least, where in limits
            if row[column] < least
        ]
        if row["noop_progress"] > 0:
            lines.append(f"{row['task']}: doing nothing makes progress {row['noop_progress']:.2f}")
        if row["horizon"] < ROOM * row["steps_95"]:
            lines.append(
                f"{row['task']}: horizon {row['horizon']} below {ROOM} x {row['steps_95']:.0f} steps of the expert"
            )
    return lines


def markdown(frame: pd.DataFrame) -> str:
    """Returns the table for people."""
    robot = frame.attrs.get("robot", ROBOT)
    lines = [
        HEAD.format(n=frame["n"].max(), robot="" if robot == ROBOT else f" --robot {robot}", hz=find(robot).control_hz),
        "| task | verb | what is new | steps: median | 95 % | horizon | success train | success unseen "
        "| progress train | progress unseen | success after 3 s of random actions | no-op progress |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in frame.to_dict("records"):
        lines.append(
            f"| {row['task']}-v{row['version']} | {row['verb']} | {row['novelty']} | {row['steps']:.0f} "
            f"| {row['steps_95']:.0f} | {row['horizon']} ({row['horizon'] / row['steps_95']:.1f} x) "
            f"| {row['train_success']:.2f} | {row['unseen_success']:.2f} | {row['train_progress']:.3f} "
            f"| {row['unseen_progress']:.3f} | {row['after_random_success']:.2f} | {row['noop_progress']:.2f} |"
        )
    short = shortfalls(frame)
    promise = (
        f"success at least {SOLVED}, {RECOVERED} after random actions, no-op 0, horizon {ROOM} x the expert's 95 %"
    )
    lines += ["", f"Promised: {promise}. " + ("What falls short:" if short else "Nothing falls short."), ""]
    return "\n".join(lines + [f"- {line}" for line in short]).rstrip()
