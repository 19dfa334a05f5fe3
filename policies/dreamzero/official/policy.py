"""An official DreamZero checkpoint as a policy: frames and joint positions of a DROID robot in, chunks of actions out.

Each part has its own file: tensors (`checkpoint`), encoders (`encoders`), transformer (`dreamzero.dit`), what they make
together (`parts`), inference loop (`dreamzero.inference`), frame schedule (`frame_schedule`), data protocol (`droid`).
This file is the conversation with the environment.

Frames that leave or enter the policy are tiled camera views like those of any other policy (`interface.canvas`). The
model imagines another canvas: cropped views, the wrist above the exteriors. Imagined views are put back to where they
were cropped, so that a pixel of an imagined frame is the same pixel of a real one; the border the model never sees
repeats its edge. Noise is a function of (episode seed, env step). What leaves the policy is within the
robot's limits.

Letters: T frames, K latent frames a chunk, H actions a chunk, A action numbers, B batch.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from wambench.conventions import DROID
from wambench.interface import Observation, Plan, unknown_name
from wambench.policies import check_arguments
from wambench.policies.actions import real_time_chunking as rtc
from wambench.policies.actions import smoothing
from wambench.policies.dreamzero.dit import DiTConfig, Frames
from wambench.policies.dreamzero.inference import (
    RAW_PER_LATENT,
    ChunkGenerator,
    ChunkNoise,
    GeneratedChunk,
    GenerationConfig,
)
from wambench.policies.dreamzero.official import checkpoint, droid
from wambench.policies.dreamzero.official.checkpoint import (
    MODEL,
)
from wambench.policies.dreamzero.official.frame_schedule import FrameSchedule
from wambench.policies.dreamzero.official.parts import (
    EMBODIMENT,
    check_layout,
    encoders,
    fingerprint,
    load_parts,
    open_official,
    statistics,
    tokenizer_of,
    transformer_config,
    view_size,
)
from wambench.policies.dreamzero.solvers import SamplerConfig
from wambench.policies.networks.noise import generator_at

MODES = ("joint", "video_first", "no_video")
HISTORIES = ("cache", "sliding", "none")
SCHEDULES = {"exact": "8+1", "repeat4": "repeat4", "single": "single"}  # protocols of `frame_schedule`
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def is_official(weights: str) -> bool:
    """Returns whether `weights` names a checkpoint in the official layout: a folder with config.json, or a hub id."""
    path = Path(weights)
    if path.is_dir():
        return (path / "config.json").is_file()
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", weights) is not None and not weights.startswith(".")
    return hub and not path.exists() and path.suffix != ".safetensors"


def to_canvas(views: Sequence[np.ndarray], view: tuple[int, int]) -> Tensor:
    """Returns the model's (T, 2h, 2w, 3) uint8 canvases of (T, H, W, 3) uint8 views in the order of the cameras."""
    left, right, wrist = (torch.from_numpy(np.ascontiguousarray(one)) for one in views)
    return droid.canvas_droid(left, right, wrist, view)


