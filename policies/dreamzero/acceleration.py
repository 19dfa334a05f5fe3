"""The transformer's cached passes made fast, with the same results: what `DiT` computes, arranged for a GPU.

- `FastDiT` has the methods of `DiT` and shares its weights. Queries, keys and values come from one matrix. A block is
  two functions around the attention, "before" and "after", which `torch.compile` compiles once for all layers and all
  cache lengths: everything between two matrix products becomes one kernel, and attention reads the static `KVCache`
  itself. Linear layers can be replaced by those of `quantization`.
- `RecordedGenerator` is a `ChunkGenerator` that records its clean pass and its whole denoising loop, sampler included,
  as one CUDA graph each and replays them: no value leaves the device, and all shapes and buffers are fixed.
- `TwoDeviceGenerator` runs the two branches of guidance on two devices at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from wambench.interface import unknown_name
from wambench.policies.actions.real_time_chunking import Guidance
from wambench.policies.dreamzero import solvers
from wambench.policies.dreamzero.dit import DiT, Frames, Prediction
from wambench.policies.dreamzero.inference import (
    ChunkGenerator,
    ChunkNoise,
    Encoders,
    FirstFrame,
    GeneratedChunk,
    GenerationConfig,
    _Branch,
)
from wambench.policies.dreamzero.kv_cache import Context, KVCache
from wambench.policies.dreamzero.layers import Block
from wambench.policies.dreamzero.quantization import Float4Linear, Float8Linear
from wambench.policies.dreamzero.token_layout import TokenLayout
from wambench.policies.networks import rope
from wambench.policies.networks.layers import attend

T = TypeVar("T")
MakeLinear = Callable[[Tensor, Tensor | None], nn.Module]
ATTENTION = {
    "cudnn": [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "flash": [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
}


def dense(weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Returns a linear layer that holds these tensors."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


# emulated layers run anywhere and are slow: they show what the rounding does
LINEARS: dict[str, MakeLinear] = {
    "dense": dense,
    "fp8": Float8Linear,
    "fp8-tensor": partial(Float8Linear, by_row=False),
    "nvfp4": Float4Linear,
    "fp8-emulated": partial(Float8Linear, emulate=True),
    "fp8-tensor-emulated": partial(Float8Linear, by_row=False, emulate=True),
    "nvfp4-emulated": partial(Float4Linear, emulate=True),
}


class FastBlock(nn.Module):
    """The weights of a block, arranged for speed; computed by `before` and `after`."""

    one: Tensor

    def __init__(self, block: Block, linear: MakeLinear) -> None:
        super().__init__()
        own = block.self_attn
        cross = block.cross_attn
        self.heads = own.heads
        self.explicit = own.explicit
        self.eps = block.eps
        self.modulation = block.modulation
        self.norm3 = block.norm3
        self.activation = block.ffn[1]
        self.register_buffer("one", block.one, persistent=False)
        self.norm_q = own.norm_q
        self.norm_k = own.norm_k
        self.norm_across = cross.norm_q
        self.cross_attn = cross  # encodes prompts
        parts = (own.q, own.k, own.v)
        self.qkv = linear(torch.cat([p.weight.detach() for p in parts]), torch.cat([p.bias.detach() for p in parts]))
        self.out = linear(own.o.weight, own.o.bias)
        self.across_q = linear(cross.q.weight, cross.q.bias)
        self.across_out = linear(cross.o.weight, cross.o.bias)
        up, _, down = block.ffn
        assert isinstance(up, nn.Linear) and isinstance(down, nn.Linear)
        self.up = linear(up.weight, up.bias)
        self.down = linear(down.weight, down.bias)

    def split(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, h, T, d)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def before(
    block: FastBlock, x: Tensor, time: Tensor, slot: Tensor, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns queries, keys and values (B, h, T, d) of tokens x (B, T, D).

    Args:
        block: Weights.
        x: Tokens.
        time: (B, 6, slots, D) projected time embedding.
        slot: (T,) slot of each token.
        cos: (T, d) of the rotary table.
        sin: (T, d).
    """
    values = time[:, :2] + block.modulation[:, :2, None] + block.one[:, :2]
    shift, scale = values[:, :, slot].unbind(1)
    seen = functional.layer_norm(x, x.shape[-1:], eps=block.eps) * scale + shift
    q, k, v = block.qkv(seen).chunk(3, dim=-1)
    table = rope.RotaryTable(cos, sin)
    heads = (block.heads, -1)
    q = rope.rotate(block.norm_q(q).unflatten(-1, heads), table).transpose(1, 2)
    k = rope.rotate(block.norm_k(k).unflatten(-1, heads), table).transpose(1, 2)
    return q, k, block.split(v)


