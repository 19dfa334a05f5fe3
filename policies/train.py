"""Training from the files of `wambench collect`: the encoder, then the policies on its latents.

    train(TrainConfig("encoder", "v1", ("data/demos", "data/renders"), "encoder.safetensors", minutes=6))
    train(TrainConfig("dreamzero", "nano", ("data/demos",), "nano.safetensors", minutes=15))

A killed run continues from the checkpoint beside its output. `<out>.csv` logs losses, throughput and validation.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn
from tqdm import tqdm

from wambench.interface import unknown
from wambench.policies import data, encoder, flow, loop, nano, paths, sampling, tracker, training_flops, vla
from wambench.policies.encoder import Encoder
from wambench.policies.nano import Nano

ATTRIBUTION = ("tracker", "paths")  # of `wambench attribute`
POLICIES = ("dreamzero", "encoder", *vla.MODULES, *ATTRIBUTION)
SIZES = {"dreamzero": ("nano", "mini", "tiny"), "encoder": tuple(encoder.CONFIGS)} | dict.fromkeys(ATTRIBUTION, ("v1",))
WEIGHTS = Path(__file__).parent / "weights"
ENCODER_FILE = WEIGHTS / "encoder-v1.safetensors"
VALIDATION = 512
PAIRS = 8  # of the tracker for each sample of a batch: their features are ready
Note = Callable[[str], None]
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        policy: A name of `POLICIES`.
        config: Named sizes: "v1" or "tiny" for the encoder, "v1" for what `wambench attribute` uses, "nano" or "tiny"
            for everything else.
        data: Folders of `wambench collect`: demonstrations, and for the encoder renders too.
        out: Weights file to write.
        encoder: Encoder weights that dreamzero reads with (None: the shipped ones).
        init: Weights file of the same kind and config to start from (None: from scratch).
        minutes: Wall-clock budget of the training loop; or
        steps: number of optimiser steps; or
        flops: operations of the training, counted (`training_flops`); for comparisons at equal compute.
        workers: Processes, one core each.
        batch: Samples per process and step.
        seed: Of initial weights, batches and noise.
        lr: Peak learning rate.
        ema: Decay per step of the averaged weights that are evaluated and written.
        device: "cpu" or "cuda"; on a GPU use one worker.
        video_share: Share of sequences from video without actions, where there is some.
        levels: Law of the noise levels of dreamzero, see `nano.Disturbance`.
        ablation: A name of `nano.ABLATIONS`.
        frames_per_chunk, actions_per_chunk: Layout of dreamzero's chunks.
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
    video_share: float = 0.35
    levels: str = "mixed"
    ablation: str = "none"
    frames_per_chunk: int = 2
    actions_per_chunk: int = 16

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise unknown("trainable policy", self.policy, POLICIES)
        names = SIZES.get(self.policy, ("nano", "tiny"))
        if self.config not in names:
            raise ValueError(f"{self.policy} has no config {self.config!r}; there are {', '.join(names)}")
        if self.levels not in flow.LEVELS:
            raise unknown("law of noise levels", self.levels, flow.LEVELS)
        if self.ablation not in nano.ABLATIONS:
            raise unknown("ablation", self.ablation, nano.ABLATIONS)
        if self.policy in ("tracker", "paths") and self.workers > 1:
            raise ValueError(f"{self.policy} is small: it is trained by one worker")
        if self.workers < 1 or self.batch < 1 or not self.data:
            raise ValueError("workers and batch must be at least 1, and data must name a folder")
        if self.flops is None:
            self.loop()
        elif self.policy == "encoder" or self.flops <= 0 or self.minutes is not None or self.steps is not None:
            raise ValueError("flops must be positive, stand alone, and are for policies, not for the encoder")

    def loop(self) -> loop.LoopConfig:
        """Returns the part that the training loop reads."""
        return loop.LoopConfig(minutes=self.minutes, steps=self.steps, lr=self.lr, ema=self.ema)

    def identity(self) -> str:
        """Returns what a checkpoint must agree in; folders and devices may have moved, the budget may change."""
        values = asdict(self)
        for name in ("data", "out", "encoder", "init", "minutes", "steps", "flops", "device"):
            values.pop(name)
        return json.dumps(values, sort_keys=True)

    def command(self) -> str:
        """Returns the command line that repeats this run."""
        folders = " ".join(Path(folder).name for folder in self.data)
        words = (
            f"wambench train --policy {self.policy} --config {self.config} --data {folders} --out {Path(self.out).name}"
        )
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("policy", "config", "data", "out") and value != field.default:
                shown = f"{value:g}" if isinstance(value, float) else Path(str(value)).name
                words += f" --{field.name.replace('_', '-')} {shown}"
        return words


def file_hash(path: str | Path) -> str:
    """Returns the SHA-256 of a file in hex; a missing file raises ValueError."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: cannot read weights ({error.strerror})") from None


