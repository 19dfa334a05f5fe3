"""A chunk of DreamZero, timed: variants of computing it, stand-ins for its encoders, rates and memory of a device.

One chunk is what a running policy does at every query: the real frames of the chunk before enter the cache ("observe"),
the next chunk is denoised, the actions come back to the host ("other"). It is measured at the last position of the
cache life, where attention reads most. Where the shipped image encoder fits the config, its two stages ("encode" and
"decode") are measured too; where it does not, the result says why.

Imports nothing beyond torch, so that it runs on a server without the simulator.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import resource
import statistics
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wambench.policies.dreamzero import flops, quantization
from wambench.policies.dreamzero.acceleration import FastDiT, RecordedGenerator, TwoDeviceGenerator
from wambench.policies.dreamzero.dit import DiT, DiTConfig, Frames, config_for
from wambench.policies.dreamzero.inference import (
    ChunkGenerator,
    ChunkNoise,
    Encoders,
    FirstFrame,
    GenerationConfig,
    Prompt,
    _Branch,
)
from wambench.policies.dreamzero.kv_cache import KVCache
from wambench.policies.dreamzero.layers import Block
from wambench.policies.dreamzero.official import checkpoint
from wambench.policies.dreamzero.solvers import SamplerConfig, Step
from wambench.policies.perception import encoder
from wambench.policies.training import loop
from wambench.policies.weight_files import ENCODER, packaged

GUIDANCE = 5.0
WORDS = {"14b": 512}  # by config; an instruction of the others has about a dozen
IMAGES = 257
LARGEST_ON_CPU = 2_000_000_000
SIDE = 8192  # of the square product that a GPU's rate is measured with, beside the model's own shapes
GIGA = 1e9
TERA = 1e12
MIB = 2**20
STAGES = ("encode", "observe", "denoise", "decode", "other")


@dataclass(frozen=True)
class BenchConfig:
    """What to measure.

    Attributes:
        config: Name of a model config.
        weights: Weights file, checkpoint folder or hub id; None for random ones, made on the device.
        device: "cpu" or "cuda".
        steps: Numbers of denoising steps for the second table.
        guidance: Guide the video (two branches); None: as the config is used, which is only 14b.
        compiled: Measure `torch.compile` and what is built on it; None: on a GPU.
        repeats: Measured chunks of every row; the median is reported.
    """

    config: str = "nano"
    weights: str | None = None
    device: str = "cpu"
    steps: tuple[int, ...] = (1, 2, 4, 8, 16)
    guidance: bool | None = None
    compiled: bool | None = None
    repeats: int = 5

    def __post_init__(self) -> None:
        if self.device.split(":")[0] not in ("cpu", "cuda"):
            raise ValueError(f"device must be cpu or cuda, not {self.device!r}")
        if not self.steps or min(self.steps) < 1 or self.repeats < 1:
            raise ValueError(f"steps and repeats must be positive, not {self.steps} and {self.repeats}")

    @property
    def guided(self) -> bool:
        """Whether two branches run."""
        return self.config == "14b" if self.guidance is None else self.guidance

    @property
    def compiles(self) -> bool:
        """Whether compiled rows are measured."""
        return self.device != "cpu" if self.compiled is None else self.compiled


@dataclass(frozen=True)
class Variant:
    """One way to compute a chunk.

    Attributes:
        dtype: Of the model: "float32" or "bfloat16".
        branches: "one" (no guidance), "apart", "batch" or "devices".
        steps: Solver steps.
        evaluations: Of the static caching list, or None to evaluate every step.
        static: Static cache buffers and a sampler that the host does not wait for.
        compiler: Backend of `torch.compile`, or None for the plain blocks.
        recorded: CUDA graphs over the clean pass and the denoising loop.
        attention: As of `FastDiT`.
        linear: As of `FastDiT`.
        cache: False computes the whole context anew for every chunk.
    """

    dtype: str = "float32"
    branches: str = "one"
    steps: int = 16
    evaluations: int | None = None
    static: bool = False
    compiler: str | None = None
    recorded: bool = False
    attention: str | None = None
    linear: str = "dense"
    cache: bool = True

    @property
    def spent(self) -> int:
        """Evaluations of a chunk."""
        return self.evaluations or self.steps

    @property
    def is_fast(self) -> bool:
        """Whether it needs the rearranged blocks."""
        return self.compiler is not None or self.attention is not None or self.linear != "dense"


@dataclass(frozen=True)
class BenchRow:
    """A measured variant, or why there is none.

    Attributes:
        name: What it is.
        variant: How it computes.
        unavailable: Why it was not measured, or None.
        chunk_ms: Median milliseconds by stage and in "total"; "encode" and "decode" are None where
            `Bench.codec_unavailable` says why.
        evaluation_ms: Denoising per evaluation.
        flops: Operations of the transformer in a chunk.
        limit_ms: What they take at the measured matrix rates.
        tflops: Rate that was reached, in TFLOP/s.
        fraction: limit_ms over the time of the transformer's stages.
        memory_mb: Largest memory in use; on a GPU what tensors took, on a CPU the process.
    """

    name: str
    variant: Variant
    unavailable: str | None = None
    chunk_ms: dict[str, float | None] = field(default_factory=dict)
    evaluation_ms: float | None = None
    flops: int | None = None
    limit_ms: float | None = None
    tflops: float | None = None
    fraction: float | None = None
    memory_mb: float | None = None


# ------------------------------------------------------------------------------------------------- what is measured


class Senses:
    """Random latents, words, image tokens and condition that stand in for the encoders, ready on the device."""

    def __init__(self, config: DiTConfig, words: int, device: torch.device) -> None:
        self.config = config
        g = torch.Generator(device).manual_seed(0)
        c = config

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g, device=device)

        vectors = draw(1, c.window, c.frame_vector) if c.frame_vector else None
        self.latents = Frames(draw(1, c.latent_channels, c.window, *c.latent_shape[1:]), vectors)
        self.words = draw(1, words, c.text_dim)
        image = draw(1, IMAGES, c.image_dim) if c.image_dim else None
        y = draw(1, c.condition_channels, c.window, *c.latent_shape[1:]) if c.condition_channels else None
        self.first = FirstFrame(image, y)
        video = Frames(
            draw(1, c.latent_channels, c.frames_per_chunk, *c.latent_shape[1:]),
            draw(1, c.frames_per_chunk, c.frame_vector) if c.frame_vector else None,
        )
        self.noise = ChunkNoise(video, draw(1, c.actions_per_chunk, c.action_dim))
        self.state = draw(1, c.states_per_chunk, c.state_dim)

    @property
    def encoders(self) -> Encoders:
        """The callables that a `ChunkGenerator` asks."""
        return Encoders(self._video, self._text, lambda raw: self.first)

    def _video(self, raw: Tensor) -> Frames:
        return self.latents.part(0, (raw.shape[1] - 1) // 4 + 1)

    def _text(self, prompt: Hashable) -> Prompt:
        return Prompt(-self.words if prompt else self.words)


class GrowingCache(KVCache):
    """Keys and values joined anew at every pass, as the released code does: what static buffers save."""

    def __init__(self, config: DiTConfig, batch: int, device: torch.device, dtype: torch.dtype) -> None:
        self.limit = config.window * config.frame_tokens
        self.length = 0
        self.buffer = torch.empty(0, 2, batch, device=device)
        empty = torch.zeros(2, batch, config.heads, 0, config.head_dim, device=device, dtype=dtype)
        self.layers = [(empty[0], empty[1])] * config.layers
        self.new = list(self.layers)

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """See `KVCache.extend`."""
        before = [x[:, :, : self.length] for x in self.layers[layer]]
        self.new[layer] = (torch.cat([before[0], k], dim=2), torch.cat([before[1], v], dim=2))
        return self.new[layer]

    def advance(self, tokens: int) -> None:
        """See `KVCache.advance`; a cache life ends before the window is full."""
        self.length += tokens
        self.layers = list(self.new)


class GrowingGenerator(ChunkGenerator):
    """A `ChunkGenerator` whose caches grow and whose host looks at every step of the sampler."""

    def _branch(self, prompts: list[Prompt]) -> _Branch:
        self.branches = []
        made = super()._branch(prompts)
        return replace(made, cache=GrowingCache(self.model.config, len(prompts), self.model.device, self.model.dtype))

    def generate(self, *values: Any, **named: Any) -> Any:
        """See `ChunkGenerator.generate`."""

        def look(step: Step) -> None:
            step.video_out.cpu()
            step.action_out.cpu()

        return super().generate(*values, **{"watch": look, **named})


def random_model(config: DiTConfig, device: torch.device, dtype: torch.dtype) -> DiT:
    """Returns a model with random weights, made where it stays and in its final type."""
    before = torch.get_default_dtype()
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.device(device), torch.no_grad():
        torch.manual_seed(0)
        torch.set_default_dtype(dtype)
        try:
            model = DiT(config)
            model.head.head.weight.normal_(std=config.width**-0.5)  # starts at zero, and zeros multiply faster
        finally:
            torch.set_default_dtype(before)
    return model.to(device).eval().requires_grad_(False)


def stored_model(config: DiTConfig, weights: str, device: torch.device, dtype: torch.dtype) -> DiT:
    """Returns a model from a safetensors file, a checkpoint folder or a hub id."""
    path = Path(weights)
    tensors = checkpoint.Shards([path]) if path.is_file() else checkpoint.open_checkpoint(weights).tensors
    prefix = checkpoint.MODEL if any(name.startswith(checkpoint.MODEL) for name in tensors) else ""
    model = random_model(config, torch.device("cpu"), dtype) if config.width < 1024 else _on_meta(config)
    checkpoint.load_module(model, tensors, prefix, dtype=dtype, device=device)
    return model.to(device).eval().requires_grad_(False)


def _on_meta(config: DiTConfig) -> DiT:
    with torch.device("meta"):
        model = DiT(config)
    for block in model.blocks.children():
        assert isinstance(block, Block)
        block.one = torch.tensor([0.0, 1, 0, 0, 1, 0]).view(1, 6, 1, 1)  # the only table that no file holds
    return model


def check_fits(config: DiTConfig, name: str, device: torch.device) -> None:
    """Raises ValueError if a model is too large for a device."""
    weights = 2 * flops.parameters(config) / GIGA
    caches = 2 * flops.cache_bytes(config) / GIGA
    need = f"{name} has {flops.parameters(config) / GIGA:.1f} G weights: {weights:.0f} GB in bfloat16"
    if device.type == "cpu":
        if flops.parameters(config) > LARGEST_ON_CPU:
            work = flops.chunk(config, 8, 5, WORDS.get(name, 12), IMAGES, 2).total / TERA
            raise ValueError(
                f"{need}, {caches:.0f} GB of caches and {work:.0f} TFLOP a chunk are beyond a CPU; use --device cuda"
            )
        return
    if not torch.cuda.is_available():
        raise ValueError(f"torch {torch.__version__} sees no NVIDIA GPU here; use --device cpu")
    free = torch.cuda.mem_get_info(device)[0] / GIGA
    if 1.2 * weights + caches > free:
        raise ValueError(f"{need} and {caches:.0f} GB of caches; {free:.0f} GB are free on {device}")


# ------------------------------------------------------------------------------------------------- measuring


def synchronize(device: torch.device) -> None:
    """Waits until a device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: torch.device, repeats: int, warmups: int = 2) -> float:
    """Returns the median seconds of some work."""
    taken = []
    for _ in range(warmups + repeats):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[warmups:])


