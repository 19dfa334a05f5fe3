"""The tracker of `wambench attribute` tells where gripper and objects are, relative to a frame that is known.

It is no policy and helps none. It reads two canvases: the last real one, at which the simulator says where everything
is, and an imagined one. What moved between the two is told far more exactly than where anything is: the wrist camera
moves with the hand, and an error that is made in reading both cancels.

Letters: B pairs, P key points, C objects among them, M points that the encoder finds, V views.

Design decisions:
- A frame's features are what the key-point head of the package's frozen encoder finds: where each named point and
  landmark is in each view, how strong and how narrow its peak. A small perceptron compares them, and where the points
  of the known frame really are. With the latents as features, too, it learned the training frames by heart.
- It predicts the scale of its own error (Laplace: |e| / b + log b) and has seen frames that do not belong to the
  episode, so it says when it does not know. `limit_m` is the scale above which a reading is no reading.
- An object moves with the hand or it does not: a gate times the hand's motion, plus a rest.
- It was trained on every environment, the unseen ones too: it is the instrument, not a contestant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.interface import fields_of_json
from wambench.policies import weight_files
from wambench.policies.perception import encoder as encoding
from wambench.policies.perception.encoder import Encoder, state_features
from wambench.rotations import rotation_of_sine

if TYPE_CHECKING:
    from wambench.attribution.oracle import KeyPoints

WEIGHTS = "tracker-v1.safetensors"
UNIT_M = 0.05  # what the network calls a motion of 1: about that of a hand between two frames (median 65 mm)
UNIT_RAD = 0.2  # likewise of a rotation
UNIT_WIDTH_M = 0.02  # and of the opening
FOUND = 4  # numbers of a point that was found
GROUPS = 3  # of hand errors: position, rotation, opening


@dataclass(frozen=True)
class TrackerConfig:
    """Sizes of the tracker.

    Attributes:
        points: Names of the encoder's key points, those of the hand last; the others are the objects it follows.
        marks: Points that the encoder finds, its landmarks included.
        views: Cameras in a frame.
        hidden: Width.
        limit_m: Predicted scale of the position error above which it abstains.
    """

    points: tuple[str, ...] = ()
    marks: int = 0
    views: int = 2
    hidden: int = 256
    limit_m: float = float("inf")

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the objects."""
        return tuple(name for name in self.points if name not in encoding.HAND)


@dataclass(frozen=True)
class Readings:
    """What was read from N frames; the arrays are made read-only.

    Attributes:
        positions: (N, 3) of the grip site in m.
        rotations: (N, 3, 3) of the grip site.
        widths: (N,) opening of the fingers in m.
        objects: (N, C, 3) positions in m, NaN for objects that are not in the scene.
        scale_m: (N,) predicted scale of the error of `positions`.
        object_scale_m: (N, C) predicted scale of the error of `objects`.
        sure: (N,) bool; where it is False, the reader abstains.
    """

    positions: np.ndarray
    rotations: np.ndarray
    widths: np.ndarray
    objects: np.ndarray
    scale_m: np.ndarray
    object_scale_m: np.ndarray
    sure: np.ndarray

    def __post_init__(self) -> None:
        for array in vars(self).values():
            array.setflags(write=False)

    def with_frame(self, i: int, **values: np.ndarray | float | bool) -> Readings:
        """Returns the readings with other values of some attributes for the i-th frame, in the same precision."""
        changed: dict[str, np.ndarray] = {}
        for name, value in values.items():
            changed[name] = getattr(self, name).copy()
            changed[name][i] = value
        return dataclasses.replace(self, **changed)


