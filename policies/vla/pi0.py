"""pi0 (Black et al. 2024): a vision-language prefix, a state token, and flow matching of a chunk by an action expert.

Blocks: prefix | state | actions. Time is fused into each action token by a perceptron. Here the prefix is `base.Stem`
(there is no pre-trained language model at this size), everything behind it is the method.
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
from wambench.policies.perception.encoder import STATE_FEATURES
from wambench.policies.vla import base as vla
from wambench.policies.vla.action_expert import Sizes, Suffix, TwoExperts, draw_times, time_features

STATE_LIMIT = 5.0  # standard deviations, as for DreamZero nano
STEM_HIDDEN = {"nano": 512, "tiny": 32}
CONFIGS = {
    "nano": Sizes(prefix=(160, 480), action=(128, 448), depth=6, heads=4, kv_heads=1, head_dim=32),
    "tiny": Sizes(prefix=(32, 64), action=(24, 48), depth=2, heads=2, kv_heads=1, head_dim=12),
}


class Pi0Core(TwoExperts):
    """The experts with pi0's suffix: one token for the state, one per action with the time in it."""

    def __init__(self, sizes: Sizes, action_dim: int, state_dim: int) -> None:
        super().__init__(sizes, action_dim, adaptive=False)
        width = sizes.action[0]
        self.state_proj = nn.Linear(state_dim, width)
        self.action_time_mlp_in = nn.Linear(2 * width, width)
        self.action_time_mlp_out = nn.Linear(width, width)

    def suffix(self, x: Tensor, t: Tensor, state: Tensor | None) -> Suffix:
        """See `TwoExperts.suffix`; the state is normalised."""
        assert state is not None
        dtype = self.state_proj.weight.dtype
        actions = self.action_in_proj(x.to(dtype))
        time = time_features(t, actions.shape[2]).to(dtype)[:, None].expand_as(actions)
        fused = functional.silu(self.action_time_mlp_in(torch.cat([actions, time], dim=2)))
        tokens = torch.cat([self.state_proj(state.to(dtype))[:, None], self.action_time_mlp_out(fused)], dim=1)
        starts = torch.zeros(tokens.shape[1], device=x.device)
        starts[:2] = 1
        return Suffix(tokens, starts, None)


class Pi0(vla.Network):
    """pi0 on what DreamZero nano sees."""

    def __init__(self, sizes: Sizes, inputs: vla.Inputs, hidden: int) -> None:
        super().__init__(inputs, "zscore")
        self.hidden = hidden
        self.stem = vla.Stem(inputs, sizes.prefix[0], hidden)
        self.core = Pi0Core(sizes, inputs.action_dim, STATE_FEATURES)

    def _state(self, seen: vla.EncodedObservation) -> Tensor:
        return self.state(seen.state).clamp(-STATE_LIMIT, STATE_LIMIT)

    def loss(self, seen: vla.EncodedObservation, actions: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """See `base.Network.loss`."""
        clean = self.action(actions)
        noise = normal(clean.shape, generator, clean.device)
        t = draw_times(len(clean), generator).to(clean.device)
        memory, _ = self.core.read(*self.stem(seen))
        return (self.core.flow_loss(memory, clean, noise, t, self._state(seen)).mean(),)

    def sample(
        self, seen: vla.EncodedObservation, noise: Tensor, steps: int, guidance: rtc.Guidance | None = None
    ) -> Tensor:
        """See `base.Network.sample`."""
        memory, _ = self.core.read(*self.stem(seen))
        return self.action.undo(self.core.sample(memory, noise, steps, self._state(seen), guidance))

    def to_dict(self) -> dict[str, Any]:
        """See `base.Network.to_dict`."""
        return {"sizes": asdict(self.core.sizes), "inputs": asdict(self.inputs), "hidden": self.hidden}


def build(size: str, inputs: vla.Inputs) -> Pi0:
    """Returns a new network of a named size."""
    return Pi0(CONFIGS[size], inputs, STEM_HIDDEN[size])


def from_dict(config: dict[str, Any]) -> Pi0:
    """Returns the network of a stored config."""
    return Pi0(Sizes.from_dict(config["sizes"]), vla.Inputs.from_dict(config["inputs"]), config["hidden"])


policy = partial(vla.FlowActor, "pi0")  # of `policies.POLICIES`
