"""How well the experts solve scripted tasks at every delay or speed, and what guessing earns where memory is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.envs.tabletop import TabletopEnv
from wambench.envs.task import Script
from wambench.interface import EpisodeSpec
from wambench.suite.cells import Cell, Found, measure_all

EPISODES = 20  # per task and level, unless asked otherwise
LEAST = 0.95  # success of an expert
LUCK = 3.0  # standard errors by which guessing may exceed chance


def table(
    names: tuple[str, ...], episodes: int, seed: int = 0, workers: int = 1, out: Path | None = None
) -> pd.DataFrame:
    """Returns one row per task and level of its script; tasks without a script have none.

    Args:
        names: Task names.
        episodes: Episodes per row, the same scenes at every level: numbers 0 and up of the evaluation stream.
        seed: Seed of the episodes and of the guesses.
        workers: Processes.
        out: The table's file; what is known is written beside it, and measured once (`cells`).

    Columns: `success` at the end, `progress`, `steps_p50`, `steps_p95` and `horizon` of the expert; `chance`, 1 / the
    number of alternatives; `guess_success` and `guess_progress` of an expert without memory, which takes every episode
    for one of those that look like it at the release, drawn at random; NaN where nothing is hidden.
    """
    scripted = [task for task in (tasks.find(name) for name in names) if task.script]
    cells = [Cell(task.id, level, episodes, seed) for task in scripted for level in _script(task.id).levels]
    if not cells:
        raise ValueError(f"no task among {', '.join(names)} has a script: try --tasks memory,dynamic")
    found = measure_all(cells, _measure, workers, out, "levels")
    about = [{"task": tasks.find(cell.task).name, "level": cell.condition, "n": cell.episodes} for cell in cells]
    return pd.DataFrame([{**one, **found[cell]} for one, cell in zip(about, cells, strict=True)])


def _script(name: str) -> Script:
    return tasks.find(name).script or Script()


def _measure(cell: Cell) -> Found:
    env = registration.make(cell.task)
    rng = np.random.default_rng([cell.seed, 7])
    known = []
    guessed = []
    alternatives = 1
    for index in range(cell.episodes):
        episode = episode_spec(env.task, env.split, cell.condition, index, cell.seed)
        known.append(_play(env, episode, None))
        alike = _script(cell.task).alternatives(episode)
        alternatives = len(alike)
        if alternatives > 1:
            guessed.append(_play(env, episode, alike[int(rng.integers(alternatives))]))
    env.close()
    success, progress, taken = np.array(known, dtype=float).T
    guess = np.array(guessed, dtype=float).mean(axis=0) if guessed else np.full(3, np.nan)
    return {
        "success": float(success.mean()),
        "progress": float(progress.mean()),
        "steps_p50": float(np.median(taken)),
        "steps_p95": float(np.percentile(taken, 95)),
        "horizon": float(episode.horizon),
        "chance": 1.0 / alternatives if guessed else np.nan,
        "guess_success": float(guess[0]),
        "guess_progress": float(guess[1]),
    }


def _play(env: TabletopEnv, episode: EpisodeSpec, believed: EpisodeSpec | None) -> tuple[bool, float, int]:
    """Returns success at the end, progress and steps of the expert."""
    outcome = env.begin(episode, render=False)
    while not (outcome.terminated or outcome.truncated):
        outcome = env.advance(env.expert_action(believed))
    return outcome.success, outcome.progress, outcome.steps


def shortfalls(frame: pd.DataFrame) -> list[str]:
    """Returns a line for every row in which the expert fails too often, or guessing exceeds chance."""
    lines = []
    for row in frame.to_dict("records"):
        where = f"{row['task']}, {row['level']}"
        if row["success"] < LEAST:
            lines.append(f"{where}: the expert succeeds in {row['success']:.2f}, which should be at least {LEAST}")
        chance = row["chance"]
        limit = chance + LUCK * np.sqrt(chance * (1 - chance) / row["n"])
        if row["guess_success"] > limit:
            lines.append(f"{where}: guessing succeeds in {row['guess_success']:.2f}, chance is {chance:.2f}")
    return lines


def markdown(frame: pd.DataFrame) -> str:
    """Returns the table for people."""
    lines = [
        "| task | level | n | expert's success | its steps (95 %) of horizon | chance | success by guessing "
        "| progress by guessing |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in frame.to_dict("records"):
        hidden = f"{row['chance']:.2f} | {row['guess_success']:.2f} | {row['guess_progress']:.2f}"
        steps = f"{row['steps_p50']:.0f} ({row['steps_p95']:.0f}) of {row['horizon']:.0f}"
        guess = hidden if np.isfinite(row["chance"]) else "| |"
        lines.append(f"| {row['task']} | {row['level']} | {row['n']} | {row['success']:.2f} | {steps} | {guess} |")
    return "\n".join(lines)
