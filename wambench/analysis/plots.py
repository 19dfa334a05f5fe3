"""Figures of finished runs: progress with intervals, and imagined against real frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wambench.analysis.leaderboard import WHOLE, episodes, groups, progress
from wambench.analysis.style import NOVELTIES, SPLITS, WIDTH, colours, label, pages, paper, title, wrapped
from wambench.interface import Episode, canvas
from wambench.pictures import block_distance, block_means
from wambench.records import ROWS, episode_stem, load, load_episode, read_rows, save_figure

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Groups = dict[tuple[str, str], dict[str, "pandas.DataFrame"]]  # (split, group) -> policy -> its rows
STRIP = 8  # moments in a filmstrip
DIFFERENT = 64  # grey levels of a difference that is drawn black
ACROSS = 3  # panels in a row
LETTERS = 26  # of a panel's title in a line
RIGHT = 1.4  # where a panel ends: beside the bars stands n


def plot(runs: Sequence[Path], out: Path, episode: str | None = None) -> list[Path]:
    """Draws the figures of some runs and returns their paths.

    Args:
        runs: Folders of runs.
        out: Folder of the figures.
        episode: Episode of the filmstrip, e.g. "PressButton-v1.all.0"; None for the one that shows most.

    Raises:
        ValueError: No such run or episode, or it was played without imagination.
    """
    rows = load(runs)
    if rows.empty:
        raise ValueError(f"no episodes in {', '.join(map(str, runs))}")
    strip = find_imagined(runs, episode)
    out.mkdir(parents=True, exist_ok=True)
    with paper():
        paths = [
            save_figure(figure, out / f"{name}.png", vector=True) for name, figure in progress_figures(rows).items()
        ]
        if strip is not None:
            figure = filmstrip(load_episode(strip), f"{strip.parent.parent.name}: {strip.stem}")
            paths.append(save_figure(figure, out / "filmstrip.png"))
    return paths


def progress_figures(rows: pandas.DataFrame) -> dict[str, Figure]:
    """Returns the figures of mean progress by name: splits, kinds of novelty, and single environment factors.

    What has more panels than one figure holds (`style.PANELS`) is continued in "progress-2" and so on.
    """
    wholes: Groups = {}
    novelties: Groups = {}
    factors: Groups = {}
    for (policy, split), run in rows.groupby(["policy", "split"], sort=True):
        for name, group in groups(run):
            single = not {*group["factor"]} & {*WHOLE}
            if name not in WHOLE and not single and group["novelty"].nunique() == run["novelty"].nunique():
                continue  # a split of one kind: it is the split itself
            kind = wholes if name in WHOLE else factors if single else novelties
            kind.setdefault((str(split), name), {})[str(policy)] = group
    ranked = best_first(rows)
    made: dict[str, Figure] = {}
    for stem, found in (("progress", wholes), ("progress-novelty", novelties)):
        for i, page in enumerate(pages(sorted(found, key=_order)), start=1):
            panels = {place: found[place] for place in page}
            made[stem if i == 1 else f"{stem}-{i}"] = bars_figure(panels, ranked)
    by_split: dict[str, Groups] = {}
    for place in sorted(factors):
        by_split.setdefault(place[0], {})[place] = factors[place]
    for i, (split, lines) in enumerate(by_split.items(), start=1):
        made["progress-factors" if i == 1 else f"progress-factors-{i}"] = factors_figure(split, lines, ranked)
    return made


def _order(place: tuple[str, str]) -> tuple[int, str, str]:
    """Sorts splits as the style lists them, then others by name."""
    known = list(SPLITS)
    return (known.index(place[0]) if place[0] in known else len(known), *place)


def bars_figure(panels: Groups, ranked: Sequence[str]) -> Figure:
    """Returns a panel for each group, with a bar for each policy, the better ones above.

    Line: 95 % interval over scenes; dots: single training seeds; at the right: n, the episodes behind a bar.
    """
    from matplotlib.figure import Figure

    names = [name for name in ranked if any(name in bars for bars in panels.values())]
    inks = colours(ranked)
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(WIDTH, 0.9 + down * (0.5 + 0.16 * len(names))), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, (place, bars) in zip(grid, panels.items(), strict=False):
        axes.set_title(wrapped(panel_title(*place), LETTERS))
        for y, policy in enumerate(names):
            if policy in bars:
                _bar(axes, y, bars[policy], inks[policy])
        axes.set(xlim=(0, RIGHT), xticks=(0, 0.5, 1), yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
        axes.set_yticklabels(map(label, names), fontsize=6.5)
    title(figure, headline(panels))
    figure.supxlabel(
        "mean progress, 0 to 1; line: 95 % interval over scenes; white dots: training seeds; n: episodes", fontsize=7.5
    )
    return figure


def factors_figure(split: str, lines: Groups, ranked: Sequence[str]) -> Figure:
    """Returns one panel of a split with a line for each environment factor, and on it a mark for each policy."""
    from matplotlib.figure import Figure

    names = [name for name in ranked if any(name in bars for bars in lines.values())]
    inks = colours(ranked)
    figure = Figure(figsize=(WIDTH, 1.3 + len(lines) * (0.16 + 0.09 * len(names))), layout="constrained")
    axes = figure.subplots()
    counts: list[int] = []
    for y, bars in enumerate(lines.values()):
        for j, policy in enumerate(name for name in names if name in bars):
            fine = episodes(bars[policy])[0]
            counts.append(len(fine))
            mean, low, high = progress(fine)
            at = y + 0.8 * ((j + 0.5) / len(names) - 0.5)
            axes.plot([low, high], [at, at], color=inks[policy], linewidth=1.6, solid_capstyle="butt")
            axes.plot(mean, at, "o", color=inks[policy], markersize=3.5, label=label(policy) if y == 0 else None)
    for y in range(len(lines) - 1):
        axes.axhline(y + 0.5, color="#dddddd", linewidth=0.6)
    axes.set(xlim=(0, 1.02), yticks=range(len(lines)), ylim=(len(lines) - 0.5, -0.5))
    axes.set_yticklabels([name for _, name in lines])
    axes.grid(axis="x", alpha=0.25)
    n = f"n = {min(counts)}" if min(counts) == max(counts) else f"n = {min(counts)} to {max(counts)}"
    axes.set_xlabel(f"mean progress, 0 to 1; line: 95 % interval over scenes ({n} episodes a mark)")
    title(figure, f"{_hardest(lines)} ({SPLITS.get(split, split)}, one factor varied at a time)")
    figure.legend(loc="outside lower left", ncols=min(4, len(names)))
    return figure


def panel_title(split: str, name: str) -> str:
    """Returns the title of a panel: split, and what is new in its tasks."""
    shown = SPLITS.get(split, split)
    return shown if name in WHOLE else f"{shown}: {NOVELTIES.get(name, name)}"


def headline(panels: Groups) -> str:
    """Returns what a figure says: who leads in each group; where intervals overlap, that no one is ahead alone."""
    led: dict[str, list[str]] = {}
    for (split, name), bars in panels.items():
        found = sorted(((progress(episodes(group)[0]), policy) for policy, group in bars.items()), reverse=True)
        (best, leader), others = found[0], found[1:]
        alone = all(best.low > other.high for other, _ in others)
        said = f"{label(leader)} leads on" if others and alone else "No policy is ahead alone on"
        led.setdefault(said if others else "Progress on", []).append(NOVELTIES.get(name, SPLITS.get(split, split)))
    first = sorted(led, key=lambda said: said.startswith("No"))
    text = "; ".join(f"{said} {', '.join(led[said])}" for said in first)
    return text.replace("; No", "; no")


def _hardest(lines: Groups) -> str:
    """Returns which factor costs most, by the mean over policies of their progress under it."""
    means = {
        name: float(np.mean([progress(episodes(group)[0]).mean for group in bars.values()]))
        for (_, name), bars in lines.items()
    }
    worst = min(means, key=lambda name: means[name])
    return f"Another {worst} leaves least progress: {means[worst]:.2f}, mean of all policies"


def best_first(rows: pandas.DataFrame) -> list[str]:
    """Returns the policies by their mean progress over the splits they played; equal ones by name."""
    means = rows[rows["status"] == "ok"].groupby(["policy", "split"])["progress"].mean().groupby("policy").mean()
    return sorted(map(str, rows["policy"].unique()), key=lambda policy: (-means.get(policy, 0.0), policy))


def _bar(axes: Axes, y: int, group: pandas.DataFrame, colour: str) -> None:
    fine = episodes(group)[0]
    mean, low, high = progress(fine)
    axes.barh(y, mean, 0.8, color=colour)
    if low <= high:
        axes.errorbar(mean, y, xerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]], color="black", lw=0.9)
    if group["weights"].nunique() > 1:
        seeds = group[group["status"] == "ok"].groupby("weights")["progress"].mean()
        axes.plot(seeds, [y] * len(seeds), "o", color="white", mec="black", mew=0.5, markersize=2.2, zorder=3)
    axes.text(RIGHT, y, f"n={len(fine)}", ha="right", va="center", fontsize=5.5)


def find_imagined(runs: Sequence[Path], episode: str | None = None) -> Path | None:
    """Returns the file of an episode whose policy imagined frames; None if no run has one.

    Without `episode` it is the one that shows most: in which the picture changes most where the hand moves, by its row
    (`kept_error`). Rows of earlier versions do not say so; then it is the first.
    """
    folders = [run if run.is_dir() else run.parent for run in runs]
    files = [path for folder in folders for path in sorted((folder / "episodes").glob("*.npz"))]
    if episode is not None:
        files = [path for path in files if path.stem == episode]
        if not files:
            raise ValueError(f"no episode {episode!r} in {', '.join(map(str, runs))}")
    change = {
        (folder, episode_stem(row.key)): row.kept_error
        for folder in folders
        for row in read_rows(folder / ROWS)
        if row.kept_error > 0
    }
    for path in sorted(files, key=lambda path: -change.get((path.parent.parent, path.stem), 0.0)):
        with np.load(path, allow_pickle=False) as arrays:
            if len(arrays["imagined_steps"]):
                return path
    if episode is not None:
        raise ValueError(f"episode {episode!r} has no imagined frames")
    return None


def filmstrip(episode: Episode, title: str, moments: int = STRIP) -> Figure:
    """Returns real frames, what was imagined for them, and the difference below each other, evenly over the episode.

    Above a column stand its time and how long before the frame was imagined, below it the root mean square difference
    of the block means in grey levels.
    """
    from matplotlib.figure import Figure

    pairs = imagined_pairs(episode)
    if not pairs:
        raise ValueError(f"{title}: no frame was imagined for a step that was seen")
    hz = episode.spec.control_hz
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, moments).round().astype(int))]
    height, width = chosen[0].real.shape[:2]
    figure = Figure(figsize=(1.6 * len(chosen), 4.8 * height / width + 1.0), layout="constrained")
    grid = figure.subplots(3, len(chosen), squeeze=False)
    for column, pair in zip(grid.T, chosen, strict=True):
        apart = np.abs(block_means(pair.imagined) - block_means(pair.real)).mean(axis=2)
        for axes, image in zip(column, (pair.real, pair.imagined), strict=False):
            axes.imshow(image, interpolation="nearest")
        extent = (0, width, height, 0)
        column[2].imshow(apart, cmap="Greys", vmin=0, vmax=DIFFERENT, extent=extent, interpolation="nearest")
        column[2].set_xlabel(f"{block_distance(pair.imagined, pair.real):.0f}", fontsize=8)
        column[0].set_title(f"{pair.step / hz:.1f} s\n{(pair.step - pair.asked) / hz:.1f} s ahead", fontsize=8)
        for axes in column:
            axes.set(xticks=[], yticks=[])
    for axes, name in zip(grid[:, 0], ("what came", "imagined", "difference"), strict=True):
        axes.set_ylabel(name, fontsize=8)
    figure.supxlabel(f"difference of 8x8 blocks in grey levels, white 0, black {DIFFERENT} and more", fontsize=8)
    figure.suptitle(f"{title}\n“{episode.spec.instruction}”, progress {episode.progress:.2f}", fontsize=9)
    return figure


@dataclass(frozen=True)
class ImaginedPair:
    """A frame that came and what was imagined for it.

    Attributes:
        step: Of the frame.
        asked: Step of the query that imagined it.
        real, imagined: (h, w, 3) canvases.
    """

    step: int
    asked: int
    real: NDArray[np.uint8]
    imagined: NDArray[np.uint8]


def imagined_pairs(episode: Episode) -> list[ImaginedPair]:
    """Returns every seen step that was foreseen, with its latest foresight."""
    foreseen: dict[int, tuple[int, NDArray[np.uint8]]] = {}
    for chunk in episode.chunks:
        if chunk.plan.frames is not None and chunk.plan.frame_steps is not None:
            for step, frame in zip(chunk.plan.frame_steps.tolist(), chunk.plan.frames, strict=True):
                if step > chunk.step:
                    foreseen[step] = chunk.step, frame
    seen = {observation.step: observation for observation in episode.observations}
    return [
        ImaginedPair(step, foreseen[step][0], canvas(seen[step], list(seen[step].images)), foreseen[step][1])
        for step in sorted(seen.keys() & foreseen.keys())
    ]
