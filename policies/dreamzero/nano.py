"""The small DreamZero: what stands in for VAE, umT5 and CLIP, and the objective it is trained with.

The transformer is `dit.DiT`, unchanged; this file says what its tokens hold on a laptop.

Letters: B batch, M chunks, F = 1 + 2 M frames, Z y x a latent, C key points, L words, H actions of a chunk.

Design decisions:
- A frame is a latent of the frozen encoder and, in its vector token, the key points read from it, the hand's included.
  So the imagined future says where the hand will be, for video of any arm, and an action is what brings it there.
- The state token holds the robot's state, the key points, where the first and the last named thing are, and the mean
  word: a multilayer perceptron finds positions far sooner than attention over patches does.
- The network predicts clean values (frames relative to the last real one); unweighted mean squared errors.
- Every chunk draws its noise levels by itself (`flow_matching.draw_sigmas`), so that one network is joint model, video
  model, policy without video, and inverse dynamics. Sequences with a hidden instruction teach a future's actions by
  the future alone (there the actions that were executed, noise included), and give the unconditional branch of
  guidance.
- Demonstrations show training rooms only. Their latents borrow channel statistics from other sequences of the batch
  (adaptive instance normalisation, Huang & Belongie 2017), which looks like another room to the transformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from wambench.interface import unknown
from wambench.policies.dreamzero.dit import CONFIGS, DiT, DiTConfig, Frames, chunk_bases
from wambench.policies.networks import flow_matching
from wambench.policies.perception import word_embedding
from wambench.policies.perception.encoder import HAND, POINT_UNIT_M, STATE_FEATURES

SLOTS = 2  # named things whose positions the state token holds: the first and the last one of the instruction
POINT_WIDTH = 7

# What is left out or changed, with everything else equal. (No video at test time needs no training: `mode="no_video"`.)
ABLATIONS = {
    "none": "joint video and actions, autoregressive over chunks",
    "no_video_loss": "video tokens are there, but nothing asks them to predict",
    "separate": "a video model and an inverse dynamics model, two networks of half the depth (the paper's Eq. 1)",
    "bidirectional": "a fixed window of one chunk in which all tokens see each other, no cache",
    "no_key_points": "the positions that the encoder was taught to read are hidden; latents, words and robot remain",
}


@dataclass(frozen=True)
class NanoConfig:
    """A small DreamZero.

    Attributes:
        dit: The transformer.
        points: Key points, in the encoder's order.
        ablation: A name of `ABLATIONS`.
    """

    dit: DiTConfig
    points: tuple[str, ...]
    ablation: str = "none"

    @property
    def stride(self) -> int:
        """Control steps between two latent frames."""
        return self.dit.actions_per_chunk // self.dit.frames_per_chunk

    @property
    def chunk_steps(self) -> int:
        """Control steps of a chunk."""
        return self.dit.actions_per_chunk

    @staticmethod
    def from_dict(values: dict[str, Any]) -> NanoConfig:
        """Returns the config that `to_dict` and JSON turned into a dict."""
        dit: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["dit"].items()}
        return NanoConfig(DiTConfig(**dit), tuple(values["points"]), values["ablation"])

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return asdict(self)


def scene_width(points: int) -> int:
    """Returns the length of what a state vector tells of the scene: key points, named things, mean word."""
    return POINT_WIDTH * (points + SLOTS) + word_embedding.WIDTH


def state_width(points: int) -> int:
    """Returns the length of a state vector: state and whether it is known, and the scene."""
    return STATE_FEATURES + 1 + scene_width(points)


def config_for(
    name: str,
    points: tuple[str, ...],
    latent: tuple[int, int, int],
    ablation: str = "none",
    frames_per_chunk: int = 2,
    actions_per_chunk: int = 16,
) -> NanoConfig:
    """Returns a named config for an encoder's points and latent; what does not exist or fit raises ValueError."""
    if ablation not in ABLATIONS:
        raise unknown("ablation", ablation, ABLATIONS)
    if frames_per_chunk < 1 or actions_per_chunk < 1 or actions_per_chunk % (2 * frames_per_chunk):
        raise ValueError(
            f"frames must be an even number of control steps apart, not {actions_per_chunk} / {frames_per_chunk}"
        )
    if name not in CONFIGS or CONFIGS[name].prediction != "clean":
        raise ValueError(f"no small model {name!r}; there are nano, mini and tiny")
    base = CONFIGS[name]
    rows, columns = latent[1] // base.patch[0], latent[2] // base.patch[1]
    dit = replace(
        base,
        latent_channels=latent[0],
        grid=(rows, columns),
        text_dim=word_embedding.WIDTH,
        state_dim=state_width(len(points)),
        frame_vector=4 * len(points),
        action_dim=7,
        frames_per_chunk=frames_per_chunk,
        actions_per_chunk=actions_per_chunk,
        bidirectional=ablation == "bidirectional",
    )
    if dit.latent_shape != latent:
        raise ValueError(f"patch {base.patch} does not divide the latent {latent[1]}x{latent[2]}")
    return NanoConfig(dit, points, ablation)