class FrameTracker(nn.Module):
    """Maps features of two frames, and what is known at the first, to what moved between them and how surely."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: TrackerConfig) -> None:
        super().__init__()
        self.config = config
        objects = len(config.objects)
        points = len(config.points)
        self.register_buffer("mean", torch.zeros(FOUND))
        self.register_buffer("std", torch.ones(FOUND))
        seen = config.views * (config.marks * (2 * FOUND + 2) + 5 * points)
        known = encoding.STATE_FEATURES + 4 * objects
        self.layer1 = nn.Linear(seen + known, 2 * config.hidden)
        self.layer2 = nn.Linear(2 * config.hidden, config.hidden)
        self.layer3 = nn.Linear(config.hidden, config.hidden)
        self.hand = nn.Linear(config.hidden, 7 + GROUPS)
        self.thing = nn.Linear(config.hidden, 5 * objects)

    def forward(self, pairs: Pairs) -> Motion:
        """Returns what moved between the frames of each pair (its `hand` and `objects` are not read)."""
        before, after = ((x.float() - self.mean) / self.std for x in (pairs.before, pairs.after))
        visible = torch.isfinite(pairs.pixels).all(dim=3, keepdim=True)
        pixels = torch.where(visible, pairs.pixels, 0.0)
        wrong = (before[:, : pixels.shape[1], :, :2] - pixels) * visible  # how the known frame is misread
        mask = pairs.present.float()[..., None]
        relative = (pairs.points - pairs.state[:, None, :3]) * mask / (4 * UNIT_M)
        parts = [before, after, 3.0 * (after - before)[..., :2], pixels, visible.float(), 3.0 * wrong, relative, mask]
        x = torch.cat([part.flatten(1) for part in parts] + [3.0 * pairs.state], dim=1).clamp(-6, 6)
        x = self.layer1(x.to(self.layer1.weight.dtype))
        x = functional.silu(self.layer2(functional.silu(x)))
        x = x + functional.silu(self.layer3(x))
        hand = self.hand(x).float()
        item = self.thing(x).float().view(len(x), -1, 5)
        carried = item[..., :1].sigmoid() * hand[:, None, :3]
        return Motion(hand[:, :7], hand[:, 7:], carried + item[..., 1:4], item[..., 4])


@dataclass(frozen=True)
class Motion:
    """What moved between the frames of B pairs, in units of `UNIT_M`, `UNIT_RAD` and `UNIT_WIDTH_M`.

    Attributes:
        hand: (B, 7) position, rotation vector (`_turn`) and opening.
        hand_scale: (B, `GROUPS`) log scales of the errors of those three.
        objects: (B, C, 3) positions.
        object_scale: (B, C) log scales of their errors.
    """

    hand: Tensor
    hand_scale: Tensor
    objects: Tensor
    object_scale: Tensor


@dataclass(frozen=True)
class Pairs:
    """B pairs of frames: what was found in both, what is known at the first one, and the true motion.

    Attributes:
        before: (B, M, V, 4) features of the first frame.
        after: (B, M, V, 4) features of the second frame.
        state: (B, 11) features of the robot's state at the first frame.
        points: (B, C, 3) positions of the objects at the first frame in m.
        present: (B, C) whether they are there.
        pixels: (B, P, V, 2) where all key points are in each view of the first frame, NaN out of view.
        hand: (B, 7) true motion of the hand, as in `Motion`; only training reads it.
        objects: (B, C, 3) true motion of the objects, likewise.
    """

    before: Tensor
    after: Tensor
    state: Tensor
    points: Tensor
    present: Tensor
    pixels: Tensor
    hand: Tensor
    objects: Tensor


def loss(model: FrameTracker, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Returns the negative log likelihoods (Laplace) of the hand's and the objects' motions."""
    motion = model(pairs)
    error = (motion.hand - pairs.hand).abs()
    groups = torch.stack([error[:, :3].mean(dim=1), error[:, 3:6].mean(dim=1), error[:, 6]], dim=1)
    scale = motion.hand_scale.clamp(-5.0, 3.0)
    hand = (groups * (-scale).exp() + scale) * torch.tensor([2.0, 1.0, 1.0])
    apart = (motion.objects - pairs.objects).abs().mean(dim=2)
    scale = motion.object_scale.clamp(-5.0, 3.0)
    mask = pairs.present.float()
    objects = ((apart * (-scale).exp() + scale) * mask).sum() / mask.sum().clamp_min(1.0)
    return hand.sum(dim=1).mean(), objects


