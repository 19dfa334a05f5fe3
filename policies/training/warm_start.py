"""A network that starts from one whose inputs were narrower: fewer key points, or no base frame at the input.

What a wider input adds begins at zero, so the first step of the new training computes what the old network computed.
The rows of the output that place new key points begin as in a new network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wambench.policies.dreamzero.nano import SmallDreamZero, SmallDreamZeroConfig
from wambench.policies.perception.encoder import STATE_FEATURES
from wambench.policies.perception.renderer import POINT_INPUTS, Renderer, RendererConfig
from wambench.policies.perception.scene import POINT_WIDTH

# the end of a tensor's name -> the axis that grows, and where the old entries go
Places = dict[str, tuple[int, list[int]]]
OUTPUTS = ("head.vector.weight", "head.vector.bias")


def widened_dreamzero(
    tensors: dict[str, Tensor], before: SmallDreamZeroConfig, model: SmallDreamZero
) -> dict[str, Tensor]:
    """Returns the tensors of a trained model in the shapes of another one that knows more key points or is `based`.

    Args:
        tensors: Weights of the trained model.
        before: Its config; key points that `model` does not have raise ValueError.
        model: The new model, whose own initial values new outputs keep.
    """
    after = model.config
    new = _new_places(before.points, after.points)
    vectors = _cells(new, 4)
    bases = [after.dit.frame_vector + place for place in vectors] if before.dit.based else []
    told = STATE_FEATURES + 1
    rest = before.dit.state_dim - told - POINT_WIDTH * len(before.points)
    places: Places = {
        "patch_embedding.weight": (1, list(range(before.dit.input_channels))),
        "vector_embedding.weight": (1, [*vectors, *bases]),
        "head.vector.weight": (0, vectors),
        "head.vector.bias": (0, vectors),
        "state_encoder.layer1.W": (
            1,
            [
                *range(told),
                *(told + cell for cell in _cells(new, POINT_WIDTH)),
                *(told + POINT_WIDTH * len(after.points) + k for k in range(rest)),
            ],
        ),
    }
    return _widened(tensors, model.state_dict(), places)


def widened_renderer(tensors: dict[str, Tensor], before: RendererConfig, model: Renderer) -> dict[str, Tensor]:
    """Returns the tensors of a trained renderer in the shapes of another one that knows more key points."""
    after = model.config.points
    views = [POINT_INPUTS * len(after) + k for k in range(before.views)]
    cells = _cells(_new_places(before.points, after), POINT_INPUTS)
    return _widened(tensors, model.state_dict(), {"told.0.weight": (1, [*cells, *views])})


def _new_places(before: Sequence[str], after: Sequence[str]) -> list[int]:
    lost = sorted(set(before) - set(after))
    if lost:
        raise ValueError(f"the weights to start from place {', '.join(lost)}, which the encoder does not read")
    return [after.index(name) for name in before]


def _cells(points: Sequence[int], width: int) -> list[int]:
    return [width * point + k for point in points for k in range(width)]


def _widened(tensors: dict[str, Tensor], own: dict[str, Tensor], places: Places) -> dict[str, Tensor]:
    out = dict(tensors)
    for name, values in tensors.items():
        ending = next((one for one in places if name.endswith(one)), None)
        if ending is None or name not in own or own[name].dim() != values.dim():
            continue
        axis, index = places[ending]
        wide = own[name].clone() if ending in OUTPUTS else torch.zeros_like(own[name])
        out[name] = wide.index_copy(axis, torch.tensor(index), values)
    return out
