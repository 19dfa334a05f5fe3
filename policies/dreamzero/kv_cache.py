"""What the cached passes of the transformer (`dit`) keep: keys and values of real frames, and of the prompt."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wambench.policies.dreamzero.config import DiTConfig


def bias_from(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns 0 where a bool mask is True and minus infinity elsewhere."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, -math.inf)


@dataclass(frozen=True)
class Context:
    """Keys and values of the prompt for every layer, (B, h, L, d) each; image entries are empty without CLIP.

    Attributes:
        text: (key, value) per layer.
        image: (key, value) per layer.
        bias: (B, 1, 1, L) added to the logits of the text attention, or None if no word is masked.
    """

    text: tuple[tuple[Tensor, Tensor], ...]
    image: tuple[tuple[Tensor, Tensor], ...] = ()
    bias: Tensor | None = None

    @staticmethod
    def joined(rows: Sequence[Context]) -> Context:
        """Returns the prompts of several as one batch; all have or lack a bias."""

        def cat(kind: str) -> tuple[tuple[Tensor, Tensor], ...]:
            layers = zip(*(getattr(row, kind) for row in rows), strict=True)
            return tuple((torch.cat([k for k, _ in one]), torch.cat([v for _, v in one])) for one in layers)

        biases = [row.bias for row in rows if row.bias is not None]
        return Context(cat("text"), cat("image"), torch.cat(biases) if biases else None)


class KVCache:
    """Preallocated keys and values (after norm and rotation) of real frames; one buffer for all layers.

    The tokens of a denoising pass are written behind `length`, where the next pass overwrites them, so that attention
    reads one contiguous slice; only `advance` makes tokens part of the cache. All samples have the same length.
    """

    def __init__(self, config: DiTConfig, batch: int, device: torch.device, dtype: torch.dtype) -> None:
        c = config
        self.limit = c.window * c.frame_tokens
        spare = c.frames_per_chunk * c.frame_tokens + c.actions_per_chunk + c.states_per_chunk
        shape = (c.layers, 2, batch, c.heads, self.limit + spare, c.head_dim)
        self.buffer = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0

    @staticmethod
    def joined(rows: Sequence[KVCache]) -> KVCache:
        """Returns a copy of several caches of one length as one batch."""
        if len({row.length for row in rows}) != 1:
            raise ValueError(f"caches of {sorted({row.length for row in rows})} tokens cannot be one batch")
        batch = copy.copy(rows[0])
        batch.buffer = torch.cat([row.buffer for row in rows], dim=2)
        return batch

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the cached keys and values followed by the new ones, (B, h, length + n, d) each."""
        stop = self.length + k.shape[2]
        if stop > self.buffer.shape[4]:
            raise ValueError(f"{k.shape[2]} tokens do not fit behind {self.length} in a cache of {self.limit}")
        if k.requires_grad:  # a gradient through the pass: the next layer must not write into what it was made of
            known = self.buffer[layer, :, :, :, : self.length]
            return torch.cat([known[0], k], dim=2), torch.cat([known[1], v], dim=2)
        self.buffer[layer, 0, :, :, self.length : stop] = k
        self.buffer[layer, 1, :, :, self.length : stop] = v
        return self.buffer[layer, 0, :, :, :stop], self.buffer[layer, 1, :, :, :stop]

    def advance(self, tokens: int) -> None:
        """Keeps the last `tokens` that were written, and at most a window of all."""
        self.length += tokens
        if self.length > self.limit:
            start = self.length - self.limit
            self.buffer[..., : self.limit, :] = self.buffer[..., start : self.length, :].clone()
            self.length = self.limit

    def tokens(self, layer: int) -> Tensor:
        """Returns what a layer has cached in the golden layout: (2, B, length, h, d)."""
        return self.buffer[layer, :, :, :, : self.length].transpose(2, 3)

    def reset(self) -> None:
        """Forgets everything."""
        self.length = 0
