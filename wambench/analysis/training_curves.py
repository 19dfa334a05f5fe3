"""Figures of a training: its losses and what was measured on held-out data, against the samples seen."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wambench.analysis.style import KINDS, WIDTH, colours, label, pages, paper
from wambench.records import save_figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PROGRESS = ("step", "samples", "minutes", "samples_per_s", "lr")  # columns of every log; losses and metrics follow
COLOURS = ("#332288", *KINDS)  # of losses and metrics
METRICS = {
    "val_action_mse": "actions, mean square error", "val_inverse_mse": "inverse dynamics, m. s. error",
    "val_gripper_error": "gripper error", "val_video_mse": "imagined latents, m. s. error",
    "val_copy_mse": "kept latents, m. s. error", "val_hand_mm": "hand error, mm", "val_caption_error": "caption error",
    "val_where_error": "place error", "val_there_error": "presence error",
}  # fmt: skip
SMOOTHING = 0.08  # share of the run that the smooth line of a loss averages over
ACROSS = 3  # panels in a row


@dataclass(frozen=True)
class Curves:
    """A training log.

    Attributes:
        samples: (n,) samples seen at each row.
        losses: Name -> (n,) values; columns that every row fills.
        metrics: Name -> (n,) values, NaN between validations.
    """

    samples: NDArray[np.float64]
    losses: dict[str, NDArray[np.float64]]
    metrics: dict[str, NDArray[np.float64]]


def read(path: Path) -> Curves:
    """Returns the curves of a training's CSV.

    The columns after `PROGRESS` are losses, then metrics: the first column that the first row leaves empty begins them,
    or the first whose name begins with "val_".

    Raises:
        ValueError: It is no such file, or it has no rows yet.
    """
    try:
        with path.open(newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except OSError as error:
        raise ValueError(f"{path}: cannot read the training log ({error.strerror})") from None
    if tuple(header[: len(PROGRESS)]) != PROGRESS:
        raise ValueError(f"{path}: is no training log: its columns begin {', '.join(header[: len(PROGRESS)])}")
    rows = [row for row in rows if len(row) == len(header)]  # the last one may still be in the writing
    if not rows:
        raise ValueError(f"{path}: has no rows yet")
    values = np.array([[float(cell) if cell else np.nan for cell in row] for row in rows])
    found = dict(zip(header, values.T, strict=True))
    named = header[len(PROGRESS) :]
    first = next(
        (i for i, name in enumerate(named) if name.startswith("val_") or np.isnan(found[name]).any()), len(named)
    )
    return Curves(found["samples"], {n: found[n] for n in named[:first]}, {n: found[n] for n in named[first:]})


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Returns the mean over a centred window, cut off at the ends."""
    reach = window // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    means: NDArray[np.float64] = (sums[high] - sums[low]) / (high - low)
    return means


def draw(log: Path, out: Path | None = None) -> Path:
    """Draws a training log as a PNG and returns its path, `<log without .csv>.png` unless given.

    Raises:
        ValueError: It is no training log, or it has no rows yet.
    """
    out = log.with_suffix(".png") if out is None else out
    with paper():
        return save_figure(figure(read(log), log.name.removesuffix(".csv")), out, vector=True)


def is_log(path: Path) -> bool:
    """Returns whether a path is a training log."""
    if not path.is_file():
        return False
    with path.open(newline="", errors="replace") as file:
        return file.readline().startswith(",".join(PROGRESS))


def together(logs: Sequence[Path], out: Path) -> list[Path]:
    """Draws what several trainings measured on held-out data, a line a training, and returns the paths.

    They are OUT/training.png, and OUT/training-2.png and so on where there is more than one figure holds.

    Metrics that only one of several measured are left out: there is nothing to compare.

    Raises:
        ValueError: One is no training log or has no rows yet, two have one name, or no metric is measured by two.
    """
    read_in = {log.name.removesuffix(".csv").removesuffix(".safetensors"): read(log) for log in logs}
    if len(read_in) < len(logs):
        raise ValueError(f"two training logs have one name: {', '.join(map(str, logs))}")
    shown = shared_metrics(read_in.values())
    if not shown:
        raise ValueError(f"no metric is measured by two of {', '.join(read_in)}")
    out.mkdir(parents=True, exist_ok=True)
    with paper():
        return [
            save_figure(_together(read_in, page), out / f"training{f'-{i}' if i > 1 else ''}.png", vector=True)
            for i, page in enumerate(pages(shown), start=1)
        ]


