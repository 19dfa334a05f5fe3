"""Floating-point operations and bytes of the transformer's passes, counted from its config alone.

A multiply-add counts two. Only matrix products are counted, as `torch.utils.flop_counter` does: everything else is
bound by memory. Letters as in `dit`: B batch, T tokens of a pass, D width, K frames, H actions, S states, L words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from wambench.policies.dreamzero.config import DiTConfig


@dataclass(frozen=True)
class Flops:
    """Operations by kind.

    Attributes:
        linear: Linear layers of the blocks, which low-precision formats speed up.
        attention: Products of queries, keys and values.
        other: Embeddings, time, action and state modules, heads.
    """

    linear: int = 0
    attention: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.linear + self.attention + self.other

    def __add__(self, more: Flops) -> Flops:
        return Flops(self.linear + more.linear, self.attention + more.attention, self.other + more.other)

    def __mul__(self, times: int) -> Flops:
        return Flops(self.linear * times, self.attention * times, self.other * times)


def product(rows: int, *widths: int) -> int:
    """Returns the operations of a chain of linear layers widths[0] -> widths[1] -> ... on some rows."""
    return 2 * rows * sum(a * b for a, b in pairwise(widths))


def cached_pass(
    config: DiTConfig, frames: int, cached: int, words: int, images: int = 0, actions: bool = True, batch: int = 1
) -> Flops:
    """Returns the operations of one pass over new tokens that reads a cache (`DiT.observe`, `DiT.denoise`).

    Args:
        config: Of the model.
        frames: New frames.
        cached: Frames in the cache.
        words: Length of the prompt, padding included.
        images: Image tokens.
        actions: Whether the pass holds one chunk of actions (sharing one timestep) and its states.
        batch: Samples; two for classifier-free guidance.
    """
    c = config
    d = config.width
    b = batch
    h, s = (c.actions_per_chunk, c.states_per_chunk) if actions else (0, 0)
    cells = math.prod(c.patch)
    slots = frames + int(actions)
    tokens = frames * c.frame_tokens + h + s
    keys = cached * c.frame_tokens + tokens
    linear = product(b * tokens, *[d] * 7) + product(b * tokens, d, c.ffn, d)  # q k v o, q o across, MLP
    attention = 4 * b * tokens * (keys + words + images) * d
    other = product(b * frames * c.patches, c.input_channels * cells, d)
    other += product(b * frames * c.patches, d, cells * c.latent_channels)
    other += product(b * slots, c.freq_dim, d, d, 6 * d)
    if c.frame_vector:
        other += product(b * frames, c.input_vector, d) + product(b * frames, d, c.frame_vector)
    if actions:
        other += (
            product(b * h, c.action_dim, d) + product(b * h, 2 * d, d, d) + product(b * s, c.state_dim, c.hidden, d)
        )
        other += product(b * h, d, c.hidden, c.action_dim)
    return Flops(linear * c.layers, attention * c.layers, other)


def prompt(config: DiTConfig, words: int, images: int = 0, batch: int = 1) -> Flops:
    """Returns the operations of `DiT.encode_context`: once per instruction, not per chunk."""
    c = config
    d = config.width
    b = batch
    other = product(b * words, c.text_dim, d, d) + c.layers * 2 * product(b * words, d, d)
    if images:
        other += product(b * images, c.image_dim, c.image_dim, d) + c.layers * 2 * product(b * images, d, d)
    return Flops(other=other)


def chunk(
    config: DiTConfig, evaluations: int, cached: int, words: int, images: int = 0, batch: int = 1, cache: bool = True
) -> Flops:
    """Returns the operations of one chunk: the injection of K real frames, and the evaluations that denoise.

    Args:
        config: Of the model.
        evaluations: Passes over the noisy chunk.
        cached: Frames in the cache before the injection (1, 1 + K, ...).
        words: Length of the prompt, padding included.
        images: Image tokens.
        batch: Two for classifier-free guidance, even if its halves run apart.
        cache: False recomputes the cached frames too: frame 0, then K at a time.
    """
    k = config.frames_per_chunk
    parts = [(k, cached)] if cache else [(1, 0), *((k, before) for before in range(1, cached + 1, k))]
    total = cached_pass(config, k, cached + k, words, images, True, batch) * evaluations
    for frames, before in parts:
        total += cached_pass(config, frames, before, words, images, False, batch)
    return total


def parameters(config: DiTConfig) -> int:
    """Returns the number of weights of the transformer with its action and state modules."""
    c = config
    d = config.width

    def linear(inputs: int, outputs: int) -> int:
        return inputs * outputs + outputs

    cells = math.prod(c.patch)
    image_block = 2 * linear(d, d) + d if c.image_dim else 0
    block = 8 * linear(d, d) + 4 * d + image_block + 2 * d + linear(d, c.ffn) + linear(c.ffn, d) + 6 * d
    total = c.layers * block + linear(c.input_channels * cells, d)
    total += linear(c.text_dim, d) + linear(d, d) + linear(c.freq_dim, d) + linear(d, d) + linear(d, 6 * d)
    total += linear(d, cells * c.latent_channels) + 2 * d
    if c.image_dim:
        total += 2 * c.image_dim + linear(c.image_dim, c.image_dim) + linear(c.image_dim, d) + 2 * d
    if c.frame_vector:
        total += linear(c.input_vector, d) + linear(d, c.frame_vector)
    if c.action_dim:
        n = c.categories
        total += n * (linear(c.state_dim, c.hidden) + linear(c.hidden, d) + linear(c.action_dim, d))
        total += n * (linear(2 * d, d) + linear(d, d) + linear(d, c.hidden) + linear(c.hidden, c.action_dim))
    return total


def cache_bytes(config: DiTConfig, batch: int = 1, element: int = 2) -> int:
    """Returns the bytes of a `KVCache`: keys and values of a window of frames, and room for one chunk."""
    c = config
    spare = c.frames_per_chunk * c.frame_tokens + c.actions_per_chunk + c.states_per_chunk
    return 2 * c.layers * batch * (c.window * c.frame_tokens + spare) * c.width * element
