from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.parity import dit as parity
from wambench.policies.dreamzero import dit
from wambench.policies.dreamzero.dit import CONFIGS, Context, DiT, DiTConfig, Frames, KVCache

GOLDEN = Path(__file__).parents[2] / "golden" / "dreamzero"
TINY = CONFIGS["tiny"]
CHUNKS, WORDS = 3, 5


@pytest.mark.parametrize("name", parity.CHECKS)
def test_golden(name: str) -> None:
    results = parity.CHECKS[name](GOLDEN)
    assert results
    assert not [r for r in results if not r.passed]


def filled(config: DiTConfig, seed: int = 0) -> DiT:
    """Returns a model in which nothing is left at its initial zero."""
    model, generator = DiT(config), torch.Generator().manual_seed(seed)
    for p in model.parameters():
        nn.init.normal_(p, std=0.3 if p.dim() < 2 else 1.5 / p.shape[-1] ** 0.5, generator=generator)
    return model.eval()


class Inputs:
    """Random inputs of a training sequence; every tensor wants a gradient."""

    def __init__(self, config: DiTConfig, batch: int = 1) -> None:
        g, c = torch.Generator().manual_seed(1), config

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g).requires_grad_()

        frames = 1 + CHUNKS * c.frames_per_chunk
        first = 0 if c.noisy_first_frame else 1
        self.clean = Frames(
            draw(batch, c.latent_shape[0], frames, *c.latent_shape[1:]), draw(batch, frames, c.frame_vector)
        )
        noisy = frames - first
        self.noisy = Frames(
            draw(batch, c.latent_shape[0], noisy, *c.latent_shape[1:]), draw(batch, noisy, c.frame_vector)
        )
        levels = torch.rand(batch, CHUNKS, generator=g) * 1000
        self.timestep = levels.repeat_interleave(c.frames_per_chunk, 1)
        self.timestep_action = levels
        self.action = draw(batch, CHUNKS * c.actions_per_chunk, c.action_dim)
        self.state = draw(batch, CHUNKS * c.states_per_chunk, c.state_dim)
        self.text = draw(batch, WORDS, c.text_dim)

    def run(self, model: DiT, context: Context) -> dit.Prediction:
        return model(
            self.clean, self.noisy, self.timestep, context, self.action, self.timestep_action, self.state
        )  # fmt: skip


def test_14b_has_the_official_tensors() -> None:
    with torch.device("meta"):
        model = DiT(CONFIGS["14b"])
    shapes = {name: tuple(p.shape) for name, p in model.state_dict().items()}
    assert sum(p.numel() for p in model.parameters()) == 16_484_292_448
    assert len(shapes) == 1317
    d, f = 5120, 13824
    block = {
        "modulation": (1, 6, d), "norm3.weight": (d,), "norm3.bias": (d,), "ffn.0.weight": (f, d), "ffn.0.bias": (f,),
        "ffn.2.weight": (d, f), "ffn.2.bias": (d,),
    }  # fmt: skip
    for attention, parts, norms in [
        ("self_attn", "q k v o", "norm_q norm_k"),
        ("cross_attn", "q k v o k_img v_img", "norm_q norm_k norm_k_img"),
    ]:
        for part in parts.split():
            block |= {f"{attention}.{part}.weight": (d, d), f"{attention}.{part}.bias": (d,)}
        block |= {f"{attention}.{norm}.weight": (d,) for norm in norms.split()}
    assert len(block) == 32
    for layer in (0, 39):
        prefix = f"blocks.{layer}."
        assert {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)} == block
    rest = {name: shape for name, shape in shapes.items() if not name.startswith("blocks.")}
    assert rest == {
        "patch_embedding.weight": (d, 36, 1, 2, 2), "patch_embedding.bias": (d,),
        "text_embedding.0.weight": (d, 4096), "text_embedding.0.bias": (d,),
        "text_embedding.2.weight": (d, d), "text_embedding.2.bias": (d,),
        "time_embedding.0.weight": (d, 256), "time_embedding.0.bias": (d,),
        "time_embedding.2.weight": (d, d), "time_embedding.2.bias": (d,),
        "time_projection.1.weight": (6 * d, d), "time_projection.1.bias": (6 * d,),
        "img_emb.proj.0.weight": (1280,), "img_emb.proj.0.bias": (1280,),
        "img_emb.proj.1.weight": (1280, 1280), "img_emb.proj.1.bias": (1280,),
        "img_emb.proj.3.weight": (d, 1280), "img_emb.proj.3.bias": (d,),
        "img_emb.proj.4.weight": (d,), "img_emb.proj.4.bias": (d,),
        "head.head.weight": (64, d), "head.head.bias": (64,), "head.modulation": (1, 2, d),
        "state_encoder.layer1.W": (1, 64, 1024), "state_encoder.layer1.b": (1, 1024),
        "state_encoder.layer2.W": (1, 1024, d), "state_encoder.layer2.b": (1, d),
        "action_encoder.W1.W": (1, 32, d), "action_encoder.W1.b": (1, d),
        "action_encoder.W2.W": (1, 2 * d, d), "action_encoder.W2.b": (1, d),
        "action_encoder.W3.W": (1, d, d), "action_encoder.W3.b": (1, d),
        "action_decoder.layer1.W": (1, d, 1024), "action_decoder.layer1.b": (1, 1024),
        "action_decoder.layer2.W": (1, 1024, 32), "action_decoder.layer2.b": (1, 32),
    }  # fmt: skip


