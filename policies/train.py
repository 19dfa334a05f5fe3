"""Training from the files of `wambench collect`: the encoder, then the policies on its latents.

    train(TrainConfig("encoder", "v0", ("data/demos", "data/renders"), "encoder.safetensors", minutes=6))
    train(TrainConfig("dreamzero", "nano", ("data/demos",), "nano.safetensors", minutes=15))

A killed run continues from the checkpoint beside its output. `<out>.csv` logs losses, throughput and validation.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from dataclasses import asdict, dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn
from tqdm import tqdm

from wambench.interface import unknown
from wambench.policies import data, encoder, loop, wam
from wambench.policies.encoder import Encoder
from wambench.policies.wam import Wam

POLICIES = ("dreamzero", "encoder")
WEIGHTS = Path(__file__).parent / "weights"
ENCODER_FILE = WEIGHTS / "encoder-v0.safetensors"
VALIDATION = 512


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        policy: "dreamzero" or "encoder".
        config: Named sizes: "nano" or "tiny" for dreamzero, "v0" or "tiny" for the encoder.
        data: Folders of `wambench collect`: demonstrations, and for the encoder renders too.
        out: Weights file to write.
        encoder: Encoder weights that dreamzero reads with (None: the shipped ones).
        init: Weights file of the same kind and config to start from (None: from scratch).
        minutes: Wall-clock budget of the training loop; or
        steps: number of optimiser steps.
        workers: Processes, one core each.
        batch: Samples per process and step.
        seed: Of initial weights, batches and noise.
        lr: Peak learning rate.
        ema: Decay per step of the averaged weights that are evaluated and written.
        device: "cpu" or "cuda"; on a GPU use one worker.
        past_dropout: Share of steps that see no past frame.
        point_noise_m: Noise on key points, standard deviation.
        state_noise_m: Noise on the eef position.
        point_dropout: Probability that a key point is hidden.
    """

    policy: str
    config: str
    data: tuple[str, ...]
    out: str
    encoder: str | None = None
    init: str | None = None
    minutes: float | None = None
    steps: int | None = None
    workers: int = 1
    batch: int = 32
    seed: int = 0
    lr: float = 1e-3
    ema: float = 0.998
    device: str = "cpu"
    past_dropout: float = 0.3
    point_noise_m: float = 0.004
    state_noise_m: float = 0.002
    point_dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise unknown("trainable policy", self.policy, POLICIES)
        names = wam.CONFIGS if self.policy == "dreamzero" else encoder.CONFIGS
        if self.config not in names:
            raise ValueError(f"{self.policy} has no config {self.config!r}; there are {', '.join(names)}")
        if self.workers < 1 or self.batch < 1 or not self.data:
            raise ValueError("workers and batch must be at least 1, and data must name a folder")
        self.loop()

    def loop(self) -> loop.LoopConfig:
        """Returns the part that the training loop reads."""
        return loop.LoopConfig(minutes=self.minutes, steps=self.steps, lr=self.lr, ema=self.ema)

    def identity(self) -> str:
        """Returns what a checkpoint must agree in; folders and devices may have moved, the budget may change."""
        values = asdict(self)
        for name in ("data", "out", "encoder", "init", "minutes", "steps", "device"):
            values.pop(name)
        return json.dumps(values, sort_keys=True)

    def command(self) -> str:
        """Returns the command line that repeats this run."""
        budget = f"--minutes {self.minutes:g}" if self.minutes is not None else f"--steps {self.steps}"
        return (
            f"wambench train --policy {self.policy} --config {self.config} {budget} --workers {self.workers} "
            f"--seed {self.seed} --data {' '.join(Path(d).name for d in self.data)} --out {Path(self.out).name}"
        )


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


