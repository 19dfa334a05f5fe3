"""A plain encoder of tokens: every token reads every valid one. What stands in for a language-image model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wambench.policies.vla.action_expert import Layer, Sizes, attend, bias_of, block_mask, rotation


class TokenEncoder(nn.Module):
    """A stack of the layers of a language model (RMS norm, rotary positions, gated MLP), without a last norm.

    Args:
        width, hidden: Of the tokens, and of the MLPs.
        depth, heads: Layers, and heads of `width / heads` dimensions, each with keys and values of its own.
    """

    def __init__(self, width: int, hidden: int, depth: int, heads: int) -> None:
        super().__init__()
        self.head_dim = width // heads
        sizes = Sizes((width, hidden), (width, hidden), depth, heads, heads, self.head_dim)
        self.layers = nn.ModuleList(Layer(sizes, width, hidden, 0) for _ in range(depth))

    def forward(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """tokens (B, N, w), valid (B, N) bool -> (B, N, w); what is not valid is read by nothing."""
        bias = bias_of(block_mask(torch.zeros(tokens.shape[1], device=tokens.device), valid))
        turn = rotation(valid.long().cumsum(1) - 1, self.head_dim, tokens.dtype)
        x = tokens
        for layer in self.layers:
            assert isinstance(layer, Layer)
            y, _ = layer.attn_norm(x)
            k, v = layer.keys(y, turn)
            x = layer.finish(x, attend(layer.queries(y, turn), k, v, bias), None)
        return x
