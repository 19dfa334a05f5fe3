"""Training of the paths that complete what was read between two imagined frames."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from wambench.attribution.paths import (
    FINGER_STEP_M,
    MOVING_M,
    READ_M,
    READ_WIDTH_M,
    UNIT_M,
    UNIT_WIDTH_M,
    Paths,
    inputs,
    save,
)
from wambench.policies.training.dataset import files_of, load_arrays

HOLD_OUT = 12


@dataclass(frozen=True)
class Walks:
    """Hands of many episodes, one step after another: positions (N, 3), openings, grips (+-1), steps left (N,)."""

    positions: Tensor
    widths: Tensor
    grips: Tensor
    first: Tensor
    left: Tensor
    held_out: Tensor


def grips_of(widths: np.ndarray) -> np.ndarray:
    """Returns (T,) what the fingers are told, +1 to close, from (T,) openings: the way they go, or went last.

    Fingers that hold something are told to be shut: to open, their goal first has to come back from 0.
    """
    ahead = np.concatenate([np.diff(widths), [0.0]])
    grips = np.empty(len(widths))
    last = -1.0
    since = 0
    for i, change in enumerate(ahead):
        now = last if abs(change) < MOVING_M else (-1.0 if change > 0 else 1.0)
        grips[i] = now
        if now != last:
            lag = 1 + (round(float(widths[i]) / FINGER_STEP_M) if now < 0 else 0)
            grips[max(since, i - lag) : i] = now
            last = now
            since = i
    return grips


def load_walks(folders: Sequence[str]) -> Walks:
    """Returns the hands in folders of episodes with states."""
    parts: list[tuple[np.ndarray, ...]] = []
    for folder in folders:
        for k, path in enumerate(files_of(folder)):
            states = load_arrays(path, ["states"])["states"]
            widths = np.abs(states[:, 6] - states[:, 7])
            count = len(states)
            held = np.full(count, k % HOLD_OUT == HOLD_OUT // 2)
            place = np.arange(count)
            parts.append((states[:, :3], widths, grips_of(widths), place, count - 1 - place, held))
    return Walks(*(torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)))


class PathsJob:
    """Trains the paths (`loop.TrainJob`)."""

    losses = ("place", "grip")
    metrics = ("path_mm", "straight_mm", "grip_error")
    progress = 0.0

    def __init__(self, model: Paths, walks: Walks, batch: int) -> None:
        self.model = model
        self.walks = walks
        self.batch = batch
        self.length = model.length
        fits = (walks.left >= model.length) & (walks.first >= 1)
        self.rows = torch.nonzero(fits & ~walks.held_out).flatten()
        self.test_rows = torch.nonzero(fits & walks.held_out).flatten()

    def _sample(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns what is known at some rows, the poses as a tracker reads them, and the true path and grips."""
        walks = self.walks
        model = self.model
        now = inputs(
            walks.positions[rows - 1],
            walks.positions[rows],
            (walks.widths[rows - 1], walks.widths[rows]),
            walks.grips[rows - 1].float(),
        )
        ahead = rows[:, None] + torch.arange(1, self.length + 1)
        places = (walks.positions[ahead] - walks.positions[rows][:, None]) / UNIT_M
        ends = torch.tensor(model.config.steps) - 1
        poses = torch.cat([places[:, ends], walks.widths[ahead[:, ends]][..., None] / UNIT_WIDTH_M], dim=2)
        noise = torch.randn(poses.shape, generator=generator) * torch.rand(len(rows), 1, 1, generator=generator)
        scale = torch.tensor([READ_M / UNIT_M] * 3 + [READ_WIDTH_M / UNIT_WIDTH_M])
        return now, (poses + 2.0 * noise * scale).float(), places.float(), (walks.grips[ahead - 1] > 0).float()

    def loss(self, model: Paths, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns the losses on random paths."""
        rows = self.rows[torch.randint(len(self.rows), (self.batch,), generator=generator)]
        now, poses, places, grips = self._sample(rows, generator)
        guess, logits = model(now, poses)
        return (guess - places).abs().mean() * 4.0, functional.binary_cross_entropy_with_logits(logits, grips)

    @torch.no_grad()
    def validate(self, model: Paths) -> tuple[float, ...]:
        """Returns mean errors over the first pose's steps: of the path and of a straight one in mm, and wrong grips."""
        now, poses, places, grips = self._sample(self.test_rows, torch.Generator().manual_seed(0))
        guess, logits = model(now, poses)
        first = model.config.steps[0]
        lines = model.straight_lines(poses[..., :3])
        off = [(x - places)[:, :first].norm(dim=2).mean() * UNIT_M * 1e3 for x in (guess, lines)]
        return float(off[0]), float(off[1]), float(((logits > 0) != (grips > 0.5))[:, :first].float().mean())


def finish(job: PathsJob, out: str | Path, meta: Mapping[str, object]) -> str:
    """Measures errors, writes the weights and returns the errors as JSON."""
    model = job.model.eval()
    errors = dict(zip(job.metrics, (round(v, 4) for v in job.validate(model)), strict=True))
    save(model, out, {**meta, "errors": errors})
    return json.dumps(errors)
