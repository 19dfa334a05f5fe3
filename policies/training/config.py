"""What all trainings share: their configuration, the reading of data, and what weights say of how they came about."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from torch import Tensor, nn
from tqdm import tqdm

from wambench.datasets.lerobot_folder import SCHEME, is_lerobot
from wambench.interface import unknown_name
from wambench.policies.dreamzero import nano
from wambench.policies.networks import flow_matching
from wambench.policies.perception import encoder
from wambench.policies.perception.encoder import Encoder
from wambench.policies.training import dataset as data
from wambench.policies.training import loop
from wambench.policies.vla import base as vla
from wambench.policies.weight_files import ENCODER, digest, find
from wambench.progress_bar import progress_bar

ATTRIBUTION = ("tracker", "paths")  # of `wambench attribute`
POLICIES = ("dreamzero", "encoder", "renderer", *vla.MODULES, *ATTRIBUTION)
SIZES = {"dreamzero": ("nano", "mini", "tiny"), "encoder": tuple(encoder.CONFIGS), "renderer": ("v1",)}
SIZES |= dict.fromkeys(ATTRIBUTION, ("v1",))
VALIDATION = 512
ANCHORS = ("undisturbed", "all")
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        policy: A name of `POLICIES`.
        config: Named sizes: "v1" or "tiny" for the encoder, "v1" for what `wambench attribute` uses, "nano" or "tiny"
            for everything else.
        data: Folders of `wambench collect`: demonstrations, and for the encoder renders too; for policies also LeRobot
            datasets, as "lerobot://DIR".
        out: Weights file to write.
        encoder: Encoder weights that policies read with, a file or the name of a shipped one (None: `ENCODER`).
        init: Weights of the same kind to start from, a file or the name of a shipped one (None: from scratch). They may
            know fewer key points.
        minutes: Wall-clock budget of the training loop; or
        steps: number of optimiser steps; or
        flops: operations of the training, counted (`training.flops`); for comparisons at equal compute.
        workers: Processes, one core each.
        batch: Samples per process and step.
        seed: Of initial weights, batches and noise.
        lr: Peak learning rate.
        ema: Decay per step of the averaged weights that are evaluated and written.
        device: "cpu" or "cuda"; on a GPU use one worker.
        video_share: Share of sequences from video without actions, where there is some.
        levels: Law of the noise levels of dreamzero, see `networks.flow_matching.LEVELS`.
        ablation: A name of `dreamzero.nano.ABLATIONS`.
        frames_per_chunk, actions_per_chunk: Layout of dreamzero's chunks.
        prefix: Most actions of dreamzero's chunks that are given (training-time real-time chunking).
        anchors: Moments of demonstrations that policies learn from: "undisturbed" (those whose next chunk was carried
            out as the expert wanted), or "all", of which dreamzero foresees the undisturbed ones only.
        world_model: Weights of a small DreamZero that tells the renderer what to draw (None: recorded futures do).
    """

    policy: str
    config: str
    data: tuple[str, ...]
    out: str
    encoder: str | None = None
    init: str | None = None
    minutes: float | None = None
    steps: int | None = None
    flops: float | None = None
    workers: int = 1
    batch: int = 32
    seed: int = 0
    lr: float = 1e-3
    ema: float = 0.998
    device: str = "cpu"
    video_share: float = 0.2
    levels: str = "mixed"
    ablation: str = "none"
    frames_per_chunk: int = 2
    actions_per_chunk: int = 16
    prefix: int = 0
    anchors: str = "undisturbed"
    world_model: str | None = None

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise unknown_name("trainable policy", self.policy, POLICIES)
        names = SIZES.get(self.policy, ("nano", "tiny"))
        if self.config not in names:
            raise ValueError(f"{self.policy} has no config {self.config!r}; there are {', '.join(names)}")
        if self.anchors not in ANCHORS:
            raise unknown_name("anchors", self.anchors, ANCHORS)
        if self.world_model and self.policy != "renderer":
            raise ValueError(f"world_model is for the renderer, not for {self.policy}")
        if self.levels not in flow_matching.LEVELS:
            raise unknown_name("law of noise levels", self.levels, flow_matching.LEVELS)
        if self.ablation not in nano.ABLATIONS:
            raise unknown_name("ablation", self.ablation, nano.ABLATIONS)
        if self.policy in ("tracker", "paths") and self.workers > 1:
            raise ValueError(f"{self.policy} is small: it is trained by one worker")
        if self.workers < 1 or self.batch < 1 or not self.data:
            raise ValueError("workers and batch must be at least 1, and data must name a folder")
        if not 0 <= self.prefix < self.actions_per_chunk or (self.prefix and self.policy != "dreamzero"):
            raise ValueError(f"prefix is for dreamzero, in 0..{self.actions_per_chunk - 1}, not {self.prefix}")
        if self.flops is None:
            self.loop()
            return
        alone = self.minutes is None and self.steps is None
        if self.policy in ("encoder", "renderer") or self.flops <= 0 or not alone:
            raise ValueError("flops must be positive, stand alone, and are for policies, not for encoder or renderer")

    @property
    def encoder_path(self) -> Path:
        """The encoder weights that the policy reads with."""
        return find(self.encoder, ENCODER)

    @property
    def init_path(self) -> Path:
        """The weights to start from, where there are some: a file, or the name of a shipped one."""
        assert self.init is not None
        return find(self.init, self.init)

    def loop(self) -> loop.LoopConfig:
        """Returns the part that the training loop reads."""
        return loop.LoopConfig(minutes=self.minutes, steps=self.steps, lr=self.lr, ema=self.ema)

    def identity(self) -> str:
        """Returns what a checkpoint must agree in; folders and devices may have moved, the budget may change."""
        values = asdict(self)
        for name in ("data", "out", "encoder", "init", "world_model", "minutes", "steps", "flops", "device"):
            values.pop(name)
        if not self.prefix:
            values.pop("prefix")  # checkpoints from before there was one
        return json.dumps(values, sort_keys=True)

    def command(self) -> str:
        """Returns the command line that repeats this run."""
        folders = " ".join(f"{SCHEME if is_lerobot(folder) else ''}{Path(folder).name}" for folder in self.data)
        words = (
            f"wambench train --policy {self.policy} --config {self.config} --data {folders} --out {Path(self.out).name}"
        )
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("policy", "config", "data", "out") and value != field.default:
                shown = f"{value:g}" if isinstance(value, float) else Path(str(value)).name
                words += f" --{field.name.replace('_', '-')} {shown}"
        return words