def _seeded(seed: int, build: type[nn.Module], *arguments: Any) -> Any:
    """Returns a module with reproducible initial weights, without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(*arguments)


class EncoderJob:
    """Trains the encoder on equal shares of each folder."""

    losses = ("image", "points", "heat")
    metrics = ("psnr_db", "points_mm", "presence_error")

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
        """Returns PSNR, the median over classes of the median position error, and the share of wrong presence."""
        assert isinstance(model, Encoder)
        errors = [judge(model, batch.to(self.device)) for batch in self.test_batches()]
        if not errors:
            return (float("nan"),) * 3
        square = float(torch.stack([e[0] for e in errors]).mean())
        distance = torch.cat([e[1] for e in errors]).nanmedian(dim=0).values
        wrong = float(torch.cat([e[2] for e in errors]).float().mean())
        return -10.0 * float(np.log10(square + 1e-12)), 1000.0 * float(distance.nanmedian()), wrong

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
    model: Encoder = _seeded(config.seed, Encoder, sizes)
    if config.init:
        encoder.load_into(model, encoder.read_weights(config.init, "encoder")[0], config.init)
        return EncoderJob(config, model.to(config.device), sources)
    _standardise(model, "state", encoder.state_features(torch.cat([s.states for s in sources])), 0.005)
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
    psnr, _, _ = job.validate(model)
    corpora = "+".join(data.read_manifest(folder).corpus for folder in config.data)
    meta = _meta(config, standing, corpora) | {"points_mm": job.table(model), "psnr_db": round(psnr, 2)}
    tqdm.write(f"held-out frames: psnr {psnr:.1f} dB, median key point error in mm: {meta['points_mm']}")
    encoder.save(model, config.out, meta)


def _meta(config: TrainConfig, standing: loop.Standing, corpus: str) -> dict[str, Any]:
    return {
        "corpus": corpus,
        "command": config.command(),
        "seed": config.seed,
        "steps": standing.step,
        "samples": standing.samples,
        "minutes": round(standing.elapsed_s / 60.0, 2),
        "torch": torch.__version__,
    }


class WamJob:
    """Trains a world action model on the latents of demonstrations."""

    losses = ("video", "action")
    metrics = ("val_action_mse", "val_gripper_error", "val_video_mse", "val_copy_mse")

    def __init__(self, config: TrainConfig, model: Wam, anchors: data.Anchors) -> None:
        self.model: nn.Module = model
        self.config, self.batch, self.anchors = config, config.batch, anchors
        self.sentences = data.encode_sentences(anchors.sentences, model.config.points)
        self.train_rows = torch.nonzero(~anchors.held_out).squeeze(1)
        self.test_rows = torch.nonzero(anchors.held_out).squeeze(1)

    def _disturb(self, cond: wam.Condition, generator: torch.Generator) -> wam.Condition:
        """Returns the condition with noise on state and key points, some of them hidden."""
        c = self.config
        state, points = cond.state.clone(), cond.points.clone()
        state[:, :3] += c.state_noise_m * torch.randn(state[:, :3].shape, generator=generator)
        points[..., :3] += c.point_noise_m * torch.randn(points[..., :3].shape, generator=generator)
        points[..., 3] *= torch.rand(points.shape[:2], generator=generator) >= c.point_dropout
        return replace(cond, state=state, points=points)

    def _samples(self, rows: Tensor, cond: wam.Condition) -> tuple[wam.Condition, Tensor, Tensor]:
        model, device = self.model, self.config.device
        assert isinstance(model, Wam)
        future = self.anchors.latents[self.anchors.future[rows]].float()
        actions = self.anchors.actions[rows].to(device)
        fields: dict[str, Any] = {k: v.to(device) if v is not None else None for k, v in vars(cond).items()}
        return wam.Condition(**fields), future.to(device), (actions - model.action_mean) / model.action_std

    def loss(self, model: nn.Module, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns the video and the action loss."""
        assert isinstance(model, Wam)
        rows = self.train_rows[torch.randint(len(self.train_rows), (self.batch,), generator=generator)]
        with_past = float(torch.rand(1, generator=generator)) >= self.config.past_dropout
        cond = self._disturb(data.condition_at(self.anchors, self.sentences, rows, with_past), generator)
        return wam.loss(model, *self._samples(rows, cond), generator)

    def validate(self, model: nn.Module) -> tuple[float, ...]:
        """Returns errors of 4-step samples on held-out anchors: actions, gripper sign, video, and copying the frame."""
        assert isinstance(model, Wam)
        if not len(self.test_rows):
            return (float("nan"),) * 4
        rows = self.test_rows[torch.linspace(0, len(self.test_rows) - 1, min(VALIDATION, len(self.test_rows))).long()]
        totals = torch.zeros(4)
        for i, part in enumerate(rows.split(64)):
            cond, future, actions = self._samples(part, data.condition_at(self.anchors, self.sentences, part))
            noise = wam.draw_noise(model.config, [torch.Generator().manual_seed(64 * i + k) for k in range(len(part))])
            video, guess = wam.sample(model, cond, noise, 4)
            closes = (guess * model.action_std + model.action_mean)[..., -1] > 0
            wrong = (closes != (actions * model.action_std + model.action_mean)[..., -1].gt(0)).float()
            copied = cond.now[:, None] - future
            errors = [
                (guess - actions).square().mean(),
                wrong.mean(),
                (video - future).square().mean(),
                copied.square().mean(),
            ]
            totals += torch.stack(errors).cpu() * len(part)
        return tuple((totals / len(rows)).tolist())


