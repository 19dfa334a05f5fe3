"""A gallery of the tasks: how each starts, and how it ends when its expert is done."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from wambench import registration, tasks
from wambench.envs.episodes import TRAINING, episode_spec
from wambench.envs.task import Task
from wambench.progress_bar import progress_bar
from wambench.records import save_figure

GROUPS = ("seen", "memory", "dynamic")  # novelties with a figure of their own; all others share one
COLUMNS = 4  # tasks in a row, two pictures each
SIZE = (256, 256)
PICTURE = 1.55  # inches


def draw(out: Path, names: tuple[str, ...] = (), seed: int = 0) -> list[Path]:
    """Draws the first and the last frame of an expert's episode of every task; returns the paths of the figures.

    Args:
        out: Folder of the figures: `tasks-seen.png`, `tasks-unseen.png`, `tasks-memory.png`, `tasks-dynamic.png`, as
            many as the tasks need.
        names: Task names; default all.
        seed: Seed of the training environments that are shown, in the profile "full".

    Raises:
        RuntimeError: An expert failed, so that there is no end to show.
    """
    shown = [tasks.find(name) for name in names] or list(tasks.TASKS.values())
    groups: dict[str, list[Task]] = {}
    for task in shown:
        groups.setdefault(task.novelty if task.novelty in GROUPS else "unseen", []).append(task)
    out.mkdir(parents=True, exist_ok=True)
    with progress_bar(total=len(shown), desc="gallery", unit="task") as bar:
        return [
            save_figure(_figure(members, seed, bar.update), out / f"tasks-{group}.png")
            for group, members in groups.items()
        ]


def _figure(shown: list[Task], seed: int, drawn: Callable[[], object]) -> Figure:
    rows = -(-len(shown) // COLUMNS)
    height = rows * (PICTURE + 0.4) + 0.1
    figure = Figure(figsize=(2 * COLUMNS * PICTURE + 0.3, height))
    top = 1.0 - 0.35 / height
    outer = figure.add_gridspec(rows, COLUMNS, left=0.01, right=0.99, top=top, bottom=0.01, wspace=0.05, hspace=0.28)
    for place, task in enumerate(shown):
        pair = outer[place // COLUMNS, place % COLUMNS].subgridspec(1, 2, wspace=0.02)
        for column, picture in enumerate(_start_and_end(task.name, seed)):
            axes = figure.add_subplot(pair[column])
            axes.imshow(picture)
            axes.set(xticks=[], yticks=[])
            if column == 0:
                title = f"{task.id}  ({task.novelty})\n" + textwrap.shorten(task.instruction, 58)
                axes.set_title(title, fontsize=6.5, loc="left", pad=2)
        drawn()
    return figure


def _start_and_end(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the agentview at the start, and at the end of the first of five scenes in which the expert succeeds."""
    env = registration.make(name, image_size=SIZE, visual="full")
    try:
        for index in range(5):
            outcome = env.begin(episode_spec(env.task, TRAINING, "none", index, seed, "full"))
            start = outcome.observations[-1].images["agentview"]
            while not (outcome.terminated or outcome.truncated):
                outcome = env.advance(env.expert_action())
            if outcome.success:
                return start, env.observe().images["agentview"]
    finally:
        env.close()
    raise RuntimeError(f"the expert of {name} failed in five scenes: there is no end to show")
