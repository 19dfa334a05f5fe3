"""Generating a chunk with a small DreamZero: the memory of real frames, and denoising video and actions.

Letters: B batch, K frames and H actions of a chunk, Z y x a latent, n numbers of a vector token.

Imagined frames never enter the memory: what a chunk imagined is forgotten, what really happened is injected. The
released loop is `inference`, which says why it is apart; both denoise with `solvers.sample`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wambench.policies.actions.real_time_chunking import Guidance, correction
from wambench.policies.dreamzero.dit import Context, DiT, Frames
from wambench.policies.dreamzero.kv_cache import KVCache
from wambench.policies.dreamzero.nano import SmallDreamZero, SmallDreamZeroConfig
from wambench.policies.dreamzero.solvers import SamplerConfig, levels_of
from wambench.policies.dreamzero.solvers import sample as denoise
from wambench.policies.perception.scene import Words


@dataclass(frozen=True)
class SamplingNoise:
    """Where sampling starts: video (B, K, Z, y, x), vectors (B, K, n) and action (B, H, A), standard normal."""

    video: Tensor
    vectors: Tensor
    action: Tensor

    def to(self, device: torch.device | str) -> SamplingNoise:
        """Returns the same on another device."""
        return SamplingNoise(self.video.to(device), self.vectors.to(device), self.action.to(device))


def draw_noise(config: SmallDreamZeroConfig, generators: Sequence[torch.Generator]) -> SamplingNoise:
    """Returns one sample's noise per generator, so that a batch gives the same answers as single calls."""
    d = config.dit
    k = d.frames_per_chunk
    shapes = ((k, *d.latent_shape), (k, d.frame_vector), (d.actions_per_chunk, d.action_dim))
    drawn = [[torch.randn(shape, generator=g) for shape in shapes] for g in generators]
    return SamplingNoise(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))


@dataclass(frozen=True)
class Branch:
    """One network's cache of real frames under one instruction."""

    network: DiT
    context: Context
    cache: KVCache


@dataclass(frozen=True)
class GenerationMemory:
    """Real frames under one instruction, and the last of them, which predictions are relative to.

    Attributes:
        video: The network that denoises the video (and, but for the ablation "separate", the actions).
        action: The network that denoises the actions.
        base: (B, 1) frame: the newest real one.
        start: Frame index of the next frame.
    """

    video: Branch
    action: Branch
    base: Frames
    start: int

    @staticmethod
    def joined(rows: Sequence[GenerationMemory]) -> GenerationMemory:
        """Returns a copy of the memories of several episodes as one batch; all have the same number of frames."""

        def branch(name: str) -> Branch:
            parts: list[Branch] = [getattr(row, name) for row in rows]
            context, cache = Context.joined([p.context for p in parts]), KVCache.joined([p.cache for p in parts])
            return Branch(parts[0].network, context, cache)

        video = branch("video")
        action = video if rows[0].action is rows[0].video else branch("action")
        vectors = [row.base.vectors for row in rows if row.base.vectors is not None]
        base = Frames(torch.cat([row.base.latents for row in rows]), torch.cat(vectors) if vectors else None)
        return GenerationMemory(video, action, base, rows[0].start)


@torch.no_grad()
def remember(
    model: SmallDreamZero, frames: Frames, words: Words, memory: GenerationMemory | None = None
) -> GenerationMemory:
    """Returns the memory after a clean pass over real frames: frame 0, or the K frames of the chunk just played."""
    if memory is None:
        networks = [model.dit, model.inverse] if model.config.ablation == "separate" else [model.dit]
        branches = []
        for network in networks:
            context = network.encode_context(words.vectors, words.mask)
            cache = KVCache(network.config, len(frames.latents), network.device, network.dtype)
            branches.append(Branch(network, context, cache))
        memory = GenerationMemory(branches[0], branches[-1], frames, 0)
    if model.config.ablation != "bidirectional":  # a fixed window has no cache: it reads the newest frame every time
        for branch in {id(b): b for b in (memory.video, memory.action)}.values():
            base = memory.base.part(0, 1) if branch.network.config.based else None
            branch.network.observe(branch.cache, frames, memory.start, branch.context, base=base)
    return replace(memory, base=frames.part(frames.count - 1, frames.count), start=memory.start + frames.count)


# What a small model needs: it predicts clean values, so few plain steps do.
FEW_STEPS = SamplerConfig(steps=4, solver="euler", shift=1.0, caching="none")


@dataclass(frozen=True)
class Sampling:
    """How a chunk is denoised.

    Attributes:
        solver: Steps, solver, shift, velocity caching, and where the video's schedule ends (`solvers.SamplerConfig`).
        guidance: Weight of the instruction on the video (not on the actions): 1 is the plain conditional model.
        video: Denoise the video; False leaves it at pure noise (or at what it is clamped to).
        action: Denoise the actions; False leaves them at pure noise.
        inpaint: Actions that the chunk should agree with (real-time chunking).
        prefix: (d, A) clean actions that it begins with: for a model trained with such prefixes.
    """

    solver: SamplerConfig = FEW_STEPS
    guidance: float = 1.0
    video: bool = True
    action: bool = True
    inpaint: Guidance | None = None
    prefix: Tensor | None = None


