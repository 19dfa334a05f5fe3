"""How a gripper gets from one pose to the next: what lies between the frames that the oracle tracker reads.

Two frames 0.4 s apart do not say whether the fingers closed before or after the hand moved, nor that it rose before it
went across. Experts of all tasks, led astray, show what hands do in between; a perceptron on the hand alone (it knows
of no thing and no task) learned it from the states of `wambench collect --corpus tracks`.

Letters: B paths, K poses, N steps of a path (the steps to the last pose).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.policies.perception import encoder as encoding
from wambench.policies.training.dataset import files_of, load_arrays

WEIGHTS = "paths-v1.safetensors"
UNIT_M, UNIT_WIDTH_M = 0.05, 0.02
TABLE_M = 0.9  # about the height at which hands work
HOLD_OUT = 12
MOVING_M = 0.0015  # the opening changes by more than this in a step: the fingers are moving
FINGER_STEP_M = 0.008  # change of the fingers' goal, as an opening, in a step
READ_M, READ_WIDTH_M = 0.004, 0.0015  # noise of the poses in training, as a tracker's


@dataclass(frozen=True)
class PathsConfig:
    """Sizes: control steps from now to each pose, and the width of the perceptron."""

    steps: tuple[int, ...] = (8, 16)
    hidden: int = 192


class Paths(nn.Module):
    """Hand now and poses to come -> positions, openings and grip at every step."""

    def __init__(self, config: PathsConfig) -> None:
        super().__init__()
        self.config = config
        self.length = config.steps[-1]
        self.layer1 = nn.Linear(7 + 4 * len(config.steps), config.hidden)
        self.layer2 = nn.Linear(config.hidden, config.hidden)
        self.layer3 = nn.Linear(config.hidden, config.hidden)
        self.out = nn.Linear(config.hidden, 4 * self.length)

    def forward(self, now: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Returns displacements (B, N, 3) in `UNIT_M` and grip logits (B, N), positive: closing.

        Args:
            now: (B, 7): displacement in the last step (x 10), height, opening, its last change (x 10), grip (+-1).
            poses: (B, K, 4): displacement from now in `UNIT_M`, opening in `UNIT_WIDTH_M`.
        """
        x = torch.cat([now, poses.flatten(1)], dim=1).to(self.layer1.weight.dtype)
        x = functional.silu(self.layer2(functional.silu(self.layer1(x))))
        x = x + functional.silu(self.layer3(x))
        out = self.out(x).float().view(len(x), self.length, 4)
        return self._straight(poses[..., :3].float()) + out[..., :3], out[..., 3]

    def _straight(self, places: Tensor) -> Tensor:
        """Returns (B, N, 3) straight lines through the poses, from which the network says how a path differs."""
        parts, before, begun = [], torch.zeros_like(places[:, :1]), 0
        for k, end in enumerate(self.config.steps):
            share = torch.arange(1, end - begun + 1, device=places.device).view(1, -1, 1) / (end - begun)
            parts.append(before + share * (places[:, k : k + 1] - before))
            before, begun = places[:, k : k + 1], end
        return torch.cat(parts, dim=1)


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
    grips, last, since = np.empty(len(widths)), -1.0, 0
    for i, change in enumerate(ahead):
        now = last if abs(change) < MOVING_M else (-1.0 if change > 0 else 1.0)
        grips[i] = now
        if now != last:
            lag = 1 + (round(float(widths[i]) / FINGER_STEP_M) if now < 0 else 0)
            grips[max(since, i - lag) : i] = now
            last, since = now, i
    return grips


def load_walks(folders: Sequence[str]) -> Walks:
    """Returns the hands in folders of episodes with states."""
    parts: list[tuple[np.ndarray, ...]] = []
    for folder in folders:
        for k, path in enumerate(files_of(folder)):
            states = load_arrays(path, ["states"])["states"]
            widths, count = np.abs(states[:, 6] - states[:, 7]), len(states)
            held = np.full(count, k % HOLD_OUT == HOLD_OUT // 2)
            place = np.arange(count)
            parts.append((states[:, :3], widths, grips_of(widths), place, count - 1 - place, held))
    return Walks(*(torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)))