def after(
    block: FastBlock, x: Tensor, seen: Tensor, time: Tensor, slot: Tensor, text: tuple[Tensor, Tensor],
    image: tuple[Tensor, Tensor] | None, bias: Tensor | None,
) -> Tensor:  # fmt: skip
    """Returns the block's output for tokens x (B, T, D) whose self-attention read `seen` (B, h, T, d)."""
    values = time[:, 2:] + block.modulation[:, 2:, None] + block.one[:, 2:]
    gate1, shift2, scale2, gate2 = values[:, :, slot].unbind(1)
    x = x + gate1 * block.out(seen.transpose(1, 2).flatten(2))
    q = block.split(block.norm_across(block.across_q(block.norm3(x))))
    read = attend(q, *text, bias, block.explicit)
    if image is not None:
        read = read + attend(q, *image, None, block.explicit)
    x = x + block.across_out(read.transpose(1, 2).flatten(2))
    seen = functional.layer_norm(x, x.shape[-1:], eps=block.eps) * scale2 + shift2
    return x + gate2 * block.down(block.activation(block.up(seen)))


class FastDiT(DiT):
    """A transformer with the weights and the cached passes of another, faster; it cannot train.

    Args:
        model: Where the weights come from; they are shared, except where they are rearranged or quantised.
        linear: A name of `LINEARS`, for the linear layers of the blocks.
        compiler: Backend of `torch.compile` ("inductor") for what lies between attentions, or None. It takes a while at
            the first pass of every shape.
        attention: A name of `ATTENTION` for GPUs; None leaves the choice to torch.
    """

    def __init__(
        self, model: DiT, linear: str = "dense", compiler: str | None = None, attention: str | None = None
    ) -> None:
        if linear not in LINEARS:
            raise unknown_name("kind of linear layer", linear, LINEARS)
        if attention is not None and attention not in ATTENTION:
            raise unknown_name("attention", attention, ATTENTION)
        nn.Module.__init__(self)
        self.config = model.config
        self._tables = {}
        for name, child in model.named_children():
            self.add_module(name, child)
        self._fast = [FastBlock(block, LINEARS[linear]) for block in model.blocks if isinstance(block, Block)]
        self.blocks = nn.ModuleList(self._fast)
        self._attention = attention
        self._before: Callable[..., tuple[Tensor, Tensor, Tensor]] = before
        self._after: Callable[..., Tensor] = after
        if compiler:
            self._before = torch.compile(before, backend=compiler, dynamic=False, fullgraph=True)
            self._after = torch.compile(after, backend=compiler, dynamic=False, fullgraph=True)

    def _kernels(self) -> AbstractContextManager[None]:
        return nullcontext() if self._attention is None else sdpa_kernel(ATTENTION[self._attention], set_priority=True)

    def _run(
        self, x: Tensor, times: list[Tensor], layout: TokenLayout, first: int, context: Context, cache: KVCache | None
    ) -> Prediction:
        if cache is None:
            raise ValueError("FastDiT has the cached passes only; train and test with DiT")
        per_action = len(times) > 1 and times[-1].shape[1] == layout.chunks * layout.actions
        e, time = self._time(torch.cat(times, dim=1))
        slot = self._slots(layout, per_action).index
        table = self._rope(layout, first)
        with self._kernels():
            for layer, block in enumerate(self._fast):
                q, k, v = self._before(block, x, time, slot, table.cos, table.sin)
                seen = attend(q, *cache.extend(layer, k, v), None, block.explicit)
                image = context.image[layer] if context.image else None
                x = self._after(block, x, seen, time, slot, context.text[layer], image, context.bias)
        return self._heads(x, e, layout)