def _wam_job(config: TrainConfig, rank: int, wait: Any) -> WamJob:
    path = Path(config.encoder) if config.encoder else ENCODER_FILE
    reader, _ = encoder.load(path)
    for folder in config.data:
        manifest = data.read_manifest(folder)
        if manifest.points != tuple(reader.config.points):
            raise ValueError(f"{folder}: its key points are not those the encoder {path.name} was trained on")
    digest = file_hash(path)
    device = torch.device(config.device)
    reader.to(device).to(loop.compute_type(device))
    for module in reader.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.float())
    with tqdm(desc="encoding", unit=" frames", disable=rank > 0) as bar:
        for folder in config.data:
            data.encode_shards(folder, reader, digest, rank, config.workers, lambda n: (bar.update(n), None)[1])
    wait()
    sizes = wam.config_for(config.config, tuple(reader.config.points), reader.config.latent)
    anchors = data.load_anchors(config.data, digest, sizes)
    model: Wam = _seeded(config.seed, Wam, sizes, encoder.STATE_FEATURES)
    if config.init:
        encoder.load_into(model, encoder.read_weights(config.init, "dreamzero")[0], config.init)
        return WamJob(config, model.to(device), anchors)
    rows = ~anchors.held_out
    _standardise(model, "state", anchors.features[rows], 0.005)
    _standardise(model, "action", anchors.actions[rows].flatten(0, 1), 0.05)
    seen = anchors.points[rows][anchors.points[rows][..., 3] > 0.5]
    model.points_mean.copy_(seen[:, :3].mean(dim=0) if len(seen) else torch.zeros(3))
    return WamJob(config, model.to(device), anchors)


def _finish_wam(job: WamJob, config: TrainConfig, standing: loop.Standing) -> None:
    model = job.model.eval()
    assert isinstance(model, Wam)
    corpora = "+".join(data.read_manifest(folder).corpus for folder in config.data)
    scores = dict(zip(job.metrics, (round(v, 5) for v in job.validate(model)), strict=True))
    tqdm.write(f"held-out anchors: {scores}")
    path = Path(config.encoder) if config.encoder else ENCODER_FILE
    meta = _meta(config, standing, corpora) | scores
    meta |= {"kind": "dreamzero", "config": model.config.to_dict(), "encoder": file_hash(path)}
    meta |= {"anchors": len(job.train_rows)}
    encoder.write_weights(config.out, model.state_dict(), {name for name, _ in model.named_buffers()}, meta)


def _size(config: TrainConfig) -> int:
    """Returns the number of parameters, which the shared buffer must hold."""
    points = data.read_manifest(config.data[0]).points
    if config.policy == "encoder":
        model: nn.Module = Encoder(replace(encoder.CONFIGS[config.config], points=points))
    else:
        reader, _ = encoder.load(Path(config.encoder) if config.encoder else ENCODER_FILE)
        model = Wam(wam.config_for(config.config, points, reader.config.latent), encoder.STATE_FEATURES)
    return sum(p.numel() for p in model.parameters())


def _run(config: TrainConfig, rank: int, peers: loop.Peers | None) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        wait = (lambda: None) if peers is None else (lambda: peers.barrier.wait(loop.BARRIER_TIMEOUT_S))
        job = _encoder_job(config) if config.policy == "encoder" else _wam_job(config, rank, wait)
        standing = loop.fit(job, config.loop(), Path(config.out), config.identity(), config.seed, rank, peers)
        if rank == 0 and isinstance(job, EncoderJob):
            _finish_encoder(job, config, standing)
        elif rank == 0 and isinstance(job, WamJob):
            _finish_wam(job, config, standing)
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


def train(config: TrainConfig) -> Path:
    """Trains, writes the weights and returns their path; continues from `<out>.checkpoint` if there is one.

    Unknown names, missing or damaged data and a foreign checkpoint raise ValueError.
    """
    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if config.workers == 1:
        _run(config, 0, None)
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
            _run(config, 0, peers)
        except threading.BrokenBarrierError:
            raise RuntimeError("a training process failed; its message stands above") from None
        finally:
            for process in others:
                process.join(timeout=10.0)
                if process.is_alive():
                    process.terminate()
    Path(f"{out}.checkpoint").unlink(missing_ok=True)
    return out
