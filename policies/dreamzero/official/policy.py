"""An official DreamZero checkpoint as a policy: frames and joint positions of a DROID robot in, chunks of actions out.

Each part has its own file: tensors (`checkpoint`), encoders (`encoders`), transformer (`dreamzero.dit`), inference loop
(`dreamzero.inference`), frame schedule (`frame_schedule`), data protocol (`droid`). This file puts them together.

Frames that leave or enter the policy are tiled camera views like those of any other policy (`interface.canvas`). The
model imagines another canvas: cropped views, the wrist above the exteriors. Imagined views are put back to where they
were cropped, so that a pixel of an imagined frame is the same pixel of a real one; the border the model never sees
repeats its edge. Noise is a function of (episode seed, env step).

Letters: T frames, K latent frames a chunk, H actions a chunk, A action numbers, B batch.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.interface import ControlConvention, Observation, Plan, unknown_name
from wambench.policies import check_arguments
from wambench.policies.actions import real_time_chunking as rtc
from wambench.policies.actions import smoothing
from wambench.policies.dreamzero.dit import DiT, DiTConfig, Frames
from wambench.policies.dreamzero.inference import (
    RAW_PER_LATENT,
    ChunkGenerator,
    ChunkNoise,
    Encoders,
    FirstFrame,
    Generated,
    GenerationConfig,
    Prompt,
)
from wambench.policies.dreamzero.official import checkpoint, droid
from wambench.policies.dreamzero.official import encoders as wan
from wambench.policies.dreamzero.official.checkpoint import (
    IMAGE,
    MODEL,
    SHOWN,
    TEXT,
    VAE,
    Checkpoint,
    Quantiles,
    shape_of,
)
from wambench.policies.dreamzero.official.frame_schedule import History
from wambench.policies.dreamzero.solvers import SamplerConfig
from wambench.policies.networks.noise import generator_at

EMBODIMENT = "oxe_droid"
# of the transformer in `config.json`: what no tensor tells
LAYOUT = (
    "num_heads", "frame_seqlen", "num_frame_per_block", "num_action_per_block", "num_state_per_block", "max_chunk_size",
)  # fmt: skip
KEYS = {"joint_position": 7, "gripper_position": 1}  # of state and action, in this order
DROID = ControlConvention(
    cameras=("exterior_1", "exterior_2", "wrist"),
    image_size=(180, 320),
    control_hz=15.0,
    video_hz=5.0,
    action="joint_position",  # absolute, rad
    action_frame="joint",
    rotation="none",
    gripper="closed_is_1",  # 0 is open
    action_dim=8,
    state=("joint_position", "gripper_position"),
)
MODES = ("joint", "video_first", "no_video")
HISTORIES = ("cache", "sliding", "none")
SCHEDULES = {"exact": "8+1", "repeat4": "repeat4", "single": "single"}  # protocols of `frame_schedule`
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CELL = 8  # pixels per latent cell
PROMPTS_KEPT = 16  # embedded prompts; the negative one is needed at every reset


def is_official(weights: str) -> bool:
    """Returns whether `weights` names a checkpoint in the official layout: a folder with config.json, or a hub id."""
    path = Path(weights)
    if path.is_dir():
        return (path / "config.json").is_file()
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", weights) is not None and not weights.startswith(".")
    return hub and not path.exists() and path.suffix != ".safetensors"


# ------------------------------------------------------------------------------------------------- checkpoint


@dataclass(frozen=True)
class Statistics:
    """(8,) quantiles of state and action: joints (rad; of actions, relative to the state) and gripper."""

    state: Quantiles
    action: Quantiles

    def to_model(self, state: np.ndarray, width: int) -> Tensor:
        """Returns the (width,) float32 state as the model reads it."""
        scaled = droid.normalise(np.asarray(state, np.float64), self.state.q01, self.state.q99)
        return torch.from_numpy(droid.pad(scaled, width)).float()

    def actions_to_model(self, actions: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Returns (n, 8) model's numbers, not clamped, of absolute actions for the state now (see `to_robot`)."""
        relative = droid.to_relative(np.asarray(actions, np.float64)[None], np.asarray(state, np.float64)[None])[0]
        return droid.normalise(relative, self.action.q01, self.action.q99, clamp=False)

    def to_robot(self, action: Tensor, state: np.ndarray) -> np.ndarray:
        """Returns (H, 8) float32 absolute joints and gripper of the model's (H, A) actions, for the state then."""
        numbers = action[:, : len(state)].double().cpu().numpy()
        raw = droid.unnormalise(numbers, self.action.q01, self.action.q99)
        return droid.to_absolute(raw[None], np.asarray(state, np.float64)[None])[0].astype(np.float32)


def statistics(opened: Checkpoint) -> Statistics:
    """Returns the quantiles of a checkpoint; ValueError if it is of another robot or has other actions."""
    if EMBODIMENT not in opened.metadata:
        have = ", ".join(opened.metadata) or "none"
        raise ValueError(f"{opened.folder} has no statistics of {EMBODIMENT}; it has those of: {have}")
    if not opened.conf.get("relative_action", True) or opened.conf.get("relative_action_per_horizon", False):
        raise ValueError(f"{opened.folder}: only joint actions relative to the state, of one scale, are known")
    return Statistics(_quantiles(opened, "state"), _quantiles(opened, "action"))


