"""Samples between clean and noise, and the laws that noise levels are drawn from."""

import pytest
import torch

from wambench.policies.networks import flow_matching


def test_interpolation_runs_from_clean_to_noise() -> None:
    clean, noise = torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    x = flow_matching.interpolate(clean, noise, torch.tensor([0.0, 0.3, 1.0]))
    torch.testing.assert_close(x[0], clean[0])
    torch.testing.assert_close(x[1], 0.7 * clean[1] + 0.3 * noise[1])
    torch.testing.assert_close(x[2], noise[2])


def test_mixture_holds_all_four_uses() -> None:
    video, action = flow_matching.draw_sigmas(20000, torch.Generator().manual_seed(0))
    assert abs(float((video == action).float().mean()) - 0.45) < 0.02
    assert abs(float((video == 1.0).float().mean()) - 0.18) < 0.02
    assert abs(float((video == 0.0).float().mean()) - 0.12) < 0.02
    assert abs(float((action == 1.0).float().mean()) - 0.05) < 0.01
    assert float(action.mean()) == pytest.approx(0.95 * 0.6 + 0.05, abs=0.01)  # Beta(1.5, 1) and the pure noise


def test_flash_has_a_noisy_video_and_actions_of_their_own() -> None:
    """Beta(7, 1) has mean 7 / 8; a uniform level has 1 / 2; the two are independent. Coupled ones are one number."""
    video, action = flow_matching.draw_flash(20000, torch.Generator().manual_seed(0))
    assert float(video.mean()) == pytest.approx(7 / 8, abs=0.01)
    assert float(action.mean()) == pytest.approx(0.5, abs=0.01)
    assert abs(float(torch.corrcoef(torch.stack([video, action]))[0, 1])) < 0.03
    same = flow_matching.draw_coupled(100, torch.Generator().manual_seed(0))
    assert torch.equal(*same)