@pytest.mark.parametrize("sees", [True, False])
@pytest.mark.parametrize("first_frame", [True, False])
def test_no_token_sees_the_future_or_past_actions_and_states(sees: bool, first_frame: bool) -> None:
    config = replace(TINY, state_sees_chunk=sees, noisy_first_frame=first_frame)
    model, at = filled(config), Inputs(config)
    if first_frame:
        at.timestep = torch.cat([torch.full((1, 1), 500.0), at.timestep], dim=1)
    out = at.run(model, model.encode_context(at.text))
    assert out.action is not None and out.video.vectors is not None
    k, h, s, first = config.frames_per_chunk, config.actions_per_chunk, config.states_per_chunk, int(first_frame)
    assert at.clean.vectors is not None and at.noisy.vectors is not None
    inputs = [at.clean.latents, at.clean.vectors, at.noisy.latents, at.noisy.vectors, at.action, at.state]
    for chunk in range(CHUNKS):
        noisy, acts = slice(first + chunk * k, first + (chunk + 1) * k), slice(chunk * h, (chunk + 1) * h)
        for name, value in [
            ("video", out.video.latents[:, :, noisy].square().sum() + out.video.vectors[:, noisy].square().sum()),
            ("action", out.action[:, acts].square().sum()),
        ]:
            grads = torch.autograd.grad(value, inputs, retain_graph=True)
            clean = grads[0].abs().amax((0, 1, 3, 4)) + grads[1].abs().amax((0, 2))
            seen = 1 + chunk * k
            assert (clean[:seen] > 0).all() and (clean[seen:] == 0).all(), name
            own = torch.zeros(at.noisy.count, dtype=torch.bool)
            own[noisy] = True
            assert torch.equal(grads[2].abs().amax((0, 1, 3, 4)) + grads[3].abs().amax((0, 2)) > 0, own), name
            own = torch.zeros(CHUNKS * h, dtype=torch.bool)
            own[acts] = True
            assert torch.equal(grads[4].abs().amax((0, 2)) > 0, own), name
            own = torch.zeros(CHUNKS * s, dtype=torch.bool)
            own[chunk * s : (chunk + 1) * s] = True
            assert torch.equal(grads[5].abs().amax((0, 2)) > 0, own), name


def cached(model: DiT, at: Inputs, context: Context) -> tuple[Tensor, Tensor]:
    """Returns video and action predictions of all chunks by cached passes."""
    c = model.config
    k, h, s = c.frames_per_chunk, c.actions_per_chunk, c.states_per_chunk
    cache = KVCache(c, len(at.action), torch.device("cpu"), torch.float32)
    videos, actions, start = [], [], 0
    for chunk in range(CHUNKS):
        stop = 1 + chunk * k
        model.observe(cache, at.clean.part(start, stop), start, context)
        start = stop
        out = model.denoise(
            cache, at.noisy.part(chunk * k, chunk * k + k), at.timestep[:, chunk * k : chunk * k + k], start, context,
            at.action[:, chunk * h : chunk * h + h], at.timestep_action[:, chunk : chunk + 1],
            at.state[:, chunk * s : chunk * s + s],
        )  # fmt: skip
        assert out.action is not None
        assert cache.length == stop * c.frame_tokens
        videos.append(out.video.latents)
        actions.append(out.action)
    return torch.cat(videos, dim=2), torch.cat(actions, dim=1)


@torch.no_grad()
def test_cached_passes_equal_the_teacher_forced_pass() -> None:
    differences = {}
    for sees in (True, False):
        model = filled(replace(TINY, state_sees_chunk=sees))
        at = Inputs(model.config, batch=2)
        context = model.encode_context(at.text)
        whole, (video, action) = at.run(model, context), cached(model, at, context)
        assert whole.action is not None
        differences[sees] = max(
            float((whole.video.latents - video).abs().max()), float((whole.action - action).abs().max())
        )
    assert differences[True] < 1e-4
    assert differences[False] > 1e-2  # the released mask trains states that see less than they do at inference