@dataclass(frozen=True)
class Words:
    """Instructions as tensors.

    Attributes:
        vectors: (B, L, E), zero where the mask is False.
        mask: (B, L) bool; an all-hidden instruction keeps its first (zero) word, or attention would have no key.
        slots: (B, SLOTS, C) which key point the first and the last named thing are; rows add to at most 1.
    """

    vectors: Tensor
    mask: Tensor
    slots: Tensor

    def at(self, index: Tensor) -> Words:
        """Returns some rows."""
        return Words(self.vectors[index], self.mask[index], self.slots[index])

    def hidden(self, rows: Tensor) -> Words:
        """Returns the same with the instructions of some rows (B,) bool hidden."""
        first = torch.zeros_like(self.mask)
        first[:, 0] = True
        seen = ~rows[:, None, None]
        return Words(self.vectors * seen, torch.where(rows[:, None], first, self.mask), self.slots * seen)

    def to(self, device: torch.device | str) -> Words:
        """Returns the same on another device."""
        return Words(self.vectors.to(device), self.mask.to(device), self.slots.to(device))


def encode_words(sentences: Sequence[str], points: Sequence[str]) -> Words:
    """Returns instructions padded to `word_embedding.MAX_WORDS`."""
    vectors = torch.zeros(len(sentences), word_embedding.MAX_WORDS, word_embedding.WIDTH)
    mask = torch.zeros(len(sentences), word_embedding.MAX_WORDS, dtype=torch.bool)
    slots = torch.zeros(len(sentences), SLOTS, len(points))
    for i, sentence in enumerate(sentences):
        found = torch.from_numpy(word_embedding.embed(sentence))
        vectors[i, : len(found)], mask[i, : len(found)] = found, True
        match = torch.from_numpy(word_embedding.match(sentence, points))
        named = torch.nonzero(match.sum(dim=1) > 0.5).flatten()
        if len(named):
            slots[i, 0], slots[i, -1] = match[named[0]], match[named[-1]]
    return Words(vectors, mask, slots)


@dataclass(frozen=True)
class Scene:
    """What is known at the start of each chunk, and the real frames of a sequence.

    Attributes:
        latents: (B, F, Z, y, x) standardised latents.
        points: (B, F, C, 4) world xyz in m and presence in [0, 1].
        state: (B, M, S) state features at the start of every chunk.
        known: (B, M, 1) 1 where the state is known, 0 in video of another arm.
        at_chunk: (B, M, C, 4) the key points that the state token tells (the same frames', or disturbed).
    """

    latents: Tensor
    points: Tensor
    state: Tensor
    known: Tensor
    at_chunk: Tensor


def scene_features(scene: Scene, words: Words, points_mean: Tensor) -> Tensor:
    """Returns (B, M, `scene_width`): the key points as the chunks begin, the named things, and the mean word.

    A key point is its place, its place seen from the hand, and 1; all zero if it is absent.
    """
    chunks = scene.state.shape[1]
    xyz, presence = scene.at_chunk[..., :3], scene.at_chunk[..., 3:]
    absolute = (xyz - points_mean) / POINT_UNIT_M
    relative = (xyz - scene.state[:, :, None, :3]) / POINT_UNIT_M * scene.known[:, :, None]
    cells = torch.cat([absolute, relative, torch.ones_like(presence)], dim=-1) * presence  # (B, M, C, 7)
    named = torch.einsum("bsc,bmcf->bmsf", words.slots, cells)
    mean = words.vectors.sum(dim=1) / words.mask.sum(dim=1, keepdim=True).sqrt()
    return torch.cat([cells.flatten(2), named.flatten(2), mean[:, None].expand(-1, chunks, -1)], dim=-1)


