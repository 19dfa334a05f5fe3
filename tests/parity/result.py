"""What one comparison with a golden file says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Result:
    """One compared quantity: the largest absolute error found, and the largest allowed."""

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """The error is a number and within the tolerance."""
        return self.error <= self.tolerance


def compare(name: str, got: Tensor, expected: Tensor, tolerance: float) -> Result:
    """Returns the largest absolute difference; a wrong shape or a NaN on one side only counts as infinite."""
    if got.shape != expected.shape:
        return Result(f"{name} (shape {tuple(got.shape)}, expected {tuple(expected.shape)})", float("inf"), tolerance)
    if got.numel() == 0:
        return Result(name, 0.0, tolerance)
    difference = (got.detach().double() - expected.double()).abs()
    difference[torch.isnan(got.double()) & torch.isnan(expected.double())] = 0.0
    return Result(name, float(torch.nan_to_num(difference, nan=float("inf")).max()), tolerance)


def compare_relative(name: str, got: Tensor, expected: Tensor, tolerance: float) -> Result:
    """Returns the largest absolute difference in units of the expected tensor's largest value."""
    result = compare(name, got, expected, tolerance)
    return Result(result.name, result.error / max(float(expected.abs().max()), 1e-12), tolerance)


def worst(name: str, results: list[Result]) -> Result:
    """Returns one line for many: the result with the largest error in units of its tolerance."""
    top = max(results, key=lambda r: r.error / r.tolerance if r.tolerance else float("inf") * (r.error > 0))
    return Result(f"{name}: {top.name}", top.error, top.tolerance)