@torch.no_grad()
def test_sdpa_and_explicit_attention_agree() -> None:
    at = Inputs(TINY, batch=2)
    mask = torch.tensor([[True] * WORDS, [True, True, False, False, False]])
    outs = []
    for attention in ("sdpa", "explicit"):
        model = filled(replace(TINY, attention=attention))
        outs.append(at.run(model, model.encode_context(at.text, mask)).video.latents)
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_masked_words_do_not_matter() -> None:
    model, at = filled(TINY), Inputs(TINY)
    mask = torch.tensor([[True, True, True, False, False]])
    changed = at.text.clone()
    changed[:, 3:] += 1.0
    same, masked = (at.run(model, model.encode_context(text, mask)).video.latents for text in (at.text, changed))
    assert torch.equal(same, masked)
    open_ = [at.run(model, model.encode_context(text)).video.latents for text in (at.text, changed)]
    assert not torch.allclose(open_[0], open_[1])


@torch.no_grad()
def test_timesteps_per_chunk_are_those_per_action() -> None:
    model, at = filled(TINY), Inputs(TINY)
    context = model.encode_context(at.text)
    one = at.run(model, context)
    at.timestep_action = at.timestep_action.repeat_interleave(TINY.actions_per_chunk, dim=1)
    each = at.run(model, context)
    assert one.action is not None and each.action is not None
    torch.testing.assert_close(one.action, each.action, rtol=1e-5, atol=1e-5)
    at.timestep_action = at.timestep_action.clone()
    at.timestep_action[:, 1] += 300.0
    assert not torch.allclose(one.action, at.run(model, context).action)  # type: ignore[arg-type]


@torch.no_grad()
def test_video_only_and_bidirectional_passes() -> None:
    at, c = Inputs(TINY), TINY
    model = filled(replace(c, action_dim=0))
    out = model(at.clean, at.noisy, at.timestep, model.encode_context(at.text))
    assert out.action is None and out.video.latents.shape == at.noisy.latents.shape
    assert not [name for name in model.state_dict() if name.startswith(("action_", "state_"))]
    model = filled(replace(c, bidirectional=True))
    context, last = model.encode_context(at.text), at.noisy.latents.clone()
    args = (at.timestep, context, at.action, at.timestep_action, at.state)
    one = model(at.clean.part(0, 1), at.noisy, *args).video.latents
    last[:, :, -1] += 1.0
    other = model(at.clean.part(0, 1), Frames(last, at.noisy.vectors), *args).video.latents
    assert not torch.allclose(one[:, :, 0], other[:, :, 0])  # the first frame sees the last


@torch.no_grad()
def test_cache_is_cut_to_its_window() -> None:
    cache = KVCache(TINY, 1, torch.device("cpu"), torch.float32)
    tokens = TINY.frame_tokens
    for value in range(TINY.window + 2):
        new = torch.full((1, TINY.heads, tokens, TINY.head_dim), float(value))
        cache.extend(0, new, new)
        cache.advance(tokens)
    assert cache.length == TINY.window * tokens
    assert cache.tokens(0)[0, 0, ::tokens, 0, 0].tolist() == list(range(2, TINY.window + 2))
    with pytest.raises(ValueError, match="do not fit"):
        cache.extend(0, *[torch.zeros(1, TINY.heads, 3 * tokens + 99, TINY.head_dim)] * 2)


def test_velocity_and_clean_value_are_one_statement() -> None:
    clean, noise, base = torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 4)
    sigma = 0.3
    x = (1 - sigma) * clean + sigma * noise
    torch.testing.assert_close(dit.to_velocity(x, clean - base, sigma, base, "clean"), noise - clean)
    torch.testing.assert_close(dit.to_clean(x, noise - clean, sigma, base, "velocity"), clean)


def test_chunk_bases_are_the_last_real_frames() -> None:
    frames = Frames(torch.arange(7.0).view(1, 1, 7, 1, 1), torch.arange(7.0).view(1, 7, 1))
    base = dit.chunk_bases(TINY, frames)
    assert base.latents.flatten().tolist() == [0, 0, 2, 2, 4, 4] == base.vectors.flatten().tolist()  # type: ignore[union-attr]
    assert dit.chunk_bases(replace(TINY, noisy_first_frame=True), frames).latents.shape[2] == 7
    assert dit.chunk_bases(replace(TINY, bidirectional=True), frames).latents.abs().max() == 0


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'nano'"):
        dit.config_for("nanoo")
    with pytest.raises(ValueError, match="velocity"):
        replace(TINY, prediction="noise")
    model, at = filled(TINY), Inputs(TINY)
    with pytest.raises(ValueError, match="image tokens given"):
        model.encode_context(at.text, image=at.text)
    context = model.encode_context(at.text)
    with pytest.raises(ValueError, match="condition y given"):
        model(at.clean, at.noisy, at.timestep, context, y=at.clean.latents)
    with pytest.raises(ValueError, match="no chunks of 2"):
        model(at.clean, at.noisy, at.timestep, context, at.action[:, 1:], at.timestep_action, at.state)