class Nano(nn.Module):
    """The transformer with the scales of its inputs."""

    state_mean: Tensor
    state_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    points_mean: Tensor

    def __init__(self, config: NanoConfig) -> None:
        super().__init__()
        self.config = config
        self.reads = float(config.ablation != "no_key_points")
        if config.ablation == "separate":
            half = replace(config.dit, layers=config.dit.layers // 2)
            self.dit, self.inverse = DiT(replace(half, action_dim=0)), DiT(half)
        else:
            self.dit = DiT(config.dit)
        for name, size in [("state", STATE_FEATURES), ("action", config.dit.action_dim)]:
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.register_buffer("points_mean", torch.zeros(3))

    def vectors(self, points: Tensor) -> Tensor:
        """Returns (..., 4 C) vector tokens of (..., C, 4) key points; an absent thing has no place."""
        presence = points[..., 3:] * self.reads
        xyz = (points[..., :3] - self.points_mean) / POINT_UNIT_M * presence
        return torch.cat([xyz, 2.0 * presence - 1.0], dim=-1).flatten(-2)

    def points(self, vectors: Tensor) -> Tensor:
        """Returns (..., C, 4) the key points of vector tokens; the place of an absent thing means nothing."""
        cells = vectors.unflatten(-1, (-1, 4))
        presence = (0.5 * cells[..., 3:] + 0.5).clamp(0.0, 1.0)
        xyz = cells[..., :3] / presence.clamp_min(0.25) * POINT_UNIT_M + self.points_mean
        return torch.cat([xyz, presence], dim=-1)

    def frames(self, latents: Tensor, points: Tensor) -> Frames:
        """Returns the transformer's frames of (B, F, Z, y, x) latents and (B, F, C, 4) key points."""
        return Frames(latents.transpose(1, 2), self.vectors(points))

    def states(self, scene: Scene, words: Words) -> Tensor:
        """Returns the (B, M, state_dim) state vectors of the chunks."""
        standard = ((scene.state - self.state_mean) / self.state_std).clamp(-5.0, 5.0)
        own = torch.cat([standard, torch.ones_like(scene.known)], dim=-1) * scene.known
        told = torch.cat([scene.at_chunk[..., :3], scene.at_chunk[..., 3:] * self.reads], dim=-1)
        return torch.cat([own, scene_features(replace(scene, at_chunk=told), words, self.points_mean)], dim=-1)


@dataclass(frozen=True)
class Batch:
    """Training sequences.

    Attributes:
        scene: Frames and states.
        words: Instructions.
        actions: (B, M, H, A) standardised actions: what the expert would do.
        executed: (B, M, H, A) what was done, with the noise of the demonstration: what the video shows.
        has_actions: (B, M) 1 where the actions count.
        counts: (B, M) 1 where the chunk begins before the end of its episode.
    """

    scene: Scene
    words: Words
    actions: Tensor
    executed: Tensor
    has_actions: Tensor
    counts: Tensor


@dataclass(frozen=True)
class Disturbance:
    """How training differs from what was recorded.

    Attributes:
        levels: Law of the noise levels: "mixed" (`flow_matching.draw_sigmas`), "coupled" (video and actions share one,
            as the paper pre-trains) or "flash" (video mostly noise, actions independent: the last stage
            for 1-step sampling).
        hide_words: Share of sequences without instruction.
        inverse: Of those, the share whose videos are clean in every chunk (inverse dynamics).
        style: Share of sequences with borrowed channel statistics.
        blank: Share of sequences whose latents are blank, so that key points must do.
        point_m: Noise on the key points of things: one draw per sequence, for all its frames, and for the state token
            another per chunk.
        doubt: Share of sequences whose draw is `doubt_m` instead: rooms in which perception is worse.
        doubt_m: See `doubt`.
        state_m: Noise on the position of the hand.
        hide_point: Probability that a key point is hidden from the state token.
        prefix: Most actions at the start of a chunk that are given as they were carried out (`give_prefix`).
    """

    levels: str = "mixed"
    hide_words: float = 0.3
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


def disturb(batch: Batch, how: Disturbance, names: Sequence[str], generator: torch.Generator) -> Batch:
    """Returns the batch under random noise, hidden things and other rooms; `names` are those of the key points."""
    scene, b = batch.scene, len(batch.actions)
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
    points, told, state = scene.points.clone(), scene.at_chunk.clone(), scene.state.clone()
    points[..., :3] += offset
    told[..., :3] += offset + how.point_m * normal(told[..., :3].shape) * ~hand
    told[..., 3] *= ~chance(how.hide_point, b, 1, len(names))
    state[..., :3] += how.state_m * normal(state[..., :3].shape)
    return replace(batch, scene=replace(scene, latents=latents, points=points, state=state, at_chunk=told))


def draw_levels(batch: Batch, how: Disturbance, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns sigma of video and actions, (B, M) each, and (B,) whose words are hidden, who does inverse dynamics."""
    b, m = batch.counts.shape
    device = batch.counts.device
    video, action = (s.view(b, m) for s in flow_matching.LEVELS[how.levels](b * m, generator))
    hidden = torch.rand(b, generator=generator) < how.hide_words
    inverse = hidden & (torch.rand(b, generator=generator) < how.inverse)
    video = torch.where(inverse[:, None], torch.zeros_like(video), video)
    video, action, hidden, inverse = (value.to(device) for value in (video, action, hidden, inverse))
    no_actions = batch.has_actions.amax(dim=1, keepdim=True) == 0
    # video without actions teaches the video model alone: its actions stay at pure noise, its frames never clean
    action = torch.where(no_actions, torch.ones_like(action), action)
    video = torch.where(no_actions & (video == 0), torch.ones_like(video), video)
    return video, action, hidden, inverse


def give_prefix(batch: Batch, most: int, generator: torch.Generator) -> Tensor:
    """Returns (B, M, H) bool, which actions of each chunk are given: the first d, d uniform in 0 .. `most`.

    Training-time real-time chunking (arXiv 2512.05964): a chunk learns to go on from actions that will have been
    carried out. They are given with the noise of the demonstration (`Batch.executed`), and what follows is what the
    expert does then: a prefix is something that happened, to be made up for, not a hint at what the expert will do.
    """
    b, m, h, _ = batch.actions.shape
    count = torch.randint(most + 1, (b, m, 1), generator=generator).to(batch.actions.device)
    return (torch.arange(h, device=count.device) < count) & (batch.has_actions > 0)[..., None]


def loss(model: Nano, batch: Batch, how: Disturbance, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (video, key point, action) mean squared errors of the clean predictions at random noise levels."""
    batch = disturb(batch, how, model.config.points, generator)
    sigma_v, sigma_a, hidden, inverse = draw_levels(batch, how, generator)
    # a video shows what was done; what the expert would have done is what a policy should learn
    actions = torch.where(inverse[:, None, None, None], batch.executed, batch.actions)
    words = batch.words.hidden(hidden)
    dit, k = model.config.dit, model.config.dit.frames_per_chunk
    clean = model.frames(batch.scene.latents, batch.scene.points)
    target = clean.part(1, clean.count)
    b, m, h, a = actions.shape
    noise = [
        torch.randn(shape, generator=generator).to(target.latents.device)
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
        free, sigma_a = (~given).float(), (sigma_a[..., None] * ~given).flatten(1)
    levels = level * 1000.0, sigma_a * 1000.0
    video, acted = _predict(model, clean, noisy, target, levels, action.flatten(1, 2), batch, words)
    base = chunk_bases(dit, clean)
    counts = batch.counts.repeat_interleave(k, dim=1)
    assert video.vectors is not None and base.vectors is not None and target.vectors is not None
    picture = (video.latents.float() + base.latents - target.latents).square().mean(dim=(1, 3, 4))
    vector = (video.vectors.float() + base.vectors - target.vectors).square().mean(dim=2)
    error = (acted.float().view(b, m, h, a) - actions).square().mean(dim=3)
    error = (error * free).sum(dim=2) / free.sum(dim=2)
    has = batch.has_actions * batch.counts
    total, moved = counts.sum().clamp_min(1.0), has.sum().clamp_min(1.0)
    shown = 0.0 if model.config.ablation == "no_video_loss" else 1.0
    return (
        shown * (picture * counts).sum() / total,
        shown * (vector * counts).sum() / total,
        (error * has).sum() / moved,
    )


def _predict(
    model: Nano,
    clean: Frames,
    noisy: Frames,
    target: Frames,
    levels: tuple[Tensor, Tensor],
    action: Tensor,
    batch: Batch,
    words: Words,
) -> tuple[Frames, Tensor]:
    """Returns the heads' video and actions of a training pass: one network, or two that do not know of each other."""
    state = model.states(batch.scene, words)
    context = model.dit.encode_context(words.vectors, words.mask)
    seen = clean.part(0, 1) if model.config.ablation == "bidirectional" else clean
    if model.config.ablation != "separate":
        out = model.dit(seen, noisy, levels[0], context, action, levels[1], state)
        assert out.action is not None
        return out.video, out.action
    video = model.dit(seen, noisy, levels[0], context).video
    context = model.inverse.encode_context(words.vectors, words.mask)
    out = model.inverse(seen, target, torch.zeros_like(levels[0]), context, action, levels[1], state)
    assert out.action is not None
    return video, out.action