def _standardise(model: nn.Module, name: str, values: Tensor, floor: float) -> None:
    """Stores mean and standard deviation over the rows of `values` in a model's buffers."""
    getattr(model, f"{name}_mean").copy_(values.mean(dim=0))
    getattr(model, f"{name}_std").copy_(values.std(dim=0).clamp_min(floor))


def seeded(seed: int, build: Callable[..., M], *arguments: Any) -> M:
    """Returns a module with reproducible initial weights, without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(*arguments)


class EncoderJob:
    """Trains the encoder on equal shares of each folder."""

    losses = ("image", "points", "heat")
    metrics = ("psnr_db", "points_mm", "hand_mm", "presence_error")
    progress = 0.0

    def __init__(self, config: TrainConfig, model: Encoder, sources: list[data.LabelledFrames]) -> None:
        self.model: nn.Module = model
        self.batch, self.sources, self.device = config.batch, sources, config.device
        self.train_rows = [np.flatnonzero(~s.held_out) for s in sources]
        self.test_rows = [np.flatnonzero(s.held_out) for s in sources]

    def _draw(self, rng: torch.Generator, rows: list[np.ndarray], batch: int) -> encoder.Labelled:
        parts, left = [], batch
        for i, (source, own) in enumerate(zip(self.sources, rows, strict=True)):
            count = left // (len(rows) - i)
            left -= count
            parts.append(source.batch(own[torch.randint(len(own), (count,), generator=rng).numpy()]))
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return encoder.Labelled(*(torch.cat(column) for column in columns))

    def loss(self, model: nn.Module, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns the image, key point and heat map losses."""
        assert isinstance(model, Encoder)
        return encoder.loss(model, self._draw(generator, self.train_rows, self.batch).to(self.device), generator)

    def test_batches(self) -> list[encoder.Labelled]:
        """Returns held-out frames, up to `VALIDATION` per folder, in batches of one folder each."""
        batches = []
        for source, rows in zip(self.sources, self.test_rows, strict=True):
            chosen = rows[np.linspace(0, len(rows) - 1, min(VALIDATION, len(rows))).astype(int)] if len(rows) else rows
            batches += [source.batch(chosen[i : i + 32]) for i in range(0, len(chosen), 32)]
        return batches

    def validate(self, model: nn.Module) -> tuple[float, ...]:
        """Returns PSNR, the median over things of the median position error, that of the hand, and wrong presences.

        Positions of things are read with the robot's state where it is known, the hand's always without.
        """
        assert isinstance(model, Encoder)
        errors = [judge(model, batch.to(self.device)) for batch in self.test_batches()]
        if not errors:
            return (float("nan"),) * 4
        square = float(torch.stack([e[0] for e in errors]).mean())
        distance = torch.cat([e[1] for e in errors]).nanmedian(dim=0).values
        wrong = float(torch.cat([e[2] for e in errors]).float().mean())
        blind = [judge(model, replace(b, states=b.states * float("nan")).to(self.device)) for b in self.test_batches()]
        hand = [i for i, name in enumerate(model.config.points) if name in encoder.HAND]
        apart = torch.cat([e[1] for e in blind])[:, hand].nanmedian()
        return -10.0 * float(np.log10(square + 1e-12)), 1e3 * float(distance.nanmedian()), 1e3 * float(apart), wrong

    def table(self, model: Encoder) -> dict[str, float]:
        """Returns the median position error in mm on held-out frames, by class."""
        distances = [judge(model, batch.to(self.device))[1] for batch in self.test_batches()]
        if not distances:
            return {}
        medians = torch.cat(distances).nanmedian(dim=0).values * 1000.0
        return {n: round(float(m), 1) for n, m in zip(model.config.points, medians, strict=True) if not m.isnan()}


