"""The networks and statistics of an official checkpoint: opened, checked, and put together.

Sizes come from the shapes of tensors, the layout of a chunk from `config.json`, the scale of states and actions from
the statistics of the DROID robot.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wambench.interface import ControlConvention
from wambench.policies.dreamzero.dit import DiT, DiTConfig, Frames
from wambench.policies.dreamzero.inference import RAW_PER_LATENT, Encoders, FirstFrame, Prompt
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

EMBODIMENT = "oxe_droid"
# of the transformer in `config.json`: what no tensor tells
LAYOUT = (
    "num_heads", "frame_seqlen", "num_frame_per_block", "num_action_per_block", "num_state_per_block", "max_chunk_size",
)  # fmt: skip
KEYS = {"joint_position": 7, "gripper_position": 1}  # of state and action, in this order
CELL = 8  # pixels per latent cell
PROMPTS_KEPT = 16  # embedded prompts; the negative one is needed at every reset


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
