"""What the tests here compare datasets by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from wambench.datasets.replay import Simulators
from wambench.datasets.sources import Moment, entries, moments, open_source
from wambench.datasets.video_file import count_frames, read_frames


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


def assert_same(one: Path, other: Path) -> None:
    """Asserts that two datasets are equal byte by byte, and their videos as far as the codec repeats itself.

    The statistics hold the histogram of all pixels, so that equal bytes there mean equal frames. Of equal frames the
    codec has once, in a run of all tests, made a video of other bytes; then the pictures must agree.
    """
    contents = [files(folder) for folder in (one, other)]
    assert contents[0].keys() == contents[1].keys()
    for name in contents[0]:
        if contents[0][name] == contents[1][name]:
            continue
        assert name.endswith(".mp4"), name
        paths = [folder / name for folder in (one, other)]
        counts = [count_frames(path) for path in paths]
        assert counts[0] == counts[1], name
        shown = [np.stack(list(read_frames(path, 0, counts[0], info(one)["fps"]))).astype(int) for path in paths]
        assert np.abs(shown[0] - shown[1]).mean() < 0.5, name
