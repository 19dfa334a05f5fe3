"""Statistics of features as LeRobot keeps them: per episode, and over all of a dataset.

Numbers: exact, in float64. Pixels: exact too, because a histogram of 256 counts a colour holds everything. Quantiles of
numbers over a dataset are exact up to `MOST_ROWS` rows, and those of evenly spaced rows above that, so that memory
stays bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
MOMENTS = ("min", "max", "mean", "std", "count")
MOST_ROWS = 1_000_000
Stats = dict[str, Any]  # name of a statistic -> JSON


def of_numbers(values: NDArray[Any]) -> Stats:
    """Returns the statistics of (R,) or (R, D) numbers, as lists of D entries."""
    table = values.reshape(len(values), -1).astype(np.float64)
    quantiles = np.quantile(table, list(QUANTILES.values()), axis=0)
    return {
        "min": table.min(axis=0).tolist(),
        "max": table.max(axis=0).tolist(),
        "mean": table.mean(axis=0).tolist(),
        "std": table.std(axis=0).tolist(),
        "count": [len(table)],
        **{name: row.tolist() for name, row in zip(QUANTILES, quantiles, strict=True)},
    }


def histogram(frame: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Returns (3, 256) how often each value of each colour is in a (h, w, 3) frame."""
    flat = frame.reshape(-1, 3)
    return np.stack([np.bincount(flat[:, colour], minlength=256) for colour in range(3)])


def of_pixels(counts: NDArray[np.integer], frames: int) -> Stats:
    """Returns the statistics of images in [0, 1] from their (3, 256) histogram, as lists of shape (3, 1, 1)."""
    values = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = counts @ values / total
    variance = (counts * (values[None] - mean[:, None]) ** 2).sum(axis=1) / total
    below = counts.cumsum(axis=1) / total[:, None]
    there = [np.flatnonzero(row) for row in counts]
    found = {
        "min": values[[row[0] for row in there]],
        "max": values[[row[-1] for row in there]],
        "mean": mean,
        "std": np.sqrt(variance),
    }
    found |= {name: values[[np.searchsorted(row, q) for row in below]] for name, q in QUANTILES.items()}
    shaped = {name: value.reshape(3, 1, 1).tolist() for name, value in found.items()}
    return {**shaped, "count": [frames]}


class Running:
    """Least, largest, mean, standard deviation and count over episodes, added one by one (Chan et al., 1983)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: NDArray[np.float64] = np.zeros(1)
        self._squares: NDArray[np.float64] = np.zeros(1)
        self._low: NDArray[np.float64] = np.full(1, np.inf)
        self._high: NDArray[np.float64] = np.full(1, -np.inf)

    def add(self, part: Stats) -> None:
        """Adds the statistics of an episode."""
        count = part["count"][0]
        total = self._count + count
        shift = np.array(part["mean"]) - self._mean
        squares = np.array(part["std"]) ** 2 * count
        self._squares = self._squares + squares + shift**2 * (self._count * count / total)
        self._mean = self._mean + shift * (count / total)
        self._low, self._high = np.minimum(self._low, part["min"]), np.maximum(self._high, part["max"])
        self._count = total

    def stats(self) -> Stats:
        """Returns what was added, without quantiles, which single episodes do not tell."""
        std = np.sqrt(self._squares / self._count)
        values = {"min": self._low, "max": self._high, "mean": self._mean, "std": std}
        return {**{name: value.tolist() for name, value in values.items()}, "count": [self._count]}


def quantiles(files: Sequence[Path], names: Sequence[str], rows: int) -> dict[str, Stats]:
    """Returns the quantiles of columns over parquet files with `rows` rows in all."""
    every = -(-rows // MOST_ROWS)
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    first = 0
    for path in files:
        table = pyarrow.parquet.read_table(path, columns=list(names))
        for name in names:
            parts[name].append(column(table, name)[-first % every :: every].copy())
        first += len(table)
    found = {}
    for name in names:
        values = np.concatenate(parts.pop(name)).astype(np.float64)
        table = np.quantile(values, list(QUANTILES.values()), axis=0)
        found[name] = {kind: row.tolist() for kind, row in zip(QUANTILES, table, strict=True)}
    return found


def column(table: pyarrow.Table, name: str) -> NDArray[Any]:
    """Returns a column of a table, (R, D), in the type that it is stored in."""
    stored = table.column(name).combine_chunks()
    if pyarrow.types.is_fixed_size_list(stored.type):
        return np.asarray(stored.flatten().to_numpy()).reshape(len(stored), stored.type.list_size)
    return np.asarray(stored.to_numpy(zero_copy_only=False)).reshape(-1, 1)
