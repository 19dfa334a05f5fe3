"""The action head of GR00T N1.6: a diffusion transformer that reads text and image tokens in turn.

Letters: B batch, N vision-language tokens, V their width, S numbers of a state, H actions of a chunk, A numbers of an
action, D width, O width behind the transformer, T = 1 + H own tokens (state, then actions).

Convention of GR00T: time 0 is noise, 1 is data, in 1000 buckets; velocity = actions - noise. Even blocks read the
vision-language tokens, odd ones attend among state and actions; every second reading block reads text, the others
image tokens. Time modulates the norm before attention (scale and shift) and the last norm; nothing is gated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.policies.actions import real_time_chunking as rtc
from wambench.policies.networks.layers import ActionEncoder, CategoryLinear, CategoryMLP, attend

BUCKETS = 1000
FREQUENCIES = 256
Memory = list[tuple[Tensor, Tensor, Tensor | None]]  # of each reading block: keys, values, bias


@dataclass(frozen=True)
class GrootHeadConfig:
    """Sizes of the head.

    Attributes:
        width, layers, heads: Of the transformer; head dimensions are `width / heads`.
        out: O, also the hidden width of state encoder and action decoder.
        vl_dim: V.
        state_dim, action_dim, horizon: S, A, H.
        embodiments: Weight banks of state encoder, action encoder and action decoder.
        positions: Learned positions of actions, at least `horizon`.
        alternate: Reading blocks read text and image tokens in turn (N1.6). False: all of them read every token, and,
            as released, padding too.
    """

    width: int
    layers: int
    heads: int
    out: int
    vl_dim: int
    state_dim: int
    action_dim: int
    horizon: int
    embodiments: int = 1
    positions: int = 16
    alternate: bool = True


@dataclass(frozen=True)
class GrootContext:
    """What the head reads: tokens (B, N, V), which of them are valid, and which are image tokens, (B, N) bool."""

    tokens: Tensor
    valid: Tensor
    image: Tensor


def cosines(bucket: Tensor) -> Tensor:
    """Returns (B, 256) [cos, sin](bucket exp(-j ln 10000 / 127)), j = 0..127, of (B,) buckets."""
    half = FREQUENCIES // 2
    # the product before the quotient: the other order is 6e-5 off in float32 at bucket 999
    exponents = -math.log(10000.0) * torch.arange(half, device=bucket.device) / (half - 1)
    angles = bucket.float()[:, None] * exponents.exp()
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def modulate(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """Returns the norm of x (B, T, D) without gain, scaled by 1 + scale and shifted, (B, D) each."""
    return functional.layer_norm(x, x.shape[-1:], eps=eps) * (1.0 + scale[:, None]) + shift[:, None]


class TimedActions(ActionEncoder):
    """Noisy actions with their bucket; sinusoids in float32, as GR00T computes them (DreamZero: float64)."""

    def forward(self, action: Tensor, timestep: Tensor, category: Tensor | None = None) -> Tensor:
        """action (B, H, A), timestep (B, H) buckets -> (B, H, D)."""
        half = self.width // 2
        rates = torch.exp(-math.log(10000.0) / half * torch.arange(half, device=timestep.device))
        angles = timestep.float()[..., None] * rates
        time = torch.cat([angles.sin(), angles.cos()], dim=-1).to(action.dtype)
        both = torch.cat([self.W1(action, category), time], dim=-1)
        return self.W3(functional.silu(self.W2(both, category)), category)


class Attention(nn.Module):
    """Attention whose keys and values come from tokens of another width, or from its own."""

    def __init__(self, width: int, heads: int, source: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_out = nn.Linear(width, width)
        self.to_k = nn.Linear(source, width)
        self.to_v = nn.Linear(source, width)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, h, T, d)

    def pair(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values, (B, h, N, d) each, of tokens (B, N, V)."""
        return self._split(self.to_k(source)), self._split(self.to_v(source))

    def forward(self, x: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        return self.to_out(attend(self._split(self.to_q(x)), k, v, bias, explicit=True).transpose(1, 2).flatten(2))


class GrootBlock(nn.Module):
    """Modulated attention and an MLP behind a plain norm."""

    def __init__(self, config: GrootHeadConfig, reads: bool) -> None:
        super().__init__()
        d = config.width
        self.reads = reads
        self.modulation = nn.Linear(d, 2 * d)
        self.attn = Attention(d, config.heads, config.vl_dim if reads else d)
        self.ff = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(approximate="tanh"), nn.Linear(4 * d, d))

    def forward(self, x: Tensor, time: Tensor, read: tuple[Tensor, Tensor, Tensor | None] | None) -> Tensor:
        """x (B, T, D), time (B, D), what is read (None: itself) -> (B, T, D)."""
        scale, shift = self.modulation(functional.silu(time)).chunk(2, dim=1)
        y = modulate(x, scale, shift, 1e-5)
        x = x + self.attn(y, *(read or (*self.attn.pair(y), None)))
        return x + self.ff(functional.layer_norm(x, x.shape[-1:], eps=1e-5))


