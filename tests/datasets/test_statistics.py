"""Statistics, against numpy over everything at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets.conftest import needs

pytestmark = needs("av", "pyarrow")


def test_pixels_need_no_more_than_a_histogram() -> None:
    from wambench.datasets import statistics

    frames = np.random.default_rng(0).integers(10, 200, (5, 6, 7, 3), dtype=np.uint8)
    counts = sum(statistics.histogram(frame) for frame in frames)
    found = statistics.of_pixels(np.asarray(counts), len(frames))
    truth = frames.reshape(-1, 3) / 255
    for name, value in (("mean", truth.mean(0)), ("std", truth.std(0)), ("min", truth.min(0)), ("max", truth.max(0))):
        np.testing.assert_allclose(np.ravel(found[name]), value, atol=1e-12)
    expected = np.quantile(truth, 0.9, axis=0, method="inverted_cdf")
    np.testing.assert_allclose(np.ravel(found["q90"]), expected, atol=1e-12)
    assert found["count"] == [5] and np.shape(found["mean"]) == (3, 1, 1)


def test_episodes_add_up() -> None:
    from wambench.datasets import statistics

    rng = np.random.default_rng(1)
    parts = [rng.normal(3 * i, 1 + i, (4 + i, 2)) for i in range(4)]
    running = statistics.Running()
    for part in parts:
        running.add(statistics.of_numbers(part))
    found, whole = running.stats(), np.concatenate(parts)
    for name in ("mean", "std", "min", "max"):
        np.testing.assert_allclose(found[name], getattr(whole, name)(axis=0), atol=1e-12)
    assert found["count"] == [len(whole)]


@pytest.mark.parametrize("most", [1000, 40])
def test_quantiles_are_exact_or_of_spaced_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    import pyarrow
    import pyarrow.parquet

    from wambench.datasets import statistics

    values = np.random.default_rng(2).normal(size=100).astype(np.float32)
    files = [tmp_path / f"{i}.parquet" for i in range(3)]
    for path, part in zip(files, np.split(values, [30, 65]), strict=True):
        pyarrow.parquet.write_table(pyarrow.table({"x": part}), path)
    monkeypatch.setattr(statistics, "MOST_ROWS", most)
    kept = values if most >= 100 else values[::3]
    found = statistics.quantiles(files, ["x"], 100)["x"]
    np.testing.assert_allclose(found["q10"], [np.quantile(kept.astype(float), 0.1)])
