"""Every optimisation computes what the plain transformer computes, and the operations are counted right."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from wambench.policies.dreamzero import flops, quantization
from wambench.policies.dreamzero.acceleration import FastDiT, RecordedGenerator, RecordedProgram, TwoDeviceGenerator
from wambench.policies.dreamzero.dit import CONFIGS, DiT, DiTConfig, Frames
from wambench.policies.dreamzero.inference import (
    ChunkGenerator,
    ChunkNoise,
    Encoders,
    FirstFrame,
    GenerationConfig,
    Prompt,
)
from wambench.policies.dreamzero.kv_cache import KVCache
from wambench.policies.dreamzero.solvers import SamplerConfig

TINY = CONFIGS["tiny"]
# the layout of the release, small: image tokens, a condition, no vector token, velocities
SMALL = replace(
    CONFIGS["14b"], width=64, layers=2, heads=2, ffn=96, grid=(2, 3), text_dim=16, image_dim=32, freq_dim=32,
    action_dim=4, state_dim=5, hidden=16, actions_per_chunk=4,
)  # fmt: skip
WORDS, IMAGES = 6, 9
STEPS = SamplerConfig(steps=3, caching="none")
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def model(config: DiTConfig, device: str = "cpu", dtype: torch.dtype = torch.float32) -> DiT:
    """Returns a model none of whose weights is zero."""
    built, generator = DiT(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in built.parameters():
            scale = 0.3 if p.dim() < 2 else p.flatten(1).shape[1] ** -0.5
            p.copy_(torch.randn(p.shape, generator=generator) * scale + (p.dim() == 1) * 0.5)
    return built.to(device, dtype).eval()


class Senses:
    """Encoders of raw frames that are one number each: the latent is filled with functions of it."""

    def __init__(self, config: DiTConfig, device: str = "cpu") -> None:
        self.config, self.device = config, device

    def video(self, raw: Tensor) -> Frames:
        c, kept = self.config, raw[:, ::4].to(self.device)
        spread = drawn(20, c.latent_channels, 1, *c.latent_shape[1:]).to(self.device)
        vectors = (kept[..., None] * drawn(21, c.frame_vector).to(self.device)).sin() if c.frame_vector else None
        return Frames((kept[:, None, :, None, None] * spread).cos(), vectors)

    def text(self, prompt: Hashable) -> Prompt:
        mask = None if self.config.image_dim else (torch.arange(WORDS) < 4)[None].to(self.device)
        return Prompt(drawn(len(str(prompt)), 1, WORDS, self.config.text_dim).to(self.device), mask)

    def first(self, raw: Tensor) -> FirstFrame:
        c, seed = self.config, int(raw.sum()) + 40
        if not c.image_dim:
            return FirstFrame()
        y = drawn(seed, 1, c.condition_channels, c.window, *c.latent_shape[1:])
        return FirstFrame(drawn(seed + 1, 1, IMAGES, c.image_dim).to(self.device), y.to(self.device))

    @property
    def encoders(self) -> Encoders:
        return Encoders(self.video, self.text, self.first)


def noise(config: DiTConfig, seed: int = 30) -> ChunkNoise:
    c = config
    latents = drawn(seed, 1, c.latent_channels, c.frames_per_chunk, *c.latent_shape[1:])
    vectors = drawn(seed + 1, 1, c.frames_per_chunk, c.frame_vector) if c.frame_vector else None
    return ChunkNoise(Frames(latents, vectors), drawn(seed + 2, 1, c.actions_per_chunk, c.action_dim))


def raw(chunk: int) -> Tensor:
    """Returns what is seen at the call of a chunk: one frame, then 9 that overlap by one."""
    return torch.arange(chunk * 8 - 8, chunk * 8 + 1).float()[None] if chunk else torch.zeros(1, 1)


def lived(head: ChunkGenerator, calls: int = 6, prompts: Sequence[str] = ("press",)) -> list[Tensor]:
    """Returns everything that a head generates in calls one after another, across a reset; prompts take turns."""
    c, found = head.model.config, []
    for call in range(calls):
        state = drawn(60 + call, 1, c.states_per_chunk, c.state_dim)
        out = head.act(raw(call), state, [prompts[call % len(prompts)]], noise(c, 30 + call))
        found += [x for x in (out.video.latents, out.video.vectors, out.action) if x is not None]
    return found


def head(net: DiT, kind: Callable[..., Any] = ChunkGenerator, sampler: SamplerConfig = STEPS, **values: Any) -> Any:
    extra = {name: values.pop(name) for name in ("record", "second") if name in values}
    config = GenerationConfig(sampler=sampler, **values)
    return kind(net, Senses(net.config, str(net.device)).encoders, config, "negative", **extra)


def error(one: list[Tensor], other: list[Tensor]) -> float:
    """Returns the largest relative root mean square error of the parts."""
    assert len(one) == len(other) > 0
    return max(float((a.cpu() - b.cpu()).norm() / b.norm()) for a, b in zip(one, other, strict=True))


BOTH = pytest.mark.parametrize("config", [TINY, SMALL], ids=["tiny", "small"])


@BOTH
def test_fast_blocks_agree_with_the_plain_ones(config: DiTConfig) -> None:
    plain = model(config)
    wanted = lived(head(plain))
    assert error(lived(head(FastDiT(plain))), wanted) < 5e-6
    assert error(lived(head(FastDiT(plain, attention="flash"))), wanted) < 5e-6
    per_call = len(wanted) // 6
    assert error(wanted[: 2 * per_call], wanted[per_call : 3 * per_call]) > 0.1  # calls differ, or this tests nothing


def test_a_fast_model_cannot_train() -> None:
    plain, c = model(TINY), TINY
    several = Senses(c).video(torch.arange(9.0)[None])
    with pytest.raises(ValueError, match="cached passes only"):
        words = plain.encode_context(drawn(1, 1, WORDS, c.text_dim))
        FastDiT(plain)(several, several.part(1, 3), torch.ones(1, 2), words)


def test_blocks_are_compiled_once_for_all_layers_and_lengths() -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    plain = model(replace(TINY, layers=4))
    assert error(lived(head(FastDiT(plain, compiler="aot_eager")), 4), lived(head(plain), 4)) < 1e-5
    # before and after, for 1 observed frame, for K observed frames, and for a noisy chunk; not per layer or length
    assert counters["stats"]["unique_graphs"] == 6


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_compiled_kernels_agree() -> None:
    torch._dynamo.reset()
    plain = model(replace(SMALL, layers=1))
    assert error(lived(head(FastDiT(plain, compiler="inductor")), 1), lived(head(plain), 1)) < 2e-5


class Replayed:
    """What a CUDA graph does, without a GPU: repeats the work, whose inputs must have stayed in place."""

    made = 0

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        Replayed.made += 1
        for _ in range(3):
            work()

    def __call__(self) -> Any:
        return self.work()


@BOTH
@pytest.mark.parametrize("batched", [True, False])
def test_a_recorded_head_agrees_with_the_plain_one(config: DiTConfig, batched: bool) -> None:
    net, Replayed.made = model(config), 0
    recorded = head(net, RecordedGenerator, record=Replayed, batched=batched)
    wanted = lived(head(net, batched=batched), 10, ("press", "press", "press", "open it"))
    assert error(lived(recorded, 10, ("press", "press", "press", "open it")), wanted) < 5e-6
    assert Replayed.made <= 4 + 4  # clean passes at 0, 1, 3, 5 and chunks at 1, 3, 5, 7, never again
    recorded.forget()
    assert error(lived(recorded, 6), lived(head(net, batched=batched), 6)) < 5e-6
    assert Replayed.made <= 4 + 4


@BOTH
def test_what_a_recording_reads_stays_where_it_is(config: DiTConfig) -> None:
    """A graph reads addresses: nothing that the programs use may be allocated anew between calls."""
    recorded = head(model(config), RecordedGenerator, record=Replayed)
    lived(recorded, 2)
    before = {name: kept.data_ptr() for name, kept in recorded._kept.items()}
    caches = [branch.cache.buffer.data_ptr() for branch in recorded.branches]
    lived(recorded, 6, ("open it", "open it", "press"))
    assert before == {name: recorded._kept[name].data_ptr() for name in before}
    assert caches == [branch.cache.buffer.data_ptr() for branch in recorded.branches]
    assert recorded.last.latents.data_ptr() in before.values()


def test_a_recorded_head_still_takes_a_clamped_video() -> None:
    net = model(TINY)
    plain, recorded = head(net), head(net, RecordedGenerator, record=Replayed)
    clamp, state, answers = Senses(TINY).video(torch.arange(9.0)[None]).part(1, 3), drawn(60, 1, 1, 5), []
    for one in (plain, recorded):
        one.prepare(raw(0), ["press"])
        answers.append(one.generate(state, noise(TINY), clamp=clamp).action)
    assert error(answers[1:], answers[:1]) < 5e-6


@BOTH
def test_two_devices_agree_with_one(config: DiTConfig) -> None:
    net = model(config)
    wanted = lived(head(net, batched=False))
    assert error(lived(head(net, TwoDeviceGenerator, second=copy.deepcopy(net), batched=False)), wanted) < 5e-6
    assert error(lived(head(net, batched=True)), wanted) < 5e-6
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.head.head.weight.mul_(1.1)  # the second model is the one that answers for the negative prompt
    assert error(lived(head(net, TwoDeviceGenerator, second=other, batched=False)), wanted) > 1e-3
    with pytest.raises(ValueError, match="not batched"):
        head(net, TwoDeviceGenerator, second=net)


def test_actions_of_one_step_need_no_guidance() -> None:
    net, once = model(SMALL), SamplerConfig(steps=1, caching="none")
    guided, alone = (lived(head(net, sampler=once, guidance=scale), 2) for scale in (5.0, 1.0))
    assert error(guided[1::2], alone[1::2]) < 5e-6 < 1e-2 < error(guided[::2], alone[::2])


@pytest.mark.parametrize(
    ("linear", "tolerance"), [("fp8-emulated", 0.05), ("fp8-tensor-emulated", 0.07), ("nvfp4-emulated", 0.3)]
)
def test_low_precision_stays_near(linear: str, tolerance: float) -> None:
    plain = model(SMALL)
    wrong = error(lived(head(FastDiT(plain, linear), guidance=1.0), 2), lived(head(plain, guidance=1.0), 2))
    print(linear, wrong)
    assert 1e-3 < wrong < tolerance


@pytest.mark.parametrize("by_row", [True, False])
def test_fp8_kernel_multiplies_what_the_emulation_says(by_row: bool) -> None:
    x, weight, bias = drawn(1, 3, 5, 64), drawn(2, 48, 64), drawn(3, 48)
    emulated = quantization.Float8Linear(weight, bias, by_row, emulate=True)(x)
    kernel = quantization.Float8Linear(weight, bias, by_row)(x)
    assert kernel.shape == (3, 5, 48)
    assert error([kernel], [emulated]) < 4e-3  # the kernel answers in bfloat16
    assert 1e-3 < error([emulated], [x @ weight.t() + bias]) < 0.05


def test_fp8_scales_follow_the_rows() -> None:
    x = drawn(1, 4, 32) * torch.tensor([[1e-4], [1.0], [1e4], [0.0]])
    values, scale = quantization.to_fp8(x, by_row=True)
    assert error([(values.float() * scale)[:3]], [x[:3]]) < 0.05
    assert error([(values.float() * scale)[:1]], [x[:1]]) < 0.05
    assert not values[3].float().any()


def test_nvfp4_rounds_to_the_nearest_level() -> None:
    largest = torch.tensor(6.0 * 448.0)  # the outer scale is then 1
    block = torch.tensor([[0.0, 0.2, 0.3, -0.6, 0.8, 1.3, -1.6, 2.4, 2.6, -3.4, 3.6, 4.9, 5.1, -6.0, 1.0, 0.5]])
    codes, scales = quantization.to_fp4(block, largest)
    nearest = [0, 0, 0.5, -0.5, 1, 1.5, -1.5, 2, 3, -3, 4, 4, 6, -6, 1, 0.5]
    assert scales.float().item() == 1.0
    assert quantization.from_fp4(codes, scales, largest).tolist() == [nearest]
    x = drawn(1, 8, 64) * torch.logspace(-3, 3, 8)[:, None]
    codes, scales = quantization.to_fp4(x, x.abs().amax())
    assert error([quantization.from_fp4(codes, scales, x.abs().amax())[4:]], [x[4:]]) < 0.15
    pairs = quantization.pack_codes(codes)
    assert torch.equal(pairs & 15, codes[:, ::2]) and torch.equal(pairs >> 4, codes[:, 1::2])


def test_nvfp4_scales_lie_in_tiles() -> None:
    scales = torch.arange(200 * 6).reshape(200, 6).remainder(7).to(quantization.FP8)
    flat = quantization.arrange_scales(scales).float()
    assert flat.numel() == 256 * 8
    for row, column in ((0, 0), (33, 2), (127, 3), (128, 0), (199, 5), (45, 4)):
        tile = (row // 128) * 2 + column // 4
        inside, place = row % 128, column % 4
        assert flat[tile * 512 + (inside % 32) * 16 + 4 * (inside // 32) + place] == scales[row, column].float()


def test_what_a_cpu_cannot_do_is_said() -> None:
    cpu = torch.device("cpu")
    assert "NVIDIA" in str(quantization.why_unavailable("fp8", cpu)) and "NVIDIA" in str(
        quantization.why_unavailable("nvfp4", cpu)
    )
    if torch.cuda.is_available():
        return
    with pytest.raises(ValueError, match="CUDA graphs need"):
        RecordedProgram(lambda: None)
    with pytest.raises(ValueError, match="did you mean 'fp8'"):
        FastDiT(DiT(TINY), "fp9")
    with pytest.raises(ValueError, match="did you mean 'cudnn'"):
        FastDiT(DiT(TINY), attention="cudn")


def counted(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", ["tiny", "small", "nano", "mini"])
def test_operations_are_those_that_run(name: str) -> None:
    c = replace(SMALL if name == "small" else CONFIGS[name], attention="explicit")
    batch, cached, k, net = 2, 3, c.frames_per_chunk, DiT(c)
    size = (batch, c.condition_channels, k, *c.latent_shape[1:])
    latents, y = torch.zeros(batch, c.latent_channels, *size[2:]), torch.zeros(size) if c.condition_channels else None
    given = Frames(latents, torch.zeros(batch, k, c.frame_vector) if c.frame_vector else None)
    action, state = torch.zeros(batch, c.actions_per_chunk, c.action_dim), torch.zeros(batch, 1, c.state_dim)
    text, image = torch.zeros(batch, WORDS, c.text_dim), torch.zeros(batch, IMAGES, c.image_dim)
    images = IMAGES if c.image_dim else 0
    cache = KVCache(c, batch, torch.device("cpu"), torch.float32)
    cache.length = cached * c.frame_tokens

    with torch.no_grad():
        words = net.encode_context(text, None, image if images else None)
    ran = counted(lambda: net.encode_context(text, None, image if images else None))
    assert ran == flops.prompt(c, WORDS, images, batch).total
    time = torch.zeros(batch, k), torch.zeros(batch, 1)
    arguments: list[Any]
    for actions in (True, False):
        of_actions = (action, time[1], state) if actions else (None, None, None)
        arguments = [cache, given, time[0], 1, words, *of_actions, y]
        ran = counted(partial(net.denoise, *arguments))
        tokens, slots = k * c.frame_tokens + actions * (c.actions_per_chunk + 1), k + actions
        spread = 2 * c.layers * batch * 6 * tokens * slots * c.width  # on a CPU a product spreads slots over tokens
        assert ran - spread == flops.cached_pass(c, k, cached, WORDS, images, actions, batch).total
    assert sum(p.numel() for p in net.parameters()) == flops.parameters(c)
    assert cache.buffer.numel() * 4 == flops.cache_bytes(c, batch, 4)


def test_operations_of_the_14b() -> None:
    c = CONFIGS["14b"]
    assert round(flops.parameters(c) / 1e9, 3) == 16.484
    once = flops.cached_pass(c, 2, 7, 512, 257, batch=2)
    assert once.linear > 0.7 * once.total
    whole, again = flops.chunk(c, 8, 5, 512, 257, 2), flops.chunk(c, 8, 5, 512, 257, 2, cache=False)
    assert whole.total - flops.chunk(c, 7, 5, 512, 257, 2).total == once.total
    assert again.total > whole.total and again.other > whole.other
    assert flops.chunk(c, 8, 5, 512, 257, 2).total == 2 * flops.chunk(c, 8, 5, 512, 257).total


@CUDA
@pytest.mark.parametrize("linear", ["dense", "fp8", "fp8-tensor", "nvfp4"])
def test_on_a_gpu_recorded_and_compiled_agree(linear: str) -> None:
    device = torch.device("cuda")
    if linear != "dense" and (reason := quantization.why_unavailable(linear.split("-")[0], device)):
        pytest.skip(reason)
    torch._dynamo.reset()
    plain = model(replace(SMALL, width=256), "cuda", torch.bfloat16)
    wanted = lived(head(plain))
    fast = FastDiT(plain, linear, compiler="inductor", attention="cudnn")
    tolerance = {"dense": 0.06, "nvfp4": 0.8}.get(linear, 0.25)  # guidance widens what rounding does
    assert error(lived(head(fast, RecordedGenerator)), wanted) < tolerance


@CUDA
def test_on_a_gpu_a_recording_is_exact() -> None:
    plain = model(replace(SMALL, width=256), "cuda", torch.bfloat16)
    assert error(lived(head(plain, RecordedGenerator)), lived(head(plain))) < 1e-6
