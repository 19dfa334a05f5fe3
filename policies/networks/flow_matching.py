"""Flow matching in training: samples between clean and noise, and the laws that noise levels are drawn from.

Convention of DreamZero's code: sigma = 1 is noise, sigma = 0 is clean, x_sigma = (1 - sigma) clean + sigma noise, and
the velocity is dx/dsigma = noise - clean. (The paper counts t = 1 - sigma.) Schedules and steps of sampling are in
`dreamzero.solvers`; the released training objective with its table of levels is `dreamzero.official.objective`.
"""

from __future__ import annotations

import torch
from torch import Tensor

# how often the video's sigma is: equal to the actions', independent, pure noise (the rest is clean: inverse dynamics)
VIDEO_MIX = (0.45, 0.25, 0.18)
# share of the independent draws in which the actions are pure noise (video alone, as `imagine` needs)
NOISE_ACTIONS = 0.2


def interpolate(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Returns (1 - sigma) clean + sigma noise; sigma is (B,), the others (B, ...)."""
    s = sigma.view(-1, *[1] * (clean.dim() - 1)).to(clean.dtype)
    return clean + s * (noise - clean)


def draw_sigma(n: int, generator: torch.Generator) -> Tensor:
    """Returns (n,) sigmas distributed Beta(1.5, 1): more often near noise (as in pi0)."""
    return torch.rand(n, generator=generator) ** (1.0 / 1.5)


def draw_sigmas(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns (sigma_video, sigma_action), each (n,), from the mixture that lets one network do four things.

    Equal sigmas train joint generation, a pure-noise video the policy without video, a clean video inverse dynamics,
    pure-noise actions the video model.
    """
    action = draw_sigma(n, generator)
    own = draw_sigma(n, generator)
    kind = torch.rand(n, generator=generator)
    alone = torch.rand(n, generator=generator) < NOISE_ACTIONS
    equal, independent, noise = VIDEO_MIX
    is_own = (kind >= equal) & (kind < equal + independent)
    is_noise = (kind >= equal + independent) & (kind < equal + independent + noise)
    video = torch.where(is_own, own, action)
    video = torch.where(is_noise, torch.ones_like(video), video)
    video = torch.where(kind >= equal + independent + noise, torch.zeros_like(video), video)
    action = torch.where(is_own & alone, torch.ones_like(action), action)
    return video, action


def draw_coupled(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns (sigma_video, sigma_action), equal and uniform, as DreamZero's paper pre-trains."""
    sigma = torch.rand(n, generator=generator)
    return sigma, sigma


def draw_flash(n: int, generator: torch.Generator, alpha: float = 7.0) -> tuple[Tensor, Tensor]:
    """Returns (sigma_video, sigma_action) of DreamZero-Flash (paper, Eq. 5): Beta(alpha, 1), and uniform."""
    return torch.rand(n, generator=generator) ** (1.0 / alpha), torch.rand(n, generator=generator)


LEVELS = {"mixed": draw_sigmas, "coupled": draw_coupled, "flash": draw_flash}
