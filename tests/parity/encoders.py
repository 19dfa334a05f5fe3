"""The library encoders against `vae`, `text_encoder` and `image_encoder`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.result import Result, compare
from wambench.policies.dreamzero.inference import RAW_PER_LATENT
from wambench.policies.dreamzero.official import encoders

ENCODE, DECODE, TEXT, IMAGE, EXACT = 1e-5, 5e-5, 5e-5, 1e-4, 0.0


@torch.no_grad()
def check_vae(folder: Path) -> list[Result]:
    """Encoding of 4n+1 and other numbers of frames, decoding, the condition, and the four-frame client."""
    t = load_file(folder / "vae.safetensors")
    vae, video = encoders.load_vae(t), t["in.video"]
    results = [
        compare("constants: mean", torch.tensor(encoders.LATENT_MEAN), t["const.latent_mean"], 1e-6),
        compare("constants: std", torch.tensor(encoders.LATENT_STD), t["const.latent_std"], 1e-6),
    ]
    for name in t:
        if found := re.fullmatch(r"out\.latent_(\d+)_frames", name):
            results.append(compare(name, vae.encode(video[:, :, : int(found[1])]), t[name], ENCODE))
    nine, y = encoders.spread_frames(t["in.four_frames"]), t["out.image_condition_y"]
    return [
        *results,
        compare("decode", vae.decode(t["in.latent"], clamp=False), t["out.decoded_unclamped"], DECODE),
        compare("decode, clamped", vae.decode(t["in.latent"]), t["out.decoded_wrapper"], DECODE),
        compare("condition", vae.condition(video[:, :, 0], RAW_PER_LATENT * (y.shape[2] - 1) + 1), y, ENCODE),
        compare("four frames as nine", nine, t["out.four_frames_as_nine"], EXACT),
        compare("injected latents", vae.encode(nine), t["out.latent_injected"], ENCODE),
    ]


@torch.no_grad()
def check_text(folder: Path) -> list[Result]:
    """States of the batch, the prompt embedding of each sample alone and in the batch, and the position buckets."""
    file = folder / "text_encoder.safetensors"
    t, sizes = load_file(file), _metadata(file)
    encoder, ids, mask = encoders.load_text(t, max_distance=int(sizes["max_dist"])), t["in.ids"], t["in.attention_mask"]
    results = [compare("hidden", encoder.hidden_states(ids, mask), t["out.hidden"], TEXT)]
    together = encoder.embed(ids, mask)
    for i in range(ids.shape[0]):
        expected = t[f"out.prompt_embedding_sample{i}"]
        alone = encoder.embed(ids[i : i + 1], mask[i : i + 1])
        results += [_ulps(f"prompt {i} alone", alone, expected), _ulps(f"prompt {i} in batch", together[[i]], expected)]
    attention = encoder.stack.block[0].layer[0].SelfAttention
    buckets = attention._relative_position_bucket(t["relative_bucket.in.key_minus_query"])
    return [*results, compare("position buckets", buckets, t["relative_bucket.out.bucket"], EXACT)]


def _ulps(name: str, got: Tensor, expected: Tensor) -> Result:
    """Returns the largest difference in bfloat16 steps, less what the encoder's float32 tolerance explains."""
    got, expected = got.float(), expected.float()
    zeros = compare(f"{name} (zeros)", (got == 0).float(), (expected == 0).float(), EXACT)
    if not zeros.passed:  # padding must be exactly zero
        return zeros
    step = torch.exp2(torch.floor(torch.log2(expected.abs().clamp_min(1e-30))) - 7)
    excess = ((got - expected).abs() - TEXT).clamp_min(0.0) / step
    return Result(f"{name} (bf16 steps)", float(excess.max()), 1.0)


@torch.no_grad()
def check_image(folder: Path) -> list[Result]:
    """Resizing and the tokens; the last block and the head must be listed as not needed."""
    file = folder / "image_encoder.safetensors"
    t = load_file(file)
    encoder = encoders.load_clip(t, heads=int(_metadata(file)["vision_heads"]))
    image, rows = t["in.image"].flatten(0, 1), t["mid.preprocessed_224_rows_0_31"]
    return [
        compare("preprocessed", encoder.preprocess(image)[:, :, : rows.shape[2]], rows, IMAGE),
        compare("tokens", encoder(image), t["out.clip_feature"], IMAGE),
        compare("unused names", torch.tensor(len(encoder.unused)), torch.tensor(16), EXACT),
    ]


def _metadata(file: Path) -> dict[str, str]:
    with safe_open(str(file), framework="pt") as handle:
        return handle.metadata() or {}


CHECKS: dict[str, Callable[[Path], list[Result]]] = {
    "vae.safetensors": check_vae,
    "text_encoder.safetensors": check_text,
    "image_encoder.safetensors": check_image,
}