class GrootHead(nn.Module):
    """Velocity of noisy actions, given state and vision-language tokens."""

    def __init__(self, config: GrootHeadConfig) -> None:
        super().__init__()
        c = self.config = config
        self.vlln = nn.LayerNorm(c.vl_dim)
        self.state_encoder = CategoryMLP(c.embodiments, c.state_dim, c.out, c.width)
        self.action_encoder = TimedActions(c.embodiments, c.action_dim, c.width)
        self.action_decoder = CategoryMLP(c.embodiments, c.out, c.out, c.action_dim)
        self.position_embedding = nn.Embedding(c.positions, c.width)
        self.time = nn.Sequential(nn.Linear(FREQUENCIES, c.width), nn.SiLU(), nn.Linear(c.width, c.width))
        self.blocks = nn.ModuleList(GrootBlock(c, reads=i % 2 == 0) for i in range(c.layers))
        self.proj_out_1 = nn.Linear(c.width, 2 * c.width)
        self.proj_out_2 = nn.Linear(c.width, c.out)
        for module in self.modules():
            if isinstance(module, CategoryLinear):
                nn.init.normal_(module.W, std=module.W.shape[1] ** -0.5)
                nn.init.zeros_(module.b)
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def read(self, context: GrootContext) -> Memory:
        """Returns keys, values and bias of every reading block: the same at every step of a chunk."""
        tokens = self.vlln(context.tokens)
        masks = context.valid & ~context.image, context.valid & context.image
        hidden = torch.finfo(tokens.dtype).min
        biases = [torch.zeros(m.shape, dtype=tokens.dtype, device=m.device).masked_fill(~m, hidden) for m in masks]
        memory: Memory = []
        for i, block in enumerate(self.blocks[::2]):
            assert isinstance(block, GrootBlock)
            bias = biases[i % 2][:, None, None] if self.config.alternate else None
            memory.append((*block.attn.pair(tokens), bias))
        return memory

    def forward(
        self, memory: Memory, state: Tensor, actions: Tensor, bucket: Tensor, embodiment: Tensor | None = None
    ) -> Tensor:
        """Returns the velocity (B, H, A).

        Args:
            memory: Of `read`.
            state: (B, 1, S).
            actions: (B, H, A), noisy.
            bucket: (B,) int64 from 0 (noise) to 999.
            embodiment: (B,) int64 weight banks; None: the first.
        """
        horizon = actions.shape[1]
        dtype = self.proj_out_1.weight.dtype
        time = self.time(cosines(bucket).to(dtype))
        acts = self.action_encoder(actions.to(dtype), bucket[:, None].expand(-1, horizon), embodiment)
        acts = acts + self.position_embedding.weight[:horizon]
        x = torch.cat([self.state_encoder(state.to(dtype), embodiment), acts], dim=1)
        for i, block in enumerate(self.blocks):
            x = block(x, time, memory[i // 2] if i % 2 == 0 else None)
        return self.action_decoder(self.finish(x, time), embodiment)[:, -horizon:].float()

    def finish(self, x: Tensor, time: Tensor) -> Tensor:
        """Returns (B, T, O) behind the last norm, which is shifted first and scaled second."""
        shift, scale = self.proj_out_1(functional.silu(time)).chunk(2, dim=1)
        return self.proj_out_2(modulate(x, scale, shift, 1e-6))


def buckets(time: Tensor) -> Tensor:
    """Returns the int64 buckets of times in [0, 1)."""
    return (BUCKETS * time).long()


def draw_times(count: int, generator: torch.Generator) -> Tensor:
    """Returns (count,) times 0.999 (1 - Beta(1.5, 1)): more often near noise."""
    return 0.999 * (1.0 - torch.rand(count, generator=generator) ** (1.0 / 1.5))


def add_noise(actions: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """Returns (1 - time) noise + time actions; time is (B,), the others (B, H, A)."""
    return noise + time[:, None, None] * (actions - noise)


def loss(velocity: Tensor, actions: Tensor, noise: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean squared error of the velocity where the mask (B, H, A) is 1."""
    return ((velocity - (actions - noise)).square() * mask).sum() / (mask.sum() + 1e-6)


@torch.no_grad()
def sample(
    head: GrootHead,
    context: GrootContext,
    state: Tensor,
    noise: Tensor,
    steps: int = 4,
    embodiment: Tensor | None = None,
    guidance: rtc.Guidance | None = None,
) -> Tensor:
    """Returns actions (B, H, A) after Euler steps from noise, perhaps guided; the context is read once."""
    memory = head.read(context)

    def velocity(x: Tensor, tau: float) -> Tensor:
        bucket = torch.full((len(x),), round(tau * steps) * BUCKETS // steps, dtype=torch.long, device=x.device)
        return head(memory, state, x, bucket, embodiment)

    return rtc.sample(velocity, noise, steps, guidance)[-1]
