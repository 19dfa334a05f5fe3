"""The picture of a sweep: progress against latency, at equal steps and at equal wall-clock time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wambench.analysis.style import WIDTH, colours, label, paper, title, wrapped
from wambench.interface import unknown_name
from wambench.records import save_figure

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TABLE = "sweep.csv"
STYLES = {"sync": ("-", "o"), "async": ("--", "s"), "ensemble": ("-.", "^"), "rtc": (":", "D")}
SAYS = {
    "sync": "sync: the simulator waits for each answer",
    "async": "async: the last chunk plays on meanwhile",
    "ensemble": "ensemble: average of all chunks so far",
    "rtc": "rtc: each chunk continues the last",
}
PANELS = (
    ("progress", "equal steps: waiting is free"),
    ("progress_wall", "equal wall-clock time: waiting costs time"),
)
NEEDED = ("policy", "execution", "latency_s", "n", "own_latency_s", *(name for name, _ in PANELS))


def plot(sweeps: Sequence[Path], out: Path) -> list[Path]:
    """Draws sweep.png of the tables of some sweeps and returns its path.

    Args:
        sweeps: Folders with a sweep.csv each; a policy may be in one of them only.
        out: Folder of the figure.

    Raises:
        ValueError: A folder has no table, or it is none of a sweep.
    """
    table = load(sweeps)
    out.mkdir(parents=True, exist_ok=True)
    with paper():
        return [save_figure(figure(table), out / "sweep.png", vector=True)]


def load(sweeps: Sequence[Path]) -> pandas.DataFrame:
    """Returns the tables of several sweeps as one."""
    import pandas

    tables = []
    for folder in sweeps:
        if not (folder / TABLE).is_file():
            raise ValueError(f"no sweep at {folder}: there is no {folder / TABLE}")
        tables.append(pandas.read_csv(folder / TABLE))
        missing = [name for name in NEEDED if name not in tables[-1]]
        if missing:
            raise ValueError(f"{folder / TABLE}: no table of a sweep: {', '.join(missing)} missing")
    table = pandas.concat(tables, ignore_index=True)
    twice = table[table.duplicated(["policy", "execution", "latency_s"])]
    if len(twice):
        raise ValueError(f"{', '.join(sorted(set(twice['policy'])))}: in two sweeps at the same latency; leave one out")
    return table


def figure(table: pandas.DataFrame) -> Figure:
    """Returns the figure: a colour a policy, a line style an executor, 95 % intervals, own latencies as marks.

    One policy has all its executors in a panel; several are compared executor by executor (`panels_of`).
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    parts = panels_of(table)
    drawn = Figure(figsize=(max(WIDTH, 2.4 * len(parts)), 3.6), layout="constrained")
    panels = drawn.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    policies = list(dict.fromkeys(table["policy"]))
    inks = colours(policies)
    executors = list(dict.fromkeys(table["execution"]))
    for axes, (about, column, part) in zip(panels, parts, strict=True):
        for policy in policies:
            _policy(axes, part[part["policy"] == policy], column, inks[policy])
        axes.set_title(wrapped(about, 28))
        axes.set(xlabel="latency of an answer, s", ylim=(0, 1.05))
        axes.grid(axis="y", alpha=0.25)
    low, high = int(table["n"].min()), int(table["n"].max())
    count = f"n = {low}" if low == high else f"n = {low} to {high}"
    panels[0].set_ylabel(f"mean progress, 95 % interval ({count} a point)")
    handles: list[Any] = [Line2D([], [], color=inks[policy], lw=3) for policy in policies]
    for name in executors:
        line, marker = style(name)
        handles += panels[0].plot([], [], line, color="black", marker=marker, markersize=3)
    handles.append(Line2D([], [], color="black", linestyle="none", marker="*", markersize=9))
    labels = [*map(label, policies), *(SAYS[name] for name in executors), "what its answers really took (median)"]
    drawn.legend(handles, labels, loc="outside lower left", ncols=3 if len(parts) < 4 else 4)
    title(drawn, headline(table))
    return drawn


def headline(table: pandas.DataFrame) -> str:
    """Returns what the longest latency leaves of progress, at equal wall-clock time, by executor."""
    longest = table[table["latency_s"] == table["latency_s"].max()]
    left = {name: part["progress_wall"].mean() for name, part in longest.groupby("execution", sort=False)}
    told = ", ".join(f"{value:.2f} ({name})" for name, value in left.items())
    return f"Answers of {table['latency_s'].max():g} s leave a mean progress of {told}, at equal wall-clock time"


def panels_of(table: pandas.DataFrame) -> list[tuple[str, str, pandas.DataFrame]]:
    """Returns title, column and rows of each panel: one for each executor, two for one that waits."""
    if table["policy"].nunique() == 1:
        return [(about, column, table) for column, about in PANELS]
    parts = []
    for name in dict.fromkeys(table["execution"]):
        part = table[table["execution"] == name]
        waits = name == "sync"
        parts += [(f"{name}{f', {about}' if waits else ''}", column, part) for column, about in PANELS[: 1 + waits]]
    return parts


def style(executor: str) -> tuple[str, str]:
    """Returns the line style and the marker of an executor."""
    if executor not in STYLES:
        raise unknown_name("executor", executor, STYLES)
    return STYLES[executor]


def _policy(axes: Axes, table: pandas.DataFrame, column: str, colour: str) -> None:
    """Draws the lines of one policy, and a star on each where its own latency lies, if that is within the sweep.

    Other policies may be left out of an executor: then there is nothing to draw.
    """
    for name, line in table.groupby("execution", sort=False):
        line = line.sort_values("latency_s")
        x, y, own_s = line["latency_s"].to_numpy(), line[column].to_numpy(), float(line["own_latency_s"].iloc[0])
        dash, marker = style(str(name))
        axes.plot(x, y, dash, color=colour, marker=marker, markersize=3, lw=1.3)
        axes.fill_between(x, line[f"{column}_low"], line[f"{column}_high"], color=colour, alpha=0.10, lw=0)
        if x[0] <= own_s <= x[-1]:
            axes.plot(own_s, np.interp(own_s, x, y), marker="*", color=colour, markersize=9, mec="black", mew=0.6)
