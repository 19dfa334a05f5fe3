"""The tracker and the paths, small and untrained, and the shipped ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from wambench.attribution import paths, paths_training, tracker
from wambench.attribution.oracle import KeyPoints
from wambench.policies import weight_files
from wambench.policies.perception import encoder

pytestmark = pytest.mark.slow

POINTS = ("red_cube", "bin", *encoder.HAND)


def small() -> tracker.FrameTracker:
    torch.manual_seed(0)
    return tracker.FrameTracker(tracker.TrackerConfig(POINTS, marks=7, hidden=16, limit_m=0.02))


def pairs(count: int = 3) -> tracker.Pairs:
    generator = torch.Generator().manual_seed(1)
    found = torch.rand(2, count, 7, 2, tracker.FOUND, generator=generator)
    pixels = torch.rand(count, 5, 2, 2, generator=generator)
    pixels[:, 0, 1] = float("nan")
    state = torch.rand(count, encoder.STATE_FEATURES, generator=generator)
    there = torch.tensor([[True, False]]).expand(count, -1)
    hand, objects = torch.rand(count, 7, generator=generator), torch.zeros(count, 2, 3)
    return tracker.Pairs(
        found[0], found[1], state, torch.rand(count, 2, 3, generator=generator), there, pixels, hand, objects
    )


def test_what_is_out_of_view_or_absent_passes_no_nan() -> None:
    model = small()
    total = torch.stack(tracker.loss(model, pairs())).sum()
    assert torch.isfinite(total)
    total.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


def test_saved_and_loaded_tracker_reads_the_same(tmp_path: Path) -> None:
    model = small().eval()
    tracker.save(model, tmp_path / "t.safetensors", {})
    again, _ = tracker.load(tmp_path / "t.safetensors")
    assert again.config == model.config and again.config.objects == ("red_cube", "bin")
    with torch.no_grad():
        assert torch.allclose(model(pairs()).hand, again(pairs()).hand, atol=2e-2)
    with pytest.raises(ValueError, match="holds 'tracker' weights"):
        paths.load(tmp_path / "t.safetensors")


def test_shipped_reader_knows_a_frame_that_did_not_change_from_noise() -> None:
    reader = tracker.FrameReader()
    rng = np.random.default_rng(0)
    golden = np.load(Path(__file__).parent.parent / "golden" / "tracker.npz")
    known = KeyPoints(golden["points"], golden["present"], golden["pixels"])
    noise = rng.integers(0, 256, golden["now"].shape, dtype=np.uint8)
    readings = reader.read(golden["now"], golden["state"], known, np.stack([golden["now"], golden["after"], noise]))
    assert readings.sure.tolist() == [True, True, False]
    assert np.linalg.norm(readings.positions[0] - golden["state"][:3]) < 0.02
    moved = np.linalg.norm(golden["after_state"][:3] - golden["state"][:3])
    assert np.linalg.norm(readings.positions[1] - golden["after_state"][:3]) < 0.5 * moved


def test_grip_is_told_before_held_fingers_open() -> None:
    widths = np.concatenate(
        [np.full(5, 0.08), np.linspace(0.08, 0.044, 6), np.full(10, 0.044), np.linspace(0.05, 0.08, 5)]
    )
    grips = paths_training.grips_of(widths)
    assert grips[0] == -1.0 and grips[12] == 1.0
    opened = int(np.flatnonzero(np.diff(grips) < 0)[0]) + 1
    assert 13 <= opened <= 16  # the fingers move at 20; their goal needs five steps to come back from shut


def test_paths_pass_through_their_poses_within_what_they_learned() -> None:
    model, _ = paths.load(weight_files.packaged(paths.WEIGHTS))
    now = np.array([0.0, 0.0, 1.0, 0.08])
    ends = np.array([[0.03, 0.0, 0.98], [0.06, 0.0, 0.96]])
    way, grips = model.complete(now, now, -1.0, ends, np.array([0.08, 0.08]))
    assert way.shape == (16, 3) and (grips == -1.0).all()
    assert np.linalg.norm(way[7] - ends[0]) < 0.012