@torch.no_grad()
def frame_features(reader: Encoder, frames: Tensor) -> Tensor:
    """Returns (N, M, V, 4) of (N, H, W, 3) uint8 frames: right and down in [-1, 1], strength and focus of the peak."""
    found, _ = reader.key_points.read(reader.maps(encoding.to_pixels(frames)))
    return torch.cat([found[..., :2], found[..., -2:]], dim=3)


def rotation_of(features: Tensor) -> Tensor:
    """Returns (N, 3, 3) rotations of (N, 11) state features."""
    x, y = features[:, 3:6], features[:, 6:9]
    return torch.stack([x, y, torch.cross(x, y, dim=1)], dim=2)


def save(model: FrameTracker, path: str | Path, meta: Mapping[str, object]) -> None:
    """Writes a tracker with its config and whatever else `meta` says."""
    meta = {**meta, "kind": "tracker", "config": asdict(model.config)}
    weight_files.write_weights(path, model.state_dict(), {"mean", "std"}, meta)


def load(path: str | Path) -> tuple[FrameTracker, dict[str, object]]:
    """Returns a tracker in evaluation mode and its metadata; a missing or damaged file raises ValueError."""
    return weight_files.load_model(
        path, "tracker", lambda config: FrameTracker(TrackerConfig(**fields_of_json(config)))
    )


class FrameReader:
    """Reads frames with an encoder and a tracker that was trained with it.

    Args:
        tracker: File of the tracker; default: the shipped one.
        encoder: File of the encoder it was trained with; default: found among the shipped ones.

    Raises:
        ValueError: A file is missing or damaged, or the tracker was trained with another encoder.
    """

    def __init__(self, tracker: str | Path | None = None, encoder: str | Path | None = None) -> None:
        self.model, self.meta = load(tracker or weight_files.packaged(WEIGHTS))
        self.encoder, _ = encoding.load(weight_files.encoder_for(tracker or WEIGHTS, self.meta, encoder))

    @property
    def points(self) -> tuple[str, ...]:
        """Names of all key points, those of the hand last."""
        return self.model.config.points

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the objects it follows: the first of `points`."""
        return self.model.config.objects

    @torch.no_grad()
    def read(
        self,
        now: np.ndarray,
        state: np.ndarray,
        known: KeyPoints,
        frames: np.ndarray,
    ) -> Readings:
        """Returns where everything is in some frames.

        Args:
            now: (h, w, 3) uint8 canvas of a moment at which everything is known.
            state: (8,) robot state at that moment.
            known: Where the key points `points` are at that moment.
            frames: (N, h, w, 3) uint8 canvases to be read.
        """
        count = len(frames)
        features = frame_features(self.encoder, torch.from_numpy(np.concatenate([now[None], frames])))
        robot = state_features(torch.from_numpy(state.astype(np.float32))[None]).expand(count, -1)
        objects = len(self.objects)
        there = known.present[:objects]
        where = known.positions[:objects]
        places = torch.from_numpy(np.where(there[:, None], where, 0.0).astype(np.float32)).expand(count, -1, -1)
        pairs = Pairs(
            before=features[:1].expand(count, -1, -1, -1),
            after=features[1:],
            state=robot,
            points=places,
            present=torch.from_numpy(there).expand(count, -1),
            pixels=torch.from_numpy(known.pixels.astype(np.float32)).expand(count, -1, -1, -1),
            hand=robot,
            objects=robot,
        )
        motion = self.model(pairs)
        hand = motion.hand.double().numpy()
        scale = motion.hand_scale[:, 0].exp().numpy() * UNIT_M
        turns = [rotation_of_sine(vector * UNIT_RAD) for vector in hand[:, 3:6]]
        moved = places.numpy() + motion.objects.numpy() * UNIT_M
        return Readings(
            positions=state[:3] + hand[:, :3] * UNIT_M,
            rotations=np.stack(turns) @ rotation_of(robot[:1].double())[0].numpy(),
            widths=np.clip(hand[:, 6] * UNIT_WIDTH_M, 0.0, 0.08),
            objects=np.where(there[None, :, None], moved, np.nan),
            scale_m=scale,
            object_scale_m=motion.object_scale.exp().numpy() * UNIT_M,
            sure=scale <= self.model.config.limit_m,
        )
