"""The objective that the small DreamZero is trained with: noise levels, given prefixes, and the loss.

It is apart from the released objective (`dreamzero.official.objective`) because the small models predict clean values,
draw levels from continuous laws (`networks.flow_matching`), and learn from augmented sequences.

Letters: B batch, M chunks, F = 1 + 2 M frames, Z y x a latent, C key points, L words, H actions of a chunk.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wambench.policies.dreamzero.dit import Frames, chunk_bases
from wambench.policies.dreamzero.nano import SmallDreamZero
from wambench.policies.networks import flow_matching
from wambench.policies.networks.noise import normal
from wambench.policies.perception.scene import Words
from wambench.policies.training.augmentation import Augmentation, TrainingBatch, augment


def draw_levels(
    batch: TrainingBatch, how: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns sigma of video and actions, (B, M) each, and (B,) whose words are hidden, who does inverse dynamics."""
    b, m = batch.counts.shape
    device = batch.counts.device
    video, action = (s.view(b, m) for s in flow_matching.LEVELS[how.levels](b * m, generator))
    video = torch.where(batch.foreseen.cpu() > 0, video, torch.ones_like(video))
    hidden = torch.rand(b, generator=generator) < how.hide_words
    inverse = hidden & (torch.rand(b, generator=generator) < how.inverse)
    video = torch.where(inverse[:, None], torch.zeros_like(video), video)
    video, action, hidden, inverse = (value.to(device) for value in (video, action, hidden, inverse))
    no_actions = batch.has_actions.amax(dim=1, keepdim=True) == 0
    # video without actions teaches the video model alone: its actions stay at pure noise, its frames never clean
    action = torch.where(no_actions, torch.ones_like(action), action)
    video = torch.where(no_actions & (video == 0), torch.ones_like(video), video)
    return video, action, hidden, inverse


def give_prefix(batch: TrainingBatch, most: int, generator: torch.Generator) -> Tensor:
    """Returns (B, M, H) bool, which actions of each chunk are given: the first d, d uniform in 0 .. `most`.

    Training-time real-time chunking (arXiv 2512.05964): a chunk learns to go on from actions that will have been
    carried out. They are given with the noise of the demonstration (`TrainingBatch.executed`), and what follows is
    what the expert does then: a prefix is something that happened, to be made up for, not a hint at what the expert
        will do.
    """
    b, m, h, _ = batch.actions.shape
    count = torch.randint(most + 1, (b, m, 1), generator=generator).to(batch.actions.device)
    return (torch.arange(h, device=count.device) < count) & (batch.has_actions > 0)[..., None]


def loss(
    model: SmallDreamZero, batch: TrainingBatch, how: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (video, key point, action) mean squared errors of the clean predictions at random noise levels."""
    batch = augment(batch, how, model.config.points, generator)
    sigma_v, sigma_a, hidden, inverse = draw_levels(batch, how, generator)
    # a video shows what was done; what the expert would have done is what a policy should learn
    actions = torch.where(inverse[:, None, None, None], batch.executed, batch.actions)
    words = batch.words.hide(hidden)
    dit = model.config.dit
    k = model.config.dit.frames_per_chunk
    clean = model.frames(batch.scene.latents, batch.scene.points)
    target = clean.part(1, clean.count)
    b, m, h, a = actions.shape
    noise = [
        normal(shape, generator, target.latents.device)
        for shape in (target.latents.shape, target.vectors.shape, (b, m, h, a))  # type: ignore[union-attr]
    ]
    level = sigma_v.repeat_interleave(k, dim=1)  # (B, M K)
    wide = level[:, None, :, None, None]
    noisy = Frames(
        target.latents + wide * (noise[0] - target.latents),
        target.vectors + level[..., None] * (noise[1] - target.vectors),  # type: ignore[operator]
    )
    action = actions + sigma_a[..., None, None] * (noise[2] - actions)
    free = torch.ones_like(actions[..., 0])
    if how.prefix:
        given = give_prefix(batch, how.prefix, generator)
        action = torch.where(given[..., None], batch.executed, action)
        free = (~given).float()
        sigma_a = (sigma_a[..., None] * ~given).flatten(1)
    levels = level * 1000.0, sigma_a * 1000.0
    video, acted = _predict(model, clean, noisy, target, levels, action.flatten(1, 2), batch, words)
    base = chunk_bases(dit, clean)
    counts = (batch.counts * batch.foreseen).repeat_interleave(k, dim=1)
    assert video.vectors is not None and base.vectors is not None and target.vectors is not None
    picture = (video.latents.float() + base.latents - target.latents).square().mean(dim=(1, 3, 4))
    vector = (video.vectors.float() + base.vectors - target.vectors).square().mean(dim=2)
    error = (acted.float().view(b, m, h, a) - actions).square().mean(dim=3)
    error = (error * free).sum(dim=2) / free.sum(dim=2)
    has = batch.has_actions * batch.counts
    total = counts.sum().clamp_min(1.0)
    moved = has.sum().clamp_min(1.0)
    shown = 0.0 if model.config.ablation == "no_video_loss" else 1.0
    return (
        shown * (picture * counts).sum() / total,
        shown * (vector * counts).sum() / total,
        (error * has).sum() / moved,
    )


def _predict(
    model: SmallDreamZero,
    clean: Frames,
    noisy: Frames,
    target: Frames,
    levels: tuple[Tensor, Tensor],
    action: Tensor,
    batch: TrainingBatch,
    words: Words,
) -> tuple[Frames, Tensor]:
    """Returns the heads' video and actions of a training pass: one network, or two that do not know of each other."""
    state = model.states(batch.scene, words)
    context = model.dit.encode_context(words.vectors, words.mask)
    # nothing reads the clean copies of the last chunk's frames
    last = 1 if model.config.ablation == "bidirectional" else clean.count - model.config.dit.frames_per_chunk
    seen = clean.part(0, last)
    if model.config.ablation != "separate":
        out = model.dit(seen, noisy, levels[0], context, action, levels[1], state)
        assert out.action is not None
        return out.video, out.action
    video = model.dit(seen, noisy, levels[0], context).video
    context = model.inverse.encode_context(words.vectors, words.mask)
    out = model.inverse(seen, target, torch.zeros_like(levels[0]), context, action, levels[1], state)
    assert out.action is not None
    return video, out.action
