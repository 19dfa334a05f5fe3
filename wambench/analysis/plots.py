"""Figures of finished runs: progress with intervals, and imagined against real frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wambench.analysis.leaderboard import WHOLE, episodes, groups, progress
from wambench.interface import Episode, canvas
from wambench.records import load, load_episode, save_figure

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#f0e442")  # Okabe and Ito
STRIP = 8  # moments in a filmstrip
ACROSS = 3  # panels in a row


def plot(runs: Sequence[Path], out: Path, episode: str | None = None) -> list[Path]:
    """Draws the figures of some runs and returns their paths.

    Args:
        runs: Folders of runs.
        out: Folder of the figures.
        episode: Episode of the filmstrip, e.g. "PressButton-v1.all.0"; None for the first with imagined frames.

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
    return [save_figure(figure, out / name) for name, figure in figures.items()]


def progress_figure(rows: pandas.DataFrame) -> Figure:
    """Returns a figure of mean progress: a panel for each split, kind of novelty and single factor, a bar a policy.

    Black: 95 % interval; dots: single training seeds; at the right: n. Policies that are better on average over the
    splits they played stand higher.
    """
    from matplotlib.figure import Figure

    panels: dict[tuple[str, str], dict[str, pandas.DataFrame]] = {}
    for (policy, split), run in rows.groupby(["policy", "split"], sort=True):
        for name, group in groups(run):
            panels.setdefault((str(split), name), {})[str(policy)] = group
    singles = {place for place, bars in panels.items() if not {*next(iter(bars.values()))["factor"]} & {*WHOLE}}
    places = sorted(panels, key=lambda place: (place[1] not in WHOLE, place in singles, place))
    lines = [places[i : i + ACROSS] for i in range(0, len(places), ACROSS)]
    ranked = best_first(rows)
    shown = [[name for name in ranked if any(name in panels[place] for place in line)] for line in lines]
    heights = [0.55 + 0.22 * len(names) for names in shown]
    figure = Figure(figsize=(10.0, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(lines), min(ACROSS, len(places)), height_ratios=heights)
    for i, (line, names) in enumerate(zip(lines, shown, strict=True)):
        for j, (split, name) in enumerate(line):
            axes = figure.add_subplot(grid[i, j])
            axes.set_title(split if name in WHOLE else f"{split}: {name}", fontsize=9)
            for y, policy in enumerate(names):
                if policy in panels[split, name]:
                    _bar(axes, y, panels[split, name][policy], COLOURS[ranked.index(policy) % len(COLOURS)])
            axes.set(xlim=(0, 1.12), ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)))
            axes.set_yticklabels(names if j == 0 else [], fontsize=8)
            axes.tick_params(axis="x", labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("mean progress, 95 % interval", fontsize=9)
    return figure


def best_first(rows: pandas.DataFrame) -> list[str]:
    """Returns the policies by their mean progress over the splits they played; equal ones by name."""
    means = rows[rows["status"] == "ok"].groupby(["policy", "split"])["progress"].mean().groupby("policy").mean()
    return sorted(map(str, rows["policy"].unique()), key=lambda policy: (-means.get(policy, 0.0), policy))


def _bar(axes: Axes, y: int, group: pandas.DataFrame, colour: str) -> None:
    fine = episodes(group)[0]
    mean, low, high = progress(fine)
    axes.barh(y, mean, 0.8, color=colour)
    if low <= high:
        axes.errorbar(mean, y, xerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]], color="black", capsize=2)
    if group["weights"].nunique() > 1:
        seeds = group[group["status"] == "ok"].groupby("weights")["progress"].mean()
        axes.plot(seeds, [y] * len(seeds), "o", color="white", mec="black", mew=0.6, markersize=3, zorder=3)
    axes.text(1.12, y, f"n={len(fine)}", ha="right", va="center", fontsize=6)


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


def imagined_pairs(episode: Episode) -> list[tuple[int, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Returns (step, real canvas, imagined canvas) for every seen step that was foreseen, by its latest foresight."""
    foreseen: dict[int, NDArray[np.uint8]] = {}
    for chunk in episode.chunks:
        if chunk.plan.frames is not None and chunk.plan.frame_steps is not None:
            later = chunk.plan.frame_steps > chunk.step
            foreseen.update(zip(chunk.plan.frame_steps[later].tolist(), chunk.plan.frames[later], strict=True))
    seen = {observation.step: observation for observation in episode.observations}
    return [(s, canvas(seen[s], list(seen[s].images)), foreseen[s]) for s in sorted(seen.keys() & foreseen.keys())]
