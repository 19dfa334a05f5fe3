"""The released training objective: noise levels, noising, losses.

Reference implementation, checked against the release by `make parity`; no command uses it. The small models that
`wambench train` makes learn from `training.nano_loss` instead, because they predict clean values from augmented input.

The release's table has 1000 ids: u = 1 - id / 1000, sigma = s u / (1 + (s - 1) u) with shift s = 5, timestep
1000 sigma, x = (1 - sigma) clean + sigma noise, and a bell-shaped loss weight. The paper draws sigma uniformly and
states no weight.
Video and action losses are added 1:1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from wambench.interface import unknown_name
from wambench.policies.dreamzero.dit import DiT, Frames, chunk_bases
from wambench.policies.dreamzero.kv_cache import Context

IDS = 1000
MODES = ("coupled", "flash", "high_noise")
TABLES = ("code", "paper")


@dataclass(frozen=True)
class ObjectiveConfig:
    """How noise levels are drawn and losses added.

    Attributes:
        table: "code" (shift 5, bell weights) or "paper" (uniform sigma, equal weights).
        mode: "coupled" (a chunk's video and actions share one level), "flash" (video mostly noise, actions uniform and
            independent) or "high_noise" (mostly noise, coupled).
        beta_alpha: a of the noise ratio's Beta(a, 1) in the last two modes: 3 in the code, 7 in the paper.
        action_per_token: In "flash", a level for every action (code) instead of one per chunk (paper).
        whole_window: All chunks share one level, as a bidirectional window has at inference.
        clean_video, noise_video, noise_action: Shares of chunks whose video is clean (inverse dynamics), whose video is
            pure noise (acting without video), whose actions are pure noise (imagining alone); 0 as released.
        video_weight: Weight of the video's loss; 0 trains without video loss.
        vector_weight: Weight of the vector tokens' part of it.
        action_weight: Weight of the action loss.
    """

    table: str = "code"
    mode: str = "coupled"
    beta_alpha: float = 3.0
    action_per_token: bool = True
    whole_window: bool = False
    clean_video: float = 0.0
    noise_video: float = 0.0
    noise_action: float = 0.0
    video_weight: float = 1.0
    vector_weight: float = 1.0
    action_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            raise unknown_name("training table", self.table, TABLES)
        if self.mode not in MODES:
            raise unknown_name("training mode", self.mode, MODES)
        if min(self.clean_video, self.noise_video, self.noise_action) < 0 or self.clean_video + self.noise_video > 1:
            raise ValueError("clean_video and noise_video are shares of the chunks and add up to at most 1")


# ------------------------------------------------------------------------------------------------- levels


@dataclass(frozen=True)
class NoiseTable:
    """(1000,) noise level, timestep in [0, 1000] and loss weight by id."""

    sigma: Tensor
    timestep: Tensor
    weight: Tensor


@cache
def table(kind: str = "code", shift: float = 5.0) -> NoiseTable:
    """Returns the release's table ("code") or the paper's ("paper")."""
    u = torch.linspace(1.0, 0.0, IDS + 1)[:-1]
    if kind == "paper":
        return NoiseTable(u, 1000.0 * u, torch.ones(IDS))
    sigma = shift * u / (1.0 + (shift - 1.0) * u)
    bell = torch.exp(-2.0 * ((1000.0 * sigma - 500.0) / 1000.0) ** 2)
    bell = bell - bell.min()
    return NoiseTable(sigma, 1000.0 * sigma, bell * (IDS / bell.sum()))


def share_ids(frame_id: Tensor, k: int) -> Tensor:
    """Returns (B, F) ids in which the frames of a chunk share its first frame's id; frame 0 keeps its own."""
    return torch.cat([frame_id[:, :1], frame_id[:, 1::k].repeat_interleave(k, dim=1)], dim=1)


def chunk_ids(frame_id: Tensor, k: int) -> Tensor:
    """Returns the (B, M) ids of the chunks."""
    return frame_id[:, 1::k]


def ratio_to_id(ratio: Tensor) -> Tensor:
    """Returns the ids of noise ratios in [0, 1]: 1 is pure noise, id 0."""
    return ((1.0 - ratio) * IDS).floor().long().clamp(0, IDS - 1)


