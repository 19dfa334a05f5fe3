"""The DreamZero transformer: one file from tiny test models to the official 14B checkpoint.

Letters: B batch, T tokens, D width, h heads, d = D / h, F latent frames, C latent channels, (y, x) latent size,
P patches of a frame, K frames per chunk, H actions per chunk, S states per chunk, M chunks (F = 1 + M K), L words.

Design decisions (arXiv 2602.15922 and the released code; parameter names are those of the released checkpoint):
- Training sequence: [clean frames | noisy frames | actions | states]. Clean and noisy copies of a frame share their
  rotary position. Nothing sees the future, past actions or past states (`token_layout.training_attention`).
- Inference: clean passes at timestep 0 append real frames to a `KVCache`; denoising passes read it.
- Every token carries its own timestep: a frame its own, an action its own, a state that of its chunk's first action,
  a clean token 0. Modulation is computed once per distinct timestep slot and spread over the slot's tokens.
- Cross-attention reads text and image keys with two softmaxes whose results are added. Both are prepared once per
  prompt (`encode_context`), since no timestep enters them.
- Beyond the release, all off in "14b": no image branch, one vector token per frame (floats that are denoised beside the
  patches), clean-value prediction, masked padding words, a bidirectional window, a state that sees its chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.policies.dreamzero.config import CONFIGS, DiTConfig, config_for
from wambench.policies.dreamzero.kv_cache import Context, KVCache, bias_from
from wambench.policies.dreamzero.layers import Block, Head, ImageProjection
from wambench.policies.dreamzero.token_layout import (
    AttentionPlan,
    Slots,
    TokenLayout,
    plan,
    slot_index,
    training_attention,
)
from wambench.policies.networks import rope
from wambench.policies.networks.layers import ActionEncoder, CategoryMLP, sinusoid

__all__ = ["CONFIGS", "Context", "DiT", "DiTConfig", "Frames", "KVCache", "Prediction", "config_for"]

T = TypeVar("T")


@dataclass(frozen=True)
class Frames:
    """Latent frames: latents (B, C, F, y, x), and vectors (B, F, n) where the config has a vector token."""

    latents: Tensor
    vectors: Tensor | None = None

    @property
    def count(self) -> int:
        """Number of frames."""
        return self.latents.shape[2]

    def part(self, start: int, stop: int) -> Frames:
        """Returns frames start to stop."""
        return Frames(self.latents[:, :, start:stop], None if self.vectors is None else self.vectors[:, start:stop])


@dataclass(frozen=True)
class Prediction:
    """What the heads say about the noisy tokens, in the config's `prediction` units.

    Attributes:
        video: Latents (B, C, F, y, x) and vectors of the noisy frames.
        action: (B, N, A) of all N action tokens, or None without actions.
    """

    video: Frames
    action: Tensor | None


class DiT(nn.Module):
    """The transformer. `forward` is the training pass, `observe` and `denoise` are the cached passes."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = c = config
        d = c.width
        self.patch_embedding = nn.Conv3d(c.input_channels, d, kernel_size=(1, *c.patch), stride=(1, *c.patch))
        self.text_embedding = nn.Sequential(nn.Linear(c.text_dim, d), nn.GELU(approximate="tanh"), nn.Linear(d, d))
        self.time_embedding = nn.Sequential(nn.Linear(c.freq_dim, d), nn.SiLU(), nn.Linear(d, d))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(d, 6 * d))
        if c.image_dim:
            self.img_emb = ImageProjection(c)
        if c.frame_vector:
            self.vector_embedding = nn.Linear(c.input_vector, d)
        self.blocks = nn.ModuleList([Block(c, layer) for layer in range(c.layers)])
        self.head = Head(c)
        if c.action_dim:
            self.state_encoder = CategoryMLP(c.categories, c.state_dim, c.hidden, d)
            self.action_encoder = ActionEncoder(c.categories, c.action_dim, d)
            self.action_decoder = CategoryMLP(c.categories, d, c.hidden, c.action_dim)
        self._tables: dict[tuple[object, ...], object] = {}
        self._initialise()

    def _initialise(self) -> None:
        """Wan's start: Xavier matrices, small embeddings, a silent video head; new modules as released."""
        d = self.config.width
        for name, p in self.named_parameters():
            if name.endswith("modulation"):
                nn.init.normal_(p, std=d**-0.5)
            elif name.endswith((".bias", ".b")) or name.startswith("head."):
                nn.init.zeros_(p)
            elif p.dim() == 3 or name.startswith(("text_embedding", "time_embedding")):
                nn.init.normal_(p, std=0.02)
            elif p.dim() > 1:
                nn.init.xavier_uniform_(p.flatten(1))

    @property
    def dtype(self) -> torch.dtype:
        """Type the layers compute in."""
        return self.head.head.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.head.weight.device

    # ---------------------------------------------------------------- embeddings

    def encode_context(self, text: Tensor, mask: Tensor | None = None, image: Tensor | None = None) -> Context:
        """Returns the prompt's keys and values for every layer.

        Args:
            text: (B, L, text_dim) word embeddings, zero on padding.
            mask: (B, L) bool, True for words; None attends to padding too, as the release does.
            image: (B, 257, image_dim) CLIP tokens of the first frame, for configs with an image branch.
        """
        if (image is not None) != (self.config.image_dim > 0):
            raise ValueError(f"image tokens {'are missing' if image is None else 'given'}: {self.config.image_dim = }")
        blocks = cast(Iterable[Block], self.blocks)
        words = self.text_embedding(text.to(self.dtype))
        pairs = tuple(block.cross_attn.text_pair(words) for block in blocks)
        bias = None if mask is None else bias_from(mask, self.dtype)[:, None, None]
        if image is None:
            return Context(pairs, (), bias)
        tokens = self.img_emb(image.to(self.dtype))
        return Context(pairs, tuple(block.cross_attn.image_pair(tokens) for block in blocks), bias)

    def _embed_frames(self, frames: Frames, y: Tensor | None, base: Frames | None) -> Tensor:
        """Returns (B, F * tokens, D)."""
        c = self.config
        latents = frames.latents.to(self.dtype)
        vectors = frames.vectors
        if (base is not None) != c.based:
            raise ValueError(f"base {'is missing' if base is None else 'given'}: {c.based = }")
        if base is not None:
            latents = torch.cat([latents, base.latents.to(self.dtype).expand_as(latents)], dim=1)
            if vectors is not None and base.vectors is not None:
                vectors = torch.cat([vectors, base.vectors.expand_as(vectors)], dim=2)
        if (y is not None) != (c.condition_channels > 0):
            raise ValueError(f"condition y {'is missing' if y is None else 'given'}: {c.condition_channels = }")
        if y is not None:
            latents = torch.cat([latents, y.to(self.dtype)], dim=1)
        b, channels, count = latents.shape[:3]
        (rows, columns), (p, q) = c.grid, c.patch
        cells = latents.reshape(b, channels, count, rows, p, columns, q).permute(0, 2, 3, 5, 1, 4, 6)
        cells = cells.reshape(b, count, c.patches, channels * p * q)
        tokens = functional.linear(cells, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)
        if c.frame_vector:
            if vectors is None:
                raise ValueError(f"frames without vectors: {c.frame_vector = }")
            tokens = torch.cat([tokens, self.vector_embedding(vectors.to(self.dtype))[:, :, None]], dim=2)
        return tokens.flatten(1, 2)

    def _time(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the time embedding (B, slots, D) and its projection (B, 6, slots, D)."""
        e = self.time_embedding(sinusoid(timesteps, self.config.freq_dim).to(self.dtype))
        return e, self.time_projection(e).unflatten(-1, (6, -1)).transpose(1, 2)

    # ---------------------------------------------------------------- constants of a shape, made once

    def _constant(self, key: tuple[object, ...], make: Callable[[], T]) -> T:
        key = (*key, self.device, self.dtype)
        if key not in self._tables:
            self._tables[key] = make()
        return self._tables[key]  # type: ignore[return-value]

    def _layout(self, clean: int, noisy: int, actions: int) -> TokenLayout:
        c = self.config
        chunks, first_frame = divmod(noisy, c.frames_per_chunk)
        if first_frame not in (0, 1) or (actions and actions != chunks * c.actions_per_chunk):
            raise ValueError(f"{noisy} noisy frames and {actions} actions are no chunks of {c.frames_per_chunk} frames")
        each = (c.actions_per_chunk, c.states_per_chunk) if actions else (0, 0)
        return TokenLayout(c.frame_tokens, clean, first_frame, chunks, c.frames_per_chunk, *each)

    def _slots(self, layout: TokenLayout, per_action: bool) -> Slots:
        def make() -> Slots:
            index = slot_index(layout, per_action).to(self.device)
            return Slots(index, functional.one_hot(index).to(self.dtype))

        return self._constant(("slots", layout, per_action), make)

    def _rope(self, layout: TokenLayout, first: int) -> rope.RotaryTable:
        """Returns the table of a sequence whose clean frames start at 0 and whose noisy frames start at `first`."""

        def make() -> rope.RotaryTable:
            c = self.config
            d = self.config.head_dim
            parts = [self._frame_angles(0, layout.clean), self._frame_angles(first, first + layout.first_noisy_frame)]
            for i in range(layout.chunks):
                start = first + layout.first_noisy_frame + i * layout.frames
                parts.append(self._frame_angles(start, start + layout.frames))
                chunk = max(start - 1, 0) // c.frames_per_chunk
                for n in (layout.actions, layout.states):
                    parts.append(rope.angles(torch.arange(chunk * n, (chunk + 1) * n), d))
            return rope.table(torch.cat(parts)).to(
                self.device, self.dtype if c.attention == "explicit" else torch.float32
            )

        return self._constant(("rope", layout, first), make)

    def _frame_angles(self, start: int, stop: int) -> Tensor:
        c = self.config
        return rope.frame_angles(torch.arange(start, stop), *c.grid, c.frame_vector > 0, c.head_dim)

    def _plan(self, layout: TokenLayout) -> AttentionPlan:
        c = self.config
        return self._constant(("plan", layout), lambda: plan(training_attention(layout, c.state_sees_chunk, c.window)))

    # ---------------------------------------------------------------- passes

    def _noisy(
        self, layout: TokenLayout, frames: Frames, y: Tensor | None, base: Frames | None, action: Tensor | None,
        timestep: Tensor | None, state: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Returns the tokens behind the clean frames, (B, tokens, D)."""
        x = self._embed_frames(frames, y, base)
        if action is None:
            return x
        if timestep is None or state is None:
            raise ValueError("actions need their timesteps and the states of their chunks")
        if timestep.shape[1] != action.shape[1]:
            timestep = timestep.repeat_interleave(layout.actions, dim=1)
        before = layout.first_noisy_frame * layout.frame_tokens
        first_frame, x = x.split([before, x.shape[1] - before], dim=1)
        encoded = (x, self.action_encoder(action.to(self.dtype), timestep), self.state_encoder(state.to(self.dtype)))
        chunks = torch.cat([part.unflatten(1, (layout.chunks, -1)) for part in encoded], dim=2)
        return torch.cat([first_frame, chunks.flatten(1, 2)], dim=1)

    def _run(
        self, x: Tensor, times: list[Tensor], layout: TokenLayout, first: int, context: Context, cache: KVCache | None
    ) -> Prediction:
        """Returns the heads' outputs for tokens x (B, T, D) with the timesteps of their slots."""
        per_action = len(times) > 1 and times[-1].shape[1] == layout.chunks * layout.actions
        e, time = self._time(torch.cat(times, dim=1))
        slots = self._slots(layout, per_action)
        table = self._rope(layout, first)
        reading = None if self.config.bidirectional or cache is not None else self._plan(layout)
        for block in self.blocks:
            x = block(x, time, slots, table, reading, context, cache)
        return self._heads(x, e, layout)

    def _heads(self, x: Tensor, e: Tensor, layout: TokenLayout) -> Prediction:
        c = self.config
        t = layout.frame_tokens
        frames = layout.noisy
        first_frame = x[:, layout.clean_tokens : layout.before]
        chunks = x[:, layout.before :].unflatten(1, (layout.chunks, layout.chunk_tokens)) if layout.chunks else None
        video = first_frame
        action = None
        if chunks is not None:
            video = torch.cat([first_frame, chunks[:, :, : layout.frames * t].flatten(1, 2)], dim=1)
            if layout.actions:
                start = layout.frames * t
                action = self.action_decoder(chunks[:, :, start : start + layout.actions].flatten(1, 2))
        zero = int(layout.clean > 0)
        video = self.head(video.unflatten(1, (frames, t)), e[:, zero : zero + frames])  # (B, F, tokens, D)
        vectors = self.head.vector(video[:, :, -1]) if c.frame_vector else None
        (rows, columns), (p, q) = c.grid, c.patch
        cells = self.head.head(video[:, :, : c.patches]).reshape(-1, frames, rows, columns, p, q, c.latent_channels)
        latents = cells.permute(0, 6, 1, 2, 4, 3, 5).reshape(-1, c.latent_channels, frames, rows * p, columns * q)
        return Prediction(Frames(latents, vectors), action)

    def forward(
        self, clean: Frames, noisy: Frames, timestep: Tensor, context: Context, action: Tensor | None = None,
        timestep_action: Tensor | None = None, state: Tensor | None = None, y: Tensor | None = None,
    ) -> Prediction:  # fmt: skip
        """Returns the prediction for all noisy frames and actions of a training sequence.

        Args:
            clean: The 1 + M K real frames, or all but the last K, which nothing reads (with `bidirectional`: the
                observed ones only).
            noisy: The same frames with noise; without frame 0 unless `noisy_first_frame` (with `bidirectional`: the
                frames after the clean ones). Clean values with timestep 0 clamp the video.
            timestep: (B, noisy frames) in [0, 1000].
            context: From `encode_context`.
            action: (B, M H, A) noisy actions; None leaves actions and states out.
            timestep_action: (B, M H), or (B, M) if all actions of a chunk share one.
            state: (B, M S, state_dim).
            y: (B, condition channels, 1 + M K, y, x), for clean and noisy copy alike.
        """
        first = clean.count if self.config.bidirectional else int(not self.config.noisy_first_frame)
        total = first + noisy.count
        layout = self._layout(clean.count, noisy.count, 0 if action is None else action.shape[1])
        bases = bases_of(self.config, clean, range(total)) if self.config.based else None
        known = self._embed_frames(
            clean, None if y is None else y[:, :, : clean.count], bases and bases.part(0, clean.count)
        )
        unknown = self._noisy(
            layout, noisy, None if y is None else y[:, :, first:total], bases and bases.part(first, total), action,
            timestep_action, state,
        )  # fmt: skip
        times = [torch.zeros_like(timestep[:, :1]), timestep, *([] if timestep_action is None else [timestep_action])]
        return self._run(torch.cat([known, unknown], dim=1), times, layout, first, context, None)

    def observe(
        self,
        cache: KVCache,
        frames: Frames,
        start: int,
        context: Context,
        y: Tensor | None = None,
        base: Frames | None = None,
    ) -> Prediction:
        """Appends real frames to the cache in one clean pass (timestep 0) and returns what the heads read there.

        Args:
            cache: What went before; grows.
            frames: The new frames, which see the cache and each other.
            start: Frame index (rotary position) of the first one.
            context: From `encode_context`.
            y: (B, condition channels, frames, y, x) at these frame indices.
            base: With `based`, one frame: the last real one before these, or frame 0 itself.
        """
        timestep = torch.zeros(frames.latents.shape[0], frames.count, device=self.device)
        out = self.denoise(cache, frames, timestep, start, context, y=y, base=base)
        cache.advance(frames.count * self.config.frame_tokens)
        return out

    def denoise(
        self, cache: KVCache, frames: Frames, timestep: Tensor, start: int, context: Context,
        action: Tensor | None = None, timestep_action: Tensor | None = None, state: Tensor | None = None,
        y: Tensor | None = None, base: Frames | None = None,
    ) -> Prediction:  # fmt: skip
        """Returns the prediction for a chunk's noisy frames and actions; the cache stays as it is.

        Args:
            cache: Real frames before the chunk.
            frames: K noisy frames; clean values with timestep 0 clamp the video.
            timestep: (B, K) in [0, 1000].
            start: Frame index of the first frame; the chunk is (start - 1) // K.
            context: From `encode_context`.
            action: (B, H, A) noisy actions; None leaves actions and states out.
            timestep_action: (B, H), or (B, 1) if all share one.
            state: (B, S, state_dim).
            y: (B, condition channels, K, y, x) at these frame indices.
            base: With `based`, the last real frame.
        """
        layout = self._layout(0, frames.count, 0 if action is None else action.shape[1])
        x = self._noisy(layout, frames, y, base, action, timestep_action, state)
        times = [timestep, *([] if timestep_action is None else [timestep_action])]
        return self._run(x, times, layout, start, context, cache)


def chunk_bases(config: DiTConfig, clean: Frames) -> Frames:
    """Returns, for every noisy frame of a training sequence, the last real frame before its chunk.

    `clean` holds frames 0 .. M K. A noisy frame 0, which has no frame before it, gets zeros. A bidirectional window has
    one chunk in this sense: all its frames are relative to frame 0.
    """
    based = bases_of(config, clean, range(1, clean.count))
    latents = based.latents
    vectors = based.vectors
    if config.noisy_first_frame:
        latents = torch.cat([torch.zeros_like(latents[:, :, :1]), latents], dim=2)
        vectors = None if vectors is None else torch.cat([torch.zeros_like(vectors[:, :1]), vectors], dim=1)
    return Frames(latents, vectors)


def bases_of(config: DiTConfig, clean: Frames, frames: Sequence[int]) -> Frames:
    """Returns, for some frame numbers, the last real frame before the chunk that each belongs to; of 0, itself."""
    k = max(frames, default=0) + 1 if config.bidirectional else config.frames_per_chunk
    index = [max(number - 1, 0) // k * k for number in frames]
    return Frames(clean.latents[:, :, index], None if clean.vectors is None else clean.vectors[:, index])


def to_clean(x: Tensor, prediction: Tensor, sigma: Tensor | float, base: Tensor | None, kind: str) -> Tensor:
    """Returns the clean value that a prediction at noise level sigma means; inverse of what `to_velocity` does.

    Args:
        x: The noisy value.
        prediction: The head's output, in units of `kind`.
        sigma: Broadcastable to x.
        base: What a "clean" video prediction is relative to; None for actions.
        kind: `DiTConfig.prediction`.
    """
    if kind == "velocity":
        return x - sigma * prediction
    return prediction if base is None else prediction + base


def to_velocity(x: Tensor, prediction: Tensor, sigma: Tensor | float, base: Tensor | None, kind: str) -> Tensor:
    """Returns the velocity noise - clean; for a "clean" prediction (x - base - prediction) / sigma. See `to_clean`."""
    if kind == "velocity":
        return prediction
    return (x - to_clean(x, prediction, sigma, base, kind)) / sigma