@torch.no_grad()
def judge(model: Encoder, batch: encoder.Labelled) -> tuple[Tensor, Tensor, Tensor]:
    """Returns mean square pixel error (range 1), position error (B, C) in m, NaN if absent, and wrong presence."""
    maps = model.maps(encoder.to_pixels(batch.frames))
    error = model.reconstruct(model.to_latent(maps[2])) - encoder.to_pixels(batch.frames)
    found, _ = model.key_points(maps, model.standard_state(batch.states))
    xyz = found[..., :3] * encoder.POINT_UNIT_M + model.points_mean
    distance = (xyz - batch.points).norm(dim=2).masked_fill(~batch.present, float("nan"))
    return error.clamp(-1, 1).square().mean().cpu(), distance.cpu(), ((found[..., 3] > 0) != batch.present).cpu()


def _encoder_job(config: TrainConfig) -> EncoderJob:
    manifests = [data.read_manifest(folder) for folder in config.data]
    for folder, manifest in zip(config.data, manifests, strict=True):
        if manifest.points != manifests[0].points:
            raise ValueError(f"{folder}: its key points differ from those of {config.data[0]}")
    sources = [data.labelled_frames(folder) for folder in config.data]
    height, width = sources[0].stores[0].shape[1:3]
    sizes = replace(encoder.CONFIGS[config.config], points=manifests[0].points, canvas=(height, width))
    model = seeded(config.seed, Encoder, sizes)
    if config.init:
        encoder.warm_start(model, encoder.read_weights(config.init, "encoder")[0], config.init)
    states = torch.cat([s.states for s in sources])
    _standardise(model, "state", encoder.state_features(states[torch.isfinite(states).all(dim=1)]), 0.005)
    model.points_mean.copy_(torch.cat([s.points[s.present] for s in sources]).mean(dim=0))
    return EncoderJob(config, model.to(config.device), sources)


def _finish_encoder(job: EncoderJob, config: TrainConfig, standing: loop.Standing) -> None:
    model = job.model.eval()
    assert isinstance(model, Encoder)
    rng = torch.Generator().manual_seed(config.seed)
    with torch.no_grad():
        batches = [job._draw(rng, job.train_rows, 64) for _ in range(32)]
        raw = [model.to_latent(model.maps(encoder.to_pixels(b.frames.to(config.device)))[2]) for b in batches]
        _standardise(model, "latent", torch.cat(raw).permute(0, 2, 3, 1).flatten(0, 2), 1e-3)
    psnr, _, hand, _ = job.validate(model)
    corpora = "+".join(data.read_manifest(folder).corpus for folder in config.data)
    meta = describe(config, standing, corpora) | {
        "points_mm": job.table(model),
        "psnr_db": round(psnr, 2),
        "hand_mm": round(hand, 1),
    }
    pairs = [data.moving_pairs(folder) for folder in config.data if data.read_manifest(folder).corpus == "demos"]
    if pairs:
        before, after = (torch.cat(frames).to(config.device) for frames in zip(*pairs, strict=True))
        meta["psnr_moving_db"] = round(encoder.moving_psnr(model, before, after), 2)
        tqdm.write(f"pixels that move within 0.4 s: psnr {meta['psnr_moving_db']} dB")
    tqdm.write(f"held-out frames: psnr {psnr:.1f} dB, median key point error in mm: {meta['points_mm']}")
    encoder.save(model, config.out, meta)


def describe(config: TrainConfig, standing: loop.Standing, corpus: str, flops: float = 0.0) -> dict[str, Any]:
    """Returns what weights say of their training; `flops` are those of a sample, 0 if they were not counted."""
    counted = {"flops_per_sample": round(flops), "flops": flops * standing.samples} if flops else {}
    if flops:
        tqdm.write(f"{standing.samples} samples, {flops:.3g} FLOPs each: {flops * standing.samples:.4g} in all")
    return counted | {
        "corpus": corpus,
        "command": config.command(),
        "seed": config.seed,
        "steps": standing.step,
        "samples": standing.samples,
        "minutes": round(standing.elapsed_s / 60.0, 2),
        "torch": torch.__version__,
    }


