"""Statistics of features as LeRobot keeps them: per episode, and over all of a dataset.

Numbers: exact, in float64. Pixels: exact too, because a histogram of 256 counts a colour holds everything. Quantiles over
a dataset are exact up to `MOST_ROWS` rows and are those of evenly spaced rows above that, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
MOMENTS = ("min", "max", "mean", "std", "count")
MOST_ROWS = 2_000_000
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


def over_episodes(parts: Iterable[Stats]) -> Stats:
    """Returns least, largest, mean, standard deviation and count over episodes (Chan et al., 1983); no quantiles."""
    count, mean, squares = 0, np.zeros(0), np.zeros(0)
    low, high = np.full(0, np.inf), np.zeros(0)
    for part in parts:
        n, own, spread = part["count"][0], np.array(part["mean"]), np.array(part["std"]) ** 2 * part["count"][0]
        if not count:
            count, mean, squares, low, high = n, own, spread, np.array(part["min"]), np.array(part["max"])
            continue
        shift = own - mean
        squares = squares + spread + shift**2 * (count * n / (count + n))
        mean = mean + shift * (n / (count + n))
        low, high = np.minimum(low, part["min"]), np.maximum(high, part["max"])
        count += n
    std = np.sqrt(squares / count)
    values = {"min": low, "max": high, "mean": mean, "std": std}
    return {**{name: value.tolist() for name, value in values.items()}, "count": [count]}


def quantiles(files: Sequence[Path], column: str, rows: int) -> Stats:
    """Returns the quantiles of a column over parquet files with `rows` rows in all."""
    every = -(-rows // MOST_ROWS)
    parts, first = [], 0
    for path in files:
        values = read_column(path, column)
        parts.append(values[-first % every :: every])
        first += len(values)
    table = np.quantile(np.concatenate(parts).astype(np.float64), list(QUANTILES.values()), axis=0)
    return {name: row.tolist() for name, row in zip(QUANTILES, table, strict=True)}


def read_column(path: Path, column: str) -> NDArray[Any]:
    """Returns a column of a parquet file, (R, D), in the type that it is stored in."""
    stored = pyarrow.parquet.read_table(path, columns=[column]).column(0).combine_chunks()
    if pyarrow.types.is_fixed_size_list(stored.type):
        return np.asarray(stored.flatten().to_numpy()).reshape(len(stored), stored.type.list_size)
    return np.asarray(stored.to_numpy(zero_copy_only=False)).reshape(-1, 1)
