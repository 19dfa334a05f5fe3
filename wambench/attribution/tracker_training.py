"""Training of the tracker that reads imagined frames."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from wambench.attribution.tracker import (
    UNIT_M,
    UNIT_RAD,
    UNIT_WIDTH_M,
    FrameTracker,
    Pairs,
    frame_features,
    loss,
    rotation_of,
    save,
)
from wambench.policies.perception import encoder as encoding
from wambench.policies.perception.encoder import Encoder, state_features
from wambench.policies.training.dataset import files_of, load_arrays, locate_frames, read_manifest
from wambench.progress_bar import progress_bar

HOLD_OUT = 12  # every so many episodes one is held out
STRANGE = 0.06  # share of training pairs whose second frame is of another episode, or noise
VERSIONS = ("clean", "blurred", "reconstructed")
JITTER = 0.012  # noise on places in training, a quarter of a cell


def degrade(reader: Encoder, frames: Tensor, version: str, generator: torch.Generator) -> Tensor:
    """Returns uint8 frames as a model might imagine them: blurred (to 1.5 pixels), or decoded from noisy latents."""
    if version == "clean":
        return frames
    if version == "blurred":
        sigma = 0.4 + 1.1 * float(torch.rand((), generator=generator))
        offsets = torch.arange(-4, 5).float()
        kernel = torch.exp(-offsets.square() / (2 * sigma * sigma))
        kernel = (kernel / kernel.sum()).view(1, 1, 9, 1).expand(3, 1, 9, 1)
        pixels = functional.pad(encoding.to_pixels(frames), (4, 4, 4, 4), mode="replicate")
        pixels = functional.conv2d(functional.conv2d(pixels, kernel, groups=3), kernel.transpose(2, 3), groups=3)
        return ((pixels.permute(0, 2, 3, 1) + 0.5) * 255.0).round().clamp(0, 255).to(torch.uint8)
    latents = reader.latents(frames)
    noise = torch.randn(latents.shape, generator=generator)
    amount = 0.4 * torch.rand(len(latents), 1, 1, 1, generator=generator)
    return reader.decode(latents + amount * noise)


@dataclass(frozen=True)
class Episodes:
    """N frames of episodes, with states and labels as in `Pairs`.

    Attributes:
        features: (N, 2, M, V, 4) of the clean and of the degraded version.
        versions: (N,) number of the degraded version in `VERSIONS`.
        state: (N, 11) features of the robot's state.
        points: (N, C, 3) positions of the objects in m.
        present: (N, C) whether they are there.
        pixels: (N, P, V, 2) where all key points are in each view.
        first: (N,) index of the first frame of the same episode.
        last: (N,) index of its last frame.
        held_out: (N,) bool: kept for measuring errors.
    """

    features: Tensor
    versions: np.ndarray
    state: Tensor
    points: Tensor
    present: Tensor
    pixels: Tensor
    first: np.ndarray
    last: np.ndarray
    held_out: np.ndarray


def version_of(number: int) -> int:
    """Returns which degraded version (1 or 2) goes with an episode, by its number within a folder; they take turns."""
    return 1 + (number + number // HOLD_OUT) % 2


def is_held_out(number: int) -> bool:
    """Returns whether an episode is kept for measuring errors, by its number within a folder."""
    return number % HOLD_OUT == HOLD_OUT // 2


def check_episodes(folders: Sequence[str]) -> None:
    """Raises ValueError unless both degraded versions are among the held-out episodes, whose errors are reported."""
    counts = [len(files_of(folder)) for folder in folders]
    held = {version_of(k) for count in counts for k in range(count) if is_held_out(k)}
    if len(held) == len(VERSIONS) - 1:
        return
    enough = next(n for n in range(1, 10 * HOLD_OUT) if len({version_of(k) for k in range(n) if is_held_out(k)}) == 2)
    raise ValueError(
        f"{', '.join(folders)}: {sum(counts)} episodes are too few to train the tracker; a folder needs at least "
        f"{enough}, so that its errors can be measured on held-out ones"
    )


def load_episodes(folders: Sequence[str], reader: Encoder, seed: int) -> Episodes:
    """Returns the frames of folders of `wambench collect --corpus tracks`, encoded; each clean and once degraded."""
    check_episodes(folders)
    generator = torch.Generator().manual_seed(seed)
    parts: list[Episodes] = []
    start = 0
    for folder in folders:
        if read_manifest(folder).points != reader.config.points:
            raise ValueError(f"{folder}: its key points are not those of the encoder")
        count_objects = sum(name not in encoding.HAND for name in reader.config.points)
        paths = files_of(folder)
        bar = progress_bar(total=len(paths), desc="encoding", unit="file")
        for k, path in enumerate(paths):
            arrays = load_arrays(path, ["states", "frame_steps", "points", "present", "pixels"])
            frames = torch.from_numpy(locate_frames(path).all())
            version = version_of(k)
            other = degrade(reader, frames, VERSIONS[version], generator)
            count = len(frames)
            parts.append(
                Episodes(
                    features=torch.stack([frame_features(reader, f).half() for f in (frames, other)], dim=1),
                    versions=np.full(count, version),
                    state=state_features(torch.from_numpy(arrays["states"][arrays["frame_steps"]])),
                    points=torch.from_numpy(arrays["points"][:, :count_objects]),
                    present=torch.from_numpy(arrays["present"][:, :count_objects]),
                    pixels=torch.from_numpy(arrays["pixels"]),
                    first=np.full(count, start),
                    last=np.full(count, start + count - 1),
                    held_out=np.full(count, is_held_out(k)),
                )
            )
            start += count
            bar.update()
        bar.close()
    return _join(parts)


def _join(parts: Sequence[Episodes]) -> Episodes:
    """Returns episodes one after another."""
    return Episodes(
        features=torch.cat([part.features for part in parts]),
        versions=np.concatenate([part.versions for part in parts]),
        state=torch.cat([part.state for part in parts]),
        points=torch.cat([part.points for part in parts]),
        present=torch.cat([part.present for part in parts]),
        pixels=torch.cat([part.pixels for part in parts]),
        first=np.concatenate([part.first for part in parts]),
        last=np.concatenate([part.last for part in parts]),
        held_out=np.concatenate([part.held_out for part in parts]),
    )


def pairs_of(episodes: Episodes, before: Tensor, after: Tensor, version: Tensor) -> Pairs:
    """Returns the pairs of frames with some indices (B,), the second one in a version: 0 clean, 1 degraded."""
    one, two = episodes.state[before], episodes.state[after]
    turn = rotation_of(two) @ rotation_of(one).transpose(1, 2)
    axis = torch.stack([turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]], 1)
    width = (two[:, 9] - two[:, 10]).abs()
    hand = [(two[:, :3] - one[:, :3]) / UNIT_M, axis / 2 / UNIT_RAD, (width / UNIT_WIDTH_M)[:, None]]
    return Pairs(
        before=episodes.features[before, 0],
        after=episodes.features[after, version],
        state=one,
        points=episodes.points[before],
        present=episodes.present[before],
        pixels=episodes.pixels[before],
        hand=torch.cat(hand, dim=1),
        objects=(episodes.points[after] - episodes.points[before]) / UNIT_M,
    )


class TrackerJob:
    """Trains the tracker (`loop.TrainJob`)."""

    losses = ("hand", "things")
    metrics = ("clean_mm", "degraded_mm", "rotation_deg", "width_mm")
    progress = 0.0

    def __init__(self, model: FrameTracker, episodes: Episodes, batch: int) -> None:
        self.model = model
        self.episodes = episodes
        self.batch = batch
        self.rows = torch.from_numpy(np.flatnonzero(~episodes.held_out))
        self.test_rows = torch.from_numpy(np.flatnonzero(episodes.held_out))
        self.first = torch.from_numpy(episodes.first)
        self.last = torch.from_numpy(episodes.last)

    def _draw(self, generator: torch.Generator) -> Pairs:
        before = self.rows[torch.randint(len(self.rows), (self.batch,), generator=generator)]
        chance = torch.rand(3, self.batch, generator=generator)
        ahead = torch.where(chance[0] < 0.75, (chance[1] * 5).long(), (chance[1] * 24).long() - 8)
        after = torch.minimum(torch.maximum(before + ahead, self.first[before]), self.last[before])
        pairs = pairs_of(self.episodes, before, after, (chance[2] < 0.7).long())
        strange = torch.rand(self.batch, 1, 1, 1, generator=generator)
        noise = [torch.randn(pairs.after.shape, generator=generator) for _ in range(3)]
        spread = torch.tensor([JITTER, JITTER, 0.05, 0.02])
        first, second = (x.float() + n * spread for x, n in zip((pairs.before, pairs.after), noise, strict=False))
        second = torch.where(strange < STRANGE, second.roll(1, 0), second)
        wild = noise[2] * self.model.std + self.model.mean
        return replace(pairs, before=first, after=torch.where(strange < STRANGE / 3, wild, second))

    def loss(self, model: FrameTracker, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns the losses on random pairs."""
        return loss(model, self._draw(generator))

    def test_pairs(self, ahead: int, version: int) -> Pairs:
        """Returns held-out pairs so many frames apart."""
        rows = self.test_rows[self.test_rows + ahead <= self.last[self.test_rows]]
        return pairs_of(self.episodes, rows, rows + ahead, torch.full((len(rows),), version))

    @torch.no_grad()
    def validate(self, model: FrameTracker) -> tuple[float, ...]:
        """Returns median position errors in mm on clean and degraded frames, then rotation and opening on clean."""
        errors = [errors_of(model, self.test_pairs(2, version)) for version in (0, 1)]
        return tuple(float(e.median()) for e in (errors[0][0], errors[1][0], errors[0][1], errors[0][2]))


