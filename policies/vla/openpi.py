"""The data protocol of openpi's checkpoints: prompts, images, states and actions as they enter and leave the models.

Reference implementation, checked against the release by `make parity`; no command uses it.

Formulas and conventions are those of the released code, its quirks included (a state below its range becomes the text
"-1", a quaternion and its negative give different axis-angles). Arrays are numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as functional

from wambench.interface import unknown_name
from wambench.policies.actions.normalization import undo_quantile, undo_zscore
from wambench.policies.vla.pi05 import bins

VOCABULARY = 257_152  # of PaliGemma
FAST_SKIPPED = 128  # rows at the vocabulary's end that FAST tokens leave free
IMAGES = 3
HISTOGRAM_BINS = 5000
# image slots of a model, and which of (base, wrist, missing) fills each
SLOTS: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]] = MappingProxyType(
    {
        "base_left_right": (("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb"), (0, 1, 2)),
        "base_base_wrist": (("base_0_rgb", "base_1_rgb", "wrist_0_rgb"), (0, 2, 1)),
    }
)


def clean(prompt: str) -> str:
    """Returns a prompt stripped, underscores and line breaks as spaces, case kept."""
    return prompt.strip().replace("_", " ").replace("\n", " ")


def state_text(state: np.ndarray) -> str:
    """Returns a normalised state (S,) as the numbers of its bins."""
    return " ".join(map(str, bins(torch.from_numpy(np.asarray(state))).tolist()))


def pi0_pieces(prompt: str) -> list[str]:
    """Returns what pi0's tokenizer gets: the prompt (after a begin mark), and a line break, each on its own."""
    return [clean(prompt), "\n"]


def pi05_text(prompt: str, state: np.ndarray) -> str:
    """Returns what pi0.5's tokenizer gets (after a begin mark) for a prompt and a normalised, not yet padded state."""
    return f"Task: {clean(prompt)}, State: {state_text(state)};\nAction: "


def fast_pieces(prompt: str, state: np.ndarray) -> list[str]:
    """Returns what pi0-FAST's tokenizer gets: what is read (after a begin mark), what comes before and behind actions.

    Lower case, and line breaks within the prompt stay.
    """
    said = prompt.lower().strip().replace("_", " ")
    return [f"Task: {said}, State: {state_text(state)};\n", "Action: ", "|"]


def fast_rows(codes: np.ndarray) -> np.ndarray:
    """Returns the rows of the vocabulary that stand for FAST codes: from its end backwards."""
    return VOCABULARY - 1 - FAST_SKIPPED - codes


@dataclass(frozen=True)
class Sequence1D:
    """Tokens of pi0-FAST, padded: ids, which are valid, which are causal, and which are learned."""

    ids: np.ndarray
    mask: np.ndarray
    causal: np.ndarray
    learned: np.ndarray


def fast_sequence(read: Sequence[int], written: Sequence[int], length: int) -> Sequence1D:
    """Returns the sequence of ids that are read both ways and ids that are written one by one, padded with 0."""
    used = len(read) + len(written)
    if used > length:
        raise ValueError(f"{used} tokens do not fit into {length}")
    marks = np.zeros((3, length), np.int64)
    marks[0, :used] = 1
    marks[1:, len(read) : used] = 1
    ids = np.zeros(length, np.int64)
    ids[:used] = [*read, *written]
    return Sequence1D(ids, *marks)


def axis_angle(quaternion: np.ndarray) -> np.ndarray:
    """Returns (N, 3) axis times angle of (N, 4) quaternions, scalar last, as robosuite and LIBERO make it.

    The angle runs to 2 pi (no sign is preferred); where the scalar is 1 or -1 it is 0.
    """
    w = np.clip(quaternion[:, 3:], -1.0, 1.0).astype(np.float64)
    root = np.sqrt(1.0 - w * w)
    still = np.isclose(root, 0.0)
    return np.where(still, 0.0, quaternion[:, :3] * 2.0 * np.arccos(w) / np.where(still, 1.0, root))


def to_delta(actions: np.ndarray, state: np.ndarray, mask: np.ndarray, sign: float = -1.0) -> np.ndarray:
    """Returns (H, A) actions relative to the state (S,) where the mask is 1; `sign` 1 undoes it.

    A mask shorter than the actions leaves the rest as it is.
    """
    count = len(mask)
    moved = actions.copy()
    moved[:, :count] += sign * np.where(mask.astype(bool), state[:count], 0.0)
    return moved


