"""Figures of attribution: where the lost progress went, when, and what the clearest failures look like.

Drawn from what `wambench attribute` left in the folders of runs; nothing is simulated here.
"""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wambench.analysis import style
from wambench.analysis.agreement import confusion, kappa, right
from wambench.analysis.intervals import Estimate
from wambench.analysis.intervals import text as estimate_text
from wambench.analysis.leaderboard import WHOLE, progress
from wambench.attribution import sensitivity, shapley, table, verdicts
from wambench.attribution.failure_types import TYPES
from wambench.attribution.table import AttributionRow
from wambench.records import episode_stem, load, load_episode, save_figure

if TYPE_CHECKING:
    import pandas
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SELF_TEST = "self-test.csv"
# Tol's "muted" colours, one meaning each in all figures of attribution, and none of them a policy's (analysis.style).
PARTS = {
    "reached": ("reached", "#117733"),
    "video": ("lost to video", "#332288"),
    "action": ("lost to action", "#ddaa33"),
    "timing": ("lost to latency", "#aa4499"),
    "unattributed": ("unattributed: the oracle fails too", "#999999"),
    "unread": ("lost, imagined frames unreadable", "#c9b8a0"),
    "unknown": ("lost, not attributed", "#e4e4e4"),
}
VERDICTS = {
    "video": "#332288", "action": "#ddaa33", "both": "#6699cc", "timing": "#aa4499", "stall": "#cc6677",
    "contact": "#999933", "instrument": "#999999", "abstain": "#cccccc", "none": "#eeeeee",
}  # fmt: skip
BINS = 10
DIAGNOSED = 40  # episodes at most: each is read whole
DEFINITIONS = {"d1": "read-out", "d2": "intervention", "d3": "first divergence"}


@dataclass(frozen=True)
class Attributed:
    """A run with its attribution: one policy, one split."""

    name: str
    episodes: pandas.DataFrame
    rows: tuple[AttributionRow, ...]

    @property
    def split(self) -> str:
        """The split, which is the second line of the name."""
        return self.name.partition("\n")[2]

    @property
    def label(self) -> str:
        """What it is called in figures: policy, then split."""
        policy, _, split = self.name.partition("\n")
        return f"{style.label(policy)}\n{style.SPLITS.get(split, split)}"

    @property
    def known(self) -> list[AttributionRow]:
        """The rows that say what was lost to what, or that it could not be read."""
        return [row for row in self.rows if shapley.parts(row) is not None]


def read(runs: Sequence[Path]) -> list[Attributed]:
    """Returns the runs that have been attributed; only episodes of the split as a whole, not those of one factor."""
    found = []
    for run in runs:
        if not (run / table.TABLE).is_file():
            continue
        episodes = load([run])
        rows = table.read(run)
        episodes = episodes[(episodes["status"] == "ok") & episodes["factor"].isin(WHOLE)]
        kept = tuple(row for row in rows if row.factor in WHOLE)
        for (policy, split), part in episodes.groupby(["policy", "split"], sort=True):
            own = tuple(row for row in kept if (row.policy, row.split) == (policy, split))
            found.append(Attributed(f"{policy}\n{split}", part, own))
    return found


def draw(runs: Sequence[Path], out: Path) -> list[Path]:
    """Draws all figures of attribution that the folders have something for, and returns their paths."""
    with style.paper():
        figures = _figures(runs)
        out.mkdir(parents=True, exist_ok=True)
        photographs = ("failures-",)
        return [
            save_figure(figure, out / name, vector=not name.startswith(photographs)) for name, figure in figures.items()
        ]


def _figures(runs: Sequence[Path]) -> dict[str, Figure]:
    """Returns the figures by file name."""
    from wambench.attribution import filmstrips

    figures: dict[str, Figure] = {}
    if found := read(runs):
        figures["attribution.png"] = draw_bars(found)
        figures |= paged("attribution-by-task", found, draw_groups)
        if any(row.d3 for one in found for row in one.rows):
            figures |= paged("attribution-no-return", found, draw_no_return)
        if any(row.behaviour for one in found for row in one.rows):
            figures["attribution-behaviour.png"] = draw_behaviours(found)
    for run in runs:
        if (run / table.TABLE).is_file():
            figures |= filmstrips.draw_clearest(run, table.read(run))
            figures |= draw_imagination(run, table.read(run))
        if (run / SELF_TEST).is_file():
            figures["self-test.png"] = draw_self_test(read_self_test(run / SELF_TEST))
    return figures