def _together(read_in: Mapping[str, Curves], shown: Sequence[str]) -> Figure:
    """Returns a panel for each metric; a colour for each policy, a line for each of its trainings."""
    from matplotlib.figure import Figure

    rows = -(-len(shown) // ACROSS)
    lines: dict[str, Artist] = {}
    inks = colours([*read_in])
    made = Figure(figsize=(WIDTH, 0.6 + 2.0 * rows), layout="constrained")
    for i, metric in enumerate(shown):
        axes = made.add_subplot(rows, min(ACROSS, len(shown)), i + 1)
        for name, curves in read_in.items():
            if metric in curves.metrics:
                there = np.isfinite(curves.metrics[metric])
                x, y = curves.samples[there], curves.metrics[metric][there]
                [line] = axes.plot(x, y, marker="o", markersize=2, linewidth=1.0, color=inks[name])
                lines.setdefault(label(name), line)
        axes.set_title(METRICS.get(metric, metric))
        _finish(axes, [max(curves.samples[-1] for curves in read_in.values())])
    made.legend([*lines.values()], [*lines], loc="outside upper left", ncols=3)
    made.supxlabel(f"training samples; a line for each of {len(read_in)} trainings, on held-out data", fontsize=8)
    return made


def shared_metrics(trainings: Collection[Curves]) -> list[str]:
    """Returns the metrics that two trainings measured; all those of a single one."""
    every = [name for curves in trainings for name, values in curves.metrics.items() if np.isfinite(values).any()]
    return [name for name in dict.fromkeys(every) if every.count(name) >= min(2, len(trainings))]


def figure(curves: Curves, title: str) -> Figure:
    """Returns one panel for the losses and one for every metric, over samples."""
    from matplotlib.figure import Figure

    shown = {name: values for name, values in curves.metrics.items() if np.isfinite(values).any()}
    rows = 1 + -(-len(shown) // ACROSS)
    made = Figure(figsize=(10.0, 3.2 + 2.4 * (rows - 1)), layout="constrained")
    grid = made.add_gridspec(rows, ACROSS, height_ratios=[1.3] + [1.0] * (rows - 1))
    _losses(made.add_subplot(grid[0, :]), curves)
    for i, (name, values) in enumerate(shown.items()):
        axes = made.add_subplot(grid[1 + i // ACROSS, i % ACROSS])
        _metric(axes, curves.samples, values, name, COLOURS[i % len(COLOURS)])
    made.suptitle(f"{title}: {_count(curves.samples[-1])} samples")
    return made


def _losses(axes: Axes, curves: Curves) -> None:
    window = max(1, round(SMOOTHING * len(curves.samples)))
    for i, (name, values) in enumerate(curves.losses.items()):
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(curves.samples, values, color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(curves.samples, smooth(values, window), color=colour, label=f"{name} {values[-window:].mean():.3g}")
    if all((values > 0).all() for values in curves.losses.values()):
        axes.set_yscale("log")
    axes.set_ylabel("training loss")
    axes.legend(frameon=False, ncols=max(1, len(curves.losses)), fontsize=9)
    _finish(axes, curves.samples)


def _metric(axes: Axes, samples: NDArray[np.float64], values: NDArray[np.float64], name: str, colour: str) -> None:
    there = np.isfinite(values)
    axes.plot(samples[there], values[there], marker="o", markersize=3, color=colour)
    axes.margins(y=0.15)
    axes.set_title(f"{name}: {values[there][-1]:.3g}", fontsize=9)
    _finish(axes, samples)


def _finish(axes: Axes, samples: Sequence[float] | NDArray[np.float64]) -> None:
    axes.set_xlim(0, samples[-1])
    axes.xaxis.set_major_formatter(lambda value, _: _count(value))
    axes.grid(alpha=0.3)
    axes.tick_params(which="both", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _count(value: float) -> str:
    """Returns a number as 950, 12k or 1.1M."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.0f}"
