"""Draws an imagined frame from the last real one: pixels move where they are still there, the rest is painted.

Letters: B batch, V views, C key points, Z y x a latent, H x W canvas in pixels (views tiled left to right).

Design decisions:
- A decoder of latents alone blurs: the encoder's latents keep half of the edges where things move. Most of what a frame
  0.8 s ahead shows is in the frame of now. So a frame is a sum of layers weighted by masks: the frame of now at rest,
  moved by several affine maps, and paint (as in video prediction by transformation, Finn et al. 2016, arXiv 1605.07157,
  whose "STP" this is). Affine maps suit rigid links and a camera that rides on the hand.
- What moves where comes from the model that imagines: key points now and then, and latents now and then. The renderer
  knows neither actions nor words.
- Every view is drawn by itself, with the same weights and its number. The first map is bent by a shift of each cell.
- It starts as "everything rests": the first frame it draws is the last real one.
- A moved edge pulls a map only from as near as it is wide, so training also compares layers of shrunken pictures
  (`Drawing.moved`), without paint: else paint, which is learned sooner, would hide what moves.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.interface import fields_of_json
from wambench.policies.perception.encoder import POINT_UNIT_M, Residual, to_pixels
from wambench.policies.weight_files import load_model

RESTS_AT_START = 5.0  # logit of a pixel that rests, beside those of the other layers
CELL = 4  # pixels of a cell of the finest features, on a side
REACH = 0.5  # furthest shift of a cell of its own, in half views
POINT_INPUTS = 11  # numbers that the renderer is told of a key point: place now, then, difference, presence of both
SHRUNK = (8, 4, 2)  # pixels that are averaged in the pictures whose layers are compared in training


@dataclass(frozen=True)
class RendererConfig:
    """Sizes of the renderer.

    Attributes:
        points: Names of the key points, in the encoder's order.
        latent: (Z, y, x) of a latent.
        canvas: (height, width) of a frame in pixels.
        views: Cameras tiled in a frame.
        widths: Channels at 4x, 8x and 16x down.
        hidden: Width of the perceptron over key points.
        hints: Channels of the maps that key points are turned into.
        maps: Affine maps of a view.
    """

    points: tuple[str, ...]
    latent: tuple[int, int, int] = (24, 6, 12)
    canvas: tuple[int, int] = (96, 192)
    views: int = 2
    widths: tuple[int, int, int] = (64, 96, 160)
    hidden: int = 256
    hints: int = 16
    maps: int = 6

    @staticmethod
    def from_dict(values: dict[str, Any]) -> RendererConfig:
        """Returns the config that `to_dict` and JSON turned into a dict."""
        return RendererConfig(**fields_of_json(values))

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Told:
    """What a model says of a moment: latents (B, Z, y, x) and key points (B, C, 4), world xyz in m and presence."""

    latents: Tensor
    points: Tensor


@dataclass(frozen=True)
class Drawing:
    """What a frame is made of, by view; N = B V.

    Attributes:
        real: (N, 3, h, w) the last real frame.
        weights: (N, maps + 2, h, w) of the layers, which add to 1: at rest, moved by each map, painted.
        maps: (N, maps, 2, 3) from places in the new view to places in the old one.
        shift: (N, 2, h / CELL, w / CELL) of the first map, in half views.
        paint: (N, 3, h, w).
    """

    real: Tensor
    weights: Tensor
    maps: Tensor
    shift: Tensor
    paint: Tensor

    def layers(self, shrink: int = 1) -> Tensor:
        """Returns (N, maps + 1, 3, h / shrink, w / shrink): the real view at rest, and moved by each map."""
        real = functional.avg_pool2d(self.real, shrink) if shrink > 1 else self.real
        n, _, h, w = real.shape
        count = self.maps.shape[1]
        grid = functional.affine_grid(self.maps.flatten(0, 1), [n * count, 3, h, w], align_corners=False)
        grid = grid.view(n, count, h, w, 2)
        bent = functional.interpolate(self.shift, size=(h, w), mode="bilinear", align_corners=False)
        grid = torch.cat([grid[:, :1] + bent.permute(0, 2, 3, 1)[:, None], grid[:, 1:]], dim=1)
        moved = functional.grid_sample(real, grid.flatten(1, 2), padding_mode="border", align_corners=False).view(
            n, 3, count, h, w
        )
        return torch.cat([real[:, None], moved.transpose(1, 2)], dim=1)

    def frames(self) -> Tensor:
        """Returns the (N, 3, h, w) pixels."""
        seen = (self.layers() * self.weights[:, :-1, None]).sum(dim=1)
        return seen + self.weights[:, -1:] * self.paint

    def moved(self, shrink: int) -> Tensor:
        """Returns the (N, 3, h / shrink, w / shrink) pixels of a shrunken view without paint."""
        weights = functional.avg_pool2d(self.weights[:, :-1], shrink)
        weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-3)
        return (self.layers(shrink) * weights[:, :, None]).sum(dim=1)


class Modulated(nn.Module):
    """x + conv(silu(scale x + shift)), scale and shift by what key points say."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(hidden, 2 * width)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """(N, D, h, w) features and (N, hidden) -> (N, D, h, w)."""
        scale, shift = self.film(told)[:, :, None, None].chunk(2, dim=1)
        return x + self.conv(functional.silu(x * (1 + scale) + shift))


class Renderer(nn.Module):
    """Frames now, and what is known of now and then, to frames then."""

    points_mean: Tensor

    def __init__(self, config: RendererConfig) -> None:
        super().__init__()
        self.config = config
        w4, w8, w16 = config.widths
        z, rows, columns = config.latent
        hidden = config.hidden
        self.cells = (rows, columns // config.views)
        told = POINT_INPUTS * len(config.points) + config.views
        self.told = nn.Sequential(nn.Linear(told, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.hint = nn.Linear(hidden, config.hints * rows * (columns // config.views))
        self.stem = nn.Conv2d(3 * CELL * CELL, w4, 3, padding=1)
        self.down8 = nn.Conv2d(w4, w8, 3, stride=2, padding=1)
        self.down16 = nn.Conv2d(w8, w16, 3, stride=2, padding=1)
        self.mix = nn.Conv2d(w16 + 3 * z + config.hints, w16, 3, padding=1)
        self.deep = nn.ModuleList(Modulated(w16, hidden) for _ in range(3))
        self.up8 = nn.Conv2d(w16, 4 * w8, 1)
        self.mid = nn.ModuleList(Modulated(w8, hidden) for _ in range(2))
        self.up4 = nn.Conv2d(w8, 4 * w4, 1)
        self.fine = nn.ModuleList([Modulated(w4, hidden), Modulated(w4, hidden)])
        self.smooth = Residual(w4)
        self.out = nn.Conv2d(w4, 2 + (config.maps + 5) * CELL * CELL, 3, padding=1)
        self.affine = nn.Linear(hidden, 6 * config.maps)
        self.register_buffer("points_mean", torch.zeros(3))
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                module.weight.data *= 0.5
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.affine.weight, std=0.01)  # equal maps would stay equal
        nn.init.zeros_(self.affine.bias)
        nn.init.zeros_(self.out.weight)
        if self.out.bias is not None:
            self.out.bias.data[2 : 2 + CELL * CELL] = RESTS_AT_START

    @property
    def dtype(self) -> torch.dtype:
        """Type the layers compute in."""
        return self.stem.weight.dtype

    def by_view(self, x: Tensor) -> Tensor:
        """Returns the (B V, D, h, w) views of (B, D, h, V w) frames or maps."""
        b, d, h, w = x.shape
        v = self.config.views
        return x.view(b, d, h, v, w // v).permute(0, 3, 1, 2, 4).reshape(b * v, d, h, w // v)

    def _tiled(self, x: Tensor) -> Tensor:
        """(B V, D, h, w) -> (B, D, h, V w)."""
        n, d, h, w = x.shape
        v = self.config.views
        return x.view(n // v, v, d, h, w).permute(0, 2, 3, 1, 4).reshape(n // v, d, h, v * w)

    def _say(self, now: Told, then: Told) -> Tensor:
        """Returns (B V, hidden): where the points are, where they will be, and the difference on a finer scale."""
        places = [(t.points[..., :3] - self.points_mean) / POINT_UNIT_M * t.points[..., 3:] for t in (now, then)]
        moved = (places[1] - places[0]) * 3.0
        parts = [*places, moved, now.points[..., 3:], then.points[..., 3:]]
        flat = torch.cat(parts, dim=2).flatten(1)
        b, v = len(flat), self.config.views
        number = torch.eye(v, device=flat.device).repeat(b, 1)
        said: Tensor = self.told(torch.cat([flat.repeat_interleave(v, dim=0), number], dim=1).to(self.dtype))
        return said

    def forward(self, pixels: Tensor, now: Told, then: Told) -> Tensor:
        """Returns (B, 3, H, W) pixels around [-0.5, 0.5] of the frame then, see `drawing`."""
        return self._tiled(self.drawing(pixels, now, then).frames())

    def drawing(self, pixels: Tensor, now: Told, then: Told) -> Drawing:
        """Returns what the frame then is made of.

        Args:
            pixels: (B, 3, H, W) the last real frame, in [-0.5, 0.5].
            now: What is read from it.
            then: What is imagined of the frame that is to be drawn.
        """
        said = self._say(now, then)
        real = self.by_view(pixels)
        latents = [self.by_view(t.latents.to(self.dtype)) for t in (now, then)]
        s4 = functional.silu(self.stem(functional.pixel_unshuffle(real.to(self.dtype), CELL)))
        s8 = functional.silu(self.down8(s4))
        s16 = functional.silu(self.down16(s8))
        hint = self.hint(said).view(-1, self.config.hints, *self.cells)
        x = self.mix(torch.cat([s16, *latents, latents[1] - latents[0], hint], dim=1))
        for block in self.deep:
            x = block(x, said)
        x = functional.pixel_shuffle(self.up8(functional.silu(x)), 2) + s8
        for block in self.mid:
            x = block(x, said)
        x = functional.pixel_shuffle(self.up4(functional.silu(x)), 2) + s4
        for block in self.fine:
            x = block(x, said)
        drawn = self.out(functional.silu(self.smooth(x))).float()
        count = self.config.maps + 2
        shift, weights, paint = drawn.split([2, count * CELL * CELL, 3 * CELL * CELL], dim=1)
        still = torch.eye(2, 3, device=drawn.device)
        return Drawing(
            real=real.float(),
            weights=functional.pixel_shuffle(weights, CELL).softmax(dim=1),
            maps=still + 0.5 * self.affine(said).float().view(-1, self.config.maps, 2, 3),
            shift=REACH * shift.tanh(),
            paint=functional.pixel_shuffle(paint, CELL),
        )

    @torch.no_grad()
    def draw(self, frames: Tensor, now: Told, then: Told) -> Tensor:
        """Returns (B, H, W, 3) uint8 frames of what is imagined, given (B, H, W, 3) uint8 real ones."""
        pixels = self(to_pixels(frames), now, then).permute(0, 2, 3, 1)
        return ((pixels + 0.5) * 255.0).round().clamp(0, 255).to(torch.uint8)


def load(path: str | Path) -> tuple[Renderer, dict[str, Any]]:
    """Returns a renderer in evaluation mode and its metadata; a missing or damaged file raises ValueError."""
    return load_model(path, "renderer", lambda config: Renderer(RendererConfig.from_dict(config)))