class NanoJob:
    """Trains a small DreamZero on the latents of demonstrations and action-free video."""

    losses = ("video", "points", "action")
    metrics = ("val_action_mse", "val_inverse_mse", "val_gripper_error", "val_video_mse", "val_copy_mse", "val_hand_mm")
    progress = 0.0

    def __init__(self, config: TrainConfig, model: Nano, clips: data.Clips) -> None:
        self.model: nn.Module = model
        self.config, self.batch, self.clips = config, config.batch, clips
        self.words = nano.encode_words(clips.sentences, model.config.points)
        self.how = nano.Disturbance(levels=config.levels)
        own = clips.offset >= 0
        parts = [torch.nonzero(own & ~clips.held_out).flatten(), torch.nonzero(~own & ~clips.held_out).flatten()]
        self.train_rows = [rows for rows in parts if len(rows)]
        self.test_rows = torch.nonzero(own & clips.held_out).flatten()

    def _draw(self, generator: torch.Generator, count: int) -> Tensor:
        """Returns (count,) training rows, a share of them from video without actions."""
        rows = self.train_rows
        if len(rows) == 1:
            return rows[0][torch.randint(len(rows[0]), (count,), generator=generator)]
        other = torch.rand(count, generator=generator) < self.config.video_share
        pick = torch.rand(count, generator=generator)
        acted, video = (part[(pick * len(part)).long()] for part in rows)
        return torch.where(other, video, acted)

    def _sequences(self, rows: Tensor, chunks: int) -> nano.Batch:
        """Returns the sequences of some chunks that begin at some rows."""
        clips, model, device = self.clips, self.model, self.config.device
        assert isinstance(model, Nano)
        c = model.config
        frames = clips.frames_at(rows, [c.stride * i for i in range(1 + chunks * c.dit.frames_per_chunk)])
        starts = [c.chunk_steps * i for i in range(chunks)]
        at = clips.frames_at(rows, starts)
        actions, executed, begun = clips.chunks_at(rows, starts, c.chunk_steps)
        has = (clips.offset[rows] >= 0).float()[:, None].expand(-1, chunks)
        scene = nano.Scene(
            latents=clips.latents[frames].float().to(device),
            points=clips.points[frames].to(device),
            state=clips.features[at].to(device),
            known=clips.known[at].float()[..., None].to(device),
            at_chunk=clips.points[at].to(device),
        )
        pair = [(values.to(device) - model.action_mean) / model.action_std for values in (actions, executed)]
        words = self.words.at(clips.sentence[rows]).to(device)
        return nano.Batch(scene, words, pair[0], pair[1], has.to(device), begun.float().to(device))

    def loss(self, model: nn.Module, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns the video, key point and action loss on sequences of 1, 2 or 4 chunks, `batch` chunks in all."""
        assert isinstance(model, Nano)
        chunks = (1, 2, 4)[int(torch.randint(3, (1,), generator=generator))]
        if model.config.ablation == "bidirectional":
            chunks = 1
        rows = self._draw(generator, max(1, self.batch // chunks))
        return nano.loss(model, self._sequences(rows, chunks), self.how, generator)

    def validate(self, model: nn.Module) -> tuple[float, ...]:
        """Returns errors of 4-step samples on held-out demonstrations.

        Actions when sampled together with the video, executed actions for the true future alone, the sign of
        the gripper, the video's latents (beside those of copying the last frame), and where the hand is imagined.
        """
        assert isinstance(model, Nano)
        if not len(self.test_rows):
            return (float("nan"),) * len(self.metrics)
        rows = self.test_rows[torch.linspace(0, len(self.test_rows) - 1, min(VALIDATION, len(self.test_rows))).long()]
        totals = torch.zeros(len(self.metrics))
        for i, part in enumerate(rows.split(64)):
            totals += self._judge(model, self._sequences(part, 1), i) * len(part)
        return tuple((totals / len(rows)).tolist())

    @torch.no_grad()
    def _judge(self, model: Nano, batch: nano.Batch, number: int) -> Tensor:
        device, count = self.config.device, len(batch.actions)
        generators = [torch.Generator().manual_seed(64 * number + k) for k in range(count)]
        noise = sampling.draw_noise(model.config, generators).to(device)
        frames = model.frames(batch.scene.latents, batch.scene.points)
        first, future = frames.part(0, 1), frames.part(1, frames.count)
        hidden = batch.words.hidden(torch.ones(count, dtype=torch.bool, device=device))
        memory = sampling.remember(model, first, batch.words)
        video, guess = sampling.sample(
            model, memory, model.states(batch.scene, batch.words), noise, sampling.Sampling()
        )
        memory = sampling.remember(model, first, hidden)
        _, inverse = sampling.sample(
            model, memory, model.states(batch.scene, hidden), noise, sampling.Sampling(), future
        )
        truth = batch.actions[:, 0]
        closes = [(a * model.action_std + model.action_mean)[..., -1] > 0 for a in (guess, truth)]
        assert video.vectors is not None and future.vectors is not None
        hand = [i for i, name in enumerate(model.config.points) if name == "hand"]
        places = [model.points(v)[:, :, hand, :3] for v in (video.vectors, future.vectors)]
        errors = [
            (guess - truth).square().mean(),
            (inverse - batch.executed[:, 0]).square().mean(),
            (closes[0] != closes[1]).float().mean(),
            (video.latents - future.latents).square().mean(),
            (first.latents - future.latents).square().mean(),
            1000.0 * (places[0] - places[1]).norm(dim=-1).median() if hand else torch.tensor(float("nan")),
        ]
        return torch.stack([error.cpu() for error in errors])


def _sizes(config: TrainConfig, reader: Encoder) -> nano.NanoConfig:
    points, latent = tuple(reader.config.points), reader.config.latent
    layout = config.frames_per_chunk, config.actions_per_chunk
    return nano.config_for(config.config, points, latent, config.ablation, *layout)


def _half(reader: Encoder) -> None:
    """Puts an encoder's layers, not its constants, into the type that is fast where it is."""
    reader.to(loop.compute_type(next(reader.parameters()).device))
    for module in reader.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.float())