def from_canvas(canvases: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Returns (T, H, 3 W, 3) uint8 tiled camera views of (T, 2h, 2w, 3) uint8 canvases.

    Args:
        canvases: As the model imagines them.
        size: (H, W) of a camera; its middle, `droid.CROP` of each side, is what a view shows.
    """
    height, width = canvases.shape[1] // 2, canvases.shape[2] // 2
    wrist = canvases[:, :height].float().unflatten(2, (width, 2)).mean(dim=3)
    views = (canvases[:, height:, :width].float(), canvases[:, height:, width:].float(), wrist)
    kept = int(droid.CROP * size[0]), int(droid.CROP * size[1])
    top, left = round((size[0] - kept[0]) / 2), round((size[1] - kept[1]) / 2)
    border = (left, size[1] - kept[1] - left, top, size[0] - kept[0] - top)
    placed = [functional.pad(droid.resize(one, kept), border, mode="replicate") for one in views]
    return torch.cat(placed, dim=3).mul(255.0).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


@dataclass
class OfficialSession:
    """One episode as the policy knows it.

    Attributes:
        seed: Of the episode.
        prompt: What the tokenizer gets.
        head: Its conversation with the model, cache included.
        history: Which frames it hands over.
        step: Env step of the newest observation (-1 before the first).
        state: (8,) state there.
        newest: (1, 1, 2h, 2w, 3) canvas there.
    """

    seed: int
    prompt: str
    head: ChunkGenerator
    history: FrameSchedule
    step: int = -1
    state: np.ndarray | None = None
    newest: Tensor | None = None


@dataclass(frozen=True)
class OfficialOptions:
    """Which checkpoint `OfficialDreamZero` loads and how it answers: the arguments of `--policy-args`.

    Attributes:
        weights: Folder or hub id ("owner/name").
        device: "cpu" or "cuda".
        steps, solver, caching, evaluations: Of the sampler, see `solvers.SamplerConfig`.
        shift: Of the noise levels.
        video_final: Noise level at which the video's schedule ends while actions go to 0 (0.8 for Flash weights).
        guidance: Scale of classifier-free guidance on the video; 1 leaves the negative prompt out.
        history: "cache" injects the real frames of each chunk that was played and starts again after 4 chunks
            (released), "sliding" keeps the last 3 chunks instead, "none" starts from the newest frame every time.
        schedule: Which frames stand for a chunk, see `frame_schedule`: "exact" (as in training), "repeat4" (the
            official client), "single" (simulation clients of the official server).
        execute: Actions of each chunk to carry out before the next query; None for all, as in training.
        mode: "joint" denoises video and actions together, "video_first" the video and then the actions for it,
            "no_video" leaves the video at noise and returns no frames.
        smooth: Filter each chunk of actions (`smoothing`).
        batched: Guidance in one pass of twice the batch, or in two passes.
        dtype: "float32", "bfloat16", "float16"; None for that of the stored transformer.
        tokenizer: Folder or hub id of the umT5 tokenizer; None for the checkpoint's folder if it has one, otherwise
            the official one from the hub.
        base: For a checkpoint of LoRA deltas: what they were trained on, see `checkpoint.open_checkpoint`.
        revision: Commit or tag on the hub.

    A value that no checkpoint can take raises ValueError before anything is opened.
    """

    weights: str
    device: str = "cpu"
    steps: int = 16
    solver: str = "unipc"
    caching: str = "static"
    evaluations: int = 8
    shift: float = 5.0
    video_final: float = 0.0
    guidance: float = 5.0
    history: str = "cache"
    schedule: str = "exact"
    execute: int | None = None
    mode: str = "joint"
    smooth: bool = False
    batched: bool = True
    dtype: str | None = None
    tokenizer: str | None = None
    base: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        names = (
            ("mode", self.mode, MODES),
            ("history", self.history, HISTORIES),
            ("schedule", self.schedule, SCHEDULES),
            ("dtype", self.dtype or "float32", DTYPES),
        )
        for kind, asked, known in names:
            if asked not in known:
                raise unknown_name(kind, asked, known)
        self.generation()

    @property
    def protocol(self) -> str:
        """Name of the frame schedule (`frame_schedule.PROTOCOLS`)."""
        return "stateless" if self.history == "none" else SCHEDULES[self.schedule]

    def generation(self) -> GenerationConfig:
        """Returns the switches of the inference loop; a solver or caching that does not exist raises ValueError."""
        sampler = SamplerConfig(self.steps, self.solver, self.shift, self.video_final, self.caching, self.evaluations)
        on_full = "slide" if self.history == "sliding" else "reset"
        test_time_video = self.mode != "no_video"
        return GenerationConfig(sampler, self.guidance, self.batched, on_full, test_time_video=test_time_video)


def policy(weights: str, **options: Any) -> OfficialDreamZero:
    """Returns the policy of a checkpoint; `options` are the other fields of `OfficialOptions`."""
    check_arguments(OfficialOptions, options, "dreamzero")
    return OfficialDreamZero(OfficialOptions(weights, **options))


class OfficialDreamZero:
    """A DreamZero checkpoint in the official layout, in the DROID convention.

    Args:
        options: See `OfficialOptions`.

    Raises:
        ValueError: The checkpoint does not fit the options; all misfits are named before weights are read.
    """

    corpus = "DROID"

    def __init__(self, options: OfficialOptions) -> None:
        self.options = options
        self.convention = DROID
        self.mode = options.mode
        self.device = options.device
        self.head_config = options.generation()
        opened = open_official(options.weights, options.base, options.revision)
        self.statistics = statistics(opened)
        self.view = view_size(opened)
        config = transformer_config(opened, self.view)
        check_layout(config, self.convention)
        self.chunk_steps = config.actions_per_chunk
        if options.smooth:
            smoothing.check(self.chunk_steps)
        self.execute = self.chunk_steps if options.execute is None else options.execute
        if not 1 <= self.execute <= self.chunk_steps:
            raise ValueError(f"execute must be in 1..{self.chunk_steps}, got {self.execute}")
        stored = opened.tensors[f"{MODEL}head.head.weight"].dtype
        dtype = DTYPES[options.dtype] if options.dtype else stored
        load_parts(opened, config, "meta", dtype)  # names every misfit before 46 GB are read
        words = droid.tokenizer(options.tokenizer or tokenizer_of(opened))
        self.weights_hash = fingerprint(opened.folder, *([checkpoint.fetch(options.base)] if options.base else []))
        self.parts = load_parts(opened, config, self.device, dtype)
        self.encoders = encoders(self.parts, words)
        self.negative = droid.clean(droid.NEGATIVE_PROMPT)
        self._session: OfficialSession | None = None

    @property
    def config(self) -> DiTConfig:
        """The transformer's config."""
        return self.parts.model.config

    @property
    def frame_offsets(self) -> list[int]:
        """Env steps from a query to each frame of the chunk it imagines."""
        count = RAW_PER_LATENT * self.config.frames_per_chunk
        return [self.convention.frame_stride * (i + 1) for i in range(count)]

    # ---------------------------------------------------------------- the policy's methods

    def session(self, instruction: str, seed: int) -> OfficialSession:
        """Returns the state of a new episode, for `act_batch`; each has a cache of its own."""
        head = ChunkGenerator(self.parts.model, self.encoders, self.head_config, self.negative)
        raw = len(self.frame_offsets)
        return OfficialSession(
            seed, droid.prompt(instruction, EMBODIMENT), head, FrameSchedule(self.options.protocol, raw)
        )

    def resume(self, session: OfficialSession) -> None:
        """Goes on with an episode that `session` began (`interface.Batched`)."""
        self._session = session

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode."""
        self._session = None  # its cache goes before the next one comes
        self._session = self.session(instruction, seed)

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns the next chunk of actions and the frames it imagines."""
        return self._answer(self._current(), history)

    def act_guided(self, history: Sequence[Observation], previous: np.ndarray, delay: int) -> Plan:
        """Returns the next chunk, its actions inpainted behind those that are being played (`interface.Guided`).

        Old actions are told as the model says its own, relative to the state now. A pass backward goes through the
        transformer at every evaluated step, and needs its activations in memory.
        """
        return self._answer(self._current(), history, (previous, delay))

    def act_batch(self, sessions: Sequence[OfficialSession], histories: Sequence[Sequence[Observation]]) -> list[Plan]:
        """Returns the plans of several episodes, one after the other; each is what `act` would answer."""
        return [self._answer(session, history) for session, history in zip(sessions, histories, strict=True)]

    @torch.no_grad()
    def imagine(self, history: Sequence[Observation]) -> np.ndarray:
        """Returns (4 K, 180, 960, 3) uint8 imagined frames, the actions left at noise."""
        if self.mode == "no_video":
            raise ValueError("mode no_video imagines nothing")
        session = self._observe(self._current(), history)
        return self._decode(session, self._generate(session, move_action=False).video)

    @torch.no_grad()
    def extract(self, history: Sequence[Observation], frames: np.ndarray) -> np.ndarray:
        """Returns the model's own actions (H, 8) for a given future.

        Args:
            history: As for `act`.
            frames: (4 K, 180, 960, 3) uint8 tiled camera views at the env steps of `frame_offsets` from now.
        """
        height, width = self.convention.image_size
        expected = (len(self.frame_offsets), height, width * len(self.convention.cameras), 3)
        if frames.shape != expected or frames.dtype != np.uint8:
            raise ValueError(f"future frames must be {expected} uint8, got {frames.shape} {frames.dtype}")
        session = self._observe(self._current(), history)
        assert session.newest is not None
        future = to_canvas(np.split(frames, len(self.convention.cameras), axis=2), self.view)
        latents = self.encoders.video(torch.cat([session.newest, future[None]], dim=1))
        return self._commands(session, self._generate(session, clamp=latents.part(1, latents.count)))

    # ---------------------------------------------------------------- steps of an answer

    def _current(self) -> OfficialSession:
        if self._session is None:
            raise ValueError("reset must be called before the first query")
        return self._session

    def _clock(self) -> float:
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    @torch.no_grad()
    def _answer(
        self, session: OfficialSession, history: Sequence[Observation], previous: tuple[np.ndarray, int] | None = None
    ) -> Plan:
        began = self._clock()
        self._observe(session, history)
        inpaint = None if previous is None else self._guidance(session, *previous)
        encoded = self._clock()
        if self.mode == "video_first":
            imagined = self._generate(session, move_action=False).video
            generated = self._generate(session, clamp=imagined, inpaint=inpaint)
        else:
            generated = self._generate(session, inpaint=inpaint)
        actions = self._commands(session, generated)
        sampled = self._clock()
        frames = None if self.mode == "no_video" else self._decode(session, generated.video)
        timings = {"encode_s": encoded - began, "sample_s": sampled - encoded, "decode_s": self._clock() - sampled}
        if frames is None:
            return Plan(actions, self.execute, timings=timings)
        steps = session.step + np.array(self.frame_offsets)
        return Plan(actions, self.execute, frames, steps, timings)

    def _observe(self, session: OfficialSession, history: Sequence[Observation]) -> OfficialSession:
        """Takes in what was seen since the last query; a second query at the same step finds the same cache."""
        if not history:
            raise ValueError("history is empty; its last entry must be the current observation")
        now = history[-1]
        if now.step == session.step:
            return session
        if now.step < session.step:
            raise ValueError(f"step {now.step} lies before the last query at {session.step}; reset starts an episode")
        canvases = self._canvases([o for o in history if o.step > session.step])
        if session.step >= 0:
            session.head.finish()
        session.head.prepare(session.history.take(canvases), [session.prompt])
        session.step = now.step
        session.state = np.asarray(now.state)[: DROID.action_dim]  # joints and gripper, without the hand's pose
        session.newest = canvases[:, -1:]
        return session

    def _canvases(self, observations: Sequence[Observation]) -> Tensor:
        """Returns (1, T, 2h, 2w, 3) canvases."""
        views = [np.stack([o.images[camera] for o in observations]) for camera in self.convention.cameras]
        for camera, view in zip(self.convention.cameras, views, strict=True):
            if view.shape[1:] != (*self.convention.image_size, 3) or view.dtype != np.uint8:
                size = self.convention.image_size
                raise ValueError(f"{camera} is {view.shape[1:]} {view.dtype}, expected {size} uint8")
        return to_canvas(views, self.view)[None]

    def _noise(self, session: OfficialSession) -> ChunkNoise:
        generator = generator_at(session.seed, session.step)
        c = self.config
        channels, rows, columns = c.latent_shape
        video = torch.randn(1, channels, c.frames_per_chunk, rows, columns, generator=generator)
        return ChunkNoise(Frames(video), torch.randn(1, c.actions_per_chunk, c.action_dim, generator=generator))

    def _generate(
        self,
        session: OfficialSession,
        clamp: Frames | None = None,
        move_action: bool = True,
        inpaint: rtc.Guidance | None = None,
    ) -> GeneratedChunk:
        assert session.state is not None
        state = self.statistics.to_model(session.state, self.config.state_dim)
        state = state.repeat(1, self.config.states_per_chunk, 1)
        return session.head.generate(state, self._noise(session), clamp, move_action, inpaint=inpaint)

    def _guidance(self, session: OfficialSession, previous: np.ndarray, delay: int) -> rtc.Guidance:
        assert session.state is not None
        played = self.statistics.actions_to_model(previous, session.state)
        return rtc.guidance_of(played, delay, self.chunk_steps).to(self.device)

    def _commands(self, session: OfficialSession, generated: GeneratedChunk) -> np.ndarray:
        assert session.state is not None and generated.action is not None
        actions = self.statistics.to_robot(generated.action[0], session.state)
        # a model may ask for more than joints and fingers can do; the robot's own controller would stop there, too
        return np.clip(smoothing.smooth(actions) if self.options.smooth else actions, *self.convention.limits())

    def _decode(self, session: OfficialSession, video: Frames) -> np.ndarray:
        """Returns (4 K, 180, 960, 3) uint8 frames; they are decoded behind the newest real frame, which is left out."""
        assert session.newest is not None
        start = self.encoders.video(session.newest).latents
        clip = self.parts.vae.decode(torch.cat([start, video.latents.to(start)], dim=2))[0, :, 1:]
        canvases = clip.float().add(1.0).mul(127.5).round().to(torch.uint8).permute(1, 2, 3, 0)
        return from_canvas(canvases, self.convention.image_size)
