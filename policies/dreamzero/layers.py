"""Layers of the transformer (`dit`): norms, embodiment modules, attention, blocks, heads.

Letters as in `dit`. Module and parameter names are those of the released checkpoint.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.policies.dreamzero.config import DiTConfig
from wambench.policies.dreamzero.kv_cache import Context, KVCache
from wambench.policies.dreamzero.token_layout import AttentionPlan, Slots
from wambench.policies.networks import rope
from wambench.policies.networks.layers import attend


def attend_spans(q: Tensor, k: Tensor, v: Tensor, plan: AttentionPlan | None, explicit: bool) -> Tensor:
    """Returns attention in which every span of tokens reads its own key spans; without a mask, so fused kernels fit."""
    if plan is None:
        return attend(q, k, v, None, explicit)
    # split and concatenate, not slices: the gradient of a slice is a tensor of zeros of full size
    queries = q.split(plan.query_sizes, dim=2)
    keys = k.split(plan.key_sizes, dim=2)
    values = v.split(plan.key_sizes, 2)
    outs = []
    for query, pieces in zip(queries, plan.keys, strict=True):
        pair = [x[pieces[0]] if len(pieces) == 1 else torch.cat([x[i] for i in pieces], dim=2) for x in (keys, values)]
        outs.append(attend(query, pair[0], pair[1], None, explicit))
    return torch.cat(outs, dim=2)


class RMSNorm(nn.Module):
    """Division by the root mean square over the full width (summed in float32), and a gain."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) -> same shape and type."""
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        return x * torch.rsqrt(size.square() / x.shape[-1] + self.eps).to(x.dtype) * self.weight


def activation(config: DiTConfig) -> nn.Module:
    """Returns the non-linearity of the MLPs."""
    return nn.GELU(approximate="tanh") if config.activation == "gelu" else nn.SiLU()


class SelfAttention(nn.Module):
    """Self-attention with norms over the full width and rotary positions."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        d = config.width
        self.heads = config.heads
        self.explicit = config.attention == "explicit"
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))
        self.norm_q = RMSNorm(d, config.eps)
        self.norm_k = RMSNorm(d, config.eps)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, h, T, d)

    def forward(
        self, x: Tensor, table: rope.RotaryTable, plan: AttentionPlan | None, cache: KVCache | None, layer: int
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D); `plan` None: every token reads every token, and the cache."""
        q = rope.rotate(self.norm_q(self.q(x)).unflatten(-1, (self.heads, -1)), table).transpose(1, 2)
        k = rope.rotate(self.norm_k(self.k(x)).unflatten(-1, (self.heads, -1)), table).transpose(1, 2)
        v = self._heads(self.v(x))
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        return self.o(attend_spans(q, k, v, plan, self.explicit).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Attention to the words and, with its own softmax, to the image tokens of the first frame."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        d = config.width
        self.heads = config.heads
        self.explicit = config.attention == "explicit"
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))
        self.norm_q = RMSNorm(d, config.eps)
        self.norm_k = RMSNorm(d, config.eps)
        if config.image_dim:
            self.k_img = nn.Linear(d, d)
            self.v_img = nn.Linear(d, d)
            self.norm_k_img = RMSNorm(d, config.eps)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def text_pair(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values, (B, h, L, d), of embedded words (B, L, D)."""
        return self._heads(self.norm_k(self.k(text))), self._heads(self.v(text))

    def image_pair(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values of embedded image tokens."""
        return self._heads(self.norm_k_img(self.k_img(image))), self._heads(self.v_img(image))

    def forward(self, x: Tensor, context: Context, layer: int) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        q = self._heads(self.norm_q(self.q(x)))
        seen = attend(q, *context.text[layer], context.bias, self.explicit)
        if context.image:
            seen = seen + attend(q, *context.image[layer], None, self.explicit)
        return self.o(seen.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Modulated self-attention, cross-attention, modulated MLP."""

    one: Tensor

    def __init__(self, config: DiTConfig, layer: int) -> None:
        super().__init__()
        d = config.width
        self.eps = config.eps
        self.layer = layer
        self.self_attn = SelfAttention(config)
        self.cross_attn = CrossAttention(config)
        self.norm3 = nn.LayerNorm(d, config.eps)
        self.ffn = nn.Sequential(nn.Linear(d, config.ffn), activation(config), nn.Linear(config.ffn, d))
        self.modulation = nn.Parameter(torch.empty(1, 6, d))
        # 1 + scale, added while the scales are few
        one = torch.tensor([0.0, 1, 0, 0, 1, 0], device="cpu")  # a value even when the parameters are on "meta"
        self.register_buffer("one", one.view(1, 6, 1, 1), persistent=False)

    def forward(
        self, x: Tensor, time: Tensor, slots: Slots, table: rope.RotaryTable, plan: AttentionPlan | None,
        context: Context, cache: KVCache | None = None,
    ) -> Tensor:  # fmt: skip
        """x (B, T, D), time (B, 6, slots, D) -> (B, T, D)."""
        values = time + self.modulation[:, :, None] + self.one.to(time.dtype)
        shift1, scale1, gate1, shift2, scale2, gate2 = slots.spread(values)
        width = x.shape[-1:]
        seen = functional.layer_norm(x, width, eps=self.eps) * scale1 + shift1
        x = x + gate1 * self.self_attn(seen, table, plan, cache, self.layer)
        x = x + self.cross_attn(self.norm3(x), context, self.layer)
        seen = functional.layer_norm(x, width, eps=self.eps) * scale2 + shift2
        return x + gate2 * self.ffn(seen)


class Head(nn.Module):
    """Video head: modulated norm and a linear layer for patches, and one for vector tokens."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        d = config.width
        self.eps = config.eps
        self.head = nn.Linear(d, math.prod(config.patch) * config.latent_channels)
        self.modulation = nn.Parameter(torch.empty(1, 2, d))
        if config.frame_vector:
            self.vector = nn.Linear(d, config.frame_vector)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Returns the modulated norm of frame tokens x (B, F, tokens, D) under time (B, F, D)."""
        shift, scale = (self.modulation[:, None] + time[:, :, None]).unbind(2)
        normed = functional.layer_norm(x, x.shape[-1:], eps=self.eps)
        return normed * (1 + scale[:, :, None]) + shift[:, :, None]


class ImageProjection(nn.Module):
    """CLIP tokens to transformer width."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        i = config.image_dim
        d = config.width
        self.proj = nn.Sequential(
            nn.LayerNorm(i), nn.Linear(i, i), nn.GELU(), nn.Linear(i, d), nn.LayerNorm(d)
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        """image (B, 257, image_dim) -> (B, 257, D)."""
        return self.proj(image)
