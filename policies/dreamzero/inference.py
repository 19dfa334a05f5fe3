"""The inference loop around the transformer: reset, observation injection, guidance, counters, denoising.

One cache life is M chunks. A call brings the real frames of the chunk just executed; their last K latents enter the
cache by a clean pass (generated latents never do), then the next chunk's video and actions are denoised together. After
M calls the released loop starts anew from the newest frame. `ChunkGenerator` does this over latents; the encoders are
callables. It plays official checkpoints, and `wambench bench policy` measures it at every size.

It is apart from `sampling`, which plays the small models, because the release has one conversation with counters, while
the small models' policy branches: it keeps memories as values (with and without the instruction, and copies that are
imagined ahead), clamps actions as well as video, and may have two networks. Both denoise with `solvers.sample`.

Frames are raw frames in whatever form the encoders take, (B, T, ...): a latent frame stands for 4 raw ones, the first
for one alone (4n + 1 raw frames are n + 1 latents).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wambench.interface import unknown_name
from wambench.policies.actions.real_time_chunking import Guidance, correction
from wambench.policies.dreamzero import solvers
from wambench.policies.dreamzero.dit import DiT, Frames, Prediction, to_velocity
from wambench.policies.dreamzero.kv_cache import Context, KVCache
from wambench.policies.dreamzero.solvers import SamplerConfig

RAW_PER_LATENT = 4
ON_FULL = ("reset", "slide")


@dataclass(frozen=True)
class GenerationConfig:
    """Switches of the loop.

    Attributes:
        sampler: Steps, solver, velocity caching.
        guidance: Scale of v = v_neg + g (v_pos - v_neg), on the video only; 1 leaves the negative prompt out.
        batched: Both prompts in one pass of twice the batch; False makes two passes with two caches.
        on_full: After M chunks, "reset" to the newest frame (released) or "slide": encode and cache the last
            `keep_chunks` chunks of real frames again, with their first frame as frame 0.
        keep_chunks: Chunks that survive sliding (1 .. M - 1).
        reset_to_newest: Start from the newest frame, whatever the number of frames. False is the released rule: the
            newest if 4 or 9 frames came, else the first.
        test_time_video: False leaves the video at pure noise and denoises the actions alone.
    """

    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    guidance: float = 5.0
    batched: bool = True
    on_full: str = "reset"
    keep_chunks: int = 3
    reset_to_newest: bool = False
    test_time_video: bool = True

    def __post_init__(self) -> None:
        if self.on_full not in ON_FULL:
            raise unknown_name("way to go on with a full cache", self.on_full, ON_FULL)
        if self.keep_chunks < 1:
            raise ValueError(f"sliding keeps at least 1 chunk, got {self.keep_chunks}")


@dataclass(frozen=True)
class Prompt:
    """An encoded prompt: (1, L, text_dim) embedding and (1, L) bool mask of its words, or None to mask nothing."""

    embedding: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class FirstFrame:
    """What a first frame gives beyond its latent: CLIP tokens (B, 257, image_dim) and condition y of a whole window."""

    image: Tensor | None = None
    y: Tensor | None = None


@dataclass(frozen=True)
class Encoders:
    """The frozen parts around the transformer.

    Attributes:
        video: (B, 4n + 1, ...) raw frames -> n + 1 latent frames.
        text: Prompt -> embedding.
        first: (B, 1, ...) raw first frame -> image tokens and condition, for models that have them.
    """

    video: Callable[[Tensor], Frames]
    text: Callable[[Hashable], Prompt]
    first: Callable[[Tensor], FirstFrame] = lambda frame: FirstFrame()


@dataclass(frozen=True)
class ChunkNoise:
    """Where sampling starts: K latent frames (and vectors), and (B, H, A) actions (None without actions)."""

    video: Frames
    action: Tensor | None


@dataclass(frozen=True)
class GeneratedChunk:
    """A generated chunk.

    Attributes:
        video: K clean latent frames (of the whole window for a bidirectional model).
        action: (B, H, A) clean actions in the model's units, or None.
        start: Index of the first frame within the cache life.
        evaluations: Velocity evaluations that were spent.
    """

    video: Frames
    action: Tensor | None
    start: int
    evaluations: int


@dataclass(frozen=True)
class _Branch:
    """A cache and the prompt it was made under."""

    context: Context
    cache: KVCache


def _repeat(x: Tensor, times: int) -> Tensor:
    return x if times == 1 else x.repeat(times, *[1] * (x.dim() - 1))


def _repeat_frames(frames: Frames, times: int) -> Frames:
    vectors = None if frames.vectors is None else _repeat(frames.vectors, times)
    return Frames(_repeat(frames.latents, times), vectors)


def spread(frames: Tensor, k: int) -> Tensor:
    """Returns the 4K + 1 frames that are encoded for a chunk, by the released rule for T received frames.

    4K + 1 are used as they are; 4K get their first frame in front; 4 are each repeated K times and the first is put in
    front. Fewer than 4 raise ValueError.
    """
    count = frames.shape[1]
    if count < RAW_PER_LATENT:
        raise ValueError(f"a chunk needs at least {RAW_PER_LATENT} frames, got {count}; 1 frame starts anew")
    if (count - 1) // RAW_PER_LATENT == k:
        return frames
    frames = frames.repeat_interleave(max(k // (count // RAW_PER_LATENT), 1), dim=1)
    return torch.cat([frames[:, :1], frames], dim=1)


class ChunkGenerator:
    """Keeps the cache of one conversation (B of them in step) and answers every call with a chunk.

    `act` is the released call. Its parts can be used alone: `prepare` (reset or inject), any number of `generate`s from
    the same state (own chunk, clamped video, video alone), `finish` (count the chunk as executed).
    """

    def __init__(
        self, model: DiT, encoders: Encoders, config: GenerationConfig | None = None, negative: Hashable = ""
    ) -> None:
        self.model = model
        self.encoders = encoders
        self.negative = negative
        self.config = GenerationConfig() if config is None else config
        c = model.config
        if self.config.on_full == "slide" and self.config.keep_chunks >= c.max_chunks:
            raise ValueError(f"a cache of {c.max_chunks} chunks can keep at most {c.max_chunks - 1} when it slides")
        self.guided = self.config.guidance != 1.0 and self.config.test_time_video
        self.forget()

    def forget(self) -> None:
        """Ends the conversation: the next call starts anew."""
        self.prompts: tuple[Hashable, ...] | None = None
        self.branches: list[_Branch] = []
        self.first = FirstFrame()
        self.counter = 0
        self.start = 0
        self.last: Frames | None = None  # the newest real latent frame
        self.raw: Tensor | None = None  # real frames of this cache life, for sliding

    @property
    def cached_tokens(self) -> int:
        """Tokens in the cache."""
        return self.branches[0].cache.length if self.branches else 0

    # ---------------------------------------------------------------- observation

    def prepare(self, frames: Tensor, prompts: Sequence[Hashable]) -> bool:
        """Takes in the newest real frames; True if that meant to start anew.

        Args:
            frames: (B, T, ...) raw frames since the last call, in time order; the last is now.
            prompts: One per sample.
        """
        c = self.model.config
        prompts = tuple(prompts)
        if self.prompts != prompts or frames.shape[1] == 1 or c.bidirectional:
            self._begin(self._reset_frame(frames), prompts)
            return True
        if self.counter >= c.window:
            if self.config.on_full == "reset":
                self._begin(self._reset_frame(frames), prompts)
                return True
            self._slide(spread(frames, c.frames_per_chunk), prompts)
            return False
        self._inject(spread(frames, c.frames_per_chunk))
        return False

    def restart(self, frames: Tensor, prompts: Sequence[Hashable]) -> None:
        """Starts anew from 4Kj + 1 real frames: the first alone, then j chunks, all by clean passes."""
        c = self.model.config
        stride = RAW_PER_LATENT * c.frames_per_chunk
        chunks, odd = divmod(frames.shape[1] - 1, stride)
        if odd or chunks >= c.max_chunks:
            raise ValueError(f"{frames.shape[1]} frames are not 1 + {stride} j with j < {c.max_chunks}")
        self._begin(frames[:, :1], tuple(prompts))
        for i in range(chunks):
            self.counter = self.start + c.frames_per_chunk
            # the chunk's frames are encoded with all that went before them, as in training
            self._inject(frames[:, : (i + 1) * stride + 1], keep=frames[:, i * stride : (i + 1) * stride + 1])

    def _reset_frame(self, frames: Tensor) -> Tensor:
        newest = self.config.reset_to_newest or frames.shape[1] in (4, 9)
        return frames[:, -1:] if newest else frames[:, :1]

    @torch.no_grad()
    def _begin(self, frame: Tensor, prompts: tuple[Hashable, ...]) -> None:
        self.prompts = prompts
        self.first = self.encoders.first(frame)
        self.raw = frame
        self.branches = self._branches(prompts)
        self.last = self.encoders.video(frame)
        self.counter = self.start = self.last.count
        if not self.model.config.bidirectional:
            self._observe(self.last, 0)

    @torch.no_grad()
    def _inject(self, frames: Tensor, keep: Tensor | None = None) -> None:
        k = self.model.config.frames_per_chunk
        if self.counter != self.start + k:
            raise ValueError("frames of a chunk that was not counted as executed: call finish after generate")
        latents = self.encoders.video(frames)
        self.start = self.counter
        new = latents.part(latents.count - k, latents.count)
        self._observe(new, self.counter - k)
        self.last = new.part(k - 1, k)
        assert self.raw is not None
        self.raw = torch.cat([self.raw, (frames if keep is None else keep)[:, 1:]], dim=1)

    def _slide(self, frames: Tensor, prompts: tuple[Hashable, ...]) -> None:
        assert self.raw is not None
        raw = torch.cat([self.raw, frames[:, 1:]], dim=1)
        count = 1 + RAW_PER_LATENT * self.model.config.frames_per_chunk * self.config.keep_chunks
        self.restart(raw[:, -count:], prompts)

    def _branches(self, prompts: tuple[Hashable, ...]) -> list[_Branch]:
        positive = [self.encoders.text(prompt) for prompt in prompts]
        negative = [self.encoders.text(self.negative)] * len(prompts) if self.guided else []
        groups = [positive + negative] if self.config.batched else [group for group in (positive, negative) if group]
        return [self._branch(group) for group in groups]

    def _branch(self, prompts: list[Prompt]) -> _Branch:
        text = torch.cat([prompt.embedding for prompt in prompts])
        masks = [prompt.mask for prompt in prompts]
        mask = torch.cat([m for m in masks if m is not None]) if masks[0] is not None else None
        image = self.first.image
        if image is not None:
            image = _repeat(image, len(prompts) // image.shape[0])
        context = self.model.encode_context(text, mask, image)
        if self.branches and self.branches[0].cache.buffer.shape[2] == len(prompts):
            cache = self.branches.pop(0).cache  # static buffers: recorded graphs stay valid
            cache.reset()
        else:
            cache = KVCache(self.model.config, len(prompts), self.model.device, self.model.dtype)
        return _Branch(context, cache)

    def _y(self, start: int, stop: int, times: int) -> Tensor | None:
        return None if self.first.y is None else _repeat(self.first.y[:, :, start:stop], times)

    def _observe(self, frames: Frames, start: int) -> None:
        for branch in self.branches:
            times = branch.cache.buffer.shape[2] // frames.latents.shape[0]
            y = self._y(start, start + frames.count, times)
            self.model.observe(branch.cache, _repeat_frames(frames, times), start, branch.context, y)

    # ---------------------------------------------------------------- generation

    def _predict(
        self, branch: _Branch, frames: Frames, timestep: Tensor, action: Tensor | None, timestep_action: Tensor,
        state: Tensor | None,
    ) -> Prediction:  # fmt: skip
        times = branch.context.text[0][0].shape[0] // frames.latents.shape[0]
        start = self.start
        model = self.model
        actions: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None)
        if action is not None and state is not None:
            actions = (_repeat(action, times), _repeat(timestep_action, times), _repeat(state, times))
        noisy = _repeat_frames(frames, times)
        levels = _repeat(timestep, times)
        if model.config.bidirectional:
            assert self.last is not None
            y = self._y(0, start + frames.count, times)
            return model(_repeat_frames(self.last, times), noisy, levels, branch.context, *actions, y)
        y = self._y(start, start + frames.count, times)
        return model.denoise(branch.cache, noisy, levels, start, branch.context, *actions, y)

    def _velocity(
        self, packing: _Packing, x: Tensor, action: Tensor | None, t: tuple[int, int], sigma: tuple[float, float],
        state: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Returns packed video velocity after guidance and action velocity at timesteps and levels (video, action)."""
        frames = packing.unpack(x)
        b = x.shape[0]
        timestep = torch.full((b, frames.count), t[0], dtype=torch.long, device=x.device)
        timestep_action = torch.full((b, packing.chunks), t[1], dtype=torch.long, device=x.device)
        outs = [self._predict(branch, frames, timestep, action, timestep_action, state) for branch in self.branches]
        kind = self.model.config.prediction
        video = torch.cat([packing.pack(out.video) for out in outs]).float()
        times = video.shape[0] // b
        v = to_velocity(_repeat(x, times), video, max(sigma[0], 1e-3), _repeat(packing.base, times), kind)
        if times > 1:
            positive, negative = v.chunk(2)
            v = negative + self.config.guidance * (positive - negative)
        if action is None:
            return v, None
        first = outs[0].action
        assert first is not None
        return v, to_velocity(action, first[:b].float(), sigma[1], None, kind)

    def _inpainted(
        self, packing: _Packing, x: Tensor, action: Tensor, t: tuple[int, int], sigma: tuple[float, float],
        state: Tensor | None, inpaint: Guidance,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Returns what `_velocity` does, that of the action corrected towards `inpaint` by a backward pass."""
        with torch.enable_grad():
            action = action.detach().requires_grad_(True)
            v, v_action = self._velocity(packing, x, action, t, sigma, state)
            assert v_action is not None
            guided = v_action.detach() - correction(action, action - sigma[1] * v_action, sigma[1], inpaint)
        return v.detach(), guided

    @torch.no_grad()
    def generate(
        self,
        state: Tensor | None,
        noise: ChunkNoise,
        clamp: Frames | None = None,
        move_action: bool = True,
        watch: Callable[[solvers.Step], None] | None = None,
        inpaint: Guidance | None = None,
    ) -> GeneratedChunk:
        """Returns the next chunk without counting it as executed; cache and counters stay as they are.

        Args:
            state: (B, S, state_dim) current state, or None without actions.
            noise: Starting point; its shapes are the answer's shapes.
            clamp: Clean frames whose actions are wanted (timestep 0, the video is not denoised): `extract`.
            move_action: False leaves the actions at pure noise: `imagine`.
            watch: Called after every step.
            inpaint: Actions that the chunk should agree with (real-time chunking).
        """
        if not self.branches:
            raise ValueError("nothing was observed yet: call prepare first")
        c = self.model.config
        device = self.model.device
        start = noise.video if clamp is None else clamp
        packing = _Packing.of(start, self.last, c.frames_per_chunk)
        x = packing.pack(start).float().to(device)
        levels = solvers.levels_of(self.config.sampler)
        move_video = clamp is None and self.config.test_time_video
        count = 0
        if state is not None:
            state = state.to(device).repeat(1, packing.chunks, 1)

        def velocity(i: int, video: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
            nonlocal count
            count += 1
            at = i if move_video else 0
            t = (0 if clamp is not None else levels[0].timesteps[at], levels[1].timesteps[i if move_action else 0])
            sigma = (0.0 if clamp is not None else levels[0].sigmas[at], levels[1].sigmas[i])
            if inpaint is not None:
                return self._inpainted(packing, video, action, t, sigma, state, inpaint)
            v, v_action = self._velocity(packing, video, None if state is None else action, t, sigma, state)
            return v, torch.zeros_like(action) if v_action is None else v_action

        action = torch.zeros(x.shape[0], 0, device=device) if noise.action is None else noise.action.float().to(device)
        x, action = solvers.sample(
            velocity, x, action, self.config.sampler, move_video, move_action and state is not None, watch
        )  # fmt: skip
        return GeneratedChunk(packing.unpack(x), None if noise.action is None else action, self.start, count)

    def finish(self) -> None:
        """Counts the generated chunk as executed: the next call brings its real frames."""
        self.counter = self.start + self.model.config.frames_per_chunk

    def act(
        self, frames: Tensor, state: Tensor | None, prompts: Sequence[Hashable], noise: ChunkNoise
    ) -> GeneratedChunk:
        """Returns the chunk for newest frames and state: `prepare`, `generate`, `finish`."""
        self.prepare(frames, prompts)
        generated = self.generate(state, noise)
        self.finish()
        return generated


@dataclass(frozen=True)
class _Packing:
    """How latents and vectors of frames lie in one (B, n) tensor, and the base of clean predictions, packed alike."""

    latents: torch.Size
    vectors: torch.Size | None
    base: Tensor
    chunks: int

    @staticmethod
    def of(frames: Frames, last: Frames | None, per_chunk: int) -> _Packing:
        assert last is not None
        count = frames.count
        latents = last.latents.float().repeat(1, 1, count, 1, 1)
        vectors = None if last.vectors is None else last.vectors.float().repeat(1, count, 1)
        base = _Packing.pack(Frames(latents, vectors))
        size = None if frames.vectors is None else frames.vectors.shape[1:]
        return _Packing(frames.latents.shape[1:], size, base, max(count // per_chunk, 1))

    @staticmethod
    def pack(frames: Frames) -> Tensor:
        flat = frames.latents.flatten(1)
        return flat if frames.vectors is None else torch.cat([flat, frames.vectors.flatten(1)], dim=1)

    def unpack(self, x: Tensor) -> Frames:
        n = self.latents.numel()
        vectors = None if self.vectors is None else x[:, n:].unflatten(1, self.vectors)
        return Frames(x[:, :n].unflatten(1, self.latents), vectors)
