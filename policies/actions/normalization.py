"""Turning states and actions into numbers near [-1, 1] and back, by z-score or by quantiles, as openpi does.

The functions are openpi's formulas on arrays or tensors; `Normaliser` keeps fitted numbers with a model's weights. A
constant number has no spread, and openpi's quantile formula sends it to about 1e6; `Normaliser.fit` widens it instead.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from wambench.interface import unknown_name

KINDS = ("zscore", "quantile")
EPS = 1e-6
Array = TypeVar("Array", Tensor, np.ndarray)


def zscore(x: Array, mean: Array, std: Array) -> Array:
    """Returns (x - mean) / (std + 1e-6)."""
    return (x - mean) / (std + EPS)


def undo_zscore(x: Array, mean: Array, std: Array) -> Array:
    """Returns the values whose `zscore` is x."""
    return x * (std + EPS) + mean


def quantile(x: Array, q01: Array, q99: Array) -> Array:
    """Returns x with q01 at -1 and q99 at 1; never clipped."""
    return (x - q01) / (q99 - q01 + EPS) * 2.0 - 1.0


def undo_quantile(x: Array, q01: Array, q99: Array) -> Array:
    """Returns the values whose `quantile` is x."""
    return (x + 1.0) / 2.0 * (q99 - q01 + EPS) + q01


class Normaliser(nn.Module):
    """Fitted normalisation of vectors.

    Args:
        kind: "zscore" (pi0) or "quantile" (everything later).
        size: Length of the vectors.

    Attributes:
        low, high: (size,) mean and standard deviation, or the 1% and 99% quantiles.
    """

    low: Tensor
    high: Tensor

    def __init__(self, kind: str, size: int) -> None:
        super().__init__()
        if kind not in KINDS:
            raise unknown_name("normalisation", kind, KINDS)
        self.kind = kind
        self.register_buffer("low", torch.zeros(size) if kind == "zscore" else -torch.ones(size))
        self.register_buffer("high", torch.ones(size))

    def fit(self, values: Tensor, floor: float) -> None:
        """Stores what the (N, size) values say; `floor` is the least standard deviation, or half distance of quantiles.

        Nearly constant numbers are treated as spreading that much around their middle.
        """
        if self.kind == "zscore":
            self.low.copy_(values.mean(dim=0))
            self.high.copy_(values.std(dim=0).clamp_min(floor))
            return
        # numpy: torch.quantile refuses more than 16 million numbers
        q01, q99 = (torch.from_numpy(q).float() for q in np.quantile(values.cpu().numpy(), (0.01, 0.99), axis=0))
        middle = (q01 + q99) / 2.0
        half = ((q99 - q01) / 2.0).clamp_min(floor)
        self.low.copy_(middle - half)
        self.high.copy_(middle + half)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., size) -> the same, normalised."""
        return (zscore if self.kind == "zscore" else quantile)(x, self.low, self.high)

    def undo(self, x: Tensor) -> Tensor:
        """Returns (..., size) the values whose normalised form is x."""
        return (undo_zscore if self.kind == "zscore" else undo_quantile)(x, self.low, self.high)
