"""Two experts, one attention: the transformer of pi0 and its successors, and the flow matching it is trained with.

The prefix expert reads images and words; the action expert, with weights of its own, reads the noisy actions and, layer
by layer, the keys and values of the prefix beside its own, under one softmax. The prefix never sees the actions, so a
training pass is the cached pass of inference with gradients: `read` once, then `velocity` as often as there are steps.
Names of modules, formulas and the order of operations are openpi's (`tests/parity` compares the numbers); the inputs,
the sizes and the initial weights are ours.

Letters: B batch, N prefix tokens, S suffix tokens, w width, h heads, g key-value heads, d their dimensions, H actions
of a chunk, A their numbers. Time runs from 1 (noise) to 0 (actions).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.interface import fields_of_json
from wambench.policies.actions import real_time_chunking as rtc
from wambench.policies.networks import flow_matching

HIDDEN = -2.3819763e38  # logit of what may not be read: finite, so that a row without any valid token stays a number
EPS = 1e-6
PERIODS = (4e-3, 4.0)
ROPE_BASE = 10000.0


@dataclass(frozen=True)
class Sizes:
    """Sizes of both experts.

    Attributes:
        prefix, action: (width, hidden width of the MLP) of each expert.
        depth, heads, kv_heads, head_dim: Of both, or their attention would not fit together.
        vocabulary: Rows of the prefix expert's token table (0: none).
    """

    prefix: tuple[int, int]
    action: tuple[int, int]
    depth: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int = 0

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads or self.head_dim % 2:
            raise ValueError(f"{self.heads} heads of {self.head_dim} dimensions cannot share {self.kv_heads} keys")

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Sizes:
        """Returns the sizes that `dataclasses.asdict` and JSON turned into a dict."""
        return Sizes(**fields_of_json(values))


def time_features(t: Tensor, width: int) -> Tensor:
    """Returns (B, width) float32 [sin(2 pi t / p_j), cos(2 pi t / p_j)] of (B,) times, p_j from 0.004 to 4.

    These are openpi's periods; DreamZero's and GR00T's timesteps run to 1000 and have others (`layers.sinusoid`).
    """
    share = torch.linspace(0.0, 1.0, width // 2, device=t.device)
    period = PERIODS[0] * (PERIODS[1] / PERIODS[0]) ** share
    angle = t.float()[:, None] * (1.0 / period * 2.0 * torch.pi)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def block_mask(starts: Tensor, valid: Tensor) -> Tensor:
    """Returns the (B, T, T) bool matrix "row reads column" of block-causal attention.

    Args:
        starts: (T,) 1 where a block begins. A token reads its own block and those before it.
        valid: (B, T) bool; what is not valid neither reads nor is read.
    """
    block = starts.long().cumsum(0)
    return (block[None, :] <= block[:, None]) & valid[:, None, :] & valid[:, :, None]


def rotation(positions: Tensor, dims: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Returns cosines and sines (B, 1, T, d) of (B, T) positions, each twice, the first half of the sines negated."""
    timescale = ROPE_BASE ** (2.0 / dims * torch.arange(dims // 2, device=positions.device))
    angle = positions[:, None, :, None].float() / timescale
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([cos, cos], dim=-1).to(dtype), torch.cat([-sin, sin], dim=-1).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Returns (B, h, T, d) with the two halves of each head turned against each other."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([second, first], dim=-1) * sin


def bias_of(allowed: Tensor) -> Tensor:
    """Returns the (B, 1, T, S) float32 logits to add for a (B, T, S) bool mask."""
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill_(~allowed, HIDDEN)[:, None]


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Returns (B, T, h d) attention; query head n reads key-value head n // (h / g).

    Args:
        q: (B, h, T, d), scaled.
        k, v: (B, g, S, d).
        bias: (B, 1, T, S), see `bias_of`.
    """
    b, heads, count, d = q.shape
    group = heads // k.shape[1]
    logits = q.reshape(b, k.shape[1], group * count, d) @ k.transpose(-1, -2)
    weights = (logits.view(b, heads, count, -1) + bias).softmax(dim=-1).to(v.dtype).view(logits.shape)
    return (weights @ v).view(b, heads, count, d).transpose(1, 2).flatten(2)


class GemmaRMSNorm(nn.Module):
    """x / rms(x) * (1 + scale), as in Gemma; `dreamzero.layers.RMSNorm` is Wan's, whose gain is the weight itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Returns the normalised x (B, T, w), and no gate."""
        return _normalised(x) * (1.0 + self.scale), None


class AdaRMSNorm(nn.Module):
    """x / rms(x) * (1 + scale) + shift, and a gate for the residual, all three from a condition; zero at first."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(condition, 3 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Returns the modulated x (B, T, w) and the gate (B, 1, w) for a condition (B, c)."""
        assert condition is not None
        scale, shift, gate = self.modulation(condition)[:, None].chunk(3, dim=-1)
        return _normalised(x) * (1.0 + scale) + shift, gate


def _normalised(x: Tensor) -> Tensor:
    size = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return x * torch.rsqrt(size.square() / x.shape[-1] + EPS).to(x.dtype)


def add_gated(x: Tensor, branch: Tensor, gate: Tensor | None) -> Tensor:
    """Returns the residual x + branch, the branch gated if there is a gate."""
    return x + branch if gate is None else x + branch * gate


class MLP(nn.Module):
    """down(gelu(gate x) * up x), GELU in its tanh form."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, w) -> same shape."""
        return self.down_proj(functional.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class Layer(nn.Module):
    """One expert's share of a layer: its norms, projections and MLP.

    Args:
        sizes: Of both experts.
        width, hidden: Of this one.
        condition: Width of the condition of its norms (0: plain norms).
    """

    def __init__(self, sizes: Sizes, width: int, hidden: int, condition: int) -> None:
        super().__init__()
        self.sizes = sizes
        inner = sizes.heads * sizes.head_dim
        keys = sizes.kv_heads * sizes.head_dim
        self.attn_norm = AdaRMSNorm(width, condition) if condition else GemmaRMSNorm(width)
        self.q_proj = nn.Linear(width, inner, bias=False)
        self.k_proj = nn.Linear(width, keys, bias=False)
        self.v_proj = nn.Linear(width, keys, bias=False)
        self.o_proj = nn.Linear(inner, width, bias=False)
        self.mlp_norm = AdaRMSNorm(width, condition) if condition else GemmaRMSNorm(width)
        self.mlp = MLP(width, hidden)

    def keys(self, y: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns keys (turned) and values (B, g, T, d) of the normalised tokens (B, T, w)."""
        k, v = (p(y).unflatten(-1, (self.sizes.kv_heads, -1)).transpose(1, 2) for p in (self.k_proj, self.v_proj))
        return rotate(k, *turn), v

    def queries(self, y: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Returns turned and scaled queries (B, h, T, d) of the normalised tokens (B, T, w)."""
        q = self.q_proj(y).unflatten(-1, (self.sizes.heads, -1)).transpose(1, 2)
        return rotate(q, *turn) * self.sizes.head_dim**-0.5

    def finish(self, x: Tensor, heads: Tensor, gate: Tensor | None, condition: Tensor | None = None) -> Tensor:
        """Returns x (B, T, w) after the attention's output (B, T, h d) and the MLP are added."""
        x = add_gated(x, self.o_proj(heads), gate)
        y, gate = self.mlp_norm(x, condition)
        return add_gated(x, self.mlp(y), gate)


class ActionExpert(nn.Module):
    """One expert: a stack of layers, a final norm, and a token table if it reads tokens."""

    def __init__(self, sizes: Sizes, width: int, hidden: int, condition: int = 0, vocabulary: int = 0) -> None:
        super().__init__()
        self.width = width
        self.layers: Sequence[Layer] = nn.ModuleList(  # type: ignore[assignment]
            Layer(sizes, width, hidden, condition) for _ in range(sizes.depth)
        )
        self.final_norm = AdaRMSNorm(width, condition) if condition else GemmaRMSNorm(width)
        if vocabulary:
            self.embed_tokens = nn.Embedding(vocabulary, width)
            nn.init.normal_(self.embed_tokens.weight, std=width**-0.5)

    def embed(self, ids: Tensor) -> Tensor:
        """Returns (B, T, w) of token ids (B, T): rows of the table times sqrt(w)."""
        return self.embed_tokens(ids) * self.width**0.5


@dataclass(frozen=True)
class PrefixMemory:
    """What the action expert may read of a prefix.

    Attributes:
        keys, values: (B, g, N, d) of every layer, keys turned.
        valid: (B, N) bool.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    valid: Tensor

    def without_gradient(self) -> PrefixMemory:
        """Returns the same without a way back: knowledge insulation."""
        return PrefixMemory(tuple(k.detach() for k in self.keys), tuple(v.detach() for v in self.values), self.valid)

    def restrict_to(self, visible: Tensor) -> PrefixMemory:
        """Returns the same with only the (B, N) visible tokens to be read."""
        return replace(self, valid=self.valid & visible)


@dataclass(frozen=True)
class Suffix:
    """Tokens of the action expert: (B, S, w), (S,) 1 where a block begins, and the (B, c) condition of its norms."""

    tokens: Tensor
    starts: Tensor
    condition: Tensor | None


class TwoExperts(nn.Module, ABC):
    """A prefix expert, an action expert, and flow matching; a method says how state, actions and time become tokens.

    Args:
        sizes: Of the experts.
        action_dim: Numbers of an action.
        adaptive: The action expert's norms take a condition of its own width.
    """

    def __init__(self, sizes: Sizes, action_dim: int, adaptive: bool) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.action[0]
        self.prefix = ActionExpert(sizes, *sizes.prefix, vocabulary=sizes.vocabulary)
        self.action = ActionExpert(sizes, *sizes.action, condition=width if adaptive else 0)
        self.action_in_proj = nn.Linear(action_dim, width)
        self.action_out_proj = nn.Linear(width, action_dim)

    @abstractmethod
    def suffix(self, x: Tensor, t: Tensor, state: Tensor | None) -> Suffix:
        """Returns the tokens of noisy actions (B, H, A) at times (B,), and of a state (B, s) where there is one."""

    def read(
        self, tokens: Tensor, valid: Tensor, starts: Tensor | None = None, output: bool = False
    ) -> tuple[PrefixMemory, Tensor | None]:
        """Returns the memory of a prefix, and if asked the prefix expert's output (B, N, w).

        Args:
            tokens: (B, N, w).
            valid: (B, N) bool.
            starts: (N,) 1 where a block begins; None: all tokens read each other.
            output: Finish the last layer too, whose tokens no action reads (its keys and values are there anyway).
        """
        free = torch.zeros(tokens.shape[1], device=tokens.device) if starts is None else starts
        bias = bias_of(block_mask(free, valid))
        turn = rotation(valid.long().cumsum(1) - 1, self.sizes.head_dim, tokens.dtype)
        x = tokens
        pairs = []
        last = len(self.prefix.layers) - 1
        for i, layer in enumerate(self.prefix.layers):
            y, _ = layer.attn_norm(x)
            k, v = layer.keys(y, turn)
            pairs.append((k, v))
            if i < last or output:
                x = layer.finish(x, attend(layer.queries(y, turn), k, v, bias), None)
        keys, values = zip(*pairs, strict=True)
        return PrefixMemory(keys, values, valid), self.prefix.final_norm(x)[0] if output else None

    def act(self, suffix: Suffix, memory: PrefixMemory) -> Tensor:
        """Returns the action expert's output (B, S, w) for a suffix behind a prefix."""
        b, count = suffix.tokens.shape[:2]
        own = block_mask(suffix.starts, memory.valid.new_ones(b, count))
        bias = bias_of(torch.cat([memory.valid[:, None].expand(-1, count, -1), own], dim=2))
        # positions go on behind the valid tokens, wherever these stand
        positions = memory.valid.sum(dim=1, keepdim=True) + torch.arange(count, device=own.device)
        turn = rotation(positions, self.sizes.head_dim, suffix.tokens.dtype)
        x = suffix.tokens
        for layer, keys, values in zip(self.action.layers, memory.keys, memory.values, strict=True):
            y, gate = layer.attn_norm(x, suffix.condition)
            k, v = layer.keys(y, turn)
            k, v = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
            x = layer.finish(x, attend(layer.queries(y, turn), k, v, bias), gate, suffix.condition)
        return self.action.final_norm(x, suffix.condition)[0]

    def velocity(self, memory: PrefixMemory, x: Tensor, t: Tensor, state: Tensor | None = None) -> Tensor:
        """Returns the velocity noise - actions (B, H, A) at noisy actions x and times (B,)."""
        out = self.act(self.suffix(x, t, state), memory)
        return self.action_out_proj(out[:, -x.shape[1] :])

    def flow_loss(
        self, memory: PrefixMemory, actions: Tensor, noise: Tensor, t: Tensor, state: Tensor | None = None
    ) -> Tensor:
        """Returns the squared error of the velocity, (B, H) means over the numbers of an action."""
        x = flow_matching.interpolate(actions, noise, t)
        return (self.velocity(memory, x, t, state).float() - (noise - actions)).square().mean(dim=2)

    def sample(
        self,
        memory: PrefixMemory,
        noise: Tensor,
        steps: int,
        state: Tensor | None = None,
        guidance: rtc.Guidance | None = None,
    ) -> Tensor:
        """Returns float32 normalised actions (B, H, A): Euler steps from noise at time 1 to 0, perhaps guided."""

        def field(x: Tensor) -> Tensor:
            return self.velocity(memory, x, t, state).float()

        x = noise
        t = torch.ones(len(noise), device=noise.device)
        for i in range(steps):
            x = x - (field(x) if guidance is None else rtc.guided_velocity(field, x, 1.0 - i / steps, guidance)) / steps
            t = t - 1.0 / steps
        return x


def draw_times(count: int, generator: torch.Generator) -> Tensor:
    """Returns (count,) times 0.999 Beta(1.5, 1) + 0.001: more often near noise."""
    return 0.999 * flow_matching.draw_sigma(count, generator) + 0.001
