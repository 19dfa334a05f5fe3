"""Token order, attention pattern and timestep of every token of a sequence.

A sequence is [clean frames | noisy frame 0 | chunk 1 | ... | chunk M], a chunk is [K frames | H actions | S states];
each part can be missing. (The release keeps all frames before all actions before all states; `release_order` converts.)
A frame is its patches in row-major order, then its vector token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Span = tuple[int, int]


@dataclass(frozen=True)
class TokenLayout:
    """Parts of a sequence.

    Attributes:
        frame_tokens: Tokens of a frame.
        clean: Clean frames.
        first_noisy_frame: Noisy frames before the first chunk: 1 if the noisy copy holds frame 0 too, else 0.
        chunks: Chunks.
        frames, actions, states: Of each chunk: K, H, S.
    """

    frame_tokens: int
    clean: int
    first_noisy_frame: int
    chunks: int
    frames: int
    actions: int
    states: int

    @property
    def clean_tokens(self) -> int:
        """Tokens of the clean frames."""
        return self.clean * self.frame_tokens

    @property
    def before(self) -> int:
        """Tokens before the first chunk."""
        return (self.clean + self.first_noisy_frame) * self.frame_tokens

    @property
    def chunk_tokens(self) -> int:
        """Tokens of a chunk."""
        return self.frames * self.frame_tokens + self.actions + self.states

    @property
    def tokens(self) -> int:
        """Tokens of the sequence."""
        return self.before + self.chunks * self.chunk_tokens

    @property
    def noisy(self) -> int:
        """Noisy frames."""
        return self.first_noisy_frame + self.chunks * self.frames

    def chunk_start(self, chunk: int) -> int:
        """First token of a chunk, counted from 0."""
        return self.before + chunk * self.chunk_tokens


@dataclass(frozen=True)
class AttentionSpan:
    """Tokens [start, stop) attend to the tokens of the key spans, without a mask."""

    start: int
    stop: int
    keys: tuple[Span, ...]


def clean_attention(layout: TokenLayout, window: int) -> list[AttentionSpan]:
    """Returns what the clean tokens of a training sequence attend to: frame 0, then chunk by chunk.

    Args:
        layout: Of the sequence.
        window: Frames that a chunk sees back from its own end, frame 0 always included; -1 makes everything behind
            frame 0 causal token by token, as the release does when its window is switched off.
    """
    t = layout.frame_tokens
    k = layout.frames
    spans = [AttentionSpan(0, t, ((0, t),))]
    if window < 0:
        return spans + [AttentionSpan(i, i + 1, ((0, i + 1),)) for i in range(t, layout.clean_tokens)]
    for first in range(1, layout.clean, k):
        stop = (first + k) * t
        start = max(first + k - window, 0) * t
        keys = ((0, stop),) if start <= t else ((0, t), (start, stop))
        spans.append(AttentionSpan(first * t, stop, keys))
    return spans


def training_attention(layout: TokenLayout, state_sees_chunk: bool, window: int) -> tuple[AttentionSpan, ...]:
    """Returns which tokens attend to which in the teacher-forced training sequence.

    A chunk attends to the clean frames before it and to itself; its states attend only to themselves unless
    `state_sees_chunk`. Nothing attends to the future, to past actions or to past states.
    """
    t = layout.frame_tokens
    spans = clean_attention(layout, window)
    if layout.first_noisy_frame:
        span = (layout.clean_tokens, layout.before)
        spans.append(AttentionSpan(*span, (span,)))
    for chunk in range(layout.chunks):
        start = layout.chunk_start(chunk)
        stop = start + layout.chunk_tokens
        keys = ((0, (1 + chunk * layout.frames) * t), (start, stop))
        seeing = stop if state_sees_chunk else stop - layout.states
        spans.append(AttentionSpan(start, seeing, keys))
        if seeing < stop:
            spans.append(AttentionSpan(seeing, stop, ((seeing, stop),)))
    return tuple(spans)


@dataclass(frozen=True)
class AttentionPlan:
    """Sizes of the pieces that queries and keys are cut into, and which key pieces each query piece attends to."""

    query_sizes: tuple[int, ...]
    key_sizes: tuple[int, ...]
    keys: tuple[tuple[int, ...], ...]


def plan(spans: Sequence[AttentionSpan]) -> AttentionPlan:
    """Returns the plan of spans that cover a sequence in order."""
    cuts = sorted({cut for span in spans for keys in span.keys for cut in keys} | {0, spans[-1].stop})
    pieces = list(pairwise(cuts))
    keys = [
        tuple(i for i, (a, b) in enumerate(pieces) if any(start <= a and b <= stop for start, stop in span.keys))
        for span in spans
    ]
    return AttentionPlan(tuple(span.stop - span.start for span in spans), tuple(b - a for a, b in pieces), tuple(keys))


def mask(spans: Sequence[AttentionSpan], tokens: int) -> Tensor:
    """Returns the (T, T) bool matrix "row attends to column".

    It checks the spans against the release (`make parity`); the transformer attends by spans, without a matrix.
    """
    seen = torch.zeros(tokens, tokens, dtype=torch.bool)
    for span in spans:
        for start, stop in span.keys:
            seen[span.start : span.stop, start:stop] = True
    return seen


def release_order(layout: TokenLayout) -> Tensor:
    """Returns (T,) indices that put tokens in the release's order: clean, noisy frames, actions, states.

    Reference implementation, checked against the release by `make parity`; no command uses it.
    """
    index = torch.arange(layout.tokens)
    chunks = index[layout.before :].view(layout.chunks, layout.chunk_tokens)
    frames, actions, states = chunks.split([layout.frames * layout.frame_tokens, layout.actions, layout.states], dim=1)
    return torch.cat([index[: layout.before], frames.flatten(), actions.flatten(), states.flatten()])


def slot_index(layout: TokenLayout, per_action: bool) -> Tensor:
    """Returns the (T,) timestep slot of every token.

    Slots are [one for all clean frames, if any | one per noisy frame | one per action, or per chunk]; a state has the
    slot of its chunk's first action.
    """
    o = layout
    zero = int(layout.clean > 0)
    parts = [torch.zeros(o.clean_tokens, dtype=torch.long)]
    parts.append(torch.arange(zero, zero + o.first_noisy_frame).repeat_interleave(o.frame_tokens))
    for chunk in range(o.chunks):
        first = zero + o.first_noisy_frame + chunk * o.frames
        parts.append(torch.arange(first, first + o.frames).repeat_interleave(o.frame_tokens))
        action = zero + o.noisy + (chunk * o.actions if per_action else chunk)
        parts.append(torch.arange(action, action + o.actions) if per_action else torch.full((o.actions,), action))
        parts.append(torch.full((o.states,), action))
    return torch.cat(parts)


@dataclass(frozen=True)
class Slots:
    """Which timestep slot each token has: the index (T,), and the same as a one-hot matrix (T, slots)."""

    index: Tensor
    matrix: Tensor

    def spread(self, values: Tensor) -> Sequence[Tensor]:
        """Returns n tensors (B, T, D), one for each of the n values (B, n, slots, D): every token gets its slot's."""
        if values.device.type == "cpu":  # the gradient of indexing adds rows one by one; a matrix product is faster
            return (self.matrix @ values).unbind(1)
        return values[:, :, self.index].unbind(1)
