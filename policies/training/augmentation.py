"""Augmentation of training sequences: other styles, hidden words and key points, noise on what is read.

Letters: B batch, M chunks, F = 1 + 2 M frames, Z y x a latent, C key points, L words, H actions of a chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wambench.policies.perception.encoder import HAND
from wambench.policies.perception.scene import SceneFeatures, Words


@dataclass(frozen=True)
class TrainingBatch:
    """Training sequences.

    Attributes:
        scene: Frames and states.
        words: Instructions.
        actions: (B, M, H, A) standardised actions: what the expert would do.
        executed: (B, M, H, A) what was done, with the noise of the demonstration: what the video shows.
        has_actions: (B, M) 1 where the actions count.
        counts: (B, M) 1 where the chunk begins before the end of its episode.
        foreseen: (B, M) 1 where the chunk was carried out as the expert wanted, so that its frames can be foreseen.
            Where it was not, nothing is asked of the video, and it stays noise unless actions are to be told from it.
    """

    scene: SceneFeatures
    words: Words
    actions: Tensor
    executed: Tensor
    has_actions: Tensor
    counts: Tensor
    foreseen: Tensor


@dataclass(frozen=True)
class Augmentation:
    """How training differs from what was recorded.

    Attributes:
        levels: Law of the noise levels: "mixed" (`flow_matching.draw_sigmas`), "coupled" (video and actions share one,
            as the paper pre-trains) or "flash" (video mostly noise, actions independent: the last stage
            for 1-step sampling).
        hide_words: Share of sequences without instruction.
        inverse: Of those, the share whose videos are clean in every chunk (inverse dynamics).
        style: Share of sequences with borrowed channel statistics.
        blank: Share of sequences whose latents are blank, so that key points must do.
        point_m: Noise on the key points of objects: one draw per sequence, for all its frames, and for the state token
            another per chunk.
        doubt: Share of sequences whose draw is `doubt_m` instead: environments in which perception is worse.
        doubt_m: See `doubt`.
        state_m: Noise on the position of the hand.
        hide_point: Probability that a key point is hidden from the state token.
        prefix: Most actions at the start of a chunk that are given as they were carried out (`give_prefix`).
    """

    levels: str = "mixed"
    hide_words: float = 0.1
    inverse: float = 0.7
    style: float = 0.5
    blank: float = 0.1
    point_m: float = 0.003
    doubt: float = 0.3
    doubt_m: float = 0.012
    state_m: float = 0.002
    hide_point: float = 0.08
    prefix: int = 0


def borrow_style(latents: Tensor, lender: Tensor, share: Tensor) -> Tensor:
    """Returns (B, F, Z, y, x) latents whose channel means and deviations, by view, move towards another sequence's.

    Args:
        latents: The sequences.
        lender: (B,) index of the sequence each borrows from.
        share: (B,) how far, 0 leaves them as they are.
    """
    b, f, z, y, x = latents.shape
    views = latents.view(b, f, z, y, 2, x // 2)
    mean, std = views.mean(dim=(1, 3, 5), keepdim=True), views.std(dim=(1, 3, 5), keepdim=True) + 1e-3
    s = share.view(b, 1, 1, 1, 1, 1)
    new_mean, new_std = mean + s * (mean[lender] - mean), std + s * (std[lender] - std)
    return ((views - mean) / std * new_std + new_mean).view(latents.shape)


def augment(batch: TrainingBatch, how: Augmentation, names: Sequence[str], generator: torch.Generator) -> TrainingBatch:
    """Returns the batch with noise, hidden objects and borrowed styles; `names` are those of the key points."""
    scene = batch.scene
    b = len(batch.actions)
    device = scene.latents.device

    def chance(share: float, *shape: int) -> Tensor:
        return (torch.rand(*shape, generator=generator) < share).to(device)

    def normal(shape: Sequence[int]) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    share = torch.rand(b, generator=generator).to(device) * chance(how.style, b)
    lender = torch.randperm(b, generator=generator).to(device)
    latents = borrow_style(scene.latents, lender, share) * ~chance(how.blank, b)[:, None, None, None, None]
    hand = torch.tensor([name in HAND for name in names], device=device)[:, None]  # known from the state
    spread = how.point_m + (how.doubt_m - how.point_m) * chance(how.doubt, b)[:, None, None, None]
    offset = spread * normal((b, 1, len(names), 3)) * ~hand
    points = scene.points.clone()
    told = scene.at_chunk.clone()
    state = scene.state.clone()
    points[..., :3] += offset
    told[..., :3] += offset + how.point_m * normal(told[..., :3].shape) * ~hand
    told[..., 3] *= ~chance(how.hide_point, b, 1, len(names))
    state[..., :3] += how.state_m * normal(state[..., :3].shape)
    return replace(batch, scene=replace(scene, latents=latents, points=points, state=state, at_chunk=told))
