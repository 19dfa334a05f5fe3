"""How alike two pictures are: measures of uint8 RGB pictures (h, w, 3), which all parts of the suite share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, sobel

BLOCK = 8  # pixels on a side
MOVING = 12  # grey levels by which some channel of a pixel that moves differs


def block_means(pictures: np.ndarray, block: int = BLOCK) -> NDArray[np.float32]:
    """Returns the means over blocks of pixels, (..., h / block, w / block, 3), what is over being cut off."""
    height, width = pictures.shape[-3:-1]
    block = min(block, height, width)
    h, w = height // block, width // block
    cut = pictures[..., : h * block, : w * block, :].astype(np.float32)
    return np.asarray(cut.reshape(*pictures.shape[:-3], h, block, w, block, 3).mean(axis=(-4, -2)))


def block_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the root mean square difference of the block means of two pictures of one shape, in grey levels."""
    return float(np.sqrt(np.mean((block_means(one) - block_means(other)) ** 2)))


def moving(before: np.ndarray, after: np.ndarray) -> NDArray[np.bool_]:
    """Returns (h, w), where two pictures differ by more than `MOVING` in some channel."""
    return np.asarray(np.abs(before.astype(int) - after.astype(int)).max(axis=-1) > MOVING)


def psnr(one: np.ndarray, other: np.ndarray, where: np.ndarray | None = None) -> float:
    """Returns the peak signal-to-noise ratio in dB, over the pixels `where` (h, w) if given; infinite if equal."""
    error = (one.astype(float) - other.astype(float)) ** 2
    mean = float((error if where is None else error[where]).mean())
    return float("inf") if mean == 0 else float(10 * np.log10(255.0**2 / mean))


def ssim_map(one: np.ndarray, other: np.ndarray) -> NDArray[np.float64]:
    """Returns the structural similarity of every pixel and channel, (h, w, 3).

    Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004, with its
    Gaussian window of 1.5 pixels and its constants.
    """
    a, b = one.astype(float), other.astype(float)

    def mean(x: np.ndarray) -> np.ndarray:
        return np.asarray(gaussian_filter(x, (1.5, 1.5, 0), truncate=3.5))

    at, bt = mean(a), mean(b)
    variances, covariance = mean(a * a) - at**2 + mean(b * b) - bt**2, mean(a * b) - at * bt
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return np.asarray((2 * at * bt + c1) * (2 * covariance + c2) / ((at**2 + bt**2 + c1) * (variances + c2)))


def edge_strength(picture: np.ndarray, where: np.ndarray) -> float:
    """Returns the mean length of the brightness gradient (Sobel, in grey levels) over the pixels `where` (h, w)."""
    grey = picture.astype(float).mean(axis=2)
    slopes = np.hypot(sobel(grey, axis=0), sobel(grey, axis=1)) / 8.0
    return float(slopes[where].mean()) if where.any() else float("nan")
