"""Training of the encoder on frames with labels: demonstrations and random renders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from wambench.policies import weight_files
from wambench.policies.perception import encoder
from wambench.policies.perception.encoder import Encoder
from wambench.policies.training import dataset, loop
from wambench.policies.training.config import VALIDATION, TrainConfig, build_seeded, describe, standardise


class EncoderJob:
    """Trains the encoder on equal shares of each folder."""

    losses = ("image", "points", "heat")
    metrics = ("psnr_db", "points_mm", "hand_mm", "presence_error")
    progress = 0.0

    def __init__(self, config: TrainConfig, model: Encoder, sources: list[dataset.LabelledFrames]) -> None:
        self.model = model
        self.batch = config.batch
        self.sources = sources
        self.device = config.device
        self.train_rows = [np.flatnonzero(~s.held_out) for s in sources]
        self.test_rows = [np.flatnonzero(s.held_out) for s in sources]

    def _draw(self, rng: torch.Generator, rows: list[np.ndarray], batch: int) -> encoder.LabelledBatch:
        parts = []
        left = batch
        for i, (source, own) in enumerate(zip(self.sources, rows, strict=True)):
            count = left // (len(rows) - i)
            left -= count
            parts.append(source.batch(own[torch.randint(len(own), (count,), generator=rng).numpy()]))
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return encoder.LabelledBatch(*(torch.cat(column) for column in columns))

    def loss(self, model: Encoder, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns the image, key point and heat map losses."""
        return encoder.loss(model, self._draw(generator, self.train_rows, self.batch).to(self.device), generator)

    def test_batches(self) -> list[encoder.LabelledBatch]:
        """Returns held-out frames, up to `VALIDATION` per folder, in batches of one folder each."""
        batches = []
        for source, rows in zip(self.sources, self.test_rows, strict=True):
            chosen = rows[np.linspace(0, len(rows) - 1, min(VALIDATION, len(rows))).astype(int)] if len(rows) else rows
            batches += [source.batch(chosen[i : i + 32]) for i in range(0, len(chosen), 32)]
        return batches

    def validate(self, model: Encoder) -> tuple[float, ...]:
        """Returns PSNR, the median over objects of the median position error, that of the hand, and wrong presences.

        Positions of objects are read with the robot's state where it is known, the hand's always without.
        """
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
def judge(model: Encoder, batch: encoder.LabelledBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Returns mean square pixel error (range 1), position error (B, C) in m, NaN if absent, and wrong presence."""
    maps = model.maps(encoder.to_pixels(batch.frames))
    error = model.reconstruct(model.to_latent(maps[2])) - encoder.to_pixels(batch.frames)
    found, _ = model.key_points(maps, model.standard_state(batch.states))
    xyz = found[..., :3] * encoder.POINT_UNIT_M + model.points_mean
    distance = (xyz - batch.points).norm(dim=2).masked_fill(~batch.present, float("nan"))
    return error.clamp(-1, 1).square().mean().cpu(), distance.cpu(), ((found[..., 3] > 0) != batch.present).cpu()


def job(config: TrainConfig, rank: int, wait: Callable[[], Any]) -> EncoderJob:
    """Returns the job; folders with other key points raise ValueError."""
    manifests = [dataset.read_manifest(folder) for folder in config.data]
    for folder, manifest in zip(config.data, manifests, strict=True):
        if manifest.points != manifests[0].points:
            raise ValueError(f"{folder}: its key points differ from those of {config.data[0]}")
    sources = [dataset.labelled_frames(folder) for folder in config.data]
    height, width = sources[0].stores[0].shape[1:3]
    sizes = replace(encoder.CONFIGS[config.config], points=manifests[0].points, canvas=(height, width))
    model = build_seeded(config.seed, Encoder, sizes)
    if config.init:
        weight_files.warm_start(model, weight_files.read_weights(config.init_path, "encoder")[0], config.init_path)
    states = torch.cat([s.states for s in sources])
    standardise(model, "state", encoder.state_features(states[torch.isfinite(states).all(dim=1)]), 0.005)
    model.points_mean.copy_(torch.cat([s.points[s.present] for s in sources]).mean(dim=0))
    return EncoderJob(config, model.to(config.device), sources)


def finish(job: EncoderJob, config: TrainConfig, state: loop.TrainState, flops: float) -> None:
    """Measures the latents' spread and the errors, and writes the weights."""
    model = job.model.eval()
    rng = torch.Generator().manual_seed(config.seed)
    with torch.no_grad():
        batches = [job._draw(rng, job.train_rows, 64) for _ in range(32)]
        raw = [model.to_latent(model.maps(encoder.to_pixels(b.frames.to(config.device)))[2]) for b in batches]
        standardise(model, "latent", torch.cat(raw).permute(0, 2, 3, 1).flatten(0, 2), 1e-3)
    psnr, _, hand, _ = job.validate(model)
    corpora = "+".join(dataset.read_manifest(folder).corpus for folder in config.data)
    meta = describe(config, state, corpora) | {
        "points_mm": job.table(model),
        "psnr_db": round(psnr, 2),
        "hand_mm": round(hand, 1),
    }
    pairs = [dataset.moving_pairs(folder) for folder in config.data if dataset.read_manifest(folder).corpus == "demos"]
    if pairs:
        before, after = (torch.cat(frames).to(config.device) for frames in zip(*pairs, strict=True))
        meta["psnr_moving_db"] = round(encoder.moving_psnr(model, before, after), 2)
        tqdm.write(f"pixels that move within 0.4 s: psnr {meta['psnr_moving_db']} dB")
    tqdm.write(f"held-out frames: psnr {psnr:.1f} dB, median key point error in mm: {meta['points_mm']}")
    encoder.save(model, config.out, meta)


def parameters(config: TrainConfig) -> int:
    """Returns the number of parameters of the encoder to be trained."""
    points = dataset.read_manifest(config.data[0]).points
    return sum(p.numel() for p in Encoder(replace(encoder.CONFIGS[config.config], points=points)).parameters())
