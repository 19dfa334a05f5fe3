"""The small DreamZero: what stands in for VAE, umT5 and CLIP. It is trained by `training.nano_loss`.

The transformer is `dit.DiT`, unchanged; this file says what its tokens hold on a laptop.

Letters: B batch, M chunks, F = 1 + 2 M frames, Z y x a latent, C key points, L words, H actions of a chunk.

Design decisions:
- A frame is a latent of the frozen encoder and, in its vector token, the key points read from it, the hand's included.
  So the imagined future says where the hand will be, for video of any arm, and an action is what brings it there.
- The state token holds the robot's state, the key points, where the first and the last named object are, and the mean
  word: a multilayer perceptron finds positions far sooner than attention over patches does.
- The network predicts clean values (frames relative to the last real one); unweighted mean squared errors.
- Every chunk draws its noise levels by itself (`flow_matching.draw_sigmas`), so that one network is joint model, video
  model, policy without video, and inverse dynamics. Sequences with a hidden instruction teach a future's actions by
  the future alone (there the actions that were executed, noise included), and give the unconditional branch of
  guidance.
- Demonstrations show training environments only. Their latents borrow channel statistics from other sequences of the
  batch (adaptive instance normalisation, Huang & Belongie 2017), which looks like another environment to the network.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from wambench.interface import fields_of_json, unknown_name
from wambench.policies.dreamzero.dit import CONFIGS, DiT, DiTConfig, Frames
from wambench.policies.perception import word_embedding
from wambench.policies.perception.encoder import POINT_UNIT_M, STATE_FEATURES
from wambench.policies.perception.scene import PRESENT, SceneFeatures, Words, scene_features, scene_width, settled

# What is left out or changed, with everything else equal. (No video at test time needs no training: `mode="no_video"`.)
ABLATIONS = {
    "none": "joint video and actions, autoregressive over chunks",
    "no_video_loss": "video tokens are there, but nothing asks them to predict",
    "separate": "a video model and an inverse dynamics model, two networks of half the depth (the paper's Eq. 1)",
    "bidirectional": "a fixed window of one chunk in which all tokens see each other, no cache",
    "no_key_points": "the positions that the encoder was taught to read are hidden; latents, words and robot remain",
}


@dataclass(frozen=True)
class SmallDreamZeroConfig:
    """A small DreamZero.

    Attributes:
        dit: The transformer.
        points: Key points, in the encoder's order.
        ablation: A name of `ABLATIONS`.
        presence: Presence from which on a key point is there (`scene.settled`).
    """

    dit: DiTConfig
    points: tuple[str, ...]
    ablation: str = "none"
    presence: float = 0.0

    @property
    def stride(self) -> int:
        """Control steps between two latent frames."""
        return self.dit.actions_per_chunk // self.dit.frames_per_chunk

    @property
    def chunk_steps(self) -> int:
        """Control steps of a chunk."""
        return self.dit.actions_per_chunk

    @staticmethod
    def from_dict(values: dict[str, Any]) -> SmallDreamZeroConfig:
        """Returns the config that `to_dict` and JSON turned into a dict."""
        return SmallDreamZeroConfig(
            DiTConfig(**fields_of_json(values["dit"])),
            tuple(values["points"]),
            values["ablation"],
            values.get("presence", 0.0),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return asdict(self)


def state_width(points: int) -> int:
    """Returns the length of a state vector: state and whether it is known, and the scene."""
    return STATE_FEATURES + 1 + scene_width(points)


def config_for(
    name: str,
    points: tuple[str, ...],
    latent: tuple[int, int, int],
    ablation: str = "none",
    frames_per_chunk: int = 2,
    actions_per_chunk: int = 16,
) -> SmallDreamZeroConfig:
    """Returns a named config for an encoder's points and latent; what does not exist or fit raises ValueError."""
    if ablation not in ABLATIONS:
        raise unknown_name("ablation", ablation, ABLATIONS)
    if frames_per_chunk < 1 or actions_per_chunk < 1 or actions_per_chunk % (2 * frames_per_chunk):
        raise ValueError(
            f"frames must be an even number of control steps apart, not {actions_per_chunk} / {frames_per_chunk}"
        )
    if name not in CONFIGS or CONFIGS[name].prediction != "clean":
        raise ValueError(f"no small model {name!r}; there are nano, mini and tiny")
    base = CONFIGS[name]
    rows, columns = latent[1] // base.patch[0], latent[2] // base.patch[1]
    dit = replace(
        base,
        latent_channels=latent[0],
        grid=(rows, columns),
        text_dim=word_embedding.WIDTH,
        state_dim=state_width(len(points)),
        frame_vector=4 * len(points),
        action_dim=7,
        frames_per_chunk=frames_per_chunk,
        actions_per_chunk=actions_per_chunk,
        bidirectional=ablation == "bidirectional",
        based=True,
    )
    if dit.latent_shape != latent:
        raise ValueError(f"patch {base.patch} does not divide the latent {latent[1]}x{latent[2]}")
    return SmallDreamZeroConfig(dit, points, ablation, PRESENT)


class SmallDreamZero(nn.Module):
    """The transformer with the scales of its inputs."""

    state_mean: Tensor
    state_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    points_mean: Tensor

    def __init__(self, config: SmallDreamZeroConfig) -> None:
        super().__init__()
        self.config = config
        self.reads = float(config.ablation != "no_key_points")
        if config.ablation == "separate":
            half = replace(config.dit, layers=config.dit.layers // 2)
            self.dit = DiT(replace(half, action_dim=0))
            self.inverse = DiT(half)
        else:
            self.dit = DiT(config.dit)
        for name, size in [("state", STATE_FEATURES), ("action", config.dit.action_dim)]:
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.register_buffer("points_mean", torch.zeros(3))

    def vectors(self, points: Tensor) -> Tensor:
        """Returns (..., 4 C) vector tokens of (..., C, 4) key points; an absent object has no place."""
        points = settled(points, self.config.presence)
        presence = points[..., 3:] * self.reads
        xyz = (points[..., :3] - self.points_mean) / POINT_UNIT_M * presence
        return torch.cat([xyz, 2.0 * presence - 1.0], dim=-1).flatten(-2)

    def points(self, vectors: Tensor) -> Tensor:
        """Returns (..., C, 4) the key points of vector tokens; the place of an absent object means nothing."""
        cells = vectors.unflatten(-1, (-1, 4))
        presence = (0.5 * cells[..., 3:] + 0.5).clamp(0.0, 1.0)
        xyz = cells[..., :3] / presence.clamp_min(0.25) * POINT_UNIT_M + self.points_mean
        return torch.cat([xyz, presence], dim=-1)

    def frames(self, latents: Tensor, points: Tensor) -> Frames:
        """Returns the transformer's frames of (B, F, Z, y, x) latents and (B, F, C, 4) key points."""
        return Frames(latents.transpose(1, 2), self.vectors(points))

    def states(self, scene: SceneFeatures, words: Words) -> Tensor:
        """Returns the (B, M, state_dim) state vectors of the chunks."""
        standard = ((scene.state - self.state_mean) / self.state_std).clamp(-5.0, 5.0)
        own = torch.cat([standard, torch.ones_like(scene.known)], dim=-1) * scene.known
        told = settled(scene.at_chunk, self.config.presence)
        told = torch.cat([told[..., :3], told[..., 3:] * self.reads], dim=-1)
        return torch.cat([own, scene_features(replace(scene, at_chunk=told), words, self.points_mean)], dim=-1)
