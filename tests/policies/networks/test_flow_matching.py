"""Schedules, the mixture of noise levels, and the sampler on problems with a known answer."""

from itertools import pairwise

import pytest
import torch

from wambench.policies.networks import flow_matching


def test_schedule_runs_from_noise_to_clean() -> None:
    assert flow_matching.schedule(4) == [1.0, 0.75, 0.5, 0.25, 0.0]
    shifted = flow_matching.schedule(4, shift=5.0)
    assert shifted[0] == 1.0 and shifted[-1] == 0.0 and shifted[2] > 0.8
    with pytest.raises(ValueError, match="at least 1"):
        flow_matching.schedule(0)


def test_interpolation_and_velocity_agree() -> None:
    clean, noise, sigma = torch.randn(5, 3), torch.randn(5, 3), torch.full((5,), 0.3)
    x = flow_matching.interpolate(clean, noise, sigma)
    torch.testing.assert_close(flow_matching.velocity(x, clean, 0.3), noise - clean)
    torch.testing.assert_close(flow_matching.euler_step(x, clean, 0.3, 0.0), clean)


def test_mixture_holds_all_four_uses() -> None:
    video, action = flow_matching.draw_sigmas(20000, torch.Generator().manual_seed(0))
    assert abs(float((video == action).float().mean()) - 0.45) < 0.02
    assert abs(float((video == 1.0).float().mean()) - 0.18) < 0.02
    assert abs(float((video == 0.0).float().mean()) - 0.12) < 0.02
    assert abs(float((action == 1.0).float().mean()) - 0.05) < 0.01
    assert float(action.mean()) == pytest.approx(0.95 * 0.6 + 0.05, abs=0.01)  # Beta(1.5, 1) and the pure noise


@pytest.mark.parametrize("steps", [1, 2, 4, 10])
def test_sampler_reaches_a_fixed_target(steps: int) -> None:
    target, x = torch.tensor([1.0, -2.0]), torch.randn(8, 2)
    sigmas = flow_matching.schedule(steps)
    for sigma, after in pairwise(sigmas):
        x = flow_matching.euler_step(x, target.expand_as(x), sigma, after)
    torch.testing.assert_close(x, target.expand_as(x))


def test_sampler_reproduces_a_gaussian() -> None:
    """For clean data N(m, s^2) the best clean estimate is linear in x, and many steps give back m and s."""
    mean, std = 2.0, 0.5
    x = torch.randn(20000, generator=torch.Generator().manual_seed(1))
    sigmas = flow_matching.schedule(100)
    for sigma, after in pairwise(sigmas):
        keep = 1.0 - sigma
        gain = keep * std**2 / (keep**2 * std**2 + sigma**2)
        x = flow_matching.euler_step(x, mean + gain * (x - keep * mean), sigma, after)
    assert float(x.mean()) == pytest.approx(mean, abs=0.02)
    assert float(x.std()) == pytest.approx(std, abs=0.02)