def read_clips(config: TrainConfig, rank: int, wait: Callable[[], Any]) -> tuple[Encoder, data.Clips]:
    """Returns the encoder and the episodes of the config's folders, encoded by all processes together."""
    path = Path(config.encoder) if config.encoder else ENCODER_FILE
    reader, _ = encoder.load(path)
    for folder in config.data:
        manifest = data.read_manifest(folder)
        if manifest.points != tuple(reader.config.points):
            raise ValueError(f"{folder}: its key points are not those the encoder {path.name} was trained on")
    digest = file_hash(path)
    device = torch.device(config.device)
    _half(reader.to(device))
    with tqdm(desc="encoding", unit=" frames", disable=rank > 0) as bar:
        for folder in config.data:
            data.encode_shards(folder, reader, digest, rank, config.workers, lambda n: (bar.update(n), None)[1])
    wait()
    return reader, data.load_clips(config.data, digest)


def _nano_job(config: TrainConfig, rank: int, wait: Callable[[], Any]) -> NanoJob:
    reader, clips = read_clips(config, rank, wait)
    sizes = _sizes(config, reader)
    model = seeded(config.seed, Nano, sizes)
    if config.init:
        encoder.load_into(model, encoder.read_weights(config.init, "dreamzero")[0], config.init)
        return NanoJob(config, model.to(config.device), clips)
    rows = ~clips.held_out & clips.known
    if not rows.any():
        raise ValueError(f"{', '.join(config.data)}: no demonstrations with actions")
    _standardise(model, "state", clips.features[rows], 0.005)
    _standardise(model, "action", clips.actions, 0.05)
    seen = clips.points[rows][clips.points[rows][..., 3] > 0.5]
    model.points_mean.copy_(seen[:, :3].mean(dim=0) if len(seen) else torch.zeros(3))
    return NanoJob(config, model.to(config.device), clips)


def _finish_nano(job: NanoJob, config: TrainConfig, standing: loop.Standing, flops: float) -> None:
    model = job.model.eval()
    assert isinstance(model, Nano)
    corpora = "+".join(data.read_manifest(folder).corpus for folder in config.data)
    scores = dict(zip(job.metrics, (round(v, 5) for v in job.validate(model)), strict=True))
    tqdm.write(f"held-out demonstrations: {scores}")
    path = Path(config.encoder) if config.encoder else ENCODER_FILE
    meta = describe(config, standing, corpora, flops) | scores
    meta |= {"kind": "dreamzero", "config": model.config.to_dict(), "encoder": file_hash(path)}
    meta |= {"frames": sum(len(rows) for rows in job.train_rows)}
    encoder.write_weights(config.out, model.state_dict(), {name for name, _ in model.named_buffers()}, meta)


def _tracker_job(config: TrainConfig) -> tracker.TrackerJob:
    reader, _ = encoder.load(Path(config.encoder) if config.encoder else ENCODER_FILE)
    _half(reader)
    episodes = tracker.load_episodes(config.data, reader, config.seed)
    sizes = tracker.TrackerConfig(reader.config.points, *episodes.features.shape[2:4])
    model: tracker.Tracker = seeded(config.seed, tracker.Tracker, sizes)
    peaks = episodes.features[:, 0, ..., 2:].float().flatten(0, 2)  # places stay as they are
    model.mean[2:], model.std[2:] = peaks.mean(dim=0), peaks.std(dim=0).clamp_min(1e-2)
    if config.init:
        encoder.load_into(model, encoder.read_weights(config.init, "tracker")[0], config.init)
    return tracker.TrackerJob(model, episodes, PAIRS * config.batch)


