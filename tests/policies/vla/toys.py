"""Small observations and chunks for the tests of the vision-language-action models."""

import torch

from wambench.policies.perception.encoder import STATE_FEATURES
from wambench.policies.vla import base as vla

POINTS = ("red_cube", "blue_cube", "hand")
INPUTS = vla.Inputs(POINTS, (8, 6, 12))


def observed(count: int = 3, seed: int = 0, known: bool = True) -> vla.EncodedObservation:
    """Returns random moments; the last instruction is shorter than the others."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.ones(count, 4, dtype=torch.bool)
    mask[-1, 2:] = False
    return vla.EncodedObservation(
        patches=torch.randn(count, INPUTS.patches, INPUTS.patch_width, generator=g),
        scene=torch.randn(count, INPUTS.scene_width, generator=g),
        state=torch.rand(count, STATE_FEATURES, generator=g) * 2 - 1,
        known=torch.full((count,), known),
        words=torch.randn(count, 4, 64, generator=g) * mask[..., None],
        mask=mask,
    )


def chunks(count: int = 3, seed: int = 1) -> torch.Tensor:
    """Returns (B, H, A) actions."""
    g = torch.Generator().manual_seed(seed)
    return (0.5 * torch.randn(count, INPUTS.horizon, INPUTS.action_dim, generator=g)).clamp(-1, 1)


def awake(network: vla.Network, seed: int = 0) -> vla.Network:
    """Returns the network with every parameter moved a little, so that nothing is hidden behind a zero."""
    g = torch.Generator().manual_seed(seed)
    for p in network.parameters():
        p.data += 0.05 * torch.randn(p.shape, generator=g)
    return network.eval()
