"""GR00T N1.6's method at the size of DreamZero nano: a language-image encoder, a norm, and a diffusion transformer.

The head is the released one (`groot_head`): blocks that read text tokens, image tokens, and their own in turn, weight
banks by embodiment, 4 steps. Here the encoder is `base.Stem` and a few layers trained with the rest: there is no
pre-trained one at this size. The scene token counts as image. Demonstrations are the Panda's, so there is one bank.

N1.6 gives actions relative to the state at the start of the chunk. The actions of this benchmark are displacements of
the hand from where it is when they are carried out, and the gripper's command is absolute in N1.6 too, so they stay as
they are. Their running sum is no displacement from the start, since the arm covers a quarter of what is asked in a
step, and taking it apart again would put the error of a whole chunk on the four steps that are carried out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from wambench.interface import fields_of_json
from wambench.policies.actions import real_time_chunking as rtc
from wambench.policies.networks.noise import normal
from wambench.policies.perception.encoder import STATE_FEATURES
from wambench.policies.vla import base as vla
from wambench.policies.vla import groot_head
from wambench.policies.vla.groot_head import GrootContext, GrootHead, GrootHeadConfig
from wambench.policies.vla.token_encoder import TokenEncoder

STATE_LIMIT = 5.0  # as for DreamZero nano


@dataclass(frozen=True)
class GrootSizes:
    """Sizes of encoder and head.

    Attributes:
        read: (width, hidden width, layers, heads) of the encoder.
        act: (width, layers, heads) of the transformer, layers a multiple of 4: text, self, image, self.
        out: Width behind the transformer.
        hidden: Of the stem's perceptron.
    """

    read: tuple[int, int, int, int]
    act: tuple[int, int, int]
    out: int
    hidden: int


CONFIGS = {
    "nano": GrootSizes((160, 480, 3, 5), (128, 8, 4), 128, 512),
    "tiny": GrootSizes((24, 48, 1, 2), (24, 4, 2), 16, 32),
}


class Groot(vla.Network):
    """GR00T N1.6 on what DreamZero nano sees."""

    steps = 4

    def __init__(self, sizes: GrootSizes, inputs: vla.Inputs) -> None:
        super().__init__(inputs, "quantile")
        self.sizes = sizes
        width, layers, heads = sizes.act
        self.stem = vla.Stem(inputs, sizes.read[0], sizes.hidden)
        self.reader = TokenEncoder(*sizes.read)
        self.head = GrootHead(
            GrootHeadConfig(
                width, layers, heads, sizes.out, sizes.read[0], STATE_FEATURES, inputs.action_dim, inputs.horizon,
                positions=inputs.horizon,
            )
        )  # fmt: skip

    def context(self, seen: vla.EncodedObservation) -> GrootContext:
        """Returns what the head reads."""
        tokens, valid = self.stem(seen)
        image = torch.zeros_like(valid)
        image[:, : -seen.mask.shape[1]] = True
        return GrootContext(self.reader(tokens, valid), valid, image)

    def _state(self, seen: vla.EncodedObservation) -> Tensor:
        return self.state(seen.state).clamp(-STATE_LIMIT, STATE_LIMIT)[:, None]

    def loss(self, seen: vla.EncodedObservation, actions: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """See `base.Network.loss`."""
        clean = self.action(actions)
        noise = normal(clean.shape, generator, clean.device)
        time = groot_head.draw_times(len(clean), generator).to(clean.device)
        memory = self.head.read(self.context(seen))
        noisy = groot_head.add_noise(clean, noise, time)
        velocity = self.head(memory, self._state(seen), noisy, groot_head.buckets(time))
        return (groot_head.loss(velocity, clean, noise, torch.ones_like(clean)),)

    def sample(
        self, seen: vla.EncodedObservation, noise: Tensor, steps: int, guidance: rtc.Guidance | None = None
    ) -> Tensor:
        """See `base.Network.sample`."""
        context = self.context(seen)
        state = self._state(seen)
        return self.action.undo(groot_head.sample(self.head, context, state, noise, steps, guidance=guidance))

    def to_dict(self) -> dict[str, Any]:
        """See `base.Network.to_dict`."""
        return {"sizes": asdict(self.sizes), "inputs": asdict(self.inputs)}


def build(size: str, inputs: vla.Inputs) -> Groot:
    """Returns a new network of a named size."""
    return Groot(CONFIGS[size], inputs)


def from_dict(config: dict[str, Any]) -> Groot:
    """Returns the network of a stored config."""
    return Groot(GrootSizes(**fields_of_json(config["sizes"])), vla.Inputs.from_dict(config["inputs"]))


policy = partial(vla.FlowActor, "groot")  # of `policies.POLICIES`
