"""Paths: how a gripper gets from one pose to the next, which lies between the frames that the tracker reads.

Two frames 0.4 s apart do not say whether the fingers closed before or after the hand moved, nor that it rose before it
went across. Experts of all tasks, disturbed as in demonstrations, show what hands do in between. A perceptron on the
hand alone, which knows of no object and no task, learned it from the states of `wambench collect --corpus tracks`.

Letters: B paths, K poses, N steps of a path (the steps to the last pose).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.policies import weight_files

WEIGHTS = "paths-v1.safetensors"
UNIT_M = 0.05
UNIT_WIDTH_M = 0.02
TABLE_M = 0.9  # about the height at which hands work
MOVING_M = 0.0015  # the opening changes by more than this in a step: the fingers are moving
FINGER_STEP_M = 0.008  # change of the fingers' goal, as an opening, in a step
READ_M = 0.004  # noise of the poses in training, about a tracker's
READ_WIDTH_M = 0.0015  # noise of their openings


@dataclass(frozen=True)
class PathsConfig:
    """Sizes: control steps from now to each pose, and the width of the perceptron."""

    steps: tuple[int, ...] = (8, 16)
    hidden: int = 192


class Paths(nn.Module):
    """Maps the hand now and poses to come to the positions of the hand and what its fingers are told at every step."""

    def __init__(self, config: PathsConfig) -> None:
        super().__init__()
        self.config = config
        self.length = config.steps[-1]
        self.layer1 = nn.Linear(7 + 4 * len(config.steps), config.hidden)
        self.layer2 = nn.Linear(config.hidden, config.hidden)
        self.layer3 = nn.Linear(config.hidden, config.hidden)
        self.out = nn.Linear(config.hidden, 4 * self.length)

    @property
    def steps(self) -> tuple[int, ...]:
        """Control steps from now to each pose."""
        return self.config.steps

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
        return self.straight_lines(poses[..., :3].float()) + out[..., :3], out[..., 3]

    @torch.no_grad()
    def complete(
        self, before: np.ndarray, now: np.ndarray, grip: float, positions: np.ndarray, widths: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the positions (N, 3) in m and grips (N,), +1 to close, on the way through some poses.

        Args:
            before: (4,) position in m and opening one step ago.
            now: (4,) the same now.
            grip: What the fingers were told last, +1 or -1.
            positions: (K, 3) of the poses, `steps` from now.
            widths: (K,) their openings in m.
        """
        one, two = (torch.from_numpy(np.asarray(x, np.float32))[None] for x in (before, now))
        known = inputs(one[:, :3], two[:, :3], (one[:, 3], two[:, 3]), torch.tensor([grip]))
        poses = np.concatenate([(positions - now[:3]) / UNIT_M, widths[:, None] / UNIT_WIDTH_M], axis=1)
        places, logits = self(known, torch.from_numpy(poses.astype(np.float32))[None])
        return now[:3] + places[0].numpy() * UNIT_M, np.where(logits[0].numpy() > 0.0, 1.0, -1.0)

    def straight_lines(self, places: Tensor) -> Tensor:
        """Returns (B, N, 3) straight lines through the poses, from which the network says how a path differs."""
        parts = []
        before = torch.zeros_like(places[:, :1])
        begun = 0
        for k, end in enumerate(self.config.steps):
            share = torch.arange(1, end - begun + 1, device=places.device).view(1, -1, 1) / (end - begun)
            parts.append(before + share * (places[:, k : k + 1] - before))
            before = places[:, k : k + 1]
            begun = end
        return torch.cat(parts, dim=1)


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


def save(model: Paths, path: str | Path, meta: Mapping[str, object]) -> None:
    """Writes the paths with their config and whatever else `meta` says."""
    meta = {**meta, "kind": "paths", "config": asdict(model.config)}
    weight_files.write_weights(path, model.state_dict(), set(), meta)


def load(path: str | Path) -> tuple[Paths, dict[str, object]]:
    """Returns paths in evaluation mode and their metadata; a missing or damaged file raises ValueError."""
    return weight_files.load_model(
        path, "paths", lambda config: Paths(PathsConfig(tuple(config["steps"]), config["hidden"]))
    )
