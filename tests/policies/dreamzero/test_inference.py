from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.policies.dreamzero.test_dit import filled
from wambench.policies.dreamzero.dit import CONFIGS, DiT, Frames, KVCache
from wambench.policies.dreamzero.inference import ChunkGenerator, ChunkNoise, Encoders, GenerationConfig, Prompt, spread
from wambench.policies.dreamzero.official.frame_schedule import FrameSchedule
from wambench.policies.dreamzero.solvers import SamplerConfig

GOLDEN = Path(__file__).parents[2] / "golden" / "dreamzero"
TINY = CONFIGS["tiny"]
FAST = SamplerConfig(steps=2, caching="none")


@pytest.mark.parametrize("name", ["policy_head_inference.safetensors", "policy_head_training.safetensors"])
def test_golden(name: str) -> None:
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from tests.parity import head as parity

    results = parity.CHECKS[name](GOLDEN)
    assert len(results) > 20
    assert not [r for r in results if not r.passed]


# A raw frame of these tests is one number; its latent is filled with it.
def encode(frames: Tensor) -> Frames:
    kept = frames[:, ::4]
    latents = kept[:, None, :, None, None].expand(-1, TINY.latent_channels, -1, *TINY.latent_shape[1:])
    return Frames(latents.sin(), kept[..., None].expand(-1, -1, TINY.frame_vector).cos())


def text(prompt: Hashable) -> Prompt:
    generator = torch.Generator().manual_seed(sum(map(ord, str(prompt))))
    return Prompt(torch.randn(1, 4, TINY.text_dim, generator=generator))


ENCODERS = Encoders(encode, text)


def head(model: DiT | None = None, **changes: object) -> ChunkGenerator:
    config = replace(GenerationConfig(sampler=FAST), **changes)  # type: ignore[arg-type]
    return ChunkGenerator(filled(TINY) if model is None else model, ENCODERS, config)