def standardise(model: nn.Module, name: str, values: Tensor, floor: float) -> None:
    """Stores mean and standard deviation over the rows of `values` in a model's buffers."""
    getattr(model, f"{name}_mean").copy_(values.mean(dim=0))
    getattr(model, f"{name}_std").copy_(values.std(dim=0).clamp_min(floor))


def build_seeded(seed: int, build: Callable[..., M], *arguments: Any) -> M:
    """Returns a module with reproducible initial weights, without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(*arguments)


def to_compute_dtype(reader: Encoder) -> None:
    """Puts an encoder's layers, not its constants, into the type that is fast where it is."""
    reader.to(loop.compute_type(next(reader.parameters()).device))
    for module in reader.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.float())


def read_clips(config: TrainConfig, rank: int, wait: Callable[[], Any]) -> tuple[Encoder, data.Clips]:
    """Returns the encoder and the episodes of the config's folders, encoded by all processes together."""
    path = config.encoder_path
    reader, _ = encoder.load(path)
    for folder in config.data:
        manifest = data.read_manifest(folder)
        named = manifest.points or reader.config.points  # a LeRobot dataset names none
        unknown = set(reader.config.points) - set(named)
        if unknown:
            raise ValueError(
                f"{folder}: has no key points {', '.join(sorted(unknown))}, which the encoder {path.name} reads"
            )
    encoder_hash = digest(path)
    device = torch.device(config.device)
    to_compute_dtype(reader.to(device))
    with progress_bar(desc="encoding", unit=" frames", disable=rank > 0) as bar:
        for folder in config.data:
            data.encode_shards(
                folder,
                reader,
                encoder_hash,
                rank,
                config.workers,
                report=lambda n: (bar.update(n), None)[1],
                batch=32 if device.type == "cpu" else 512,
            )
    wait()
    return reader, data.load_clips(config.data, encoder_hash).on(config.device)


def provenance(path: Path) -> dict[str, Any]:
    """Returns how weights came about that a training starts from: their digest, and what they say of themselves."""
    with safetensors.safe_open(str(path), framework="pt") as file:
        meta = json.loads((file.metadata() or {}).get("wambench", "{}"))
    told = ("command", "corpus", "samples", "minutes", "flops", "init")
    return {name: meta[name] for name in told if name in meta} | {"sha256": digest(path)}


def describe(config: TrainConfig, state: loop.TrainState, corpus: str, flops: float = 0.0) -> dict[str, Any]:
    """Returns the training provenance for the metadata of weights; `flops` are per sample, 0 if not counted.

    Samples, steps and FLOPs are those of this run alone; what its `init` had before stands under that name.
    """
    counted = {"flops_per_sample": round(flops), "flops": flops * state.samples} if flops else {}
    if flops:
        tqdm.write(f"{state.samples} samples, {flops:.3g} FLOPs each: {flops * state.samples:.4g} in all")
    begun = {"init": provenance(config.init_path)} if config.init else {}
    return (
        begun
        | counted
        | {
            "corpus": corpus,
            "command": config.command(),
            "seed": config.seed,
            "steps": state.step,
            "samples": state.samples,
            "minutes": round(state.elapsed_s / 60.0, 2),
            "torch": torch.__version__,
        }
    )
