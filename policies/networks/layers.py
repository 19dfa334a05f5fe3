"""Layers that the networks of all families share."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


def sinusoid(timestep: Tensor, width: int) -> Tensor:
    """Returns (..., width) [cos(t g_j), sin(t g_j)], g_j = 10000^(-2j/width), computed in float64."""
    half = width // 2
    rates = 10000.0 ** (-torch.arange(half, dtype=torch.float64, device=timestep.device) / half)
    angles = timestep.double()[..., None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def sinusoid_sin_first(timestep: Tensor, width: int) -> Tensor:
    """Returns `sinusoid` with the halves exchanged: the order of the action encoder."""
    return sinusoid(timestep, width).roll(width // 2, dims=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, explicit: bool) -> Tensor:
    """Returns softmax(q k^T / sqrt(d) + bias) v for (B, h, T, d)."""
    if not explicit:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if bias is not None:
        logits = logits + bias
    return logits.softmax(dim=-1) @ v


class CategoryLinear(nn.Module):
    """A linear layer with one weight bank per category: x W[c] + b[c]."""

    def __init__(self, categories: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(categories, inputs, outputs))
        self.b = nn.Parameter(torch.empty(categories, outputs))

    def forward(self, x: Tensor, category: Tensor | None = None) -> Tensor:
        """x (B, N, in), category (B,) int64 or None for bank 0 -> (B, N, out)."""
        if category is None:
            return torch.matmul(x, self.W[0]) + self.b[0]
        return torch.baddbmm(self.b[category][:, None], x, self.W[category])


class CategoryMLP(nn.Module):
    """Two category layers with a ReLU between."""

    def __init__(self, categories: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layer1 = CategoryLinear(categories, inputs, hidden)
        self.layer2 = CategoryLinear(categories, hidden, outputs)

    def forward(self, x: Tensor, category: Tensor | None = None) -> Tensor:
        """x (B, N, in) -> (B, N, out)."""
        return self.layer2(functional.relu(self.layer1(x, category)), category)


class ActionEncoder(nn.Module):
    """Embeds noisy actions together with their timesteps."""

    def __init__(self, categories: int, action_dim: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.W1 = CategoryLinear(categories, action_dim, width)
        self.W2 = CategoryLinear(categories, 2 * width, width)
        self.W3 = CategoryLinear(categories, width, width)

    def forward(self, action: Tensor, timestep: Tensor, category: Tensor | None = None) -> Tensor:
        """action (B, N, A), timestep (B, N) in [0, 1000] -> (B, N, D)."""
        a = self.W1(action, category)
        time = sinusoid_sin_first(timestep, self.width).to(a.dtype)
        return self.W3(functional.silu(self.W2(torch.cat([a, time], dim=-1), category)), category)
