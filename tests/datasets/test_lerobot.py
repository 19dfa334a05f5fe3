"""Exports, read by lerobot's own dataset class in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.conftest import needs
from tests.datasets.read_with_lerobot import HORIZON
from tests.datasets.reading import episodes, psnr

pytestmark = [pytest.mark.slow, needs("av", "pyarrow")]
SCRIPT = Path(__file__).with_name("read_with_lerobot.py")


def read(python: str, dataset: Path, out: Path, *options: str) -> dict[str, Any]:
    """Returns what lerobot sees in a dataset."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python, str(SCRIPT), str(dataset), str(out), *options]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**environment, "HF_HUB_OFFLINE": "1", "HF_HOME": str(out.parent)}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(out, allow_pickle=False) as stored:
        return dict(stored)


def compare(found: dict[str, Any], source: Path, size: tuple[int, int], least_db: float) -> None:
    """Compares what lerobot saw with what should be there."""
    expected = episodes(source, size)
    assert found["episodes"] == len(expected) and found["frames"] == sum(map(len, expected))
    rows = [(number, place) for number, own in enumerate(expected) for place in range(len(own))]
    seen = sorted({int(name.split("/")[1]) for name in found if name.startswith("row/")})
    assert {0, len(rows) - 1} <= set(seen)  # the very first and the very last
    for row in seen:
        number, place = rows[row]
        moment: Any = expected[number][place]
        assert int(found[f"row/{row}/frame_index"]) == place and int(found[f"row/{row}/episode_index"]) == number
        for camera, image in moment.images.items():
            shown = found[f"row/{row}/observation.images.{camera}"].transpose(1, 2, 0)
            assert psnr((shown * 255).round(), image) >= least_db
        if moment.state is None:
            continue
        np.testing.assert_array_equal(found[f"row/{row}/observation.state"], moment.state)
        np.testing.assert_array_equal(found[f"row/{row}/action"], moment.action)
        np.testing.assert_array_equal(found[f"row/{row}/executed"], moment.executed)
        assert bool(found[f"row/{row}/success"]) == moment.success
        last = len(expected[number]) - 1
        ahead: list[Any] = [expected[number][min(place + i, last)].action for i in range(HORIZON)]
        np.testing.assert_array_equal(found[f"chunk/{row}/action"], np.stack(ahead))
        padded = np.arange(place, place + HORIZON) >= len(expected[number])
        np.testing.assert_array_equal(found[f"chunk/{row}/pad"], padded)


def test_v30(lerobot_python: str, v30: Path, demos: Path, tmp_path: Path) -> None:
    found = read(lerobot_python, v30, tmp_path / "seen.npz")
    assert found["fps"] == 20
    compare(found, demos, (256, 256), 35.0)
    assert str(found["row/0/task"]) == "lift the red cube"
    stats = json.loads((v30 / "meta/stats.json").read_text())
    for kind in ("min", "max", "mean", "std", "q01", "q99"):
        np.testing.assert_allclose(found[f"stats/action/{kind}"], stats["action"][kind])
    assert found["single/index"] == found["single/index"].item() > 0


def test_v21_by_the_converter(lerobot_python: str, v21: Path, demos: Path, tmp_path: Path) -> None:
    copy = tmp_path / "dataset"
    shutil.copytree(v21, copy)
    found = read(lerobot_python, copy, tmp_path / "seen.npz", "--convert")
    compare(found, demos, (96, 96), 30.0)  # at 96x96 half the resolution of colour shows, see docs/data.md
    # lerobot's own aggregation of our statistics per episode is our statistics of the whole
    stats = json.loads((v21 / "meta/stats.json").read_text())
    for name in ("observation.state", "action", "observation.images.wrist"):
        for kind in ("min", "max", "mean", "std"):
            np.testing.assert_allclose(found[f"stats/{name}/{kind}"], stats[name][kind], atol=1e-6)


def test_runs_and_video(lerobot_python: str, played: Path, video: Path, tmp_path: Path) -> None:
    from wambench.datasets.export import ExportConfig, export

    for source, size in ((played, (256, 256)), (video, (192, 192))):
        dataset = export(ExportConfig((source,), tmp_path / source.name))
        compare(read(lerobot_python, dataset, tmp_path / f"{source.name}.npz"), source, size, 35.0)
