"""What the tests here compare datasets by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from wambench.datasets.replay import Simulators
from wambench.datasets.sources import Moment, entries, moments, open_source


def psnr(shown: np.ndarray, truth: np.ndarray) -> float:
    """Returns the peak signal-to-noise ratio of (h, w, 3) uint8 pictures in dB."""
    error = ((shown.astype(float) - truth.astype(float)) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def episodes(folder: Path, size: tuple[int, int]) -> list[list[Moment]]:
    """Returns all rows of the episodes of a source as they should be in a dataset."""
    source = open_source(folder)
    simulators = Simulators(source.convention, size)
    try:
        return [list(moments(source, entry, simulators, size)[1]) for entry in entries(source)]
    finally:
        simulators.close()


def info(dataset: Path) -> dict[str, Any]:
    """Returns meta/info.json."""
    values: dict[str, Any] = json.loads((dataset / "meta" / "info.json").read_text())
    return values


def files(folder: Path) -> dict[str, bytes]:
    """Returns the content of all files by their path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