def paged(
    stem: str, found: Sequence[Attributed], draw_panels: Callable[[Sequence[Attributed]], Figure]
) -> dict[str, Figure]:
    """Returns a figure of all runs, or several of one split each where one would have too many panels, by file name."""
    if len(found) <= style.PANELS:
        return {f"{stem}.png": draw_panels(found)}
    figures = {}
    for split in dict.fromkeys(one.split for one in found):
        for i, part in enumerate(style.pages([one for one in found if one.split == split]), start=1):
            figures[f"{stem}-{split}{f'-{i}' if i > 1 else ''}.png"] = draw_panels(part)
    return figures


def shares(episodes: pandas.DataFrame, rows: Sequence[AttributionRow]) -> dict[str, Estimate]:
    """Returns progress reached and lost, by `PARTS`, which add up to 1, with 95 % intervals.

    What a task lost is split as in its attributed episodes; one without any is split like the others. The interval of
    a part is that of its share of what was lost.

    Args:
        episodes: Of one policy and split, without errors.
        rows: Attributed ones of them.
    """
    reached = progress(episodes)
    lost = 1.0 - reached.mean
    if not rows or sum(1.0 - row.progress for row in rows) == 0:
        return {"reached": reached, "unknown": Estimate(lost, math.nan, math.nan)}
    found = {"reached": reached}
    parts = [shapley.parts(row) or {} for row in rows]
    for part in shapley.PARTS:
        one = shapley.share(rows, [own[part] for own in parts], _lost(episodes))
        found[part] = Estimate(*(lost * value for value in one))
    return found


def _lost(episodes: pandas.DataFrame) -> dict[str, float]:
    """Returns the progress lost in each task."""
    return dict((1.0 - episodes["progress"]).groupby(episodes["task"]).sum())


def draw_bars(found: Sequence[Attributed]) -> Figure:
    """Returns one bar from 0 to 1 for each policy and split: what was reached, and to what the rest was lost."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 1.6 + 1.3 * len(found)), layout="constrained")
    axes = figure.subplots()
    for y, one in enumerate(found):
        estimates = shares(one.episodes, one.known)
        _draw_stack(axes, y, estimates, height=0.5)
        _write_numbers(axes, y, estimates, one)
    labels = [f"{one.label}\nn={len(one.episodes)}, {len(one.known)} failures attributed" for one in found]
    axes.set(yticks=range(len(found)), yticklabels=labels, xlim=(0, 1), ylim=(len(found) - 0.35, -0.75))
    axes.set_xlabel("mean progress: reached, and lost to what; below each part: where it may end, 95 % interval")
    _add_legend(figure, [axes], _largest_losses(found))
    return figure


def _largest_losses(found: Sequence[Attributed]) -> str:
    """Returns what took the largest part of the lost progress, and in how many runs."""
    largest = []
    for one in found:
        estimates = shares(one.episodes, one.known)
        lost = {part: estimate.mean for part, estimate in estimates.items() if part != "reached"}
        largest.append(PARTS[max(lost, key=lambda part: lost[part])][0].removeprefix("lost to ").removeprefix("lost, "))
    counts = {name: largest.count(name) for name in sorted(set(largest), key=largest.count, reverse=True)}
    told = ", ".join(f"{name} in {count}" for name, count in counts.items())
    return f"Largest part of the lost progress in {len(found)} runs: {told}"


def widths(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Returns how wide each part is drawn: its mean, but a negative part cannot be, so the others make room for it."""
    lost = {part: max(0.0, one.mean) for part, one in estimates.items() if part != "reached"}
    reached = estimates["reached"].mean
    total = sum(lost.values())
    return {"reached": reached, **{part: value * (1.0 - reached) / max(total, 1e-9) for part, value in lost.items()}}


