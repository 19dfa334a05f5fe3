"""pi0.5 (Physical Intelligence 2025): the state is text, the time enters the action expert through its norms.

Each state number, normalised by quantiles, is one of 257 bins and one token of the prompt; there is no state token in
the suffix. Every norm of the action expert takes scale, shift and a gate of its residual from the time (adaRMS), all
zero at first, so that the expert starts as the identity. Here a bin is a row of the token table, not digits of text.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.policies.actions import real_time_chunking as rtc
from wambench.policies.networks.noise import normal
from wambench.policies.vla import base as vla
from wambench.policies.vla.action_expert import Sizes, Suffix, TwoExperts, draw_times, time_features

BINS = 256
STATE_TOKENS = BINS + 1  # and one for what lies below the first bin
STEM_HIDDEN = {"nano": 512, "tiny": 32}
CONFIGS = {
    "nano": Sizes((160, 480), (112, 304), depth=6, heads=4, kv_heads=1, head_dim=32, vocabulary=STATE_TOKENS),
    "tiny": Sizes((32, 64), (24, 48), depth=2, heads=2, kv_heads=1, head_dim=12, vocabulary=STATE_TOKENS),
}


def bins(x: Tensor) -> Tensor:
    """Returns the bin of each normalised number, int64: 256 equal ones on [-1, 1], 255 above, -1 below.

    As openpi's `digitize(x, linspace(-1, 1, 257)[:-1]) - 1`.
    """
    edges = torch.linspace(-1.0, 1.0, BINS + 1, dtype=torch.float64, device=x.device)[:-1]
    return torch.bucketize(x.double(), edges, right=True) - 1


class Pi05Core(TwoExperts):
    """The experts with pi0.5's suffix: one token per action, the time as the condition of the norms."""

    def __init__(self, sizes: Sizes, action_dim: int) -> None:
        super().__init__(sizes, action_dim, adaptive=True)
        width = sizes.action[0]
        self.time_mlp_in = nn.Linear(width, width)
        self.time_mlp_out = nn.Linear(width, width)

    def suffix(self, x: Tensor, t: Tensor, state: Tensor | None) -> Suffix:
        """See `TwoExperts.suffix`; the state is not used."""
        dtype = self.time_mlp_in.weight.dtype
        time = time_features(t, self.sizes.action[0]).to(dtype)
        condition = functional.silu(self.time_mlp_out(functional.silu(self.time_mlp_in(time))))
        starts = torch.zeros(x.shape[1], device=x.device)
        starts[0] = 1
        return Suffix(self.action_in_proj(x.to(dtype)), starts, condition)


class Pi05(vla.Network):
    """pi0.5 on what DreamZero nano sees."""

    def __init__(self, sizes: Sizes, inputs: vla.Inputs, hidden: int) -> None:
        super().__init__(inputs, "quantile")
        self.hidden = hidden
        self.stem = vla.Stem(inputs, sizes.prefix[0], hidden)
        self.core = Pi05Core(sizes, inputs.action_dim)

    def prefix(self, seen: vla.EncodedObservation) -> tuple[Tensor, Tensor]:
        """Returns the prefix (B, N, w) and (B, N) which of it is valid: image and scene, words, state."""
        tokens, valid = self.stem(seen)
        state = self.core.prefix.embed(bins(self.state(seen.state)) + 1)
        return torch.cat([tokens, state], dim=1), torch.cat([valid, seen.known[:, None].expand(state.shape[:2])], dim=1)

    def loss(self, seen: vla.EncodedObservation, actions: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """See `base.Network.loss`."""
        clean = self.action(actions)
        noise = normal(clean.shape, generator, clean.device)
        t = draw_times(len(clean), generator).to(clean.device)
        memory, _ = self.core.read(*self.prefix(seen))
        return (self.core.flow_loss(memory, clean, noise, t).mean(),)

    def sample(
        self, seen: vla.EncodedObservation, noise: Tensor, steps: int, guidance: rtc.Guidance | None = None
    ) -> Tensor:
        """See `base.Network.sample`."""
        memory, _ = self.core.read(*self.prefix(seen))
        return self.action.undo(self.core.sample(memory, noise, steps, guidance=guidance))

    def to_dict(self) -> dict[str, Any]:
        """See `base.Network.to_dict`."""
        return {"sizes": asdict(self.core.sizes), "inputs": asdict(self.inputs), "hidden": self.hidden}


def build(size: str, inputs: vla.Inputs) -> Pi05:
    """Returns a new network of a named size."""
    return Pi05(CONFIGS[size], inputs, STEM_HIDDEN[size])


def from_dict(config: dict[str, Any]) -> Pi05:
    """Returns the network of a stored config."""
    return Pi05(Sizes.from_dict(config["sizes"]), vla.Inputs.from_dict(config["inputs"]), config["hidden"])


policy = partial(vla.FlowActor, "pi05")  # of `policies.POLICIES`