def noise(batch: int = 1, frames: int = 2) -> ChunkNoise:
    g, c = torch.Generator().manual_seed(5), TINY
    latents = torch.randn(batch, c.latent_channels, frames, *c.latent_shape[1:], generator=g)
    vectors = torch.randn(batch, frames, c.frame_vector, generator=g)
    return ChunkNoise(Frames(latents, vectors), torch.randn(batch, frames // 2 * 4, c.action_dim, generator=g))


STATE = torch.zeros(1, 1, TINY.state_dim)


def raw(chunk: int) -> Tensor:
    """Returns what is seen at the call of a chunk: one frame, then 9 that overlap by one."""
    return torch.arange(chunk * 8 - 8, chunk * 8 + 1).float()[None] if chunk else torch.zeros(1, 1)


def test_counters_reset_after_four_chunks() -> None:
    policy, counters, tokens, starts = head(), [], [], []
    for chunk in range(6):
        starts.append(policy.act(raw(chunk), STATE, ["press"], noise()).start)
        counters.append(policy.counter)
        tokens.append(policy.cached_tokens // TINY.frame_tokens)
    assert counters == [3, 5, 7, 9, 3, 5]
    assert tokens == [1, 3, 5, 7, 1, 3]
    assert starts == [1, 3, 5, 7, 1, 3]


def test_the_cache_holds_real_frames_only() -> None:
    policy = head()
    for chunk in range(3):
        policy.act(raw(chunk), STATE, ["press"], noise())
    branch = policy.branches[0]
    cache = KVCache(TINY, 2, torch.device("cpu"), torch.float32)
    everything = encode(torch.arange(17).float()[None])
    with torch.no_grad():
        for start, stop in [(0, 1), (1, 3), (3, 5)]:
            part = everything.part(start, stop)
            assert part.vectors is not None
            twice = Frames(part.latents.repeat(2, 1, 1, 1, 1), part.vectors.repeat(2, 1, 1))
            policy.model.observe(cache, twice, start, branch.context)
    assert cache.length == branch.cache.length
    for layer in range(TINY.layers):
        assert torch.equal(cache.tokens(layer), branch.cache.tokens(layer))


def test_what_starts_anew() -> None:
    policy = head()
    assert policy.prepare(raw(0), ["press"])
    policy.finish()
    assert not policy.prepare(raw(1), ["press"])
    policy.finish()
    assert policy.prepare(raw(1), ["pull"])  # another prompt
    assert policy.last is not None and torch.equal(policy.last.latents, encode(torch.full((1, 1), 8.0)).latents)
    policy.finish()
    assert policy.prepare(torch.arange(8.0)[None, :1], ["pull"])  # a single frame
    with pytest.raises(ValueError, match="call finish"):
        policy.prepare(raw(1), ["pull"])
    policy.forget()
    policy.prepare(torch.arange(8.0)[None], ["pull"])  # the release takes the first of 8 frames
    assert torch.equal(policy.last.latents, encode(torch.zeros(1, 1)).latents)
    policy = head(reset_to_newest=True)
    policy.prepare(torch.arange(8.0)[None], ["pull"])
    assert policy.last is not None and torch.equal(policy.last.latents, encode(torch.full((1, 1), 7.0)).latents)


def test_frames_of_a_chunk() -> None:
    frames = torch.arange(9.0)[None]
    assert torch.equal(spread(frames, 2), frames)
    assert spread(frames[:, 1:], 2).tolist() == [[1, 1, 2, 3, 4, 5, 6, 7, 8]]
    assert spread(frames[:, :4], 2).tolist() == [[0, 0, 0, 1, 1, 2, 2, 3, 3]]
    with pytest.raises(ValueError, match="at least 4"):
        spread(frames[:, :3], 2)
    with pytest.raises(ValueError, match=r"1 \+ 8 j"):
        head().restart(torch.zeros(1, 8), ["press"])


def test_restart_equals_the_calls_that_led_there() -> None:
    policy, other = head(), head()
    for chunk in range(3):
        policy.prepare(raw(chunk), ["press"])
        policy.finish()
    other.restart(torch.arange(17.0)[None], ["press"])
    assert other.start == policy.start == 5
    a, b = policy.generate(STATE, noise()), other.generate(STATE, noise())
    torch.testing.assert_close(a.video.latents, b.video.latents)


def test_sliding_keeps_the_newest_chunks() -> None:
    policy = head(on_full="slide", keep_chunks=2)
    for chunk in range(5):
        policy.act(raw(chunk), STATE, ["press"], noise())
    assert policy.cached_tokens == 5 * TINY.frame_tokens and policy.counter == 7
    fresh = head()
    fresh.restart(torch.arange(16.0, 33.0)[None], ["press"])
    assert torch.equal(fresh.branches[0].cache.tokens(1), policy.branches[0].cache.tokens(1))
    with pytest.raises(ValueError, match="at most 3"):
        head(on_full="slide", keep_chunks=4)


def test_guidance_in_one_pass_or_two_and_on_the_video_only() -> None:
    model = filled(TINY)
    outs = {}
    cases: dict[str, dict[str, object]] = {"one": {}, "two": {"batched": False}, "none": {"guidance": 1.0}}
    for name, changes in cases.items():
        policy = head(model, **changes)
        policy.prepare(raw(0), ["press"])
        outs[name] = policy.generate(STATE, noise(), move_action=False)
        policy.config = replace(policy.config, sampler=SamplerConfig(steps=1, caching="none"))
        outs[name + " action"] = policy.generate(STATE, noise())
    torch.testing.assert_close(outs["one"].video.latents, outs["two"].video.latents, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(outs["one"].video.latents, outs["none"].video.latents)
    # one step: the action has not yet seen a guided video
    torch.testing.assert_close(outs["one action"].action, outs["none action"].action, rtol=1e-4, atol=1e-4)


def test_clamped_video_imagination_and_no_video() -> None:
    policy, start = head(), noise()
    policy.prepare(raw(0), ["press"])
    own = policy.generate(STATE, start)
    again = policy.generate(STATE, start)
    assert torch.equal(own.video.latents, again.video.latents)  # generating changes nothing
    clamped = policy.generate(STATE, start, clamp=own.video)
    assert torch.equal(clamped.video.latents, own.video.latents)
    other = policy.generate(STATE, start, clamp=encode(torch.arange(8.0)[None]))
    assert not torch.allclose(other.action, clamped.action)  # type: ignore[arg-type]
    imagined = policy.generate(STATE, start, move_action=False)
    assert torch.equal(imagined.action, start.action)  # type: ignore[arg-type]
    blind = head(test_time_video=False)
    blind.prepare(raw(0), ["press"])
    out = blind.generate(STATE, start)
    assert torch.equal(out.video.latents, start.video.latents) and len(blind.branches) == 1
    assert not torch.allclose(out.action, start.action)  # type: ignore[arg-type]


def test_a_batch_gives_the_answers_of_single_calls() -> None:
    model = filled(TINY)
    both, start = head(model), noise(2)
    frames = torch.tensor([[0.0], [3.0]])
    out = both.act(frames, STATE.repeat(2, 1, 1), ["press", "pull"], start)
    assert start.action is not None and start.video.vectors is not None and out.action is not None
    for i, prompt in enumerate(["press", "pull"]):
        part = ChunkNoise(
            Frames(start.video.latents[i : i + 1], start.video.vectors[i : i + 1]), start.action[i : i + 1]
        )  # fmt: skip
        one = head(model).act(frames[i : i + 1], STATE, [prompt], part)
        torch.testing.assert_close(one.action, out.action[i : i + 1], rtol=1e-4, atol=1e-4)


def test_bidirectional_window_and_video_model() -> None:
    policy = head(filled(replace(TINY, bidirectional=True)))
    window = noise(frames=8)
    out = policy.act(raw(0), STATE, ["press"], window)
    assert out.video.latents.shape == window.video.latents.shape and out.action is not None
    assert out.action.shape[1] == 16 and policy.cached_tokens == 0
    assert policy.prepare(raw(1), ["press"])  # every call starts anew
    policy = head(filled(replace(TINY, action_dim=0)))
    alone = ChunkNoise(noise().video, None)
    assert policy.act(raw(0), None, ["press"], alone).action is None


def test_evaluations_are_counted() -> None:
    policy = head(sampler=SamplerConfig())
    assert policy.act(raw(0), STATE, ["press"], noise()).evaluations == 8


def test_history_protocols() -> None:
    first, second = torch.zeros(1, 1), torch.arange(1.0, 9.0)[None]
    sent = {}
    for protocol in ("8+1", "repeat4", "single", "stateless"):
        history = FrameSchedule(protocol)
        assert history.take(first).tolist() == [[0.0]]
        sent[protocol] = history.take(second).tolist()[0]
    assert sent == {"8+1": list(range(9)), "repeat4": [0, 3, 5, 8], "single": [0, 0, 0, 8], "stateless": [8]}
    history = FrameSchedule()
    history.take(first)
    assert history.take(torch.tensor([[1.0, 2.0]])).tolist() == [[0] * 7 + [1, 2]]
    with pytest.raises(ValueError, match="did you mean 'single'"):
        FrameSchedule("singel")