def matrix_rate(shape: tuple[int, int, int], kind: str, device: torch.device, repeats: int = 20) -> float:
    """Returns FLOP/s of a product (rows, inputs) x (outputs, inputs)^T of random values.

    Args:
        shape: (rows, inputs, outputs).
        kind: "float32", "bfloat16", "fp8" (a scale per row) or "fp8-tensor".
        device: Where.
        repeats: Products per measurement; the median of five measurements counts.
    """
    rows, inputs, outputs = shape
    g = torch.Generator(device).manual_seed(0)
    x, w = (torch.randn(n, inputs, generator=g, device=device) for n in (rows, outputs))
    if kind.startswith("fp8"):
        pairs = [quantization.to_fp8(t, kind == "fp8") for t in (x, w)]
        (a, scale_a), (b, scale_b) = pairs
        scale_b = scale_b.t() if kind == "fp8" else scale_b

        def work() -> None:
            for _ in range(repeats):
                torch._scaled_mm(
                    a, b.t(), scale_a=scale_a, scale_b=scale_b, out_dtype=torch.bfloat16, use_fast_accum=True
                )
    else:
        x, w = (t.to(getattr(torch, kind)) for t in (x, w))

        def work() -> None:
            for _ in range(repeats):
                torch.nn.functional.linear(x, w)

    return flops.product(rows, inputs, outputs) * repeats / seconds(work, device, 5, 1)


