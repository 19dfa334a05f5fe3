"""Normalisation: fitted by rows, undone exactly, and never blown up by a constant."""

import pytest
import torch

from wambench.policies.actions.normalization import Normaliser


@pytest.mark.parametrize("kind", ["zscore", "quantile"])
def test_values_come_to_unit_size_and_back(kind: str) -> None:
    values = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 30.0]) + 5.0
    normaliser = Normaliser(kind, 2)
    normaliser.fit(values, 1e-3)
    inside = normaliser(values)
    assert inside.std(dim=0).tolist() == pytest.approx([1.0, 1.0] if kind == "zscore" else [0.43, 0.43], abs=0.02)
    if kind == "quantile":
        assert ((inside.abs() <= 1).float().mean(dim=0) - 0.98).abs().max() < 0.002
    torch.testing.assert_close(normaliser.undo(inside), values)


@pytest.mark.parametrize("kind", ["zscore", "quantile"])
def test_constants_stay_small(kind: str) -> None:
    normaliser = Normaliser(kind, 1)
    normaliser.fit(torch.full((100, 1), 0.3), 0.05)
    assert normaliser(torch.tensor([[0.3], [0.35]])).flatten().tolist() == pytest.approx([0.0, 1.0], abs=1e-3)


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'quantile'"):
        Normaliser("quantiles", 1)
