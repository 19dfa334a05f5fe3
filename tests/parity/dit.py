"""The transformer against `dit_*`, `attention_masks` and `embodiment_modules`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.result import Result, compare
from wambench.policies.dreamzero import dit
from wambench.policies.dreamzero import token_layout as layout
from wambench.policies.dreamzero.dit import DiT, DiTConfig, Frames
from wambench.policies.networks import layers, rope

PREFIX = "action_head.model."
VIDEO, ACTION, BLOCK, CACHE, MODULE = 5e-5, 1e-4, 2e-4, 5e-5, 1e-4


def metadata(path: Path) -> dict[str, str]:
    """Returns a safetensors file's metadata."""
    with safe_open(str(path), framework="pt") as file:
        return file.metadata() or {}


def config_from(path: Path, heads: int, grid: tuple[int, int], **layout: Any) -> DiTConfig:
    """Returns the config of a golden weights file; sizes are read off its tensors."""
    w = {name.removeprefix(PREFIX): tensor for name, tensor in load_file(path).items()}
    d, total, _, p, q = w["patch_embedding.weight"].shape
    channels = w["head.head.weight"].shape[0] // (p * q)
    return DiTConfig(
        width=d,
        layers=1 + max(int(name.split(".")[1]) for name in w if name.startswith("blocks.")),
        heads=heads,
        ffn=w["blocks.0.ffn.0.weight"].shape[0],
        latent_channels=channels,
        condition_channels=total - channels,
        grid=grid,
        patch=(p, q),
        text_dim=w["text_embedding.0.weight"].shape[1],
        image_dim=w["img_emb.proj.1.weight"].shape[0],
        freq_dim=w["time_embedding.0.weight"].shape[1],
        action_dim=w["action_encoder.W1.W"].shape[1],
        state_dim=w["state_encoder.layer1.W"].shape[1],
        hidden=w["state_encoder.layer1.W"].shape[2],
        categories=w["state_encoder.layer1.W"].shape[0],
        **layout,
    )


def load(path: Path, config: DiTConfig) -> DiT:
    """Returns the transformer of a golden weights file; every name and shape must match."""
    model = DiT(config)
    model.load_state_dict({name.removeprefix(PREFIX): tensor for name, tensor in load_file(path).items()})
    return model.eval()


