"""The frozen image encoder that all shipped policies read: a convolutional autoencoder with key points.

Letters: B batch, C key-point classes, Z latent channels, H x W canvas in pixels (views tiled left to right), V views.

Design decisions:
- Latents reconstruct the picture, key points say where objects are. A plain autoencoder does not keep the position of
  small objects; the key-point head, trained on simulator labels of rendered scenes, does. Said openly: this is
  simulator-supervised perception, used alike by every policy that is compared.
- 16x down by convolutions without normalisation; no KL term, only noise on the latent and a small pull to zero.
- Key points: a soft-argmax of one heat map per named object and view (trained on projected labels where there are any)
  gives image positions; a perceptron over both views' positions, the features found there, the name, and what
  landmarks and the robot's state tell of the cameras gives world coordinates and presence. No weight belongs to one
  object: a new object is a new name.
- The state may be unknown (video of another arm): half of the training pictures hide it, and the hand is read from the
  picture like any other object.
- Rotations enter as the first two columns of the rotation matrix: the axis-angle of a gripper that points down flips
  sign.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.interface import fields_of_json
from wambench.policies.perception import word_embedding
from wambench.policies.weight_files import load_model, write_weights

STATE_FEATURES = 11
HAND = ("hand", "finger_left", "finger_right")  # key points of the robot's hand
POINT_UNIT_M = 0.1
START_SHARPNESS = 3.0
BLOB_CELLS = 0.6
HEAT_WEIGHT = 0.1
HIDE_STATE = 0.5  # share of training pictures whose state is not shown


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of the encoder.

    Attributes:
        widths: Channels at 4x, 8x and 16x down.
        channels: Latent channels.
        points: Names of the key points.
        canvas: (height, width) of a frame in pixels.
        views: Cameras tiled in a frame.
        probe: Features read at each key point.
        landmarks: Unlabelled points found in the same way, whose positions tell every class where the camera stands.
        naming: Width of a name's embedding.
        hidden: Width of the key-point perceptrons.
    """

    widths: tuple[int, int, int] = (64, 128, 192)
    channels: int = 24
    points: tuple[str, ...] = ()
    canvas: tuple[int, int] = (96, 192)
    views: int = 2
    probe: int = 16
    landmarks: int = 12
    naming: int = 48
    hidden: int = 192

    @property
    def latent(self) -> tuple[int, int, int]:
        """(channels, height, width) of a latent."""
        return self.channels, self.canvas[0] // 16, self.canvas[1] // 16

    @staticmethod
    def from_dict(values: dict[str, Any]) -> EncoderConfig:
        """Returns the config that `dataclasses.asdict` and JSON turned into a dict."""
        return EncoderConfig(**fields_of_json(values))


CONFIGS: dict[str, EncoderConfig] = {
    "v1": EncoderConfig(),
    "tiny": EncoderConfig(widths=(16, 24, 32), channels=8, probe=8, naming=16, hidden=32),
}


def state_features(states: Tensor) -> Tensor:
    """Returns (B, 11) of (B, 8) states: eef position (m), two columns of its rotation, finger positions (m)."""
    vector = states[:, 3:6].float()
    angle = vector.norm(dim=1, keepdim=True).clamp_min(1e-8)
    x, y, z = (vector / angle).unbind(1)
    cos, sin = angle.cos().squeeze(1), angle.sin().squeeze(1)
    rest = 1 - cos
    first = [cos + x * x * rest, z * sin + x * y * rest, -y * sin + x * z * rest]
    second = [-z * sin + x * y * rest, cos + y * y * rest, x * sin + y * z * rest]
    return torch.cat([states[:, :3].float(), torch.stack(first + second, dim=1), states[:, 6:8].float()], dim=1)


class Residual(nn.Module):
    """x + conv(silu(x)), started small."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D, h, w)."""
        return x + self.conv(functional.silu(x))


