"""A gallery of the tasks: how each starts, and how it ends when its expert is done."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from wambench import registration, tasks
from wambench.envs.episodes import TRAINING, episode_spec
from wambench.progress_bar import progress_bar

COLUMNS = 4  # tasks in a row, two pictures each
SIZE = (256, 256)
PICTURE = 1.55  # inches


def draw(out: Path, names: tuple[str, ...] = (), seed: int = 0) -> Path:
    """Draws the first and the last frame of an expert's episode of every task; returns the path of the figure.

    Args:
        out: Folder of the figure, `tasks.png`.
        names: Task names; default all.
        seed: Seed of the training environments that are shown, in the profile "full".

    Raises:
        RuntimeError: An expert failed, so that there is no end to show.
    """
    shown = [tasks.find(name) for name in names] or list(tasks.TASKS.values())
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(2 * COLUMNS * PICTURE + 0.3, rows * (PICTURE + 0.4) + 0.3))
    outer = figure.add_gridspec(rows, COLUMNS, left=0.01, right=0.99, top=0.97, bottom=0.01, wspace=0.05, hspace=0.28)
    with progress_bar(total=len(shown), desc="gallery", unit="task") as bar:
        for place, task in enumerate(shown):
            pair = outer[place // COLUMNS, place % COLUMNS].subgridspec(1, 2, wspace=0.02)
            for column, picture in enumerate(_start_and_end(task.name, seed)):
                axes = figure.add_subplot(pair[column])
                axes.imshow(picture)
                axes.set(xticks=[], yticks=[])
                if column == 0:
                    title = f"{task.id}  ({task.novelty})\n" + textwrap.shorten(task.instruction, 58)
                    axes.set_title(title, fontsize=6.5, loc="left", pad=2)
            bar.update()
    out.mkdir(parents=True, exist_ok=True)
    path = out / "tasks.png"
    figure.savefig(path, dpi=160, metadata={"Software": None})
    return path


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
