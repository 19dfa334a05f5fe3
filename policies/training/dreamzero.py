"""Training of a small DreamZero on the latents of demonstrations and of video without actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from wambench.policies import weight_files
from wambench.policies.dreamzero import nano, sampling
from wambench.policies.dreamzero.nano import SmallDreamZero
from wambench.policies.networks import flow_matching
from wambench.policies.perception import encoder
from wambench.policies.perception.encoder import Encoder
from wambench.policies.perception.scene import SceneFeatures, encode_words
from wambench.policies.training import augmentation, dataset, loop, nano_loss, warm_start
from wambench.policies.training.config import (
    VALIDATION,
    TrainConfig,
    build_seeded,
    describe,
    read_clips,
    standardise,
)
from wambench.policies.weight_files import digest

# Chunks of a sequence, and how often. What is evaluated most is a first chunk: with `execute` below a whole chunk the
# cache begins anew at every query. Longer sequences teach the cache.
SEQUENCES = {1: 0.8, 2: 0.15, 4: 0.05}


def draw_chunks(generator: torch.Generator) -> int:
    """Returns the length of a sequence in chunks."""
    shares = torch.tensor(list(SEQUENCES.values()))
    return list(SEQUENCES)[int(torch.multinomial(shares, 1, generator=generator))]


def useful_share(config: TrainConfig, how: augmentation.Augmentation) -> float:
    """Returns the share of samples that teach what is evaluated: how to act, told what to do, from a new cache.

    That is a first chunk with actions whose instruction is shown and whose video is not given.
    """
    first = sum(share / chunks for chunks, share in SEQUENCES.items()) if config.ablation != "bidirectional" else 1.0
    given = 1.0 - sum(flow_matching.VIDEO_MIX) if how.levels == "mixed" else 0.0
    return first * (1.0 - config.video_share) * (1.0 - how.hide_words) * (1.0 - given)


class DreamZeroJob:
    """Trains a small DreamZero on the latents of demonstrations and action-free video."""

    losses = ("video", "points", "action")
    metrics = ("val_action_mse", "val_inverse_mse", "val_gripper_error", "val_video_mse", "val_copy_mse", "val_hand_mm")
    progress = 0.0

    def __init__(self, config: TrainConfig, model: SmallDreamZero, clips: dataset.Clips) -> None:
        self.model = model
        self.config = config
        self.batch = config.batch
        self.clips = clips
        self.words = encode_words(clips.sentences, model.config.points)
        self.how = augmentation.Augmentation(levels=config.levels, prefix=config.prefix)
        own = clips.offset >= 0
        quiet = clips.undisturbed(model.config.chunk_steps)
        self.quiet = quiet.float()
        self.train_rows = clips.split(quiet if config.anchors == "undisturbed" else own)
        self.test_rows = torch.nonzero(own & quiet & clips.held_out).flatten()

    def _sequences(self, rows: Tensor, chunks: int) -> augmentation.TrainingBatch:
        """Returns the sequences of some chunks that begin at some rows."""
        clips = self.clips
        model = self.model
        device = self.config.device
        c = model.config
        frames = clips.frames_at(rows, [c.stride * i for i in range(1 + chunks * c.dit.frames_per_chunk)])
        starts = [c.chunk_steps * i for i in range(chunks)]
        at = clips.frames_at(rows, starts)
        actions, executed, begun = clips.chunks_at(rows, starts, c.chunk_steps)
        has = (clips.offset[rows] >= 0).float()[:, None].expand(-1, chunks)
        latents, points = clips.read(frames, device)
        scene = SceneFeatures(
            latents=latents,
            points=points,
            state=clips.features[at].to(device),
            known=clips.known[at].float()[..., None].to(device),
            at_chunk=clips.read(at, device, latents=False)[1],
        )
        pair = [(values.to(device) - model.action_mean) / model.action_std for values in (actions, executed)]
        words = self.words.at(clips.sentence[rows]).trimmed().to(device)
        marks = (mark.to(device) for mark in (has, begun.float(), self.quiet[at]))
        return augmentation.TrainingBatch(scene, words, pair[0], pair[1], *marks)

    def loss(self, model: SmallDreamZero, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns the video, key point and action loss on sequences of 1, 2 or 4 chunks, `batch` chunks in all."""
        chunks = 1 if model.config.ablation == "bidirectional" else draw_chunks(generator)
        count = max(1, self.batch // chunks)
        rows = dataset.draw_rows(self.train_rows, self.config.video_share, count, generator)
        return nano_loss.loss(model, self._sequences(rows, chunks), self.how, generator)

    def validate(self, model: SmallDreamZero) -> tuple[float, ...]:
        """Returns errors of 4-step samples on held-out demonstrations.

        Actions when sampled together with the video, executed actions for the true future alone, the sign of
        the gripper, the video's latents (beside those of copying the last frame), and where the hand is imagined.
        """
        if not len(self.test_rows):
            return (float("nan"),) * len(self.metrics)
        rows = self.test_rows[torch.linspace(0, len(self.test_rows) - 1, min(VALIDATION, len(self.test_rows))).long()]
        totals = torch.zeros(len(self.metrics))
        for i, part in enumerate(rows.split(64)):
            totals += self._judge(model, self._sequences(part, 1), i) * len(part)
        return tuple((totals / len(rows)).tolist())

    @torch.no_grad()
    def _judge(self, model: SmallDreamZero, batch: augmentation.TrainingBatch, number: int) -> Tensor:
        device = self.config.device
        count = len(batch.actions)
        generators = [torch.Generator().manual_seed(64 * number + k) for k in range(count)]
        noise = sampling.draw_noise(model.config, generators).to(device)
        frames = model.frames(batch.scene.latents, batch.scene.points)
        first = frames.part(0, 1)
        future = frames.part(1, frames.count)
        hidden = batch.words.hide(torch.ones(count, dtype=torch.bool, device=device))
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


def _sizes(config: TrainConfig, reader: Encoder) -> nano.SmallDreamZeroConfig:
    points = tuple(reader.config.points)
    latent = reader.config.latent
    layout = config.frames_per_chunk, config.actions_per_chunk
    return nano.config_for(config.config, points, latent, config.ablation, *layout)


def job(config: TrainConfig, rank: int, wait: Callable[[], Any]) -> DreamZeroJob:
    """Returns the job; folders without demonstrations raise ValueError."""
    reader, clips = read_clips(config, rank, wait)
    sizes = _sizes(config, reader)
    model = build_seeded(config.seed, SmallDreamZero, sizes)
    if config.init:
        tensors, meta = weight_files.read_weights(config.init_path, "dreamzero")
        before = nano.SmallDreamZeroConfig.from_dict(meta["config"])
        weight_files.load_into(model, warm_start.widened_dreamzero(tensors, before, model), config.init_path)
        return DreamZeroJob(config, model.to(config.device), clips)
    rows = ~clips.held_out & clips.known
    if not rows.any():
        raise ValueError(f"{', '.join(config.data)}: no demonstrations with actions")
    standardise(model, "state", clips.features[rows], 0.005)
    standardise(model, "action", clips.actions, 0.05)
    seen = clips.points[rows][clips.points[rows][..., 3] > 0.5]
    model.points_mean.copy_(seen[:, :3].mean(dim=0) if len(seen) else torch.zeros(3))
    return DreamZeroJob(config, model.to(config.device), clips)


def finish(job: DreamZeroJob, config: TrainConfig, state: loop.TrainState, flops: float) -> None:
    """Writes the weights and their training provenance; `flops` are the operations of a sample."""
    model = job.model.eval()
    corpora = "+".join(dataset.read_manifest(folder).corpus for folder in config.data)
    scores = dict(zip(job.metrics, (round(v, 5) for v in job.validate(model)), strict=True))
    tqdm.write(f"held-out demonstrations: {scores}")
    meta = describe(config, state, corpora, flops) | scores
    meta |= {"kind": "dreamzero", "config": model.config.to_dict(), "encoder": digest(config.encoder_path)}
    shown = config if len(job.train_rows) > 1 else replace(config, video_share=0.0)
    meta |= {"useful_samples": round(useful_share(shown, job.how) * state.samples)}
    meta |= {"frames": sum(len(rows) for rows in job.train_rows), "prefix": config.prefix}
    weight_files.write_weights(config.out, model.state_dict(), {name for name, _ in model.named_buffers()}, meta)


def parameters(config: TrainConfig) -> int:
    """Returns the number of parameters of the model to be trained."""
    reader, _ = encoder.load(config.encoder_path)
    return sum(p.numel() for p in SmallDreamZero(_sizes(config, reader)).parameters())
