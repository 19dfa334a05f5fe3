from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.parity import sampler as parity
from wambench.policies.dreamzero import solvers
from wambench.policies.dreamzero.solvers import SamplerConfig, Step

GOLDEN = Path(__file__).parents[2] / "golden" / "dreamzero"


def test_golden() -> None:
    results = parity.check_sampler(GOLDEN)
    assert len(results) > 70
    assert not [r for r in results if not r.passed]


@pytest.mark.parametrize("solver", ["unipc", "euler"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8, 16, 20])
def test_straight_flows_are_exact(solver: str, steps: int) -> None:
    """If the velocity always points from one clean value to the noise, every solver ends at the clean value."""
    clean, noise = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.3, 0.7]])
    config = SamplerConfig(steps, solver, caching="none")
    sigma0 = solvers.schedule(steps).sigmas[0]
    x = (1 - sigma0) * clean + sigma0 * noise
    video, action = solvers.sample(lambda i, v, a: (noise - clean, noise - clean), x, x, config)
    torch.testing.assert_close(video, clean, atol=1e-4, rtol=0)
    torch.testing.assert_close(action, clean, atol=1e-4, rtol=0)


def test_second_order_beats_first_order() -> None:
    """On the exact flow of a Gaussian of width 2, whose samples only grow."""
    errors, levels = {}, solvers.schedule(8)
    variance = [(1 - s) ** 2 * 4 + s**2 for s in levels.sigmas]
    x = torch.tensor([[1.0]])
    exact = float(x) * (variance[-1] / variance[0]) ** 0.5
    for solver in ("unipc", "euler"):

        def velocity(i: int, v: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
            s = levels.sigmas[i]
            return (v - v * (1 - s) * 4 / variance[i]) / s, a

        out, _ = solvers.sample(velocity, x, x, SamplerConfig(8, solver, caching="none"))
        errors[solver] = abs(float(out) - exact)
    assert errors["unipc"] < 0.3 * errors["euler"], errors


@pytest.mark.parametrize("solver", ["unipc", "euler"])
def test_the_sampler_reproduces_a_gaussian(solver: str) -> None:
    """For clean data N(m, s^2) the best clean estimate is linear in x, and many steps give back m and s."""
    mean, std = 2.0, 0.5
    x = torch.randn(20000, 1, generator=torch.Generator().manual_seed(1))
    config = SamplerConfig(100, solver, shift=1.0, caching="none")
    sigmas = solvers.schedule(100, 1.0).sigmas

    def velocity(i: int, v: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        keep = 1.0 - sigmas[i]
        gain = keep * std**2 / (keep**2 * std**2 + sigmas[i] ** 2)
        return (v - mean - gain * (v - keep * mean)) / sigmas[i], a

    out, _ = solvers.sample(velocity, x, x, config, move_action=False)
    assert float(out.mean()) == pytest.approx(mean, abs=0.02)
    assert float(out.std()) == pytest.approx(std, abs=0.02)


def test_still_samples_stay_and_skipped_steps_reuse() -> None:
    calls: list[int] = []
    steps: list[Step] = []

    def velocity(i: int, x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(i)
        return x, a

    x = torch.ones(1, 2)
    video, action = solvers.sample(velocity, x, x, SamplerConfig(evaluations=5), move_video=False, watch=steps.append)
    assert calls == [0, 1, 2, 7, 12]
    assert torch.equal(video, x) and not torch.equal(action, x)
    assert torch.equal(steps[3].action_velocity, steps[2].action_velocity)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'euler'"):
        SamplerConfig(solver="eular")
    with pytest.raises(ValueError, match="for 16 steps"):
        SamplerConfig(steps=4)
    with pytest.raises(ValueError, match="5, 6, 7, 8"):
        SamplerConfig(evaluations=4)