def _draw_stack(axes: Axes, y: float, estimates: Mapping[str, Estimate], height: float) -> None:
    left = 0.0
    for part, width in widths(estimates).items():
        label, colour = PARTS[part]
        if width > 0:
            axes.barh(y, width, height, left, color=colour, label=label, edgecolor="white", linewidth=0.5)
        left += width


def _write_numbers(axes: Axes, y: float, estimates: Mapping[str, Estimate], one: Attributed) -> None:
    """Writes each part's mean into it, and draws below where it may end, by its interval."""
    lost = 1.0 - estimates["reached"].mean
    if "video" in estimates and lost > 0:
        share = estimate_text([value / lost for value in estimates["video"]], 2)
        harm = [f"{name} {estimates[name].mean:.2f}" for name in estimates if estimates[name].mean < -0.005]
        text = f"of what was lost, to video: {share}"
        weights = _lost(one.episodes)
        if estimates["unread"].mean > 0:
            least, most = shapley.video_range(one.known, weights)
            span = f" [{least.low:.2f}, {most.high:.2f}]" if least.low <= most.high else ""
            text = f"of what was lost, to video: {least.mean:.2f} to {most.mean:.2f}{span}"
            text += ", whatever unreadable frames show"
        text += f" (below zero: {', '.join(harm)}, the oracle did harm)" if harm else ""
        back = shapley.share(one.known, [row.placebo for row in one.known], weights).mean
        text += f"\nwon back by a second attempt with the same video: {back:.2f}" if abs(back) >= 0.005 else ""
        axes.text(0.0, y - 0.28, text, fontsize=8)
    left = 0.0
    drawn = widths(estimates)
    for rank, (part, estimate) in enumerate(estimates.items()):
        width = drawn[part]
        known = estimate.low <= estimate.high
        if width >= 0.04:
            text = f"{estimate.mean:.2f}" + (f"\n[{estimate.low:.2f}, {estimate.high:.2f}]" * (known and width > 0.11))
            colour = "white" if part in ("reached", "video") else "black"
            axes.text(left + width / 2, y, text, ha="center", va="center", color=colour, fontsize=8)
        if known and width > 0:
            ends = np.clip([left + estimate.low, left + estimate.high], 0.0, 1.0)
            at = y + 0.30 + 0.04 * rank
            axes.plot(ends, [at, at], color=PARTS[part][1], linewidth=2, solid_capstyle="butt")
            axes.plot([left + width], [at], marker="|", color="black", markersize=5)
        left += width