@dataclass(frozen=True)
class Levels:
    """Noise level, timestep and loss weight of every frame, (B, F), and action, (B, M H) or per chunk (B, M)."""

    sigma: Tensor
    timestep: Tensor
    weight: Tensor
    sigma_action: Tensor
    timestep_action: Tensor
    weight_action: Tensor


def levels_from_ids(kind: str, frame_id: Tensor, action_id: Tensor) -> Levels:
    """Returns the levels of ids in a table."""
    t = table(kind)
    return Levels(
        t.sigma[frame_id], t.timestep[frame_id], t.weight[frame_id],
        t.sigma[action_id], t.timestep[action_id], t.weight[action_id],
    )  # fmt: skip


def draw(config: ObjectiveConfig, batch: int, chunks: int, k: int, h: int, generator: torch.Generator) -> Levels:
    """Returns random levels of a training sequence with frame 0 and `chunks` chunks of k frames and h actions."""
    frames = 1 + chunks * k
    if config.mode == "coupled":
        raw = torch.randint(0, IDS, (batch, frames), generator=generator)
    else:  # the inverse distribution function of Beta(a, 1)
        raw = ratio_to_id(torch.rand(batch, frames, generator=generator) ** (1.0 / config.beta_alpha))
    frame_id = share_ids(raw, frames - 1 if config.whole_window else k)
    if config.mode == "flash":
        count = chunks * h if config.action_per_token else chunks
        action_id = torch.randint(0, IDS, (batch, count), generator=generator)
    else:
        action_id = chunk_ids(frame_id, k)
    levels = levels_from_ids(config.table, frame_id, action_id)
    if config.clean_video or config.noise_video or config.noise_action:
        levels = _special(config, levels, chunks, k, generator)
    return levels