def _paths_job(config: TrainConfig) -> paths.PathsJob:
    model: paths.Paths = seeded(config.seed, paths.Paths, paths.PathsConfig())
    return paths.PathsJob(model, paths.load_walks(config.data), PAIRS * config.batch)


def _finish_tracker(job: tracker.TrackerJob, config: TrainConfig, standing: loop.Standing) -> None:
    path = Path(config.encoder) if config.encoder else ENCODER_FILE
    meta = describe(config, standing, "tracks") | {"encoder": file_hash(path)}
    tqdm.write(tracker.finish(job, config.out, meta))


def _size(config: TrainConfig) -> int:
    """Returns the number of parameters, which the shared buffer must hold."""
    if config.policy in vla.MODULES:
        from wambench.policies import vla_train  # imports this module

        return vla_train.parameters(config)
    points = data.read_manifest(config.data[0]).points
    if config.policy == "encoder":
        model: nn.Module = Encoder(replace(encoder.CONFIGS[config.config], points=points))
    else:
        reader, _ = encoder.load(Path(config.encoder) if config.encoder else ENCODER_FILE)
        model = Nano(_sizes(config, reader))
    return sum(p.numel() for p in model.parameters())


def _run(config: TrainConfig, rank: int, peers: loop.Peers | None, note: Note = tqdm.write) -> None:
    from wambench.policies import vla_train  # imports this module

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        wait = (lambda: None) if peers is None else (lambda: peers.barrier.wait(loop.BARRIER_TIMEOUT_S))
        make: dict[str, Callable[[], Any]] = {
            "dreamzero": lambda: _nano_job(config, rank, wait),
            "encoder": lambda: _encoder_job(config),
            "tracker": lambda: _tracker_job(config),
            "paths": lambda: _paths_job(config),
        }
        job = make.get(config.policy, lambda: vla_train.job(config, rank, wait))()
        counted = isinstance(job, NanoJob | vla_train.VlaJob)
        each = training_flops.per_sample(job) if counted else 0.0
        budget = config
        if config.flops is not None:
            samples = config.batch * config.workers
            budget = replace(config, steps=training_flops.steps_for(config.flops, each, samples), flops=None)
        standing = loop.fit(job, budget.loop(), Path(config.out), config.identity(), config.seed, rank, peers, note)
        if rank:
            return
        if isinstance(job, EncoderJob):
            _finish_encoder(job, config, standing)
        elif isinstance(job, NanoJob):
            _finish_nano(job, config, standing, each)
        elif isinstance(job, vla_train.VlaJob):
            vla_train.finish(job, config, standing, each)
        elif isinstance(job, tracker.TrackerJob):
            _finish_tracker(job, config, standing)
        else:
            tqdm.write(paths.finish(job, config.out, describe(config, standing, "tracks")))
    finally:
        torch.set_num_threads(threads)


def _follow(config: TrainConfig, rank: int, peers: loop.Peers, parent: int) -> None:
    """Runs one of the other processes; ends when the first one is gone, breaks the barrier when it fails itself."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        _run(config, rank, peers)
    except BaseException:
        peers.barrier.abort()
        raise


def train(config: TrainConfig, note: Note = tqdm.write) -> Path:
    """Trains, writes the weights and returns their path; continues from `<out>.checkpoint` if there is one.

    `note` is called with the results of each validation, when `<out>.csv` has them.
    Unknown names, missing or damaged data and a foreign checkpoint raise ValueError.
    """
    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if config.workers == 1:
        _run(config, 0, None, note)
    else:
        context = multiprocessing.get_context("spawn")
        barrier: Barrier = context.Barrier(config.workers)
        gradients = torch.zeros(config.workers, _size(config)).share_memory_()
        peers = loop.Peers(gradients, torch.zeros(1, dtype=torch.float64).share_memory_(), barrier)
        others = [
            context.Process(target=_follow, args=(config, rank, peers, os.getpid()), daemon=True)
            for rank in range(1, config.workers)
        ]
        for process in others:
            process.start()
        try:
            _run(config, 0, peers, note)
        except threading.BrokenBarrierError:
            raise RuntimeError("a training process failed; its message stands above") from None
        finally:
            for process in others:
                process.join(timeout=10.0)
                if process.is_alive():
                    process.terminate()
    Path(f"{out}.checkpoint").unlink(missing_ok=True)
    return out
