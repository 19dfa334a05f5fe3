"""The table of what choosing costs."""

from __future__ import annotations

import pytest

from wambench.policies.dreamzero.policy import DreamZero, DreamZeroOptions
from wambench.speed import candidates


def test_ratios_are_taken_round_by_round() -> None:
    lines = candidates.table({(1, 1): [10.0, 20.0, 40.0], (4, 2): [40.0, 80.0, 160.0]}).splitlines()
    assert lines[2:] == ["| 1 | 1 | 20 [15, 30] | 1.0 |", "| 4 | 2 | 80 [60, 120] | 4.0 |"]


@pytest.mark.slow
def test_every_variant_is_asked_in_every_round() -> None:
    variants = {(1, 1): DreamZero(), (3, 2): DreamZero(DreamZeroOptions(candidates=3, lookahead=2))}
    took = candidates.measure(variants, 3)
    assert {variant: len(times) for variant, times in took.items()} == {(1, 1): 3, (3, 2): 3}
    assert min(took[3, 2]) > min(took[1, 1]) > 0.0
