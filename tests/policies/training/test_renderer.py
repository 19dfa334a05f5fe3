"""The renderer learns to draw second frames of pairs, with and without a world model to tell it what is there."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.policies.conftest import observe
from wambench.interface import canvas
from wambench.policies import weight_files
from wambench.policies.dreamzero import policy as playing
from wambench.policies.perception import renderer
from wambench.policies.training import dataset, train, warm_start
from wambench.policies.training import renderer as module
from wambench.policies.training.config import TrainConfig

pytestmark = pytest.mark.slow


def config(demos: Path, video: Path, encoder_file: Path, out: Path, **more: object) -> TrainConfig:
    values = {"steps": 40, "batch": 8, "lr": 2e-3, "ema": 0.9, "encoder": str(encoder_file)} | more
    return TrainConfig("renderer", "v1", (str(demos), str(video)), str(out), **values)  # type: ignore[arg-type]


def test_it_learns(demos: Path, video: Path, encoder_file: Path, tmp_path: Path) -> None:
    path = train.train(config(demos, video, encoder_file, tmp_path / "renderer.safetensors"))
    _, meta = renderer.load(path)
    assert {"val_skill_04", "val_skill_08", "val_still_grey", "encoder", "command"} <= set(meta)
    with Path(f"{path}.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val_skill_04"]]
    assert float(rows[-1]["image"]) < float(rows[0]["image"])


def test_with_a_world_model(demos: Path, video: Path, encoder_file: Path, dreamzero_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "renderer.safetensors"
    path = train.train(config(demos, video, encoder_file, out, steps=3, world_model=str(dreamzero_file)))
    options = playing.DreamZeroOptions(str(dreamzero_file), str(encoder_file), renderer=str(path))
    assert playing.DreamZero(options).renderer is not None
    shown = []
    for renderer_file in (str(path), None):
        policy = playing.DreamZero(replace(options, renderer=renderer_file))
        policy.reset("reach the red cube", 0)
        now = observe(0, np.zeros((2, 3)), np.zeros(3))
        plan = policy.act([now])
        assert plan.frames is not None and plan.frames.shape == (2, 96, 192, 3)
        shown.append(plan)
    assert not np.array_equal(np.asarray(shown[0].frames), np.asarray(shown[1].frames))  # drawn, and decoded
    np.testing.assert_array_equal(shown[0].actions, shown[1].actions)  # who draws decides nothing else
    assert policy.reconstruct(canvas(now, policy.convention.cameras)[None]).shape == (1, 96, 192, 3)
    packaged = weight_files.packaged(weight_files.ENCODER)
    with pytest.raises(ValueError, match="trained with another encoder than"):
        playing.find_renderer(str(path), packaged, "cpu")
    assert playing.find_renderer(None, packaged, "cpu") is None
    with pytest.raises(ValueError, match="world_model is for the renderer"):
        TrainConfig("dreamzero", "nano", ("d",), "o", steps=1, world_model="x")


def test_frames_are_counted_as_clips_count_them(demos: Path, video: Path) -> None:
    folders = (str(demos), str(video))
    read = module.frame_reader(folders)
    every = np.concatenate([dataset.locate_frames(f).all() for d in folders for f in dataset.files_of(d)])
    rows = torch.tensor([0, 20, 21, len(every) - 1])
    np.testing.assert_array_equal(read(rows).numpy(), every[rows.numpy()])


def test_block_error_sees_what_blocks_see() -> None:
    truth = torch.zeros(1, 3, 16, 16)
    noise = torch.ones(1, 3, 16, 16)
    noise[:, :, ::2] = -1.0
    assert float(module.block_error(noise, truth)) == 0.0
    assert float(module.block_error(truth + 0.5, truth)) == pytest.approx(0.25)


def test_an_error_where_pixels_move_is_heavier() -> None:
    base = torch.zeros(1, 3, 8, 8)
    truth = base.clone()
    truth[..., :4] = 0.5
    wrong = [truth.clone(), truth.clone()]
    wrong[0][..., :4] += 0.1
    wrong[1][..., 4:] += 0.1
    assert float(module.image_loss(wrong[0], truth, base)) > 2.0 * float(module.image_loss(wrong[1], truth, base))


def test_a_renderer_that_learns_new_key_points_starts_where_the_old_one_stood() -> None:
    torch.manual_seed(0)
    old = renderer.Renderer(renderer.RendererConfig(("hand", "plate"))).eval()
    for parameter in old.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape)
    wide = renderer.RendererConfig(("mug", "plate", "ball", "hand"))
    new = renderer.Renderer(wide).eval()
    new.load_state_dict(warm_start.widened_renderer(old.state_dict(), old.config, new))
    at = torch.tensor([wide.points.index(name) for name in old.config.points])
    drawn = []
    for model in (old, new):
        g = torch.Generator().manual_seed(1)
        pixels = torch.rand(2, 3, 96, 192, generator=g) - 0.5
        pair = [renderer.Told(torch.randn(2, 24, 6, 12, generator=g), torch.rand(2, 2, 4, generator=g)) for _ in "ab"]
        if model is new:
            pair = [replace(told, points=torch.zeros(2, 4, 4).index_copy(1, at, told.points)) for told in pair]
        with torch.no_grad():
            drawn.append((model(pixels, *pair), pixels))
    torch.testing.assert_close(drawn[1][0], drawn[0][0], atol=1e-4, rtol=1e-4)
    assert (drawn[0][0] - drawn[0][1]).abs().max() > 0.01
    with pytest.raises(ValueError, match="place ball, mug, which"):
        warm_start.widened_renderer(new.state_dict(), wide, old)
