"""The whole policy head against `policy_head_inference` and `policy_head_training`: encoders, loop, sampler, losses."""

from __future__ import annotations

import ast
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.dit import config_from, load, metadata
from tests.parity.result import Result, compare, compare_relative
from wambench.policies.dreamzero.dit import DiT, Frames
from wambench.policies.dreamzero.inference import (
    RAW_PER_LATENT,
    ChunkGenerator,
    ChunkNoise,
    Encoders,
    FirstFrame,
    GenerationConfig,
    Prompt,
)
from wambench.policies.dreamzero.official import encoders as wan
from wambench.policies.dreamzero.official import objective
from wambench.policies.dreamzero.solvers import SamplerConfig

INFERENCE, RELATIVE, EXACT = 1e-4, 1e-4, 0.0
SAMPLERS = {"cache8": SamplerConfig(), "all16": SamplerConfig(caching="none")}


def model_of(folder: Path) -> DiT:
    """Returns the transformer of the `policy_head_*` files."""
    path = folder / "policy_head_dit_weights.safetensors"
    sizes = metadata(path)
    config = config_from(
        path, heads=int(sizes["heads"]), grid=(1, 1), frames_per_chunk=int(sizes["K"]),
        actions_per_chunk=int(sizes["H"]), states_per_chunk=int(sizes["S"]), max_chunks=int(sizes["maxM"]),
    )  # fmt: skip
    latents = load_file(folder / "policy_head_training.safetensors")["train.mid.latents"].shape
    return load(path, replace(config, grid=(latents[3] // config.patch[0], latents[4] // config.patch[1])))


def _ready(images: Tensor) -> Tensor:
    """Returns uint8 (B, T, H, W, 3) as (B, 3, T, H, W) in [-1, 1]."""
    return (images.float() / 255.0 - 0.5).div(0.5).permute(0, 4, 1, 2, 3)


def encoders_of(folder: Path, model: DiT) -> Encoders:
    """Returns the encoders whose weights lie in the folder; a prompt is a pair of tuples, ids and mask."""
    sizes = metadata(folder / "policy_head_dit_weights.safetensors")
    heads = int(ast.literal_eval(sizes["clip"])["vision_heads"])
    distance = int(metadata(folder / "text_encoder.safetensors")["max_dist"])
    vae = wan.load_vae(load_file(folder / "vae.safetensors"))
    text = wan.load_text(load_file(folder / "text_encoder.safetensors"), max_distance=distance)
    clip = wan.load_clip(load_file(folder / "image_encoder.safetensors"), heads=heads)
    raw = RAW_PER_LATENT * (model.config.window - 1) + 1

    def embed(prompt: Hashable) -> Prompt:
        ids, mask = (torch.tensor([values]) for values in prompt)  # type: ignore[attr-defined]
        return Prompt(text.embed(ids, mask, dtype=torch.float32))

    def first(frame: Tensor) -> FirstFrame:
        image = _ready(frame)[:, :, 0]
        return FirstFrame(clip(image), vae.condition(image, raw))

    return Encoders(lambda frames: Frames(vae.encode(_ready(frames))), embed, first)


def _prompt(t: dict[str, Tensor], at: str, suffix: str = "") -> Hashable:
    return tuple(tuple(t[f"{at}.text_{what}{suffix}"][0].tolist()) for what in ("ids", "attention_mask"))


@torch.no_grad()
def check_inference(folder: Path) -> list[Result]:
    """Every call of the conversation, under both evaluation masks, batched and in two passes."""
    t, model = load_file(folder / "policy_head_inference.safetensors"), model_of(folder)
    encoders, results = encoders_of(folder, model), []
    noise = ChunkNoise(Frames(t["infer.in.noise_video"]), t["infer.in.noise_action"])
    for name, sampler in SAMPLERS.items():
        for batched in (True, False) if name == "all16" else (True,):
            config = GenerationConfig(sampler, batched=batched)
            head = ChunkGenerator(model, encoders, config, _prompt(t, "infer.in", "_negative"))
            call = 0
            while f"infer.{name}.call{call}.out.action_pred" in t:
                results += _call(head, t, name, call, noise)
                call += 1
    return results


def _call(head: ChunkGenerator, t: dict[str, Tensor], name: str, call: int, noise: ChunkNoise) -> list[Result]:
    at, out = f"infer.call{call}.in", f"infer.{name}.call{call}.out"
    anew = head.prepare(t[f"{at}.images_uint8"], [_prompt(t, at)])
    assert head.last is not None
    chunk = head.generate(t[f"{at}.state"], noise)
    head.finish()
    assert chunk.action is not None
    video = torch.cat([head.last.latents, chunk.video.latents], dim=2) if anew else chunk.video.latents
    label = f"{name} call {call}"
    return [
        compare(f"{label} video", video, t[f"{out}.video_pred"], INFERENCE),
        compare(f"{label} action", chunk.action, t[f"{out}.action_pred"], INFERENCE),
        compare(f"{label} counter", torch.tensor(head.counter), t[f"{out}.frame_counter_after"], EXACT),
        compare(f"{label} tokens", torch.tensor(head.cached_tokens), t[f"{out}.cached_tokens_after"], EXACT),
    ]


def check_training(folder: Path) -> list[Result]:
    """Encoders, losses and gradients of the total loss, coupled and decoupled."""
    t, model = load_file(folder / "policy_head_training.safetensors"), model_of(folder)
    encoders, c = encoders_of(folder, model), model.config
    with torch.no_grad():
        first, clean = encoders.first(t["train.in.images_uint8"][:, :1]), encoders.video(t["train.in.images_uint8"])
        prompt = encoders.text(_prompt(t, "train.in"))
    assert first.image is not None and first.y is not None
    results = [
        compare("image tokens", first.image, t["train.mid.clip_feature"], INFERENCE),
        compare("latents", clean.latents, t["train.mid.latents"], INFERENCE),
        compare("condition", first.y, t["train.mid.y"], INFERENCE),
    ]
    batch = objective.ObjectiveBatch(
        clean, t["train.in.action"], t["train.in.state"], first.y, t["train.in.action_mask"]
    )
    for mode in sorted({name.split(".")[1] for name in t if ".out.loss" in name}):
        part = {n.removeprefix(f"train.{mode}."): x for n, x in t.items() if n.startswith(f"train.{mode}.")}
        context = model.encode_context(prompt.embedding, image=first.image)
        noise = objective.ObjectiveNoise(Frames(part["in.noise_latents"]), part["in.noise_action"])
        if "in.video_noise_ratio" in part:
            raw, action_id = objective.ratio_to_id(part["in.video_noise_ratio"]), part["in.action_timestep_id"]
            ids = objective.share_ids(raw, c.frames_per_chunk)
        else:
            ids = objective.share_ids(part["in.raw_frame_id"], c.frames_per_chunk)
            action_id = objective.chunk_ids(ids, c.frames_per_chunk)
        levels = objective.levels_from_ids("code", ids, action_id)
        loss = objective.losses(model, batch, context, levels, noise, objective.ObjectiveConfig())
        model.zero_grad()
        loss.total.backward()
        for name, value in [("loss", loss.total), ("action_loss", loss.action), ("dynamics_loss", loss.video)]:
            results.append(compare_relative(f"{mode} {name}", value[None], part[f"out.{name}"], RELATIVE))
        for name, parameter in model.named_parameters():
            if f"out.grad.{name}" in part:
                assert parameter.grad is not None
                expected = part[f"out.grad.{name}"]
                results.append(compare_relative(f"{mode} gradient of {name}", parameter.grad, expected, RELATIVE))
    return results


CHECKS: dict[str, Callable[[Path], list[Result]]] = {
    "policy_head_inference.safetensors": check_inference,
    "policy_head_training.safetensors": check_training,
}
