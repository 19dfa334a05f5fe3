"""Measures of pictures, by their formulas."""

import numpy as np
import pytest

from wambench import pictures

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (32, 40, 3), dtype=np.uint8)


def test_psnr_by_its_definition() -> None:
    assert pictures.psnr(PICTURE, PICTURE) == np.inf
    dark, bright = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 110, np.uint8)
    assert pictures.psnr(dark, bright) == pytest.approx(20 * np.log10(25.5))
    assert pictures.psnr(dark, bright) == pictures.psnr(bright, dark)
    bright[:, :4] = 100
    right = np.zeros((8, 8), bool)
    right[:, 4:] = True
    assert pictures.psnr(dark, bright, right) == pytest.approx(20 * np.log10(25.5))
    assert pictures.psnr(dark, bright, ~right) == np.inf


def test_ssim_by_its_definition() -> None:
    def ssim(one: np.ndarray, other: np.ndarray) -> float:
        return float(pictures.ssim_map(one, other).mean())

    assert ssim(PICTURE, PICTURE) == pytest.approx(1.0)
    dark, bright = np.full((16, 16, 3), 50, np.uint8), np.full((16, 16, 3), 150, np.uint8)
    c1 = 2.55**2
    assert ssim(dark, bright) == pytest.approx((2 * 50 * 150 + c1) / (50**2 + 150**2 + c1))
    noisy = [np.clip(PICTURE.astype(float) + RNG.normal(0, sigma, PICTURE.shape), 0, 255) for sigma in (5, 50)]
    assert 0 < ssim(PICTURE, noisy[1]) < ssim(PICTURE, noisy[0]) < 1
    assert ssim(PICTURE, 255 - PICTURE) < 0


def test_block_distance_is_blind_to_blur_within_blocks() -> None:
    checks = np.zeros((16, 16, 3), np.uint8)
    checks[::2] = 200
    assert pictures.block_distance(checks, np.full_like(checks, 100)) == 0.0
    assert pictures.block_distance(np.full_like(checks, 100), np.full_like(checks, 130)) == pytest.approx(30.0)
    assert pictures.block_means(np.zeros((5, 20, 17, 3), np.uint8)).shape == (5, 2, 2, 3)


def test_what_moves() -> None:
    after = PICTURE.copy()
    after[3, 4, 1] ^= 128
    after[5, 6] = np.where(after[5, 6] > 128, after[5, 6] - 12, after[5, 6] + 12)  # just too little
    assert np.argwhere(pictures.moving(PICTURE, after)).tolist() == [[3, 4]]


def test_edges_of_a_blurred_picture_are_weaker() -> None:
    sharp = np.zeros((16, 16, 3), np.uint8)
    sharp[:, 8:] = 200
    ramp = np.repeat(np.linspace(0, 200, 16).astype(np.uint8)[None, :, None], 16, axis=0).repeat(3, axis=2)
    band = np.zeros((16, 16), bool)
    band[:, 7:9] = True
    assert pictures.edge_strength(sharp, band) > 3 * pictures.edge_strength(ramp, band)
    assert np.isnan(pictures.edge_strength(sharp, np.zeros((16, 16), bool)))