def _quantiles(opened: Checkpoint, modality: str) -> Quantiles:
    read = [opened.quantiles(EMBODIMENT, modality, key) for key in KEYS]  # type: ignore[arg-type]
    for (key, width), one in zip(KEYS.items(), read, strict=True):
        if one.q01.shape != (width,) or one.q99.shape != (width,):
            raise ValueError(f"statistics of {modality} {key} have shape {one.q01.shape}, expected ({width},)")
    return Quantiles(*(np.concatenate([getattr(one, name) for one in read]) for name in ("q01", "q99")))


def view_size(opened: Checkpoint) -> tuple[int, int]:
    """Returns (height, width) of a view on the canvas, from `conf.yaml`; if it does not say, the released one."""
    height, width = (opened.conf.get(f"image_resolution_{side}") for side in ("height", "width"))
    return droid.VIEW_SIZE if height is None or width is None else (int(height), int(width))


def transformer_config(opened: Checkpoint, view: tuple[int, int]) -> DiTConfig:
    """Returns the transformer's config: sizes from its tensors, the layout of a chunk from `config.json`."""
    if lacking := [name for name in LAYOUT if name not in opened.transformer]:
        raise ValueError(f"{opened.folder / 'config.json'} does not say {', '.join(lacking)}")
    heads, tokens, frames, actions, states, chunks = (int(opened.transformer[name]) for name in LAYOUT)

    def size(name: str, axis: int) -> int:
        return shape_of(opened.tensors, MODEL + name)[axis]

    patch = size("patch_embedding.weight", 3), size("patch_embedding.weight", 4)
    channels = size("head.head.weight", 0) // (patch[0] * patch[1])
    grid = 2 * view[0] // (CELL * patch[0]), 2 * view[1] // (CELL * patch[1])
    if grid[0] * grid[1] != tokens:
        raise ValueError(f"views of {view} make {grid[0]} x {grid[1]} tokens a frame, config.json says {tokens}")
    return DiTConfig(
        width=size("patch_embedding.weight", 0),
        layers=checkpoint.count(opened.tensors, f"{MODEL}blocks."),
        heads=heads,
        ffn=size("blocks.0.ffn.0.weight", 0),
        latent_channels=channels,
        condition_channels=size("patch_embedding.weight", 1) - channels,
        grid=grid,
        patch=patch,
        text_dim=size("text_embedding.0.weight", 1),
        image_dim=size("img_emb.proj.1.weight", 0),
        freq_dim=size("time_embedding.0.weight", 1),
        action_dim=size("action_encoder.W1.W", 1),
        state_dim=size("state_encoder.layer1.W", 1),
        hidden=size("state_encoder.layer1.W", 2),
        categories=size("state_encoder.layer1.W", 0),
        frames_per_chunk=frames,
        actions_per_chunk=actions,
        states_per_chunk=states,
        max_chunks=chunks,
    )


def check_layout(config: DiTConfig, convention: ControlConvention) -> None:
    """Raises ValueError unless a chunk of the model fits a robot's rates and number of joints."""
    stride = convention.frame_stride
    frames = RAW_PER_LATENT * config.frames_per_chunk
    if config.actions_per_chunk != frames * stride:
        raise ValueError(f"{config.actions_per_chunk} actions a chunk do not fit {frames} frames of {stride} steps")
    if min(config.action_dim, config.state_dim) < convention.action_dim:
        raise ValueError(f"the model has {config.action_dim} action numbers, a DROID robot {convention.action_dim}")


@dataclass(frozen=True)
class Parts:
    """The loaded networks."""

    model: DiT
    vae: wan.VideoVae
    text: wan.TextEncoder
    image: wan.ImageEncoder


def load_parts(opened: Checkpoint, config: DiTConfig, device: torch.device | str, dtype: torch.dtype) -> Parts:
    """Returns the networks with their weights. On the device "meta" nothing is read but names and shapes.

    Raises:
        ValueError: Names every tensor that is missing, unexpected or of another shape, in all networks.
    """
    tensors = opened.tensors
    heads = opened.head.get("image_encoder_cfg", {}).get("num_heads")
    makers: dict[str, Callable[[], nn.Module]] = {
        MODEL: lambda: _transformer(tensors, config, device, dtype),
        VAE: lambda: wan.load_vae(tensors, device=device, dtype=dtype),
        TEXT: lambda: wan.load_text(tensors, device=device, dtype=dtype),
        IMAGE: lambda: wan.load_clip(tensors, heads=heads, device=device, dtype=dtype),
    }
    made: dict[str, Any] = {}
    problems = [f"names of no network: {', '.join(opened.strays[:SHOWN])}"] if opened.strays else []
    for prefix, make in makers.items():
        try:
            made[prefix] = make()
        except ValueError as error:
            problems.append(f"{prefix}*: {error}")
    if problems:
        raise ValueError(f"{opened.folder}: {'; '.join(problems)}")
    return Parts(made[MODEL], made[VAE], made[TEXT], made[IMAGE])