def golden_config(folder: Path) -> DiTConfig:
    """Returns the config of the `dit_*` files."""
    sizes = metadata(folder / "dit_weights.safetensors")
    y = load_file(folder / "dit_training.safetensors")["in.clean_latents"].shape[3:]
    config = config_from(
        folder / "dit_weights.safetensors",
        heads=int(sizes["heads"]),
        grid=(1, 1),
        frames_per_chunk=int(sizes["K"]),
        actions_per_chunk=int(sizes["H"]),
        states_per_chunk=int(sizes["S"]),
        max_chunks=int(sizes["maxM"]),
    )
    return replace(config, grid=(y[0] // config.patch[0], y[1] // config.patch[1]))


@torch.no_grad()
def check_training(folder: Path) -> list[Result]:
    """The teacher-forced pass, block by block, with both attention implementations."""
    t, results = load_file(folder / "dit_training.safetensors"), []
    for attention in ("sdpa", "explicit"):
        config = replace(golden_config(folder), attention=attention)
        model = load(folder / "dit_weights.safetensors", config)
        seen: list[Tensor] = []
        for block in model.blocks:
            block.register_forward_hook(lambda *args, seen=seen: seen.append(args[-1]))
        context = model.encode_context(t["in.context"], image=t["in.clip_feature"])
        out = model(
            Frames(t["in.clean_latents"]), Frames(t["in.noisy_latents"]), t["in.timestep"], context,
            t["in.noisy_action"], t["in.timestep_action"], t["in.state"], t["in.y"],
        )  # fmt: skip
        c, (m, h) = config, (t["in.state"].shape[1] // config.states_per_chunk, config.actions_per_chunk)
        parts = layout.TokenLayout(
            c.frame_tokens, t["in.timestep"].shape[1], 1, m, c.frames_per_chunk, h, c.states_per_chunk
        )
        order = layout.release_order(parts)
        results += [
            compare(f"{attention} block {i}", x[:, order], t[f"mid.block_{i}"], BLOCK) for i, x in enumerate(seen)
        ]
        results.append(compare(f"{attention} video velocity", out.video.latents, t["out.video_velocity"], VIDEO))
        assert out.action is not None
        results.append(compare(f"{attention} action velocity", out.action, t["out.action_velocity"], ACTION))
    return results


@torch.no_grad()
def check_inference(folder: Path) -> list[Result]:
    """The cached passes in their order, one growing cache."""
    t, results = load_file(folder / "dit_inference.safetensors"), []
    config = golden_config(folder)
    model = load(folder / "dit_weights.safetensors", config)
    context = model.encode_context(t["in.context"], image=t["in.clip_feature"])
    cache = dit.KVCache(config, t["in.context"].shape[0], torch.device("cpu"), torch.float32)
    steps = sorted(
        {name.split(".")[0] for name in t if name.startswith("step")}, key=lambda s: int(s[4:].split("_")[0])
    )
    for step in steps:
        part = {name[len(step) + 1 :]: tensor for name, tensor in t.items() if name.startswith(step + ".")}
        frames, start = Frames(part["in.latents"]), int(part["in.start_frame"])
        if "in.action" in part:
            before = cache.tokens(0).clone()
            out = model.denoise(
                cache, frames, part["in.timestep"], start, context, part["in.action"], part["in.timestep_action"],
                part["in.state"], part["in.y"],
            )  # fmt: skip
            assert out.action is not None
            results.append(compare(f"{step} action velocity", out.action, part["out.action_velocity"], ACTION))
            results.append(compare(f"{step} leaves the cache alone", cache.tokens(0), before, 0.0))
        else:
            out = model.observe(cache, frames, start, context, part["in.y"])
            for layer in range(config.layers):
                expected = part[f"out.kv_cache_layer_{layer}"]
                results.append(compare(f"{step} cache of layer {layer}", cache.tokens(layer), expected, CACHE))
        results.append(compare(f"{step} video velocity", out.video.latents, part["out.video_velocity"], VIDEO))
    return results


def check_masks(folder: Path) -> list[Result]:
    """Masks of the training sequence, exact; the release's video-only and no-clean-copy paths are not offered."""
    path = folder / "attention_masks.safetensors"
    sizes, t = metadata(path), load_file(path)
    k, h, s, m = (int(sizes[name]) for name in "KHSM")
    name, tokens, results = "training_teacher_forcing", int(sizes["frame_seqlen"]), []
    for suffix, window in [("", 1 + m * k), ("_window_larger_than_sequence", 1 + 5 * k),
                           ("_window_smaller_than_sequence", 1 + k), ("_window_disabled", -1)]:  # fmt: skip
        expected = t[name + suffix]
        chunks = (len(expected) - 2 * tokens) // (2 * k * tokens + h + s)
        parts = layout.TokenLayout(tokens, 1 + chunks * k, 1, chunks, k, h, s)
        order = layout.release_order(parts)
        seen = layout.mask(layout.training_attention(parts, False, window), parts.tokens)[order][:, order]
        results.append(compare(name + suffix, seen, expected, 0.0))
    for suffix in ("denoise_chunk2", "clean_pass_chunk2_no_registers"):  # cached passes have no mask
        expected = t["cached_" + suffix]
        results.append(compare("cached_" + suffix, torch.ones_like(expected), expected, 0.0))
    return results


def _modules(t: dict[str, Tensor]) -> tuple[layers.CategoryMLP, layers.ActionEncoder, layers.CategoryMLP]:
    categories, state_dim, hidden = t["state_encoder.layer1.W"].shape
    width, action_dim = t["state_encoder.layer2.W"].shape[2], t["action_decoder.layer2.W"].shape[2]
    modules = (
        layers.CategoryMLP(categories, state_dim, hidden, width),
        layers.ActionEncoder(categories, action_dim, width),
        layers.CategoryMLP(categories, width, t["action_decoder.layer1.W"].shape[2], action_dim),
    )
    for module, prefix in zip(modules, ("state_encoder.", "action_encoder.", "action_decoder."), strict=True):
        module.load_state_dict({n.removeprefix(prefix): w for n, w in t.items() if n.startswith(prefix)})
    return modules


def _check_rope(t: dict[str, Tensor]) -> list[Result]:
    """Rotations of two frames on the grid 3 x 4 of the file's README, and of one and two chunks with one state each."""
    tokens, train = t["rope.in.tokens"], t["rope_train.in.tokens"]
    d, h = tokens.shape[-1], train.shape[1] - tokens.shape[1] - 1
    cached = next(name for name in t if name.startswith("rope.out."))
    start, chunk = map(int, re.findall(r"\d+", cached))

    def rotated(x: Tensor, first: int, chunk: int, chunks: int) -> Tensor:
        actions, states = torch.arange(chunk * h, (chunk + chunks) * h), torch.arange(chunk, chunk + chunks)
        frames = rope.frame_angles(torch.tensor([first, first + 1]), 3, 4, False, d)
        return rope.rotate(x, rope.table(torch.cat([frames, rope.angles(actions, d), rope.angles(states, d)])))

    return [
        compare("rope, cached", rotated(tokens, start, chunk, 1), t[cached], MODULE),
        compare("rope, training", rotated(train, 0, 0, 2), t["rope_train.out.two_chunks"], MODULE),
    ]


@torch.no_grad()
def check_embodiment(folder: Path) -> list[Result]:
    """Action and state modules with several categories, rotary positions, sinusoids."""
    t = load_file(folder / "embodiment_modules.safetensors")
    state_encoder, action_encoder, action_decoder = _modules(t)
    category, width = t["in.category_id"], t["out.action_time_sinusoid"].shape[-1]
    results = [
        compare("state", state_encoder(t["in.state"], category), t["out.state_features"], MODULE),
        compare("action", action_encoder(t["in.action"], t["in.timestep"], category), t["out.action_features"], MODULE),
        compare("decoded", action_decoder(t["in.hidden"], category), t["out.decoded_action"], MODULE),
        compare("time", layers.sinusoid_sin_first(t["in.timestep"], width), t["out.action_time_sinusoid"], MODULE),
    ]
    for name, expected in t.items():
        if name.startswith("sinusoid.out."):
            make = layers.sinusoid if "time_embedding" in name else layers.sinusoid_sin_first
            results.append(compare(name, make(t["sinusoid.in.timestep"], expected.shape[-1]), expected, MODULE))
    return results + _check_rope(t)


CHECKS: dict[str, Callable[[Path], list[Result]]] = {
    "attention_masks.safetensors": check_masks,
    "embodiment_modules.safetensors": check_embodiment,
    "dit_training.safetensors": check_training,
    "dit_inference.safetensors": check_inference,
}
