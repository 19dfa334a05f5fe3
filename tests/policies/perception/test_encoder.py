"""The encoder: shapes, state features, its losses, and files that are not what they should be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.policies.conftest import POINTS
from wambench.policies import weight_files
from wambench.policies.perception import encoder

pytestmark = pytest.mark.slow

TINY = replace(encoder.CONFIGS["tiny"], points=POINTS)


def frames(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    return encoder.as_tensors(rng.integers(0, 256, (count, 96, 192, 3), dtype=np.uint8), rng.normal(size=(count, 8)))


def test_shapes() -> None:
    model = encoder.Encoder(TINY).eval()
    latents, points = model.encode(*frames(3))
    assert latents.shape == (3, 8, 6, 12) and points.shape == (3, 3, 4)
    assert ((points[..., 3] >= 0) & (points[..., 3] <= 1)).all()
    torch.testing.assert_close(model.latents(frames(3)[0]), latents)
    decoded = model.decode(latents)
    assert decoded.shape == (3, 96, 192, 3) and decoded.dtype == torch.uint8
    assert encoder.EncoderConfig(points=POINTS).latent == (24, 6, 12)


def test_state_features_do_not_jump_where_axis_angle_does() -> None:
    a = torch.tensor([[0.1, 0.2, 0.3, np.pi - 1e-4, 0.0, 0.0, 0.04, -0.04]])
    b = a.clone()
    b[0, 3] = -(np.pi - 1e-4)
    assert (encoder.state_features(a) - encoder.state_features(b)).abs().max() < 1e-3
    turned = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, np.pi / 2, 0.0, 0.0]])
    torch.testing.assert_close(
        encoder.state_features(turned)[0, 3:9], torch.tensor([0.0, 1.0, 0.0, -1.0, 0.0, 0.0]), atol=1e-6, rtol=0
    )
    assert torch.isfinite(encoder.state_features(torch.zeros(1, 8))).all()


def test_point_loss_ignores_the_place_of_absent_things() -> None:
    found, xyz = torch.zeros(4, 2, 4), torch.zeros(4, 2, 3)
    present = torch.tensor([[True, False]] * 4)
    far = xyz.clone()
    far[:, 1] = 100.0
    assert encoder.point_loss(found, xyz, present) == encoder.point_loss(found, far, present)
    far[:, 0] = 1.0
    assert encoder.point_loss(found, xyz, present) < encoder.point_loss(found, far, present)


def test_jitter_keeps_range_and_repeats() -> None:
    pixels = torch.rand(4, 3, 16, 16) - 0.5
    a, b = (encoder.jitter(pixels, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b) and a.min() >= -0.5 and a.max() <= 0.5 and not torch.equal(a, pixels)


def test_round_trip(tmp_path: Path) -> None:
    model = encoder.Encoder(TINY).eval()
    encoder.save(model, tmp_path / "e.safetensors", {"corpus": "toy"})
    loaded, meta = encoder.load(tmp_path / "e.safetensors")
    assert meta["corpus"] == "toy" and loaded.config == TINY
    for a, b in zip(model.encode(*frames(2)), loaded.encode(*frames(2)), strict=True):
        torch.testing.assert_close(a, b, atol=5e-2, rtol=5e-2)


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "e.safetensors"
    with pytest.raises(ValueError, match="no such weights file"):
        encoder.load(path)
    encoder.save(encoder.Encoder(TINY), path, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"e\.safetensors: damaged") as caught:
        encoder.load(path)
    assert "\n" not in str(caught.value)
    weight_files.write_weights(path, {"a": torch.zeros(2)}, set(), {"kind": "dreamzero"})
    with pytest.raises(ValueError, match="holds 'dreamzero' weights, not 'encoder'"):
        encoder.load(path)
    weight_files.write_weights(path, {"a": torch.zeros(2)}, set(), {"kind": "encoder", "config": {"channels": 8}})
    with pytest.raises(ValueError, match="do not fit") as caught:
        encoder.load(path)
    assert "\n" not in str(caught.value)


def test_heat_loss_wants_the_peak_at_the_label() -> None:
    pixels = torch.full((1, 1, 2, 2), float("nan"))
    pixels[0, 0, 0] = torch.tensor([0.5, -0.5])  # right, up, in the first view only
    cells = encoder.cell_centres(8, 8)
    near = int((cells - torch.tensor([0.5, -0.5])).norm(dim=1).argmin())
    heat = torch.zeros(1, 2, 1, 64)
    heat[..., near] = 5.0
    right, wrong = heat.log_softmax(3), heat.flip(3).log_softmax(3)
    assert encoder.heat_loss(right, pixels, (8, 8)) < encoder.heat_loss(wrong, pixels, (8, 8)) - 1.0
    assert encoder.heat_loss(right, torch.full_like(pixels, float("nan")), (8, 8)) == 0.0


def test_moving_psnr_counts_moving_pixels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    model = encoder.Encoder(TINY).eval()
    before = torch.full((2, 96, 192, 3), 100, dtype=torch.uint8)
    after = before.clone()
    after[:, :10, :10] = 200  # moves
    guess = after.clone()
    guess[:, 50:] += 50  # wrong where nothing moves
    guess[:, :10, :10] += 10
    monkeypatch.setattr(model, "decode", lambda _: guess)
    assert encoder.moving_psnr(model, before, after) == pytest.approx(10 * np.log10(255**2 / 10**2), abs=1e-3)