def draw_groups(found: Sequence[Attributed]) -> Figure:
    """Returns the bars of every kind of novelty and every task: a row of panels for each split, a panel a policy."""
    from matplotlib.figure import Figure

    splits: dict[str, list[Attributed]] = {}
    for one in found:
        splits.setdefault(one.split, []).append(one)
    names = {s: list(dict.fromkeys(name for one in some for name, _, _ in _groups(one))) for s, some in splits.items()}
    heights = [len(group) + 2.0 for group in names.values()]
    across = max(map(len, splits.values()))
    figure = Figure(figsize=(2.6 + max(4.5, 2.1 * across), 1.2 + 0.24 * sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(splits), across, height_ratios=heights)
    for i, (split, some) in enumerate(splits.items()):
        labels = names[split]
        for j, one in enumerate(some):
            axes = figure.add_subplot(grid[i, j])
            for name, episodes, rows in _groups(one):
                y = labels.index(name)
                _draw_stack(axes, y, shares(episodes, rows), height=0.75)
                axes.text(1.02, y, f"{len(episodes)}, {len(rows)}", va="center", fontsize=7)
            axes.set(yticks=range(len(labels)), xlim=(0, 1), ylim=(len(labels) - 0.4, -0.6))
            axes.set_yticklabels(labels if j == 0 else [])
            axes.tick_params(labelsize=8)
            axes.set_title(style.wrapped(one.label.partition("\n")[0], 22), fontsize=7.5)
            axes.spines[["top", "right"]].set_visible(False)
            if kinds := sum(name.startswith("novelty: ") for name in labels):
                axes.axhline(kinds - 0.5, color="black", linewidth=0.6)
    figure.supxlabel("mean progress; beside each bar: episodes, of which attributed failures", fontsize=9)
    places = dict.fromkeys(one.label.partition("\n")[2] for one in found)
    _add_legend(figure, figure.axes, f"What each task reached and lost: {', '.join(places)}")
    return figure


def _groups(one: Attributed) -> Iterable[tuple[str, pandas.DataFrame, list[AttributionRow]]]:
    for name in sorted(set(one.episodes["novelty"]) - {"seen"}):
        part = one.episodes[one.episodes["novelty"] == name]
        yield f"novelty: {name}", part, [row for row in one.known if row.novelty == name]
    for task, part in one.episodes.groupby("task", sort=True):
        yield str(task).rpartition("-")[0], part, [row for row in one.known if row.task == task]


def draw_no_return(found: Sequence[Attributed]) -> Figure:
    """Returns where along failed episodes lies the chunk after which even the expert cannot succeed any more."""
    from matplotlib.figure import Figure

    across = 1 + (len(found) > 3)
    down = -(-len(found) // across)
    figure = Figure(figsize=(3.0 + 5.0 * across, 1.0 + 2.2 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharex=True).ravel()
    for axes in panels[len(found) :]:
        axes.remove()
    for axes, one in zip(panels, found, strict=False):
        lost = [row for row in one.rows if row.no_return >= 0 and row.chunks > 0]
        open_end = sum(row.d3 == "stall" for row in one.rows)
        heights = np.zeros(BINS)
        for verdict, colour in VERDICTS.items():
            at = [row.no_return / row.chunks for row in lost if row.d3 == verdict]
            count, edges = np.histogram(at, BINS, (0.0, 1.0))
            if len(at):
                axes.bar(edges[:-1] + 0.5 / BINS, count, 0.9 / BINS, heights, color=colour, label=verdict)
            heights += count
        title = f"{one.label.replace(chr(10), ', ')}: {len(lost)} failures with a point of no return"
        axes.set_title(f"{title}" + f", {open_end} still solvable at the end" * (open_end > 0), fontsize=9)
        axes.set(ylabel="failed episodes", xlim=(0, 1), ylim=(0, max(1.0, heights.max()) * 1.15))
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    where = (
        "where the chunk of no return lies: 0 start of the episode, 1 its end; colour: verdict of the first divergence"
    )
    figure.supxlabel(where, fontsize=9)
    places = [row.no_return / row.chunks for one in found for row in one.rows if row.no_return >= 0 and row.chunks > 0]
    told = (
        f"Half of {len(places)} failures are past saving after {np.median(places):.2f} of the episode" if places else ""
    )
    _add_legend(figure, figure.axes, told)
    return figure


def draw_behaviours(found: Sequence[Attributed]) -> Figure:
    """Returns how failed episodes failed, as one would see it: for every policy, with video or without."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 1.2 + 0.45 * len(found)), layout="constrained")
    axes = figure.subplots()
    typed = [[row.behaviour for row in one.rows if row.behaviour] for one in found]
    for y, kinds in enumerate(typed):
        left = 0.0
        for name, colour in zip(TYPES, style.KINDS, strict=True):
            part = kinds.count(name) / max(1, len(kinds))
            if part:
                axes.barh(y, part, 0.75, left, color=colour, label=name, edgecolor="white", linewidth=0.5)
                axes.text(left + part / 2, y, f"{kinds.count(name)}", ha="center", va="center", fontsize=8)
            left += part
    labels = [f"{one.label.replace(chr(10), ', ')} (n={len(kinds)})" for one, kinds in zip(found, typed, strict=True)]
    axes.set(yticks=range(len(found)), yticklabels=labels, xlim=(0, 1), ylim=(len(found) - 0.5, -0.5))
    axes.set_xlabel("share of the failed episodes; their number in each part")
    every = [kind for kinds in typed for kind in kinds]
    common = max(TYPES, key=every.count)
    told = f"The most frequent failure is “{common}”: {every.count(common)} of {len(every)} failed episodes"
    _add_legend(figure, [axes], told)
    return figure


def draw_imagination(run: Path, rows: Sequence[AttributionRow]) -> dict[str, Figure]:
    """Returns the figure of a run's imagination: error against horizon and lag, and what it listens to; or nothing."""
    from matplotlib.figure import Figure

    files = [run / "episodes" / f"{episode_stem(row.key)}.npz" for row in rows[:: max(1, len(rows) // DIAGNOSED)]]
    episodes = [load_episode(file) for file in files if file.is_file()]
    ahead = sensitivity.horizon(episodes)
    late = sensitivity.lags(episodes)
    if not ahead:
        return {}
    asked = sensitivity.read(run / sensitivity.TABLE) if (run / sensitivity.TABLE).is_file() else []
    hz = episodes[0].spec.control_hz
    figure = Figure(figsize=(11.0, 3.6), layout="constrained")
    panels = figure.subplots(1, 3 if asked else 2)
    _draw_horizon(panels[0], ahead, hz)
    if late:
        _draw_lags(panels[1], late, hz)
    if asked:
        _draw_sensitivity(panels[2], asked)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.xaxis.label.set_fontsize(9)
        axes.yaxis.label.set_fontsize(9)
    figure.suptitle(f"imagination of {rows[0].policy} on {rows[0].split}, {len(episodes)} failed episodes", fontsize=10)
    return {f"imagination-{run.name}.png": figure}


def _draw_horizon(axes: Axes, ahead: Mapping[int, tuple[float, float, int]], hz: float) -> None:
    times = [steps / hz for steps in ahead]
    for i, (label, colour) in enumerate((("imagined frame", "#0072b2"), ("frame of now, kept", "#999999"))):
        values = [found[i] for found in ahead.values()]
        axes.plot(times, values, marker="o", color=colour, label=label)
    axes.set(xlabel="seconds ahead", ylabel="distance to the real frame (grey levels)")
    axes.margins(0.12)
    axes.set(xlim=(0, None), ylim=(0, None))
    axes.set_title("Is it closer than standing still?", fontsize=9)
    axes.legend(frameon=False, fontsize=8)


def _draw_lags(axes: Axes, late: Mapping[int, float], hz: float) -> None:
    best = min(late, key=lambda lag: late[lag])
    axes.plot([lag / hz for lag in late], list(late.values()), marker="o", markersize=4, color="#0072b2")
    axes.axvline(0.0, color="#999999", linewidth=0.8)
    axes.plot([best / hz], [late[best]], marker="o", markersize=9, fillstyle="none", color="#d55e00")
    axes.set_xlabel("real frame so many s later (below 0: earlier)")
    axes.set_title(f"Does it come late? Best match {best / hz:+.1f} s", fontsize=9)


def _draw_sensitivity(axes: Axes, asked: Sequence[sensitivity.Sensitivity]) -> None:
    kinds = {"motion": "from the frame of now", "noise": "by other noise", "instruction": "by other instruction"}
    kinds |= {"action": "by opposite actions"} if any(math.isfinite(one.action) for one in asked) else {}
    for i, name in enumerate(kinds):
        values = np.array([getattr(one, name) for one in asked])
        colour = "#999999" if name == "motion" else "#0072b2"
        axes.barh(i, np.median(values), 0.6, color=colour)
        axes.plot(values, np.full(len(values), i), "|", color="black", markersize=8, alpha=0.5)
        axes.text(np.median(values), i - 0.42, f" {np.median(values):.1f}", fontsize=8, va="center")
    axes.set(yticks=range(len(kinds)), yticklabels=kinds.values(), xlim=(0, None))
    axes.invert_yaxis()
    axes.set_xlabel("difference of the imagined frames")
    axes.set_title(f"What does it listen to? Medians, n={len(asked)}", fontsize=9)


def read_self_test(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a self-test: `fault`, `truth`, and the verdicts `d1`, `d2`, `d3`."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    missing = {"fault", "truth", *DEFINITIONS} - set(rows[0] if rows else ())
    if missing:
        raise ValueError(f"{path}: no self-test: columns missing: {', '.join(sorted(missing))}")
    return rows


def draw_self_test(rows: Sequence[Mapping[str, str]]) -> Figure:
    """Returns the confusion matrices of the three definitions on planted faults, and their pairwise kappa.

    Raises:
        ValueError: No episode has a verdict.
    """
    from matplotlib.figure import Figure

    rows = [row for row in rows if any(row[key] for key in DEFINITIONS)]  # the others succeeded in spite of the fault
    if not rows:
        raise ValueError("no planted fault has been attributed yet")
    faults = list(dict.fromkeys((row["truth"], row["fault"]) for row in rows))
    faults.sort(key=lambda pair: (list(verdicts.VERDICTS).index(pair[0]), pair[1]))
    said = [v for v in verdicts.VERDICTS if any(row[d] == v for row in rows for d in DEFINITIONS)]
    figure = Figure(figsize=(3.2 + 3.1 * len(DEFINITIONS), 2.0 + 0.3 * len(faults)), layout="constrained")
    panels = figure.subplots(1, len(DEFINITIONS), sharey=True)
    names = [(fault if truth == fault else f"{truth}: {fault}").replace("_", " ") for truth, fault in faults]
    shares_right = {}
    for axes, (key, title) in zip(panels, DEFINITIONS.items(), strict=True):
        asked = [row for row in rows if row[key]]
        given = [names[faults.index((row["truth"], row["fault"]))] for row in asked]
        counts = confusion(given, [row[key] for row in asked], names, said)
        _draw_matrix(axes, counts, [[truth == column for column in said] for truth, _ in faults])
        share, low, high = right([row["truth"] for row in asked], [row[key] for row in asked])
        shares_right[title] = share
        axes.set_title(f"{title}\nright {share:.2f} [{low:.2f}, {high:.2f}], n={len(asked)}", fontsize=9)
        axes.set_xticks(range(len(said)), said, rotation=45, ha="right", fontsize=8)
        axes.set_xlabel("verdict", fontsize=8)
    panels[0].set_yticks(range(len(names)), names, fontsize=8)
    panels[0].set_ylabel("planted: what is wrong, and how", fontsize=8)
    told = ", ".join(f"{value:.2f} ({name})" for name, value in shares_right.items())
    style.title(figure, f"Right verdicts on planted faults: {told}")
    figure.supxlabel(style.wrapped(_describe_kappas(rows), 130), fontsize=8)
    return figure


def _draw_matrix(axes: Axes, counts: np.ndarray, correct: Sequence[Sequence[bool]]) -> None:
    """Draws counts as shades within their row; a frame marks where a right verdict goes."""
    from matplotlib.patches import Rectangle

    part = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(part, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for (y, x), count in np.ndenumerate(counts):
        if count:
            axes.text(x, y, str(count), ha="center", va="center", fontsize=8, color="w" if part[y, x] > 0.5 else "k")
        if correct[y][x]:
            axes.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, fill=False, edgecolor="#d55e00", linewidth=1.5))


def _describe_kappas(rows: Sequence[Mapping[str, str]]) -> str:
    texts = []
    for one, other in itertools.combinations(DEFINITIONS, 2):
        value, low, high, n = kappa([row[one] for row in rows], [row[other] for row in rows])
        texts.append(f"{DEFINITIONS[one]} and {DEFINITIONS[other]} {value:.2f} [{low:.2f}, {high:.2f}] (n={n})")
    return "orange frame: the right verdict; counts: episodes; Cohen's kappa: " + ", ".join(texts)


def _add_legend(figure: Figure, panels: Sequence[Axes], said: str) -> None:
    """Puts what a figure says, and one legend of all panels, above them."""
    handles: dict[str, Artist] = {}
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    order = [label for label in (*(label for label, _ in PARTS.values()), *TYPES) if label in handles]
    order += [label for label in handles if label not in order]
    chosen = [handles[label] for label in order]
    legend = figure.legend(
        chosen,
        order,
        loc="outside upper left",
        ncols=min(3, len(order)),
        title=style.wrapped(said, 80),
        alignment="left",
    )
    legend.get_title().set_fontweight("bold")