def undo_longer(kind: str, x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns the values of normalised x (..., n) with statistics (m,), m <= n (`actions.normalization`).

    What the statistics do not cover passes unchanged under quantiles, and as mean 0 and deviation 1 under z-scores.
    """
    more = x.shape[-1] - len(low)
    if kind == "quantile":
        known = undo_quantile(x[..., : len(low)], low, high)
        return np.concatenate([known, x[..., len(low) :]], axis=-1)
    return undo_zscore(x, np.pad(low, (0, more)), np.pad(high, (0, more), constant_values=1.0))


def pad(x: np.ndarray, size: int = 32) -> np.ndarray:
    """Returns (..., size): zeros behind (..., n)."""
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])


def parse_image(image: np.ndarray) -> np.ndarray:
    """Returns (h, w, 3) uint8 of that, or of (3, h, w) floats in [0, 1], cut down to whole numbers."""
    if np.issubdtype(image.dtype, np.floating):
        image = (255.0 * image).astype(np.uint8)
    return image.transpose(1, 2, 0) if image.shape[0] == 3 else image


def to_float(image: np.ndarray) -> np.ndarray:
    """Returns uint8 pixels as float32 in [-1, 1]."""
    return image.astype(np.float32) / 255.0 * 2.0 - 1.0


def resize_with_pad(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns (height, width, 3) of (h, w, 3): as large as fits, in the middle of black; bilinear with antialias.

    uint8, or floats in [-1, 1], whose black is -1.
    """
    h, w = image.shape[:2]
    ratio = max(h / height, w / width)
    size = int(h / ratio), int(w / ratio)
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    scaled = functional.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    sides = (left, width - size[1] - left, top, height - size[0] - top)
    black = 0 if image.dtype == np.uint8 else -1.0
    return functional.pad(scaled, sides, value=black)[0].permute(1, 2, 0).numpy()


def images(base: np.ndarray, wrist: np.ndarray, model: str, robot: str) -> tuple[tuple[str, ...], np.ndarray, list]:
    """Returns the names of a model's image slots, the (3, h, w, 3) uint8 images in them, and which of them count.

    Args:
        base, wrist: (h, w, 3) uint8.
        model: "pi0", "pi05" or "pi0_fast", which has other slots for DROID and does not mask what is missing.
        robot: "libero" or "droid".
    """
    if model not in ("pi0", "pi05", "pi0_fast"):
        raise unknown_name("openpi model", model, ("pi0", "pi05", "pi0_fast"))
    if robot not in ("libero", "droid"):
        raise unknown_name("openpi robot", robot, ("libero", "droid"))
    fast = model == "pi0_fast"
    names, order = SLOTS["base_base_wrist" if fast and robot == "droid" else "base_left_right"]
    found = (base, wrist, np.zeros_like(base))
    return names, np.stack([found[i] for i in order]), [fast or i < 2 for i in order]


def from_libero(image: np.ndarray, size: int = 224) -> np.ndarray:
    """Returns what a LIBERO client sends of a camera's (h, w, 3) picture: turned by 180 degrees, (size, size, 3)."""
    return resize_with_pad(np.ascontiguousarray(image[::-1, ::-1]), size, size)


@dataclass(frozen=True)
class Stats:
    """(D,) mean, standard deviation and quantiles of data."""

    mean: np.ndarray
    std: np.ndarray
    q01: np.ndarray
    q99: np.ndarray


def running_stats(batches: Iterable[np.ndarray]) -> Stats:
    """Returns openpi's statistics of (n, D) batches, read once: quantiles are left edges of histogram bins.

    There are 5000 bins from the least to the largest value so far; when that range grows, counts move to the bins that
    their old left edges fall into (the least value's, just below the range, then falls out of it).
    """
    parts = [part.astype(np.float64) for part in batches]
    low, high = parts[0].min(axis=0) - 1e-10, parts[0].max(axis=0) + 1e-10
    edges = [np.linspace(a, b, HISTOGRAM_BINS + 1) for a, b in zip(low, high, strict=True)]
    counts = [np.zeros(HISTOGRAM_BINS) for _ in edges]
    low, high = parts[0].min(axis=0), parts[0].max(axis=0)
    for part in parts:
        wider = bool((part.min(axis=0) < low).any() or (part.max(axis=0) > high).any())
        low, high = np.minimum(low, part.min(axis=0)), np.maximum(high, part.max(axis=0))
        for i in range(part.shape[1]):
            if wider:
                new = np.linspace(low[i], high[i], HISTOGRAM_BINS + 1)
                counts[i] = np.histogram(edges[i][:-1], bins=new, weights=counts[i])[0]
                edges[i] = new
            counts[i] = counts[i] + np.histogram(part[:, i], bins=edges[i])[0]
    everything = np.concatenate(parts)
    quantiles = [
        [e[np.searchsorted(np.cumsum(c), q * len(everything))] for e, c in zip(edges, counts, strict=True)]
        for q in (0.01, 0.99)
    ]
    return Stats(everything.mean(axis=0), everything.std(axis=0), np.array(quantiles[0]), np.array(quantiles[1]))