def inputs(before: Tensor, now: Tensor, widths: tuple[Tensor, Tensor], grip: Tensor) -> Tensor:
    """Returns (B, 7) of positions one step ago and now (B, 3), openings then and now (B,), and the grip (B,)."""
    return torch.cat(
        [
            (now - before) / UNIT_M * 10.0,
            (now[:, 2:] - TABLE_M) / (2 * UNIT_M),
            widths[1][:, None] / UNIT_WIDTH_M,
            (widths[1] - widths[0])[:, None] / UNIT_WIDTH_M * 10.0,
            grip[:, None],
        ],
        dim=1,
    ).float()


class PathsJob:
    """Trains the paths: `loop.Job`."""

    losses = ("place", "grip")
    metrics = ("path_mm", "straight_mm", "grip_error")

    def __init__(self, model: Paths, walks: Walks, batch: int) -> None:
        self.model: nn.Module = model
        self.walks, self.batch, self.length = walks, batch, model.length
        fits = (walks.left >= model.length) & (walks.first >= 1)
        self.rows = torch.nonzero(fits & ~walks.held_out).flatten()
        self.test_rows = torch.nonzero(fits & walks.held_out).flatten()

    def _sample(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns what is known at some rows, the poses as a tracker reads them, and the true path and grips."""
        walks, model = self.walks, self.model
        assert isinstance(model, Paths)
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

    def loss(self, model: nn.Module, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns the losses on random paths."""
        rows = self.rows[torch.randint(len(self.rows), (self.batch,), generator=generator)]
        now, poses, places, grips = self._sample(rows, generator)
        guess, logits = model(now, poses)
        return (guess - places).abs().mean() * 4.0, functional.binary_cross_entropy_with_logits(logits, grips)

    @torch.no_grad()
    def validate(self, model: nn.Module) -> tuple[float, ...]:
        """Returns mean errors over the first pose's steps: of the path and of a straight one in mm, and wrong grips."""
        assert isinstance(model, Paths)
        now, poses, places, grips = self._sample(self.test_rows, torch.Generator().manual_seed(0))
        guess, logits = model(now, poses)
        first = model.config.steps[0]
        lines = model._straight(poses[..., :3])
        off = [(x - places)[:, :first].norm(dim=2).mean() * UNIT_M * 1e3 for x in (guess, lines)]
        return float(off[0]), float(off[1]), float(((logits > 0) != (grips > 0.5))[:, :first].float().mean())


@torch.no_grad()
def complete(
    model: Paths, before: np.ndarray, now: np.ndarray, grip: float, positions: np.ndarray, widths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions (N, 3) in m and grips (N,), +1 to close, on the way through some poses.

    Args:
        model: The paths.
        before, now: (4,) position in m and opening one step ago, and now.
        grip: What the fingers were told last, +1 or -1.
        positions, widths: (K, 3) and (K,) of the poses, at `model.config.steps` from now.
    """
    one, two = (torch.from_numpy(np.asarray(x, np.float32))[None] for x in (before, now))
    known = inputs(one[:, :3], two[:, :3], (one[:, 3], two[:, 3]), torch.tensor([grip]))
    poses = np.concatenate([(positions - now[:3]) / UNIT_M, widths[:, None] / UNIT_WIDTH_M], axis=1)
    places, logits = model(known, torch.from_numpy(poses.astype(np.float32))[None])
    return now[:3] + places[0].numpy() * UNIT_M, np.where(logits[0].numpy() > 0.0, 1.0, -1.0)


def save(model: Paths, path: str | Path, meta: dict[str, Any]) -> None:
    """Writes the paths with their config and whatever else `meta` says."""
    meta = {**meta, "kind": "paths", "config": asdict(model.config)}
    encoding.write_weights(path, model.state_dict(), set(), meta)


def load(path: str | Path) -> tuple[Paths, dict[str, Any]]:
    """Returns paths in evaluation mode and their metadata; a missing or damaged file raises ValueError."""
    tensors, meta = encoding.read_weights(path, "paths")
    try:
        model = Paths(PathsConfig(tuple(meta["config"]["steps"]), meta["config"]["hidden"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged weights file (config: {error})") from None
    encoding.load_into(model, tensors, path)
    return model.eval(), meta


def finish(job: PathsJob, out: str | Path, meta: dict[str, Any]) -> str:
    """Measures errors, writes the weights and returns the errors as JSON."""
    model = job.model.eval()
    assert isinstance(model, Paths)
    errors = dict(zip(job.metrics, (round(v, 4) for v in job.validate(model)), strict=True))
    save(model, out, meta | {"errors": errors})
    return json.dumps(errors)
