"""Training of the renderer on pairs of real frames, told what a world model says of the second, or something like it.

Without a world model (`TrainConfig.world_model`) the renderer is told the encoder's reading of the second frame, made
worse as imagination is: latents drawn back towards the first frame and noisy, or none. With one it is told what that
model imagines there, in as many steps as when it plays. A part of the pairs lie at one moment; there key points are off
by up to 2 cm, so that a robot at rest stays at rest however the imagined points tremble. Elsewhere they are right, or
the renderer would learn to draw every place where the hand might be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor
from tqdm import tqdm

from wambench.policies import weight_files
from wambench.policies.dreamzero import policy as playing
from wambench.policies.dreamzero import sampling
from wambench.policies.dreamzero.nano import SmallDreamZero
from wambench.policies.networks.noise import normal
from wambench.policies.perception import encoder
from wambench.policies.perception.encoder import to_pixels
from wambench.policies.perception.renderer import SHRUNK, Renderer, RendererConfig, Told
from wambench.policies.perception.scene import SceneFeatures, encode_words
from wambench.policies.training import dataset, loop, warm_start
from wambench.policies.training.config import VALIDATION, TrainConfig, build_seeded, describe, read_clips
from wambench.policies.weight_files import digest

AHEAD = (8, 16)  # control steps to the frames that a chunk imagines
FURTHEST = 20
STILL = 0.2  # share of pairs of one moment
ANY = 0.2  # share of pairs any number of steps apart
POINT_NOISE_M = 0.02  # most noise on the key points that are told
MOVES_M = 0.025  # motion of the hand from which a moment counts in the validation
MOVING = 12.0 / 255.0  # difference of a pixel that moves
BLOCK = 8
MOVED_WEIGHT = 1.0


@dataclass(frozen=True)
class Pairs:
    """Moments and the frames some steps later: row numbers of both, and how far they are apart in control steps."""

    now: Tensor
    then: Tensor
    ahead: Tensor


def block_error(frames: Tensor, truth: Tensor) -> Tensor:
    """Returns (B,) mean squares of the differences of 8 x 8 block means of (B, 3, H, W) pixels."""
    return functional.avg_pool2d(frames - truth, BLOCK).square().mean(dim=(1, 2, 3))


def image_loss(guess: Tensor, truth: Tensor, base: Tensor) -> Tensor:
    """Returns L1 and square error, four times as heavy where pixels move, plus L1 of the gradients.

    All are (N, 3, h, w) pixels: what is drawn, what came, and what was there before.
    """
    moves = ((truth - base).abs().amax(dim=1, keepdim=True) > MOVING).float()
    error = guess - truth
    plain = ((error.abs() + 2.0 * error.square()) * (1.0 + 3.0 * moves)).mean()
    return plain + error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()


class RendererJob:
    """Trains the renderer on the frames of demonstrations and action-free video."""

    losses = ("image", "moved")
    metrics = ("val_skill_04", "val_skill_08", "val_still_grey")
    progress = 0.0

    def __init__(
        self,
        config: TrainConfig,
        model: Renderer,
        clips: dataset.Clips,
        frames: Callable[[Tensor], Tensor],
        world_model: SmallDreamZero | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self.batch = config.batch
        self.clips = clips
        self.frames = frames
        self.world_model = world_model
        self.words = encode_words(clips.sentences, model.config.points)
        own = clips.offset >= 0
        # what a world model imagines cannot be what a disturbance does; recorded futures are what they are
        self.train_rows = clips.split(clips.undisturbed(AHEAD[-1]) if world_model else own)
        ends = clips.frames_at(torch.arange(len(clips.step)), AHEAD)
        hand = model.config.points.index("hand")
        places = clips.points[:, hand, :3].cpu()
        moved = (places[ends[:, 0]] - places).norm(dim=1)
        rests = clips.undisturbed(AHEAD[-1]) & clips.held_out & (clips.step + AHEAD[-1] <= clips.length)
        self.test_rows = torch.nonzero(rests & (moved > MOVES_M)).flatten()

    def _draw(self, generator: torch.Generator) -> Pairs:
        rows = dataset.draw_rows(self.train_rows, self.config.video_share, self.batch, generator)
        kind = torch.rand(self.batch, generator=generator)
        ahead = torch.tensor(AHEAD)[torch.randint(len(AHEAD), (self.batch,), generator=generator)]
        free = self.clips.every * torch.randint(1, FURTHEST // self.clips.every + 1, (self.batch,), generator=generator)
        ahead = torch.where(kind < ANY, free, ahead)
        ahead = torch.where(kind > 1.0 - STILL, torch.zeros_like(ahead), ahead)
        return self._pairs(rows, ahead)

    def _pairs(self, rows: Tensor, ahead: Tensor) -> Pairs:
        then = torch.minimum(rows + ahead // self.clips.every, self.clips.last[rows])
        return Pairs(rows, then, ahead)

    def _read(self, rows: Tensor) -> Told:
        device = self.config.device
        return Told(*self.clips.read(rows, device))

    def _worse(self, pairs: Pairs, now: Told, then: Told, generator: torch.Generator) -> Told:
        """Returns what is read of the second frame, as bad as what is imagined of it."""
        b, c = then.points.shape[:2]
        device = then.points.device

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return (torch.rand(*shape, generator=generator) * (high - low) + low).to(device)

        spread = uniform(0.0, POINT_NOISE_M, b, 1, 1) * (pairs.ahead == 0).to(device)[:, None, None]
        common = normal((b, 1, 3), generator, device)
        each = 0.3 * normal((b, c, 3), generator, device)
        points = torch.cat([then.points[..., :3] + spread * (common + each), then.points[..., 3:]], dim=2)
        weight = uniform(0.3, 1.0, b, 1, 1, 1) * (uniform(0.0, 1.0, b, 1, 1, 1) > 0.25)
        noise = uniform(0.0, 0.7, b, 1, 1, 1) * normal(then.latents.shape, generator, device)
        return Told(now.latents + weight * (then.latents - now.latents) + noise, points)

    @torch.no_grad()
    def _imagined(self, world_model: SmallDreamZero, pairs: Pairs, generator: torch.Generator) -> Told:
        """Returns what the world model imagines; only `AHEAD` can be imagined, other pairs get the nearest of these."""
        device = self.config.device
        clips = self.clips
        at = pairs.now[:, None]
        latents, points = clips.read(at, device)
        known = clips.known[at].float()[..., None].to(device)
        scene = SceneFeatures(latents, points, clips.features[at].to(device), known, points)
        words = self.words.at(clips.sentence[pairs.now]).to(device)
        noise = sampling.draw_noise(world_model.config, [generator] * len(at)).to(device)
        first = world_model.frames(scene.latents, scene.points)
        memory = sampling.remember(world_model, first, words)
        how = sampling.Sampling(playing.DreamZeroOptions().sampling().solver)
        video, _ = sampling.sample(world_model, memory, world_model.states(scene, words), noise, how)
        assert video.vectors is not None
        number = (pairs.ahead > AHEAD[0]).long().to(device)
        rows = torch.arange(len(at), device=device)
        return Told(video.latents.transpose(1, 2)[rows, number], world_model.points(video.vectors)[rows, number])

    def loss(self, model: Renderer, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns the image losses of a batch of pairs: of the frames, and of their layers without paint, shrunken."""
        pairs = self._draw(generator)
        if self.world_model is not None:
            pairs = self._pairs(pairs.now, torch.where(pairs.ahead > AHEAD[0], AHEAD[1], AHEAD[0]))
        base, truth = (to_pixels(self.frames(rows).to(self.config.device)) for rows in (pairs.now, pairs.then))
        now, then = self._read(pairs.now), self._read(pairs.then)
        if self.world_model is not None:
            then = self._imagined(self.world_model, pairs, generator)
        else:
            then = self._worse(pairs, now, then, generator)
        drawing = model.drawing(base, now, then)
        views = model.by_view(truth)
        moved = [
            image_loss(drawing.moved(s), *(functional.avg_pool2d(x, s) for x in (views, drawing.real))) for s in SHRUNK
        ]
        return image_loss(drawing.frames(), views, drawing.real), MOVED_WEIGHT * torch.stack(moved).mean()

    @torch.no_grad()
    def validate(self, model: Renderer) -> tuple[float, ...]:
        """Returns block skill 0.4 and 0.8 s ahead where the hand moves, and grey levels of error at rest above a copy.

        Moments are held out and undisturbed. Without a world model, key points are those read from the second frame
        and latents those of the first.
        """
        if not len(self.test_rows):
            return (float("nan"),) * len(self.metrics)
        rows = self.test_rows[torch.linspace(0, len(self.test_rows) - 1, min(VALIDATION, len(self.test_rows))).long()]
        sums = torch.zeros(3, 2)
        for part in rows.split(64):
            for k, ahead in enumerate((*AHEAD, 0)):
                pairs = self._pairs(part, torch.full_like(part, ahead))
                base, truth = (to_pixels(self.frames(r).to(self.config.device)) for r in (pairs.now, pairs.then))
                now, then = self._read(pairs.now), self._read(pairs.then)
                if self.world_model is None:
                    then = Told(now.latents, then.points)
                elif ahead:
                    then = self._imagined(self.world_model, pairs, torch.Generator().manual_seed(len(part)))
                drawn = model(base, now, then).clamp(-0.5, 0.5)
                if ahead:
                    sums[k] += torch.stack([block_error(x, truth).sum() for x in (drawn, base)]).cpu()
                else:
                    sums[k, 0] += functional.avg_pool2d((drawn - base).abs(), BLOCK).mean(dim=(1, 2, 3)).sum().cpu()
        skill = 1.0 - sums[:2, 0] / sums[:2, 1]
        return float(skill[0]), float(skill[1]), 255.0 * float(sums[2, 0]) / len(rows)


