"""The search: it finds a known maximum, by its best draws and not by others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wambench.policies.dreamzero.cross_entropy import Found, Search, maximise

TOP = torch.tensor([[1.0, -2.0], [0.5, 3.0]])


def hill(points: Tensor) -> Tensor:
    """Returns (N,) heights of a quadratic hill: 0 at `TOP`, and in one number eight times as steep."""
    steep = torch.tensor([[1.0, 8.0], [1.0, 1.0]])
    return -(steep * (points - TOP) ** 2).sum(dim=(1, 2))


def found(how: Search, seed: int = 0, start: Tensor | None = None) -> Found:
    start = torch.zeros(2, 2) if start is None else start
    return maximise(hill, start, how, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_the_top_of_a_hill(seed: int) -> None:
    """Draws around the start alone, or around other draws than the best, stay far from it."""
    it = found(Search(samples=128, elites=16, iterations=20, spread=2.0), seed)
    torch.testing.assert_close(it.best, TOP, atol=1e-4, rtol=0.0)
    assert it.before == pytest.approx(float(hill(torch.zeros(1, 2, 2))[0])) and -1e-6 < it.after <= 0.0
    once = found(Search(samples=128 * 20, elites=16, iterations=1, spread=2.0), seed)  # as many draws
    assert once.after < -0.01


def test_the_next_draw_is_around_the_elites() -> None:
    """The second draw has their mean and their standard deviation, seen in one number over many samples."""
    drawn: list[Tensor] = []

    def score(points: Tensor) -> Tensor:
        drawn.append(points.clone())
        return points[:, 0]

    how = Search(samples=4000, elites=40, iterations=2, spread=2.0)
    maximise(score, torch.zeros(1), how, torch.Generator().manual_seed(0))
    elites = drawn[0][:, 0].sort(descending=True).values[:40]
    again = drawn[1][1:, 0]
    assert float(drawn[0].std()) == pytest.approx(2.0, rel=0.05)
    assert float(again.mean()) == pytest.approx(float(elites.mean()), abs=0.05)
    assert float(again.std()) == pytest.approx(float(elites.std(unbiased=False)), rel=0.05)


def test_nothing_is_lost() -> None:
    """A start at the top stays, equal scores change nothing, and what was best once is best at the end."""
    how = Search(samples=8, elites=2, iterations=4, spread=1.0)
    assert torch.equal(found(how, start=TOP).best, TOP)
    flat = maximise(lambda points: torch.zeros(len(points)), TOP, how, torch.Generator().manual_seed(0))
    assert torch.equal(flat.best, TOP) and flat.before == flat.after == 0.0
    scored: list[float] = []

    def noted(points: Tensor) -> Tensor:
        scored.extend(hill(points).tolist())
        return hill(points)

    best = maximise(noted, torch.zeros(2, 2), how, torch.Generator().manual_seed(1))
    assert len(scored) == 32 and best.after == max(scored) == float(hill(best.best[None])[0])


def test_draws_follow_their_generator() -> None:
    how = Search(samples=8, elites=2, iterations=3, spread=1.0)
    assert torch.equal(found(how, 3).best, found(how, 3).best)
    assert not torch.equal(found(how, 3).best, found(how, 4).best)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((4, 4, 1, 1.0), "elites must be at least 2, and fewer than all: got 4 of 4"),
        ((4, 1, 1, 1.0), "got 1 of 4"),
        ((4, 2, 0, 1.0), "iterations must be at least 1 and spread positive, got 0 and 1.0"),
        ((4, 2, 1, 0.0), "got 1 and 0.0"),
        ((4, 2, 1, float("nan")), "got 1 and nan"),
    ],
)
def test_numbers_that_make_no_search_are_refused(numbers: tuple[int, int, int, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Search(*numbers)