def _transformer(
    tensors: Mapping[str, Tensor], config: DiTConfig, device: torch.device | str, dtype: torch.dtype
) -> DiT:
    with torch.device("meta"):
        model = DiT(config)
    checkpoint.load_module(model, tensors, MODEL, dtype=dtype, device=device)
    return model.to(device).eval()  # of what no checkpoint holds


def open_official(weights: str, base: str | None = None, revision: str | None = None) -> Checkpoint:
    """Opens a folder or hub id; ValueError if it is no DreamZero checkpoint."""
    try:
        opened = checkpoint.open_checkpoint(weights, revision=revision, base=base)
    except json.JSONDecodeError as error:
        raise ValueError(f"{weights} has a damaged JSON file: {error}") from None
    files = {"config.json": opened.config, "experiment_cfg/metadata.json": opened.metadata}
    if lacking := [name for name, content in files.items() if not content]:
        raise ValueError(f"{weights} is no DreamZero checkpoint: {' and '.join(lacking)} missing")
    if not any(name.startswith(MODEL) for name in opened.tensors):
        some = ", ".join(list(opened.tensors)[:3])
        raise ValueError(f"{weights} is no DreamZero checkpoint: no tensor begins with {MODEL!r}, but {some}, ...")
    return opened


def tokenizer_of(opened: Checkpoint) -> str:
    """Returns the folder of a checkpoint's own tokenizer, or the hub id of the official one if it has none."""
    own = (opened.folder / "tokenizer_config.json").is_file()
    return str(opened.folder) if own else droid.TOKENIZER


def fingerprint(*folders: Path) -> str:
    """Returns 16 hex digits of checkpoints, from their configuration and the first 1024 numbers of every tensor.

    Reading all of 46 GB would take longer than loading it; training a tensor changes all of it.
    """
    digest = hashlib.sha256()
    for folder in folders:
        for file in [folder / "config.json", *sorted(folder.glob("experiment_cfg/*.json"))]:
            digest.update(file.read_bytes() if file.is_file() else b"")
        for name, value in sorted(checkpoint.shards(folder).items()):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.flatten()[:1024].view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


# ------------------------------------------------------------------------------------------------- frames


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


def encoders(parts: Parts, words: Callable[[str], tuple[Tensor, Tensor]]) -> Encoders:
    """Returns the frozen networks as the inference loop calls them: canvases (B, T, 2h, 2w, 3) uint8, prompts as text.

    Args:
        parts: The networks.
        words: Tokenizer, see `droid.tokenizer`.
    """
    device = parts.model.device
    dtype = parts.model.dtype
    raw = RAW_PER_LATENT * (parts.model.config.window - 1) + 1

    def video(canvases: Tensor) -> Frames:
        return Frames(parts.vae.encode(droid.pixels(canvases.to(device)).to(dtype)))

    @functools.lru_cache(maxsize=PROMPTS_KEPT)
    def text(prompt: Hashable) -> Prompt:
        ids, mask = words(str(prompt))
        return Prompt(parts.text.embed(ids.to(device), mask.to(device)))  # rounded to bfloat16, as in the release

    def first(canvas: Tensor) -> FirstFrame:
        image = droid.pixels(canvas.to(device))[:, :, 0]
        return FirstFrame(parts.image(image), parts.vae.condition(image.to(dtype), raw))

    return Encoders(video, text, first)


# ------------------------------------------------------------------------------------------------- policy


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
    history: History
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
        return OfficialSession(seed, droid.prompt(instruction, EMBODIMENT), head, History(self.options.protocol, raw))

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
        session.state = np.asarray(now.state)
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
    ) -> Generated:
        assert session.state is not None
        state = self.statistics.to_model(session.state, self.config.state_dim)
        state = state.repeat(1, self.config.states_per_chunk, 1)
        return session.head.generate(state, self._noise(session), clamp, move_action, inpaint=inpaint)

    def _guidance(self, session: OfficialSession, previous: np.ndarray, delay: int) -> rtc.Guidance:
        assert session.state is not None
        played = self.statistics.actions_to_model(previous, session.state)
        return rtc.guidance_of(played, delay, self.chunk_steps).to(self.device)

    def _commands(self, session: OfficialSession, generated: Generated) -> np.ndarray:
        assert session.state is not None and generated.action is not None
        actions = self.statistics.to_robot(generated.action[0], session.state)
        return smoothing.smooth(actions) if self.options.smooth else actions

    def _decode(self, session: OfficialSession, video: Frames) -> np.ndarray:
        """Returns (4 K, 180, 960, 3) uint8 frames; they are decoded behind the newest real frame, which is left out."""
        assert session.newest is not None
        start = self.encoders.video(session.newest).latents
        clip = self.parts.vae.decode(torch.cat([start, video.latents.to(start)], dim=2))[0, :, 1:]
        canvases = clip.float().add(1.0).mul(127.5).round().to(torch.uint8).permute(1, 2, 3, 0)
        return from_canvas(canvases, self.convention.image_size)