def frame_reader(folders: tuple[str, ...]) -> Callable[[Tensor], Tensor]:
    """Returns a function from frame numbers (B,), counted as `dataset.load_clips` does, to (B, H, W, 3) uint8."""
    stores = [dataset.locate_frames(file) for folder in folders for file in dataset.files_of(folder)]
    starts = np.cumsum([0] + [store.shape[0] for store in stores])

    def read(rows: Tensor) -> Tensor:
        index = rows.numpy()
        which = np.searchsorted(starts, index, side="right") - 1
        return torch.from_numpy(
            np.stack([stores[k].row(int(i - starts[k])) for k, i in zip(which, index, strict=True)])
        )

    return read


def _sizes(reader: encoder.Encoder) -> RendererConfig:
    c = reader.config
    return RendererConfig(c.points, c.latent, c.canvas, c.views)


def job(config: TrainConfig, rank: int, wait: Callable[[], Any]) -> RendererJob:
    """Returns the job; what does not fit the encoder raises ValueError."""
    reader, clips = read_clips(config, rank, wait)
    model = build_seeded(config.seed, Renderer, _sizes(reader))
    if config.init:
        tensors, meta = weight_files.read_weights(config.init_path, "renderer")
        before = RendererConfig.from_dict(meta["config"])
        weight_files.load_into(model, warm_start.widened_renderer(tensors, before, model), config.init_path)
    else:
        seen = clips.points[clips.points[..., 3] > 0.5]
        model.points_mean.copy_(seen[:, :3].mean(dim=0).cpu())
    world_model = None
    if config.world_model:
        world_model, meta = playing.load_nano(Path(config.world_model))
        if meta.get("encoder") != digest(config.encoder_path):
            raise ValueError(f"{config.world_model}: trained with another encoder than {config.encoder_path}")
        imagined = tuple(world_model.config.stride * (k + 1) for k in range(world_model.config.dit.frames_per_chunk))
        if imagined != AHEAD:
            raise ValueError(
                f"{config.world_model}: imagines frames {imagined} steps ahead; the renderer needs {AHEAD}"
            )
        world_model = world_model.to(config.device)
    return RendererJob(config, model.to(config.device), clips, frame_reader(config.data), world_model)


def finish(job: RendererJob, config: TrainConfig, state: loop.TrainState, flops: float) -> None:
    """Writes the weights and their training provenance."""
    del flops  # not counted: it is trained once, for all world models
    model = job.model.eval()
    scores = dict(zip(job.metrics, (round(v, 4) for v in job.validate(model)), strict=True))
    tqdm.write(f"held-out demonstrations: {scores}")
    corpora = "+".join(dataset.read_manifest(folder).corpus for folder in config.data)
    meta = describe(config, state, corpora) | scores
    meta |= {"kind": "renderer", "config": model.config.to_dict(), "encoder": digest(config.encoder_path)}
    weight_files.write_weights(config.out, model.state_dict(), {name for name, _ in model.named_buffers()}, meta)


def parameters(config: TrainConfig) -> int:
    """Returns the number of parameters of the renderer to be trained."""
    reader, _ = encoder.load(config.encoder_path)
    return sum(p.numel() for p in Renderer(_sizes(reader)).parameters())
