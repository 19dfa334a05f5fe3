"""Training from LeRobot datasets: the same numbers and moments as from the folders that they were exported from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.conftest import needs

pytestmark = [pytest.mark.slow, needs("av", "pyarrow")]
FIELDS = ("features", "known", "step", "last", "offset", "length", "actions", "executed", "sentence", "held_out")


def clips(folder: str, out: Path) -> Any:
    """Returns what a policy would be trained on."""
    from wambench.policies.training.config import TrainConfig, read_clips

    return read_clips(TrainConfig("l1", "tiny", (folder,), str(out), steps=1), 0, lambda: None)[1]


def test_moments_are_those_of_the_native_data(demos: Path, v21: Path, tmp_path: Path) -> None:
    import torch

    native, ours = (clips(folder, tmp_path / "never") for folder in (str(demos), f"lerobot://{v21}"))
    assert all(torch.equal(getattr(native, name), getattr(ours, name)) for name in FIELDS)
    assert (native.sentences, native.every) == (ours.sentences, ours.every)
    off = (native.latents.float() - ours.latents.float()).pow(2).mean().sqrt()
    assert 0 < off < 0.1  # latents have a standard deviation of 1: what is left is the compression of the video
    assert not list(v21.glob("latents.*"))  # the dataset stays as it was


def test_both_layouts_are_read_alike(v21: Path, v30: Path) -> None:
    from wambench.datasets.lerobot_folder import open_folder
    from wambench.interface import ControlConvention

    old, new = (open_folder(f"lerobot://{folder}", ControlConvention()) for folder in (v21, v30))
    for one, other in zip(old.clips, new.clips, strict=True):
        assert (one.rows, one.text) == (other.rows, other.text)
        for name, values in old.episode(one).items():
            np.testing.assert_array_equal(values, new.episode(other)[name])
        # 256x256 shrunk to 96x96, against 96x96 as rendered
        assert np.abs(old.frames(one).astype(int) - new.frames(other)).mean() < 6


def test_a_training_comes_to_the_same(demos: Path, v21: Path, tmp_path: Path) -> None:
    from wambench.policies.training.config import TrainConfig
    from wambench.policies.training.train import train
    from wambench.policies.weight_files import read_weights

    found = []
    for name, folder in (("native", str(demos)), ("lerobot", f"lerobot://{v21}")):
        config = TrainConfig("l1", "tiny", (folder,), str(tmp_path / name), steps=20)
        train(config)
        weights, meta = read_weights(config.out, "l1")
        found.append((weights, meta))
        assert meta["corpus"] == "demos"
    assert "--data lerobot://dataset" in found[1][1]["command"]
    (native, _), (ours, _) = found
    distance = sum(float((native[name].float() - ours[name].float()).pow(2).sum()) for name in native) ** 0.5
    size = sum(float(value.float().pow(2).sum()) for value in native.values()) ** 0.5
    assert distance < 0.05 * size


def test_what_does_not_fit_is_named(v21: Path, tmp_path: Path) -> None:
    from wambench.policies.training import dataset

    def refused(said: str, **changes: Any) -> None:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(v21, folder)
        info = json.loads((folder / "meta/info.json").read_text())
        features = {**info["features"], **changes.pop("features", {})}
        info |= {**changes, "features": {name: value for name, value in features.items() if value}}
        (folder / "meta/info.json").write_text(json.dumps(info))
        with pytest.raises(ValueError, match=said):
            dataset.read_manifest(f"lerobot://{folder}")

    refused("feature observation.images.wrist is missing; it has", features={"observation.images.wrist": None})
    refused("feature observation.state is missing", features={"observation.state": None})
    refused(r"action has shape \(8,\)", features={"action": {"dtype": "float32", "shape": [8]}})
    refused("10 rows per second", fps=10)
    refused("layout v1.6", codebase_version="v1.6")
    with pytest.raises(ValueError, match="no LeRobot dataset there"):
        dataset.read_manifest(f"lerobot://{tmp_path / 'nothing'}")
    with pytest.raises(ValueError, match="no labels of key points"):
        dataset.files_of(f"lerobot://{v21}")