# ------------------------------------------------------------------------------------------------- recorded programs


class RecordedProgram(Generic[T]):
    """Work of fixed shapes on a GPU, recorded as a CUDA graph; a call replays it and returns the same tensors, anew.

    The work must read its inputs from tensors that stay where they are, and must not look at a value.

    Args:
        work: What to record; it is called a few times before, so it must give the same when repeated.
        warmups: Calls before the recording: compilation, choice of kernels, constants.
    """

    def __init__(self, work: Callable[[], T], warmups: int = 2) -> None:
        if not torch.cuda.is_available():
            raise ValueError("CUDA graphs need an NVIDIA GPU")
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(warmups):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = work()

    def __call__(self) -> T:
        """Runs the work."""
        self._graph.replay()
        return self._result


class RecordedGenerator(ChunkGenerator):
    """A `ChunkGenerator` that replays two recorded programs, its clean pass and its denoising loop, without the host.

    One recording for each position in the cache life. All that they read stays where it is: caches, encoded prompts,
    condition, newest frame, noise, state. What cannot be recorded (a clamped video, the dynamic caching rule, somebody
    watching) runs as in `ChunkGenerator`.

    Args:
        model, encoders, config, negative: As of `ChunkGenerator`.
        record: Makes a program of work; the default needs an NVIDIA GPU.
    """

    def __init__(
        self,
        model: DiT,
        encoders: Encoders,
        config: GenerationConfig | None = None,
        negative: Hashable = "",
        record: Callable[[Callable[[], Any]], Callable[[], Any]] = RecordedProgram,
    ) -> None:
        self._record = record
        self._first_of = encoders.first
        self._kept: dict[object, Tensor] = {}
        self._programs: dict[object, Callable[[], Any]] = {}
        self._lasting: list[_Branch] = []
        super().__init__(model, replace(encoders, first=self._first), config, negative)

    def _keep(self, name: object, value: Tensor) -> Tensor:
        """Copies a value into the buffer of this name and returns the buffer; a new shape makes recordings void."""
        there = self._kept.get(name)
        if there is None or there.shape != value.shape or there.dtype != value.dtype:
            if there is not None:
                self._programs.clear()
            self._kept[name] = there = torch.empty_like(value, device=self.model.device)
        return there.copy_(value, non_blocking=True)

    def _keep_frames(self, name: str, frames: Frames) -> Frames:
        vectors = None if frames.vectors is None else self._keep((name, "vectors"), frames.vectors)
        return Frames(self._keep((name, "latents"), frames.latents), vectors)

    def _first(self, frame: Tensor) -> FirstFrame:
        first = self._first_of(frame)
        return FirstFrame(first.image, None if first.y is None else self._keep("y", first.y))

    def _branches(self, prompts: tuple[Hashable, ...]) -> list[_Branch]:
        self.branches = list(self._lasting)
        made = super()._branches(prompts)
        for i, branch in enumerate(made):
            made[i] = _Branch(self._lasting_context(i, branch.context), branch.cache)
        if [b.cache for b in made] != [b.cache for b in self._lasting]:
            self._programs.clear()
        self._lasting = list(made)
        return made

    def _lasting_context(self, index: int, context: Context) -> Context:
        def keep(kind: str, pairs: tuple[tuple[Tensor, Tensor], ...]) -> tuple[tuple[Tensor, Tensor], ...]:
            name = (index, kind)
            return tuple((self._keep((*name, i, 0), k), self._keep((*name, i, 1), v)) for i, (k, v) in enumerate(pairs))

        bias = None if context.bias is None else self._keep((index, "bias"), context.bias)
        return Context(keep("text", context.text), keep("image", context.image), bias)

    def _program(self, key: object, work: Callable[[], T]) -> T:
        if key not in self._programs:
            self._programs[key] = self._record(work)
        return self._programs[key]()

    def _observe(self, frames: Frames, start: int) -> None:
        tokens = self.model.config.frame_tokens
        new = self._keep_frames(f"new {frames.count}", frames)

        def work() -> None:
            for branch in self.branches:
                branch.cache.length = start * tokens
            super(RecordedGenerator, self)._observe(new, start)

        self._program(("observe", start, frames.count), work)
        for branch in self.branches:  # a replay does not count
            branch.cache.length = (start + frames.count) * tokens

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
        """See `ChunkGenerator.generate`."""
        usual = self.config.sampler.caching != "dynamic" and move_action and not (clamp or watch or inpaint)
        if state is None or noise.action is None or self.last is None or not usual:
            return super().generate(state, noise, clamp, move_action, watch, inpaint)
        self.last = self._keep_frames("last", self.last)
        now = self._keep("state", state)
        begin = self._keep_frames("noise", noise.video)
        given = ChunkNoise(begin, self._keep("noise of actions", noise.action))
        out = self._program(("generate", self.start), lambda: ChunkGenerator.generate(self, now, given))
        assert out.action is not None
        vectors = None if out.video.vectors is None else out.video.vectors.clone()
        return replace(out, video=Frames(out.video.latents.clone(), vectors), action=out.action.clone())


