"""Contact sheets: what the environments of a split look like, one PNG a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.envs.factors import FACTORS
from wambench.records import save_figure
from wambench.tasks import Split

COLUMNS = 6
SIZE = (192, 192)


def contact_sheets(out: Path, seed: int = 0) -> list[Path]:
    """Draws one sheet a split and returns their paths.

    A sheet of training environments has a row a task; one of unseen environments has a row a factor, drawn alone, and
    one in which all vary. Columns are episodes.

    Args:
        out: Folder of the figures.
        seed: Seed of the run whose episodes are drawn.
    """
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for split in tasks.current_splits():
        if split.tasks:
            paths.append(out / f"environments-{split.name}.png")
            save_figure(_sheet(split, seed), paths[-1], dpi=100.0)
    return paths


def _sheet(split: Split, seed: int) -> Figure:
    """Returns the sheet of a split."""
    if split.environments == "train":
        rows = [(name, (name,) * COLUMNS, "none") for name in split.tasks]
    else:
        cycle = tuple(split.tasks[i % len(split.tasks)] for i in range(COLUMNS))
        rows = [(factor, cycle, factor) for factor in (*FACTORS, "all")]
    figure = Figure(figsize=(1.6 * COLUMNS + 0.6, 1.6 * len(rows) + 0.6), layout="constrained")
    grid = figure.subplots(len(rows), COLUMNS, squeeze=False)
    pictures = _pictures(split, [(name, factor, i) for _, names, factor in rows for i, name in enumerate(names)], seed)
    for line, (label, _, _) in zip(grid, rows, strict=True):
        line[0].set_ylabel(label, fontsize=8)
    for axes, picture in zip(grid.flat, pictures, strict=True):
        axes.imshow(picture)
        axes.set(xticks=[], yticks=[])
    figure.suptitle(f"{split.name}: {split.description}", fontsize=10)
    return figure


def _pictures(split: Split, wanted: list[tuple[str, str, int]], seed: int) -> list[np.ndarray]:
    """Returns the first frame of each (task, factor, episode); each task's simulator is made once and then closed."""

    pictures: dict[int, np.ndarray] = {}
    for name in dict.fromkeys(name for name, _, _ in wanted):
        env = registration.make(name, split=split.name, image_size=SIZE, visual="full")
        for place, (task, factor, index) in enumerate(wanted):
            if task == name:
                env.begin(episode_spec(tasks.find(name), split.name, factor, index, seed, "full"))
                pictures[place] = env.observe().images["agentview"]
        env.close()
    return [pictures[place] for place in range(len(wanted))]
