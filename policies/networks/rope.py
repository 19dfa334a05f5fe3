"""Rotary positions: three-dimensional for frame tokens, one-dimensional counters for actions and states.

Neighbouring pairs (2i, 2i + 1) of a head's d dimensions turn by position * theta^(-2i/n). Frame tokens give the first
d - 4 (d // 6) dimensions to the frame index and 2 (d // 6) each to row and column, every axis with its own n; actions
and states use all d dimensions. Angles are computed in float64 and kept as float32 cosines and sines.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

THETA = 10000.0


@dataclass(frozen=True)
class RotaryTable:
    """(T, d) cosines and sines, each value twice, the sine of the first of a pair negated."""

    cos: Tensor
    sin: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> RotaryTable:
        """Returns the table on a device, in the type that `rotate` shall compute in."""
        return RotaryTable(self.cos.to(device, dtype), self.sin.to(device, dtype))


def angles(position: Tensor, dims: int) -> Tensor:
    """Returns (T, dims / 2) angles of (T,) positions, float64."""
    rates = THETA ** (-torch.arange(0, dims, 2, dtype=torch.float64) / dims)
    return position.double()[:, None] * rates


def frame_angles(frames: Tensor, rows: int, columns: int, vector: bool, dims: int) -> Tensor:
    """Returns (F * tokens, d / 2) angles of patches in (frame, row, column) order.

    A vector token follows the patches of its frame and stands at (frame, rows, 0), just below the first column.
    """
    side = 2 * (dims // 6)
    row = torch.arange(rows).repeat_interleave(columns)
    column = torch.arange(columns).repeat(rows)
    if vector:
        row, column = torch.cat([row, torch.tensor([rows])]), torch.cat([column, torch.tensor([0])])
    tokens = len(row)
    count = len(frames)
    parts = [frames.repeat_interleave(tokens), row.repeat(count), column.repeat(count)]
    sizes = [dims - 2 * side, side, side]
    return torch.cat([angles(position, size) for position, size in zip(parts, sizes, strict=True)], dim=1)


def table(angle: Tensor) -> RotaryTable:
    """Returns the float32 table of (T, d / 2) angles."""
    sign = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(angle.shape[1])
    cos, sin = (values.repeat_interleave(2, dim=1) for values in (angle.cos(), angle.sin()))
    return RotaryTable(cos.float(), (sin * sign).float())


def rotate(x: Tensor, at: RotaryTable) -> Tensor:
    """Returns (B, T, h, d) with every pair turned by its token's angle; computed in the table's type."""
    wide = x.to(at.cos.dtype)
    swapped = wide.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return (wide * at.cos[:, None] + swapped * at.sin[:, None]).to(x.dtype)
