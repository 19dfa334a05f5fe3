"""The data protocols of released checkpoints: golden files, and what their quirks mean."""

from pathlib import Path

import numpy as np
import pytest

from tests.parity import vla_data as parity
from wambench.policies.vla import groot_transforms, openpi

GOLDEN = Path(__file__).parents[2] / "golden" / "vla"


@pytest.mark.parametrize("name", parity.CHECKS)
def test_agrees_with_golden_files(name: str) -> None:
    results = parity.CHECKS[name](GOLDEN)
    assert results and not [result for result in results if not result.passed]


def test_a_quaternion_and_its_negative_differ() -> None:
    q = np.array([[0.0, 0.0, 0.6, 0.8]])
    angle, other = openpi.axis_angle(q)[0, 2], openpi.axis_angle(-q)[0, 2]
    assert angle == pytest.approx(2 * np.arccos(0.8)) and angle - other == pytest.approx(2 * np.pi)


def test_deltas_and_relative_poses_come_back() -> None:
    rng = np.random.default_rng(0)
    actions, state, mask = rng.normal(size=(4, 8)), rng.normal(size=8), np.array([1, 1, 0])
    delta = openpi.to_delta(actions, state, mask)
    assert np.array_equal(delta[:, 2:], actions[:, 2:]) and not np.allclose(delta[:, :2], actions[:, :2])
    np.testing.assert_allclose(openpi.to_delta(delta, state, mask, sign=1.0), actions)
    poses = groot_transforms.to_absolute(rng.normal(size=(5, 9)), rng.normal(size=9))
    start = poses[0]
    moved = groot_transforms.to_relative(poses, start)
    np.testing.assert_allclose(moved[0], [0, 0, 0, 1, 0, 0, 0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(groot_transforms.to_absolute(moved, start), poses, atol=1e-12)


def test_images_keep_their_proportions() -> None:
    wide = np.full((10, 20, 3), 200, np.uint8)
    out = openpi.resize_with_pad(wide, 16, 16)
    assert out.shape == (16, 16, 3) and (out[4:12] == 200).all() and not out[:4].any() and not out[12:].any()
    floats = openpi.resize_with_pad(openpi.to_float(wide), 16, 16)
    assert (floats[:4] == -1.0).all() and floats[8, 8, 0] == pytest.approx(200 / 255 * 2 - 1)


def test_bad_requests_are_named() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="did you mean 'pi05'"):
        openpi.images(picture, picture, "pi5", "libero")
    with pytest.raises(ValueError, match="did you mean 'droid'"):
        openpi.images(picture, picture, "pi0", "droids")
    with pytest.raises(ValueError, match="5 tokens do not fit into 4"):
        openpi.fast_sequence([1, 2, 3], [4, 5], 4)