def _evaluate(
    model: SmallDreamZero,
    memory: GenerationMemory,
    video: Frames,
    action: Tensor,
    levels: tuple[float, float],
    state: Tensor,
    held: int = 0,
) -> tuple[Frames, Tensor]:
    """Returns the predicted clean video and actions at noise levels (sigma_video, sigma_action).

    The first `held` actions are clean.
    """
    batch = len(action)
    device = action.device
    time_v = torch.full((batch, video.count), 1000.0 * levels[0], device=device)
    time_a = torch.full((batch, action.shape[1] if held else 1), 1000.0 * levels[1], device=device)
    time_a[:, :held] = 0.0
    told = memory.base if model.config.dit.based else None
    if model.config.ablation == "bidirectional":
        context = memory.video.context
        out = model.dit(memory.base, video, time_v, context, action, time_a, state)
        seen = out.video
        acted = out.action
    elif model.config.ablation == "separate":
        branch = memory.action
        start = memory.start
        seen = model.dit.denoise(memory.video.cache, video, time_v, start, memory.video.context, base=told).video
        acted = model.inverse.denoise(
            branch.cache, video, time_v, start, branch.context, action, time_a, state, base=told
        ).action
    else:
        branch = memory.video
        out = model.dit.denoise(
            branch.cache, video, time_v, memory.start, branch.context, action, time_a, state, base=told
        )
        seen = out.video
        acted = out.action
    assert acted is not None and seen.vectors is not None and memory.base.vectors is not None
    base = memory.base
    return Frames(seen.latents.float() + base.latents, seen.vectors.float() + base.vectors), acted.float()


@torch.no_grad()
def sample(
    model: SmallDreamZero,
    memory: GenerationMemory,
    state: Tensor,
    noise: SamplingNoise,
    how: Sampling,
    clamp: Frames | None = None,
    unguided: tuple[GenerationMemory, Tensor] | None = None,
    given: Tensor | None = None,
) -> tuple[Frames, Tensor]:
    """Returns the chunk's K frames and standardised actions (B, H, A).

    Args:
        model: The network.
        memory: Real frames; not changed.
        state: (B, 1, state_dim) state vector now.
        noise: Starting point.
        how: Steps, and what moves.
        clamp: K real or imagined frames that the actions are denoised for; the video then stays as it is.
        unguided: Memory and state vector with the instruction hidden, for guidance other than 1.
        given: (B, H, A) clean actions that the video is denoised for; they stay as they are.
    """
    if how.guidance != 1.0 and unguided is None:
        raise ValueError("guidance needs the memory with the instruction hidden")
    start = Frames(noise.video.transpose(1, 2), noise.vectors) if clamp is None else clamp
    moves = how.video and clamp is None
    acts = how.action and given is None
    held = 0 if how.prefix is None or not acts else len(how.prefix)
    levels_v, levels_a = levels_of(how.solver)

    def velocity(i: int, video: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        sigma_v, sigma_a = levels_v.sigmas[i], levels_a.sigmas[i]
        level_a = 0.0 if given is not None else sigma_a if acts else 1.0
        levels = 0.0 if clamp is not None else sigma_v if moves else 1.0, level_a
        frames = _unpack(video, start)
        inpaint = how.inpaint if acts else None
        with torch.set_grad_enabled(inpaint is not None):
            action = action.detach().requires_grad_(inpaint is not None)
            clean, acted = _evaluate(model, memory, frames, action, levels, state, held)
        wanted = _pack(clean).detach()
        if moves and how.guidance != 1.0 and unguided is not None:
            other = _pack(_evaluate(model, unguided[0], frames, action, levels, unguided[1], held)[0])
            wanted = other + how.guidance * (wanted - other)
        velocity_a = ((action - acted) / sigma_a).detach()
        velocity_a[:, :held] = 0.0
        if inpaint is not None:
            velocity_a = velocity_a - correction(action, acted, sigma_a, inpaint)
        return (video - wanted) / sigma_v, velocity_a

    first = noise.action.clone() if given is None else given
    if held and how.prefix is not None:
        first[:, :held] = how.prefix
    video, action = denoise(velocity, _pack(start), first, how.solver, moves, acts)
    return (_unpack(video, start) if moves else start), action


def _pack(frames: Frames) -> Tensor:
    """Returns (B, numbers) latents and vectors as one sample, which the solver moves together."""
    assert frames.vectors is not None
    return torch.cat([frames.latents.flatten(1), frames.vectors.flatten(1)], dim=1)


def _unpack(sample: Tensor, like: Frames) -> Frames:
    assert like.vectors is not None
    size = like.latents[0].numel()
    return Frames(sample[:, :size].reshape(like.latents.shape), sample[:, size:].reshape(like.vectors.shape))