def _special(config: ObjectiveConfig, levels: Levels, chunks: int, k: int, generator: torch.Generator) -> Levels:
    """Returns levels with some chunks' video clean or pure noise, and some other chunks' actions pure noise."""
    kind, alone = torch.rand(2, levels.sigma.shape[0], chunks, generator=generator)
    clean = kind < config.clean_video
    noise = (kind >= config.clean_video) & (kind < config.clean_video + config.noise_video)
    alone = (alone < config.noise_action) & ~clean & ~noise
    first = torch.zeros_like(clean[:, :1])
    clean, noise = (torch.cat([first, x.repeat_interleave(k, dim=1)], dim=1) for x in (clean, noise))
    alone = alone.repeat_interleave(levels.sigma_action.shape[1] // chunks, dim=1)
    sigma = levels.sigma.masked_fill(clean, 0.0).masked_fill(noise, 1.0)
    sigma_action = levels.sigma_action.masked_fill(alone, 1.0)
    return Levels(
        sigma, torch.where(clean | noise, 1000.0 * sigma, levels.timestep),
        levels.weight.masked_fill(clean | noise, 0.0),
        sigma_action, torch.where(alone, 1000.0 * sigma_action, levels.timestep_action),
        levels.weight_action.masked_fill(alone, 0.0),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- noising and losses


def add_noise(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Returns (1 - sigma) clean + sigma noise; sigma (B, N) belongs to the first two dimensions."""
    s = sigma.reshape(*sigma.shape, *[1] * (clean.dim() - 2))
    return (1.0 - s) * clean + s * noise


def video_loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Returns the (B,) weighted squared errors of (B, F, ...): means over a frame's numbers, then over frames."""
    return ((prediction - target).square().flatten(2).mean(2) * weight).mean(1)


def action_loss(
    prediction: Tensor, target: Tensor, weight: Tensor, mask: Tensor | None, has_real_action: Tensor | None
) -> Tensor:
    """Returns the (B,) weighted squared errors of (B, N, A); padded dimensions count in the mean, as released.

    Args:
        prediction, target: (B, N, A).
        weight: (B, N).
        mask: (B, N, A), 1 for real dimensions; None: all are.
        has_real_action: (B,), 0 for samples without actions (video only); None: all have them.
    """
    error = (prediction - target).square()
    if mask is not None:
        error = error * mask
    each = (error.mean(2) * weight).mean(1)
    return each if has_real_action is None else each * has_real_action


@dataclass(frozen=True)
class ObjectiveBatch:
    """Training sequences.

    Attributes:
        clean: The 1 + M K real frames.
        action: (B, M H, A) in [-1, 1], or any standardised scale.
        state: (B, M S, state_dim).
        y: Condition, where the model has one.
        action_mask: (B, M H, A), 1 for real dimensions, or None.
        has_real_action: (B,), 0 for video-only samples, or None. Their action and state slots stay in the sequence.
    """

    clean: Frames
    action: Tensor
    state: Tensor
    y: Tensor | None = None
    action_mask: Tensor | None = None
    has_real_action: Tensor | None = None


@dataclass(frozen=True)
class ObjectiveNoise:
    """Standard normal noise of a training batch: frames like `ObjectiveBatch.clean`, and actions."""

    video: Frames
    action: Tensor


def draw_noise(batch: ObjectiveBatch, generator: torch.Generator) -> ObjectiveNoise:
    """Returns noise for every frame and action of a batch."""

    def like(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x.device)

    vectors = batch.clean.vectors
    return ObjectiveNoise(
        Frames(like(batch.clean.latents), None if vectors is None else like(vectors)), like(batch.action)
    )


@dataclass(frozen=True)
class Losses:
    """Unweighted-by-modality means over the batch: video patches, vector tokens, actions; and the weighted total."""

    video: Tensor
    vector: Tensor
    action: Tensor
    total: Tensor


def losses(
    model: DiT, batch: ObjectiveBatch, context: Context, levels: Levels, noise: ObjectiveNoise, config: ObjectiveConfig
) -> Losses:
    """Returns the losses of one training pass.

    The loss is on the velocity, or on the clean value for a model that predicts it (`DiTConfig.prediction`).
    """
    c = model.config
    h = c.actions_per_chunk
    sigma_action = levels.sigma_action
    weight_action = levels.weight_action
    if sigma_action.shape[1] != batch.action.shape[1]:
        sigma_action, weight_action = (x.repeat_interleave(h, dim=1) for x in (sigma_action, weight_action))
    state = batch.state
    if c.bidirectional:  # every token reads the states: only the first one is known when the window begins
        state = state[:, : c.states_per_chunk].repeat(1, state.shape[1] // c.states_per_chunk, 1)
    clean = batch.clean
    x = _add_noise_to_frames(batch.clean, noise.video, levels.sigma)
    action = add_noise(batch.action, noise.action, sigma_action)
    first = 0 if c.noisy_first_frame else 1
    out = model(
        clean if not c.bidirectional else clean.part(0, 1), x.part(first, x.count), levels.timestep[:, first:], context,
        action, levels.timestep_action, state, batch.y,
    )  # fmt: skip
    assert out.action is not None
    weight = levels.weight[:, first:]
    targets = _targets(model, clean, noise, batch.action, first)
    video = video_loss(out.video.latents.transpose(1, 2), targets[0].transpose(1, 2), weight).mean()
    vector = torch.zeros_like(video)
    if out.video.vectors is not None and targets[1] is not None:
        vector = video_loss(out.video.vectors, targets[1], weight).mean()
    loss = action_loss(out.action, targets[2], weight_action, batch.action_mask, batch.has_real_action).mean()
    total = config.video_weight * (video + config.vector_weight * vector) + config.action_weight * loss
    return Losses(video, vector, loss, total)


def _add_noise_to_frames(clean: Frames, noise: Frames, sigma: Tensor) -> Frames:
    latents = add_noise(clean.latents.transpose(1, 2), noise.latents.transpose(1, 2), sigma).transpose(1, 2)
    vectors = None
    if clean.vectors is not None and noise.vectors is not None:
        vectors = add_noise(clean.vectors, noise.vectors, sigma)
    return Frames(latents, vectors)


def _targets(
    model: DiT, clean: Frames, noise: ObjectiveNoise, action: Tensor, first: int
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Returns what the heads should say about latents, vectors and actions."""
    later = clean.part(first, clean.count)
    noisy = noise.video.part(first, clean.count)
    if model.config.prediction == "velocity":
        vectors = None
        if noisy.vectors is not None and later.vectors is not None:
            vectors = noisy.vectors - later.vectors
        return noisy.latents - later.latents, vectors, noise.action - action
    base = chunk_bases(model.config, clean)
    vectors = None
    if later.vectors is not None and base.vectors is not None:
        vectors = later.vectors - base.vectors
    return later.latents - base.latents, vectors, action