def matrix_rates(config: DiTConfig, kinds: list[str], device: torch.device) -> dict[str, float]:
    """Returns the best rate of each kind in FLOP/s: over the MLP's two shapes, and on a GPU a large square one.

    Small models' shapes are enlarged, with their ratio kept, until a product is bound by arithmetic.
    """
    rows = max(2 * (config.frames_per_chunk * config.frame_tokens + config.actions_per_chunk), 1024)
    width = max(config.width, 1024)
    inner = width * config.ffn // config.width
    shapes = [(rows, width, inner), (rows, inner, width)]
    if device.type == "cuda":
        shapes.append((SIDE, SIDE, SIDE))
    repeats = 20 if device.type == "cuda" else 1
    return {kind: max(matrix_rate(shape, kind, device, repeats) for shape in shapes) for kind in kinds}


class PeakMemory:
    """The largest memory in use since this was made."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # the peak begins at what is resident now

    def peak_mb(self) -> float:
        """In MiB; on a system other than Linux the largest of the process's life."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / MIB
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
        except (OSError, StopIteration):
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Bench:
    """Measures variants of one model on one device."""

    def __init__(self, given: BenchConfig) -> None:
        self.given = given
        self.device = torch.device(given.device)
        c = config_for(given.config)
        check_fits(c, given.config, self.device)
        # products written out are for CPUs
        self.config = replace(c, attention="sdpa") if self.device.type == "cuda" else c
        self.words = WORDS.get(given.config, 12)
        self.images = IMAGES if c.image_dim else 0
        self.senses = Senses(self.config, self.words, self.device)
        self.codec, self.codec_unavailable = self._codec()
        self._models: dict[str, DiT] = {}
        self._fast: dict[tuple[str, str, str | None, str | None], FastDiT] = {}

    @functools.cached_property
    def rates(self) -> dict[str, float]:
        """FLOP/s of large matrix products, by kind."""
        kinds = [kind for kind in ("float32", "bfloat16") if self.no_type(kind) is None]
        kinds += [] if quantization.why_unavailable("fp8", self.device) else ["fp8", "fp8-tensor"]
        return matrix_rates(self.config, kinds, self.device)

    def no_type(self, dtype: str) -> str | None:
        """Returns why the device should not compute in a type, or None."""
        if dtype == "bfloat16":
            fits = loop.compute_type(self.device) is torch.bfloat16
            return None if fits else "this processor has no bfloat16 instructions"
        if self.device.type == "cuda" and 4 * flops.parameters(self.config) > 0.2 * torch.cuda.mem_get_info()[1]:
            return f"{4 * flops.parameters(self.config) / GIGA:.0f} GB of float32 weights beside the bfloat16 ones"
        return None

    def _codec(self) -> tuple[dict[str, float | None], str | None]:
        """Returns milliseconds to encode and decode K frames with the shipped image encoder, and why there are none.

        The shipped encoder belongs to "nano" and "mini"; the 14B model's own video encoder is not timed here.
        """
        nothing: dict[str, float | None] = {"encode": None, "decode": None}
        try:
            reader, _ = encoder.load(packaged(ENCODER))
        except ValueError as error:
            return nothing, str(error)
        made = reader.config.latent
        wanted = self.config.latent_shape
        if made != wanted:
            return nothing, f"{ENCODER} makes latents of shape {made}, {self.given.config} reads {wanted}"
        reader = reader.to(self.device)
        k = self.config.frames_per_chunk
        frames = torch.randint(0, 256, (k, *reader.config.canvas, 3), dtype=torch.uint8, device=self.device)
        states = torch.zeros(k, 8, device=self.device)
        latents, _ = reader.encode(frames, states)
        work = {"encode": lambda: reader.encode(frames, states), "decode": lambda: reader.decode(latents).cpu()}
        return {name: 1e3 * seconds(one, self.device, self.given.repeats) for name, one in work.items()}, None

    def _model(self, dtype: str) -> DiT:
        if dtype not in self._models:
            self._models.clear()  # one at a time
            self._fast.clear()
            kind = getattr(torch, dtype)
            weights = self.given.weights
            if weights is None:
                self._models[dtype] = random_model(self.config, self.device, kind)
            else:
                self._models[dtype] = stored_model(self.config, weights, self.device, kind)
        return self._models[dtype]

    def _fast_model(self, v: Variant) -> FastDiT:
        key = (v.dtype, v.linear, v.compiler, v.attention)
        if key not in self._fast:
            model = self._model(v.dtype)
            self._fast.clear()
            torch._dynamo.reset()
            self._fast[key] = FastDiT(model, *key[1:])
        return self._fast[key]

    def _head(self, v: Variant) -> ChunkGenerator:
        model = self._fast_model(v) if v.is_fast else self._model(v.dtype)
        caching = "none" if v.evaluations is None else "static"
        sampler = SamplerConfig(v.steps, caching=caching, evaluations=v.evaluations or 8)
        scale = 1.0 if v.branches == "one" else GUIDANCE
        config = GenerationConfig(sampler, guidance=scale, batched=v.branches in ("one", "batch"))
        encoders = self.senses.encoders
        negative = ""
        if v.branches == "devices":
            return TwoDeviceGenerator(model, encoders, config, negative, copy.deepcopy(model).to("cuda:1"))
        kind = RecordedGenerator if v.recorded else ChunkGenerator if v.static else GrowingGenerator
        return kind(model, encoders, config, negative)

    def _raw(self, chunks: int) -> Tensor:
        return torch.zeros(1, 4 * self.config.frames_per_chunk * chunks + 1)

    def stages(self, v: Variant) -> dict[str, float | None]:
        """Returns median milliseconds of the stages of a chunk, the last of a cache life."""
        head = self._head(v)
        k = self.config.frames_per_chunk
        m = self.config.max_chunks
        for chunk in range(m - 1):
            head.prepare(self._raw(int(chunk > 0)), ["act"])
            head.finish()
        before = head.start, head.counter, head.branches[0].cache.length, head.raw
        taken: dict[str, list[float]] = {name: [] for name in ("observe", "denoise", "other")}
        for _ in range(2 + self.given.repeats):
            head.start = before[0]
            head.counter = before[1]
            head.raw = before[3]
            for branch in head.branches:
                branch.cache.length = before[2]
            marks = [self._now()]
            if v.cache:
                head.prepare(self._raw(1), ["act"])
            else:
                head.restart(self._raw(m - 1), ["act"])
            assert head.start == 1 + k * (m - 1)
            marks.append(self._now())
            out = head.generate(self.senses.state, self.senses.noise)
            marks.append(self._now())
            assert out.action is not None and bool(out.action.cpu().isfinite().all())
            marks.append(self._now())
            for i, name in enumerate(taken):
                taken[name].append(1e3 * (marks[i + 1] - marks[i]))
        medians = {name: statistics.median(values[2:]) for name, values in taken.items()}
        return {name: {**self.codec, **medians}[name] for name in STAGES}

    def _now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()

    def measure(self, name: str, v: Variant) -> BenchRow:
        """Returns the row of a variant."""
        if v.is_fast:
            self._fast_model(v)
        else:
            self._model(v.dtype)
            self._fast.clear()
        memory = PeakMemory(self.device)
        with torch.no_grad():
            stages = self.stages(v)
        peak = memory.peak_mb()
        ops = self.operations(v)
        rate = self.rates[v.dtype]
        fast = self.rates.get(v.linear, rate)
        limit = 1e3 * (ops.linear / fast + (ops.attention + ops.other) / rate)
        busy = sum(stages[part] or 0.0 for part in ("observe", "denoise", "other"))
        stages["total"] = sum(value or 0.0 for value in stages.values())
        return BenchRow(
            name, v, None, stages, (stages["denoise"] or 0.0) / v.spent, ops.total, limit,
            ops.total / (1e-3 * busy) / TERA, limit / busy, peak,
        )  # fmt: skip

    def operations(self, v: Variant) -> flops.Flops:
        """Returns the operations of a variant's chunk."""
        c = self.config
        batch = 1 if v.branches == "one" else 2
        cached = 1 + c.frames_per_chunk * (c.max_chunks - 2)
        total = flops.chunk(c, v.spent, cached, self.words, self.images, batch, v.cache)
        return total if v.cache else total + flops.prompt(c, self.words, self.images, batch)
