"""How alike two pictures are, by formula; and that the profiles are alike, and not the same."""

import numpy as np
import pytest

from wambench.suite import render_profiles

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (32, 40, 3), dtype=np.uint8)


def test_psnr_by_its_definition() -> None:
    assert render_profiles.psnr(PICTURE, PICTURE) == np.inf
    dark, bright = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 110, np.uint8)
    assert render_profiles.psnr(dark, bright) == pytest.approx(20 * np.log10(25.5))
    assert render_profiles.psnr(dark, bright) == render_profiles.psnr(bright, dark)


def test_ssim_by_its_definition() -> None:
    assert render_profiles.ssim(PICTURE, PICTURE) == pytest.approx(1.0)
    dark, bright = np.full((16, 16, 3), 50, np.uint8), np.full((16, 16, 3), 150, np.uint8)
    c1 = 2.55**2
    assert render_profiles.ssim(dark, bright) == pytest.approx((2 * 50 * 150 + c1) / (50**2 + 150**2 + c1))
    noisy = [np.clip(PICTURE.astype(float) + RNG.normal(0, sigma, PICTURE.shape), 0, 255) for sigma in (5, 50)]
    assert 0 < render_profiles.ssim(PICTURE, noisy[1]) < render_profiles.ssim(PICTURE, noisy[0]) < 1
    assert render_profiles.ssim(PICTURE, 255 - PICTURE) < 0


def test_profiles_show_the_same_moment_and_look_alike() -> None:
    start, later = render_profiles.pairs("LiftCube", "seen", "none")
    for pair in (start, later):
        assert pair.full.step == pair.fast.step
        np.testing.assert_array_equal(pair.full.state, pair.fast.state)
        for camera, full in pair.full.images.items():
            assert 15 < render_profiles.psnr(full, pair.fast.images[camera]) < 60, camera
    assert later.full.step == render_profiles.STEPS
    table = render_profiles.similarity([start, later]).splitlines()
    assert [line.split("|")[1].strip() for line in table[2:]] == ["`agentview`", "`wrist`"]
    assert all("| 2 |" in line for line in table[2:])


def test_scenes_that_are_shown_exist() -> None:
    assert set(render_profiles.SHOWN) <= set(render_profiles.scenes())