@torch.no_grad()
def errors_of(model: FrameTracker, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns (B,) errors of position (mm), rotation (deg) and opening (mm), predicted scale (m), objects (B, C) mm."""
    motion = model(pairs)
    off = motion.hand - pairs.hand
    objects = (motion.objects - pairs.objects).norm(dim=2).masked_fill(~pairs.present, float("nan")) * UNIT_M * 1e3
    return (
        off[:, :3].norm(dim=1) * UNIT_M * 1e3,
        torch.rad2deg(off[:, 3:6].norm(dim=1) * UNIT_RAD),
        off[:, 6].abs() * UNIT_WIDTH_M * 1e3,
        motion.hand_scale[:, 0].exp() * UNIT_M,
        objects,
    )


def report(model: FrameTracker, job: TrackerJob) -> dict[str, dict[str, object]]:
    """Returns medians and 90 % points of held-out errors 8 control steps apart, by version of the second frame."""
    table: dict[str, dict[str, object]] = {}
    pairs = {"clean": job.test_pairs(2, 0), "degraded": job.test_pairs(2, 1)}
    rows = job.test_rows[job.test_rows + 2 <= job.last[job.test_rows]]
    versions = torch.from_numpy(job.episodes.versions)[rows + 2]
    for name in VERSIONS:
        position, rotation, width, scale, objects = errors_of(model, pairs["clean" if name == "clean" else "degraded"])
        own = torch.ones_like(position, dtype=torch.bool) if name == "clean" else versions == VERSIONS.index(name)
        moved = (pairs["clean"].objects.norm(dim=2) * UNIT_M > 0.01)[own]
        values = {"position_mm": position, "rotation_deg": rotation, "width_mm": width, "scale_mm": scale * 1e3}
        table[name] = {k: [round(float(v[own].quantile(q)), 2) for q in (0.5, 0.9)] for k, v in values.items()}
        table[name]["things_mm"] = round(float(objects[own].nanmedian()), 2)
        table[name]["moved_things_mm"] = round(float(objects[own][moved].nanmedian()), 2)
        table[name]["n"] = int(own.sum())
    return table


@torch.no_grad()
def finish(job: TrackerJob, out: str | Path, meta: Mapping[str, object]) -> str:
    """Sets the limit of abstention, measures errors, writes the weights and returns the errors as JSON.

    The limit is the 99 % point of the predicted scale on held-out pairs, half of them degraded. "strange" in the errors
    says how many pairs it rejects whose second frame is of another episode.
    """
    model = job.model.eval()
    pairs = [job.test_pairs(ahead, version) for ahead in (2, 4) for version in (0, 1)]
    scales = torch.cat([errors_of(model, p)[3] for p in pairs])
    limit = float(scales.quantile(0.99))
    table = report(model, job)
    other = replace(pairs[1], after=pairs[1].after.roll(len(pairs[1].after) // 2, 0))
    table["strange"] = {"rejected": round(float((errors_of(model, other)[3] > limit).float().mean()), 3)}
    model.config = replace(model.config, limit_m=limit)
    save(model, out, {**meta, "errors": table, "versions": list(VERSIONS)})
    return json.dumps(table)
