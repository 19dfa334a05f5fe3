"""Figures of finished runs: progress with intervals, and imagined against real frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wambench.interface import Episode, canvas
from wambench.leaderboard import episodes, groups, progress
from wambench.records import load, load_episode

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#f0e442")  # Okabe and Ito
STRIP = 8  # moments in a filmstrip


def plot(runs: Sequence[Path], out: Path, episode: str | None = None) -> list[Path]:
    """Draws the figures of some runs and returns their paths.

    Args:
        runs: Folders of runs.
        out: Folder of the figures.
        episode: Episode of the filmstrip, e.g. "PressButton-v0.all.0"; None for the first with imagined frames.

    Raises:
        ValueError: No such run or episode, or it was played without imagination.
    """
    rows = load(runs)
    if rows.empty:
        raise ValueError(f"no episodes in {', '.join(map(str, runs))}")
    strip = find_imagined(runs, episode)
    out.mkdir(parents=True, exist_ok=True)
    figures = {"progress.png": progress_figure(rows)}
    if strip is not None:
        figures["filmstrip.png"] = filmstrip(load_episode(strip), f"{strip.parent.parent.name}: {strip.stem}")
    for name, figure in figures.items():
        figure.savefig(out / name, dpi=150, metadata={"Software": None})
    return [out / name for name in figures]


def progress_figure(rows: pandas.DataFrame) -> Figure:
    """Returns a figure of mean progress by split and group, a bar a policy, with 95 % intervals and n."""
    from matplotlib.figure import Figure

    bars: dict[tuple[str, str], pandas.DataFrame] = {}
    for (policy, split), run in rows.groupby(["policy", "split"], sort=True):
        for name, group in groups(run):
            bars[str(policy), str(split) if name == "all" else f"{split}\n{name}"] = episodes(group)[0]
    policies = sorted({policy for policy, _ in bars})
    places = sorted({place for _, place in bars})
    figure = Figure(figsize=(max(5.0, 1.5 + 0.45 * len(places) * (len(policies) + 1)), 4.0), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(policies)
    for i, policy in enumerate(policies):
        for j, place in enumerate(places):
            if (policy, place) not in bars:
                continue
            fine = bars[policy, place]
            mean, low, high = progress(fine)
            x = j + (i - (len(policies) - 1) / 2) * width
            axes.bar(x, mean, 0.9 * width, color=COLOURS[i % len(COLOURS)], label=policy)
            if low <= high:
                axes.errorbar(x, mean, [[max(0.0, mean - low)], [max(0.0, high - mean)]], color="black", capsize=2)
            top = max([v for v in (mean, high) if np.isfinite(v)], default=0.0)
            axes.text(x, top + 0.02, f"n={len(fine)}", ha="center", va="bottom", fontsize=6)
    axes.set(ylabel="mean progress, 95 % interval", ylim=(0, 1.1), xticks=range(len(places)), xticklabels=places)
    axes.spines[["top", "right"]].set_visible(False)
    labelled = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(labelled.values(), labelled.keys(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def find_imagined(runs: Sequence[Path], episode: str | None = None) -> Path | None:
    """Returns the file of an episode whose policy imagined frames, the first found; None if no run has one."""
    folders = [run if run.is_dir() else run.parent for run in runs]
    files = [path for folder in folders for path in sorted((folder / "episodes").glob("*.npz"))]
    if episode is not None:
        files = [path for path in files if path.stem == episode]
        if not files:
            raise ValueError(f"no episode {episode!r} in {', '.join(map(str, runs))}")
    for path in files:
        with np.load(path, allow_pickle=False) as arrays:
            if len(arrays["imagined_steps"]):
                return path
    if episode is not None:
        raise ValueError(f"episode {episode!r} has no imagined frames")
    return None


def filmstrip(episode: Episode, title: str, moments: int = STRIP) -> Figure:
    """Returns the real frames of an episode above what was imagined for the same steps, evenly over its time."""
    from matplotlib.figure import Figure

    pairs = imagined_pairs(episode)
    if not pairs:
        raise ValueError(f"{title}: no frame was imagined for a step that was seen")
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, moments).round().astype(int))]
    height, width = chosen[0][1].shape[:2]
    figure = Figure(figsize=(1.6 * len(chosen), 3.2 * height / width + 0.8), layout="constrained")
    grid = figure.subplots(2, len(chosen), squeeze=False)
    for column, (step, real, imagined) in zip(grid.T, chosen, strict=True):
        for axes, image in zip(column, (real, imagined), strict=True):
            axes.imshow(image, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
        column[0].set_title(f"{step / episode.spec.control_hz:.1f} s", fontsize=8)
    grid[0, 0].set_ylabel("real", fontsize=8)
    grid[1, 0].set_ylabel("imagined", fontsize=8)
    figure.suptitle(f"{title}\n“{episode.spec.instruction}”, progress {episode.progress:.2f}", fontsize=9)
    return figure


def imagined_pairs(episode: Episode) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Returns (step, real canvas, imagined canvas) for every seen step that was foreseen, by its latest foresight."""
    foreseen: dict[int, np.ndarray] = {}
    for chunk in episode.chunks:
        if chunk.plan.frames is not None and chunk.plan.frame_steps is not None:
            later = chunk.plan.frame_steps > chunk.step
            foreseen.update(zip(chunk.plan.frame_steps[later].tolist(), chunk.plan.frames[later], strict=True))
    seen = {observation.step: observation for observation in episode.observations}
    return [(s, canvas(seen[s], list(seen[s].images)), foreseen[s]) for s in sorted(seen.keys() & foreseen.keys())]
