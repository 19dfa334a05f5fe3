"""The simplest baseline: a chunk of actions by regression, in the manner of ACT (Zhao et al. 2023).

An encoder reads the observation and the state, a decoder turns one learned query per action into that action, the loss
is the L1 distance. ACT's latent style variable is left out: without it the method is plain regression, and what the
others gain over it is what a generative head brings.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.policies.actions import real_time_chunking as rtc
from wambench.policies.perception.encoder import STATE_FEATURES
from wambench.policies.vla import base as vla
from wambench.policies.vla.groot_head import Attention
from wambench.policies.vla.token_encoder import TokenEncoder

STATE_LIMIT = 5.0  # standard deviations, as for DreamZero nano


@dataclass(frozen=True)
class L1Sizes:
    """Sizes: width, hidden width of the MLPs, layers of encoder and decoder, heads, hidden width of the stem."""

    width: int
    ffn: int
    encoder: int
    decoder: int
    heads: int
    hidden: int


CONFIGS = {"nano": L1Sizes(160, 560, 4, 4, 4, 512), "tiny": L1Sizes(24, 48, 1, 1, 2, 32)}


class L1Block(nn.Module):
    """A decoder's layer: the queries read each other, then what was encoded."""

    def __init__(self, width: int, ffn: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.own = Attention(width, heads, width)
        self.across = Attention(width, heads, width)
        self.ff = nn.Sequential(nn.Linear(width, ffn), nn.ReLU(), nn.Linear(ffn, width))

    def forward(self, x: Tensor, encoded: Tensor, bias: Tensor) -> Tensor:
        """x (B, H, w), encoded (B, N, w), bias (B, 1, 1, N) -> (B, H, w)."""
        y = self.norms[0](x)
        x = x + self.own(y, *self.own.pair(y), None)
        x = x + self.across(self.norms[1](x), *self.across.pair(encoded), bias)
        return x + self.ff(self.norms[2](x))


class L1(vla.Network):
    """Regression on what DreamZero nano sees; deterministic."""

    steps = 1

    def __init__(self, sizes: L1Sizes, inputs: vla.Inputs) -> None:
        super().__init__(inputs, "zscore")
        self.sizes = s = sizes
        self.stem = vla.Stem(inputs, s.width, s.hidden)
        self.state_in = nn.Linear(STATE_FEATURES, s.width)
        self.reader = TokenEncoder(s.width, s.ffn, s.encoder, s.heads)
        self.norm = nn.LayerNorm(s.width)
        self.queries = nn.Parameter(torch.randn(inputs.horizon, s.width) * 0.02)
        self.blocks = nn.ModuleList(L1Block(s.width, s.ffn, s.heads) for _ in range(s.decoder))
        self.last = nn.LayerNorm(s.width)
        self.out = nn.Linear(s.width, inputs.action_dim)

    def forward(self, seen: vla.EncodedObservation) -> Tensor:
        """Returns (B, H, A) normalised actions."""
        tokens, valid = self.stem(seen)
        state = self.state(seen.state).clamp(-STATE_LIMIT, STATE_LIMIT).to(tokens.dtype)
        tokens = torch.cat([tokens, self.state_in(state)[:, None]], dim=1)
        valid = torch.cat([valid, valid.new_ones(len(valid), 1)], dim=1)
        encoded = self.norm(self.reader(tokens, valid))
        bias = torch.zeros_like(valid, dtype=tokens.dtype).masked_fill(~valid, torch.finfo(tokens.dtype).min)
        x = self.queries.expand(len(tokens), -1, -1)
        for block in self.blocks:
            x = block(x, encoded, bias[:, None, None])
        return self.out(self.last(x)).float()

    def loss(self, seen: vla.EncodedObservation, actions: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """See `base.Network.loss`; nothing is random."""
        return (functional.l1_loss(self(seen), self.action(actions)),)

    def sample(
        self, seen: vla.EncodedObservation, noise: Tensor, steps: int, guidance: rtc.Guidance | None = None
    ) -> Tensor:
        """See `base.Network.sample`; noise, steps and guidance are not used."""
        return self.action.undo(self(seen))

    def to_dict(self) -> dict[str, Any]:
        """See `base.Network.to_dict`."""
        return {"sizes": asdict(self.sizes), "inputs": asdict(self.inputs)}


def build(size: str, inputs: vla.Inputs) -> L1:
    """Returns a new network of a named size."""
    return L1(CONFIGS[size], inputs)


def from_dict(config: dict[str, Any]) -> L1:
    """Returns the network of a stored config."""
    return L1(L1Sizes(**config["sizes"]), vla.Inputs.from_dict(config["inputs"]))


policy = partial(vla.Actor, "l1")  # of `policies.POLICIES`