# ------------------------------------------------------------------------------------------------- two devices


class Replica:
    """A model on another device that takes tensors from anywhere and answers on the first model's device."""

    def __init__(self, model: DiT, home: torch.device) -> None:
        self.model = model
        self.home = home
        self.config = model.config
        self.dtype = model.dtype
        self.device = model.device

    def _here(self, x: Any) -> Any:
        if isinstance(x, Tensor):
            return x.to(self.device, non_blocking=True)
        if isinstance(x, Frames):
            return Frames(self._here(x.latents), self._here(x.vectors))
        return x

    def encode_context(self, *values: Any) -> Context:
        """See `DiT.encode_context`; the answer stays here."""
        return self.model.encode_context(*map(self._here, values))

    def observe(self, cache: KVCache, *values: Any) -> None:
        """See `DiT.observe`."""
        self.model.observe(cache, *map(self._here, values))

    def denoise(self, cache: KVCache, *values: Any) -> Prediction:
        """See `DiT.denoise`."""
        out = self.model.denoise(cache, *map(self._here, values))
        near = [None if x is None else x.to(self.home, non_blocking=True) for x in (out.video.vectors, out.action)]
        return Prediction(Frames(out.video.latents.to(self.home, non_blocking=True), near[0]), near[1])


class TwoDeviceGenerator(ChunkGenerator):
    """A `ChunkGenerator` whose negative prompt runs on a second device at the same time; they exchange velocities.

    Args:
        model, encoders, config, negative: As of `ChunkGenerator`; the config must guide and must not batch.
        second: The same model on the other device.
    """

    def __init__(
        self, model: DiT, encoders: Encoders, config: GenerationConfig, negative: Hashable, second: DiT
    ) -> None:
        if config.batched or config.guidance == 1.0:
            raise ValueError("two devices share the work of guidance that is not batched")
        self._models: tuple[Any, Any] = (model, Replica(second, model.device))
        super().__init__(model, encoders, config, negative)

    @contextmanager
    def _at(self, index: int) -> Iterator[None]:
        self.model = self._models[index]
        try:
            yield
        finally:
            self.model = self._models[0]

    def _branches(self, prompts: tuple[Hashable, ...]) -> list[_Branch]:
        groups = [self.encoders.text(prompt) for prompt in prompts], [self.encoders.text(self.negative)] * len(prompts)
        made = []
        for index, group in enumerate(groups):
            with self._at(index):
                made.append(self._branch(group))
        return made

    def _observe(self, frames: Frames, start: int) -> None:
        both = self.branches
        for index, branch in enumerate(both):
            with self._at(index):
                self.branches = [branch]
                super()._observe(frames, start)
        self.branches = both

    def _predict(self, branch: _Branch, *values: Any) -> Prediction:
        with self._at(int(branch is not self.branches[0])):
            return super()._predict(branch, *values)