class KeyPoints(nn.Module):
    """Feature maps and state -> world position and presence of each named object.

    Nothing in it belongs to one class: an object is asked for by its name (`word_embedding.embed`), which gives the
    filter of its heat map and tells the perceptron, shared by all, what it is placing.
    """

    names: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        w4, w8, w16 = config.widths
        self.from4, self.from8, self.from16 = (nn.Conv2d(w, w4, 1) for w in (w4, w8, w16))
        self.mix = nn.Conv2d(w4, w4, 3, padding=1)
        self.register_buffer("names", name_vectors(config.points), persistent=False)
        self.name_in = nn.Linear(word_embedding.WIDTH, config.naming)
        self.query = nn.Linear(config.naming, w4)
        self.marks = nn.Conv2d(w4, config.landmarks, 1)
        self.probe = nn.Conv2d(w4, config.probe, 1)
        self.sharpness = nn.Parameter(torch.tensor(START_SHARPNESS).log())
        seen = config.views * (4 + config.probe)
        hidden = config.hidden
        self.place1 = nn.Linear(2 * config.views * config.landmarks + STATE_FEATURES + 1, hidden)
        self.place2 = nn.Linear(hidden, hidden)
        self.layer1 = nn.Linear(seen + config.naming + hidden, 2 * hidden)
        self.layer2 = nn.Linear(2 * hidden, hidden)
        self.layer3 = nn.Linear(hidden, 4)

    def read(self, maps: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns what is found, (B, M, V, 4 + probe), and log heat (B, V, M, h * w), M = C + landmarks.

        Found are u, v in [-1, 1] across the cells of the view (right, down), the features there, strength and focus
        of the peak. The heat adds to one over the cells.
        """
        s4, s8, s16 = maps
        x = self.from8(s8) + functional.interpolate(self.from16(s16), scale_factor=2.0)
        x = self.from4(s4) + functional.interpolate(x, scale_factor=2.0)
        x = functional.silu(self.mix(functional.silu(x)))
        b, _, h, w = x.shape
        views = self.config.views
        width = w // self.config.views
        names = functional.silu(self.name_in(self.names.to(x.dtype)))
        wanted = functional.conv2d(x, self.query(names)[:, :, None, None])
        maps_of_all = torch.cat([wanted, self.marks(x)], dim=1).float()
        heat = maps_of_all.view(b, -1, h, views, width).permute(0, 3, 1, 2, 4).flatten(3)  # (B, V, M, h*w)
        probe = self.probe(x).float().view(b, -1, h, views, width).permute(0, 3, 2, 4, 1).flatten(2, 3)
        # standardised maps are peaked from the first step on; a flat soft-argmax passes no gradient to start with
        mean, std = heat.mean(dim=3, keepdim=True), heat.std(dim=3, keepdim=True) + 1e-3
        log_heat = ((heat - mean) / std * self.sharpness.float().exp()).log_softmax(dim=3)
        weights = log_heat.exp()
        corners = torch.tensor([width / (width - 1.0), h / (h - 1.0)], device=x.device)
        grid = (cell_centres(h, width).to(x.device) * corners).expand(b, views, -1, -1)  # outermost centres at -1 and 1
        found = weights @ torch.cat([grid, probe], dim=3)  # (B, V, C, 2 + probe)
        # how strong and how narrow the peak is: visible objects have one, absent ones do not
        strength = (weights * heat).sum(dim=3, keepdim=True)
        focus = weights.amax(dim=3, keepdim=True)
        return torch.cat([found, strength, focus], dim=3).transpose(1, 2), log_heat

    def forward(self, maps: tuple[Tensor, Tensor, Tensor], state: Tensor) -> tuple[Tensor, Tensor]:
        """Returns places and log heat of the named points.

        Places are (B, C, 4): xyz in units of `POINT_UNIT_M` and a presence logit; log heat is (B, V, C, h * w). The
        state is (B, 12), see `Encoder.standard_state`.
        """
        count = len(self.config.points)
        dtype = self.layer1.weight.dtype
        everything, log_heat = self.read(maps)
        found = everything[:, :count].flatten(2)
        marks = everything[:, count:, :, :2].flatten(1)
        # where the cameras stand, from landmarks and state alone: the same for every object
        standing = functional.silu(self.place1(torch.cat([marks, state], dim=1).to(dtype)))
        standing = functional.silu(self.place2(standing))[:, None].expand(-1, count, -1)
        names = functional.silu(self.name_in(self.names.to(dtype)))[None].expand(len(found), -1, -1)
        x = functional.silu(self.layer1(torch.cat([found.to(dtype), names, standing], dim=2)))
        return self.layer3(functional.silu(self.layer2(x))).float(), log_heat[:, :, :count]


def name_vectors(points: Sequence[str]) -> Tensor:
    """Returns (C, E) the mean word vectors of names such as "red_cube" or "drawer/handle"."""
    if not points:
        return torch.zeros(0, word_embedding.WIDTH)
    means = [word_embedding.embed(re.sub(r"[^a-z0-9]+", " ", name.lower())).mean(axis=0) for name in points]
    return torch.from_numpy(np.stack(means))


def cell_centres(height: int, width: int) -> Tensor:
    """Returns the (height * width, 2) centres of cells, right and down in [-1, 1]."""
    u, v = (torch.arange(n) * 2.0 + 1.0 for n in (width, height))
    v, u = torch.meshgrid(v / height - 1.0, u / width - 1.0, indexing="ij")
    return torch.stack([u, v], dim=2).view(-1, 2)


class Encoder(nn.Module):
    """The autoencoder and its key-point head. `encode` and `decode` are the frozen interface."""

    latent_mean: Tensor
    latent_std: Tensor
    state_mean: Tensor
    state_std: Tensor
    points_mean: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        w4, w8, w16 = config.widths
        self.stem = nn.Conv2d(48, w4, 3, padding=1)
        self.down8 = nn.Sequential(nn.Conv2d(w4, w8, 3, stride=2, padding=1), Residual(w8))
        self.down16 = nn.Sequential(nn.Conv2d(w8, w16, 3, stride=2, padding=1), Residual(w16), Residual(w16))
        self.to_latent = nn.Conv2d(w16, config.channels, 1)
        self.up8 = nn.Sequential(
            nn.Conv2d(config.channels, w16, 3, padding=1),
            Residual(w16),
            nn.SiLU(),
            nn.Conv2d(w16, 4 * w8, 1),
            nn.PixelShuffle(2),
        )
        self.up4 = nn.Sequential(Residual(w8), nn.SiLU(), nn.Conv2d(w8, 4 * w4, 1), nn.PixelShuffle(2))
        self.up1 = nn.Sequential(Residual(w4), nn.SiLU(), nn.Conv2d(w4, 48, 3, padding=1), nn.PixelShuffle(4))
        self.key_points = KeyPoints(config)
        sizes = {"latent": config.channels, "state": STATE_FEATURES}
        for name, size in sizes.items():
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.register_buffer("points_mean", torch.zeros(3))
        self._initialise()

    def _initialise(self) -> None:
        # torch's default shrinks the signal at every layer, and without normalisation nothing brings it back
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
                if isinstance(self.get_submodule(name.rpartition(".")[0]), Residual):
                    module.weight.data *= 0.3
                if name == "up1.2":  # the picture starts grey
                    module.weight.data *= 0.1

    @property
    def dtype(self) -> torch.dtype:
        """Type the layers compute in."""
        return self.stem.weight.dtype

    def maps(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the feature maps at 4x, 8x and 16x down of (B, 3, H, W) pixels in [-0.5, 0.5]."""
        x = functional.pixel_unshuffle(pixels.to(self.dtype), 4).contiguous(memory_format=torch.channels_last)
        s4 = functional.silu(self.stem(x))
        s8 = functional.silu(self.down8(s4))
        return s4, s8, functional.silu(self.down16(s8))

    def standard_state(self, states: Tensor) -> Tensor:
        """Returns (B, 12): standardised features of (B, 8) states and 1, or zeros where the state is NaN: unknown."""
        known = torch.isfinite(states).all(dim=1, keepdim=True)
        features = state_features(torch.where(known, states, torch.zeros_like(states)))
        standard = ((features - self.state_mean) / self.state_std).clamp(-5.0, 5.0)
        return torch.cat([standard, torch.ones_like(standard[:, :1])], dim=1) * known

    def reconstruct(self, latent: Tensor) -> Tensor:
        """Returns (B, 3, H, W) pixels around [-0.5, 0.5] of raw (B, Z, y, x) latents."""
        x = latent.to(self.dtype).contiguous(memory_format=torch.channels_last)
        return self.up1(self.up4(self.up8(x))).float()

    @torch.no_grad()
    def encode(self, frames: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Returns standardised latents (B, Z, y, x) and points (B, C, 4) of frames.

        Args:
            frames: (B, H, W, 3) uint8 canvases.
            states: (B, 8) robot states at the frames, NaN where unknown (video of another arm).

        Returns:
            Float32 latents, and world xyz in m with the probability that the object is in the scene.
        """
        maps = self.maps(to_pixels(frames))
        found, _ = self.key_points(maps, self.standard_state(states))
        xyz = found[..., :3] * POINT_UNIT_M + self.points_mean
        return self._standard_latent(maps[2]), torch.cat([xyz, found[..., 3:].sigmoid()], dim=2)

    def _standard_latent(self, s16: Tensor) -> Tensor:
        raw = self.to_latent(s16).float()
        return ((raw - self.latent_mean.view(-1, 1, 1)) / self.latent_std.view(-1, 1, 1)).contiguous()

    @torch.no_grad()
    def latents(self, frames: Tensor) -> Tensor:
        """Returns standardised latents (B, Z, y, x) of (B, H, W, 3) uint8 frames, for which no state is known."""
        return self._standard_latent(self.maps(to_pixels(frames))[2])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Returns (B, H, W, 3) uint8 frames of standardised latents (B, Z, y, x)."""
        raw = latents * self.latent_std.view(-1, 1, 1) + self.latent_mean.view(-1, 1, 1)
        pixels = self.reconstruct(raw).permute(0, 2, 3, 1)
        return ((pixels + 0.5) * 255.0).round().clamp(0, 255).to(torch.uint8)


def to_pixels(frames: Tensor) -> Tensor:
    """Returns (B, 3, H, W) float pixels in [-0.5, 0.5] of (B, H, W, 3) uint8 frames."""
    return frames.permute(0, 3, 1, 2).float() / 255.0 - 0.5


def jitter(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Returns (B, 3, H, W) pixels under random brightness, contrast, saturation, channel gain and grain."""
    b = pixels.shape[0]

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        values = torch.rand(b, channels, 1, 1, generator=generator) * (high - low) + low
        return values.to(pixels.device)

    mean = pixels.mean(dim=1, keepdim=True)
    saturation = uniform(0.7, 1.3)
    contrast = uniform(0.75, 1.25) * uniform(0.9, 1.1, 3)
    out = (mean + (pixels - mean) * saturation) * contrast + uniform(-0.12, 0.12)
    keep = uniform(0.0, 1.0) < 0.3
    return torch.where(keep, pixels, out).clamp(-0.5, 0.5)


def image_loss(guess: Tensor, pixels: Tensor) -> Tensor:
    """Returns L1 and square error, weight 1 + 5 saturation (small coloured objects count), plus L1 of the gradient."""
    weight = 1.0 + 5.0 * (pixels.amax(dim=1, keepdim=True) - pixels.amin(dim=1, keepdim=True))
    error = guess - pixels
    # the square term moves small objects off the background, where L1 alone rests for long
    plain = ((error.abs() + 2.0 * error.square()) * weight).mean()
    gradient = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return plain + 0.5 * gradient


def point_loss(found: Tensor, xyz: Tensor, present: Tensor) -> Tensor:
    """Returns smooth-L1 of positions (2 cm knee) on present classes plus cross-entropy of presence.

    Args:
        found: (B, C, 4) in units of `POINT_UNIT_M`, presence logit last.
        xyz: (B, C, 3) in the same units.
        present: (B, C) bool.
    """
    mask = present.float()
    distance = functional.smooth_l1_loss(found[..., :3], xyz, beta=0.2, reduction="none").mean(dim=2)
    position = (distance * mask).sum() / mask.sum().clamp_min(1.0)
    return position + 0.1 * functional.binary_cross_entropy_with_logits(found[..., 3], mask)


def heat_loss(log_heat: Tensor, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
    """Returns the cross-entropy of heat maps against a blob at each known image position.

    Args:
        log_heat: (B, V, C, h * w), adds to one over the cells.
        pixels: (B, C, V, 2) in [-1, 1], NaN where unknown.
        grid: (h, w) of the maps.
    """
    place = pixels.transpose(1, 2)  # (B, V, C, 2)
    known = torch.isfinite(place).all(dim=3)
    cells = cell_centres(*grid).to(pixels.device)
    scale = torch.tensor([grid[1] / 2.0, grid[0] / 2.0], device=pixels.device)
    apart = (place[known][:, None] - cells) * scale  # (known, h * w, 2), in cells
    target = torch.softmax(-apart.square().sum(dim=2) / (2 * BLOB_CELLS**2), dim=1)
    return -(target * log_heat[known]).sum() / max(len(target), 1)


@dataclass(frozen=True)
class LabelledBatch:
    """Frames with labels: (B, H, W, 3) uint8, (B, 8) states, (B, C, 3) points in m, (B, C) present.

    And (B, C, V, 2) positions in the views, right and down in [-1, 1], NaN where unknown or out of view.
    """

    frames: Tensor
    states: Tensor
    points: Tensor
    present: Tensor
    pixels: Tensor

    def to(self, device: str) -> LabelledBatch:
        """Returns the same on another device."""
        return LabelledBatch(*(value.to(device) for value in vars(self).values()))


def loss(
    model: Encoder, batch: LabelledBatch, generator: torch.Generator, latent_noise: float = 0.1
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns (image, key point, heat map) losses on jittered pictures; the first pulls the latent to zero, too."""
    pixels = jitter(to_pixels(batch.frames), generator)
    maps = model.maps(pixels)
    latent = model.to_latent(maps[2]).float()
    noise = torch.randn(latent.shape, generator=generator).to(latent.device)
    image = image_loss(model.reconstruct(latent + latent_noise * noise), pixels) + 1e-3 * latent.square().mean()
    hidden = torch.rand(len(pixels), 1, generator=generator).to(pixels.device) < HIDE_STATE
    states = batch.states.masked_fill(hidden, float("nan"))
    found, log_heat = model.key_points(maps, model.standard_state(states))
    xyz = (batch.points - model.points_mean) / POINT_UNIT_M
    grid = maps[0].shape[2], maps[0].shape[3] // model.config.views
    return image, point_loss(found, xyz, batch.present), HEAT_WEIGHT * heat_loss(log_heat, batch.pixels, grid)


@torch.no_grad()
def moving_psnr(model: Encoder, before: Tensor, after: Tensor, threshold: int = 12) -> float:
    """Returns the PSNR in dB of reconstructed pixels that move: the ceiling of every score of imagined video.

    Args:
        model: The encoder.
        before, after: (B, H, W, 3) uint8 frames some steps apart; `after` is reconstructed.
        threshold: A pixel moves if any channel differs by more than this between the two.
    """
    moves = ((after.int() - before.int()).abs().amax(dim=3) > threshold).cpu()
    error = (model.decode(model.latents(after)).float() - after.float()).cpu().square().mean(dim=3)
    return float(10.0 * torch.log10(255.0**2 / error[moves].mean().clamp_min(1e-6)))


def save(model: Encoder, path: str | Path, meta: dict[str, Any]) -> None:
    """Writes an encoder with its config and whatever else `meta` says."""
    meta = {**meta, "kind": "encoder", "config": asdict(model.config)}
    write_weights(path, model.state_dict(), {name for name, _ in model.named_buffers()}, meta)


def load(path: str | Path) -> tuple[Encoder, dict[str, Any]]:
    """Returns an encoder in evaluation mode and its metadata; a missing or damaged file raises ValueError."""
    model, meta = load_model(path, "encoder", lambda config: Encoder(EncoderConfig.from_dict(config)))
    return channels_last(model), meta


def channels_last(model: Encoder) -> Encoder:
    """Returns the model with its convolutions in the layout in which a CPU is twice as fast."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return model


def as_tensors(frames: np.ndarray, states: np.ndarray) -> tuple[Tensor, Tensor]:
    """Returns uint8 frames and float32 states as tensors."""
    return torch.from_numpy(np.ascontiguousarray(frames)), torch.from_numpy(np.asarray(states, np.float32))
