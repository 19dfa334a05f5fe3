"""The world action model: one transformer that denoises future video and actions together.

Letters: B batch, T tokens, D width, F future frames, P patches of a frame, Z latent channels, y x latent height and
width, L words, E word embedding, H actions of a chunk, A action dimension, C key-point classes, S state features.

Design decisions:
- Convention of DreamZero's code: sigma = 1 is noise, sigma = 0 is clean (`flow`). Video and actions have their own
  sigma; clean tokens have none.
- Tokens: [words | past frame | current frame | state | future frames | actions]. The past and the current frame are
  observed and clean, the future frames and the actions are noisy.
- Nobody sees the future: words see words; the past frame sees words and itself; the current frame in addition itself.
  Clean tokens never see noisy ones, so they could be cached while denoising. State, future frames and actions of the
  chunk see each other and everything clean (joint denoising).
- The network predicts clean values; future frames relative to the current latent, actions in units of their standard
  deviation. Loss: unweighted mean squared error of each modality, equal weights.
- A global token: an MLP over the whole current latent, the state and the key points, modulated by the instruction,
  added to state and action tokens. Patches alone learn positions far too slowly.
- Words carry the position of the thing they name (`text.match`), so "bottle" means a place and not just a word.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.policies import flow, text

POINT_UNIT_M = 0.1


@dataclass(frozen=True)
class WamConfig:
    """Sizes and layout of a world action model.

    Attributes:
        width, layers, heads: Of the transformer; the MLPs are four times as wide.
        latent: (channels, height, width) of a frame's latent.
        patch: Latent cells per token and axis.
        points: Key-point classes, in the encoder's order.
        horizon: Actions of a chunk.
        action_dim: Length of an action.
        group: Actions per token.
        future: Control steps after now for which a frame is imagined.
        past: Control steps before now of the second observed frame.
        global_width: Hidden width of the global token's MLP (0: no global token).
        grounded: Words carry the position of the thing they name.
    """

    width: int = 192
    layers: int = 4
    heads: int = 3
    latent: tuple[int, int, int] = (24, 6, 12)
    patch: int = 3
    points: tuple[str, ...] = ()
    horizon: int = 16
    action_dim: int = 7
    group: int = 2
    future: tuple[int, ...] = (8, 16)
    past: int = 8
    global_width: int = 512
    grounded: bool = True

    def __post_init__(self) -> None:
        _, height, width = self.latent
        if height % self.patch or width % self.patch:
            raise ValueError(f"patch {self.patch} does not divide the latent {height}x{width}")
        if self.horizon % self.group or self.width % (2 * self.heads):
            raise ValueError("group must divide horizon, and 2 * heads must divide width")

    @property
    def patches(self) -> int:
        """Tokens per frame."""
        return (self.latent[1] // self.patch) * (self.latent[2] // self.patch)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> WamConfig:
        """Returns the config that `dataclasses.asdict` and JSON turned into a dict."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return WamConfig(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return asdict(self)


CONFIGS: dict[str, WamConfig] = {
    "nano": WamConfig(),
    "tiny": WamConfig(width=48, layers=2, heads=2, global_width=64),
}


def config_for(name: str, points: tuple[str, ...], latent: tuple[int, int, int]) -> WamConfig:
    """Returns a named config for an encoder's points and latent."""
    if name not in CONFIGS:
        raise ValueError(f"no model config {name!r}; there are {', '.join(CONFIGS)}")
    return replace(CONFIGS[name], points=points, latent=latent)


@dataclass(frozen=True)
class Condition:
    """What is known when a chunk is generated.

    Attributes:
        now: (B, Z, y, x) standardised latent of the current frame.
        past: The same for the past frame, or None.
        has_past: (B,) bool, which samples have a past frame; None means all.
        state: (B, S) state features (`encoder.state_features`), the eef position first.
        points: (B, C, 4) world xyz in m and presence in [0, 1].
        words: (B, L, E) word vectors, zero where `word_mask` is False.
        word_mask: (B, L) bool.
        match: (B, L, C) which point each word refers to.
    """

    now: Tensor
    past: Tensor | None
    has_past: Tensor | None
    state: Tensor
    points: Tensor
    words: Tensor
    word_mask: Tensor
    match: Tensor


def patchify(latent: Tensor, p: int) -> Tensor:
    """Returns (B, P, Z * p * p) patches of (B, Z, y, x) latents."""
    b, z, h, w = latent.shape
    cells = latent.reshape(b, z, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(b, (h // p) * (w // p), z * p * p)


def unpatchify(tokens: Tensor, latent: tuple[int, int, int], p: int) -> Tensor:
    """Returns the (B, Z, y, x) latents of `patchify`'s tokens."""
    z, h, w = latent
    cells = tokens.reshape(tokens.shape[0], h // p, w // p, z, p, p).permute(0, 3, 1, 4, 2, 5)
    return cells.reshape(-1, z, h, w)


def sinusoid(sigma: Tensor, width: int) -> Tensor:
    """Returns (B, width) sines and cosines of sigma in [0, 1], periods from 1/100 to 10."""
    rates = torch.exp(torch.linspace(math.log(0.6), math.log(600.0), width // 2, device=sigma.device))
    angles = sigma.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def visibility(words: int, past: int, now: int, noisy: int) -> Tensor:
    """Returns the (T, T) mask "row sees column" of the token order in the module docstring (state counts as noisy)."""
    sizes = [words, past, now, noisy]
    rank = torch.cat([torch.full((n,), i) for i, n in enumerate(sizes)])
    return rank[None, :] <= rank[:, None]


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Returns a two-layer perceptron."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


class Block(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (B, T, D), bias (B, 1, T, T) added to the attention logits -> (B, T, D)."""
        b, t, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        # written out: the fused kernel's backward pass is six times slower on a CPU at 50 tokens
        logits = (qkv[0] @ (qkv[1] * (d // self.heads) ** -0.5).transpose(-1, -2)).float() + bias
        seen = logits.softmax(dim=-1).to(x.dtype) @ qkv[2]
        x = x + self.out(seen.transpose(1, 2).reshape(b, t, d))
        return x + self.down(functional.silu(self.up(self.norm2(x))))


class Wam(nn.Module):
    """The network. Inputs and outputs are standardised latents and standardised actions."""

    state_mean: Tensor
    state_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    points_mean: Tensor

    def __init__(self, config: WamConfig, state_features: int) -> None:
        super().__init__()
        self.config = config
        c, d = config, config.width
        z, h, w = c.latent
        cells, count = z * c.patch**2, len(c.points)
        self.state_dim = state_features + 7 * count
        for name, size in [("state_mean", state_features), ("state_std", state_features), ("points_mean", 3)]:
            self.register_buffer(name, torch.zeros(size) if name != "state_std" else torch.ones(size))
        self.register_buffer("action_mean", torch.zeros(c.action_dim))
        self.register_buffer("action_std", torch.ones(c.action_dim))

        self.word_in, self.ground_in = nn.Linear(text.WIDTH, d), nn.Linear(7, d)
        self.word_place = nn.Parameter(0.02 * torch.randn(text.MAX_WORDS, d))
        self.language = nn.Sequential(nn.SiLU(), nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d))
        self.clean_in, self.video_in = nn.Linear(cells, d), nn.Linear(cells, d)
        self.place = nn.Parameter(0.02 * torch.randn(c.patches, d))
        self.moment = nn.Parameter(0.02 * torch.randn(2 + len(c.future), d))
        self.state_in = nn.Linear(self.state_dim, d)
        self.action_in = nn.Linear(c.group * c.action_dim, d)
        self.order = nn.Parameter(0.02 * torch.randn(c.horizon // c.group, d))
        self.video_time, self.action_time = mlp(64, d, d), mlp(64, d, d)
        self.add_language = nn.Linear(d, 4 * d)
        if c.global_width:
            g = c.global_width
            self.global_in = nn.Linear(z * h * w + self.state_dim, g)
            self.film, self.global_mid, self.global_out = nn.Linear(d, 2 * g), nn.Linear(g, g), nn.Linear(g, 2 * d)
        self.blocks = nn.ModuleList([Block(d, c.heads) for _ in range(c.layers)])
        self.norm = nn.LayerNorm(d)
        self.video_out, self.action_out = nn.Linear(d, cells), nn.Linear(d, c.group * c.action_dim)
        self._initialise()

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
                if name.endswith((".out", ".down")):
                    module.weight.data *= 1.0 / math.sqrt(2 * self.config.layers)
        for head in (self.video_out, self.action_out, *([self.film] if self.config.global_width else [])):
            head.weight.data *= 0.02

    @property
    def dtype(self) -> torch.dtype:
        """Type the layers compute in."""
        return self.video_out.weight.dtype

    def _point_features(self, cond: Condition) -> Tensor:
        """Returns (B, C, 7): absolute and eef-relative position in dm, presence; zero for absent things."""
        xyz, presence = cond.points[..., :3], cond.points[..., 3:]
        absolute = (xyz - self.points_mean) / POINT_UNIT_M
        relative = (xyz - cond.state[:, None, :3]) / POINT_UNIT_M
        return torch.cat([absolute, relative, torch.ones_like(presence)], dim=2) * presence

    def _clean(self, cond: Condition) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns word tokens (B, L, D), language (B, 4, D), state token (B, 1, D), global addition (B, 2, D)."""
        points, dtype = self._point_features(cond), self.dtype
        state = ((cond.state - self.state_mean) / self.state_std).clamp(-5.0, 5.0)
        state = torch.cat([state, points.flatten(1)], dim=1).to(dtype)  # (B, S + 7C)
        words = self.word_in(cond.words.to(dtype)) + self.word_place[: cond.words.shape[1]]
        if self.config.grounded and self.config.points:
            words = words + self.ground_in((cond.match @ points).to(dtype))
        mask = cond.word_mask[..., None].to(dtype)
        language = (self.language(words) * mask).sum(1) / mask.sum(1).sqrt()  # (B, D)
        additions = self.add_language(language).view(-1, 4, self.config.width)
        whole = torch.zeros_like(additions[:, :2])
        if self.config.global_width:
            scale, shift = self.film(language).chunk(2, dim=1)
            hidden = functional.silu(self.global_in(torch.cat([cond.now.flatten(1).to(dtype), state], dim=1)))
            hidden = functional.silu(self.global_mid(hidden * (1 + scale) + shift))
            whole = self.global_out(hidden).view(-1, 2, self.config.width)
        return words, additions, self.state_in(state)[:, None], whole

    def _bias(self, cond: Condition, noisy: int) -> Tensor:
        """Returns the (B, 1, T, T) attention bias: 0 where visible, very negative elsewhere."""
        p, words = self.config.patches, cond.words.shape[1]
        past = p if cond.past is not None else 0
        seen = visibility(words, past, p, noisy).to(cond.now.device)
        valid = torch.ones(cond.now.shape[0], seen.shape[0], dtype=torch.bool, device=cond.now.device)
        valid[:, :words] = cond.word_mask
        if past and cond.has_past is not None:
            valid[:, words : words + past] = cond.has_past[:, None]
        visible = seen[None, None] & valid[:, None, None]
        return torch.where(visible, 0.0, -1e4)

    def forward(
        self, cond: Condition, video: Tensor, action: Tensor, sigma_video: Tensor, sigma_action: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the predicted clean future and actions.

        Args:
            cond: The condition.
            video: (B, F, Z, y, x) noisy future latents, relative to the current latent.
            action: (B, H, A) noisy standardised actions.
            sigma_video: (B,) noise level of the video in [0, 1].
            sigma_action: (B,) noise level of the actions.
        """
        c, b, dtype = self.config, video.shape[0], self.dtype
        words, language, state, whole = self._clean(cond)
        time_v = self.video_time(sinusoid(sigma_video, 64).to(dtype))[:, None]
        time_a = self.action_time(sinusoid(sigma_action, 64).to(dtype))[:, None]
        language = language[:, :, None]  # (B, 4, 1, D): for clean frames, state, future frames, actions
        parts = [words]
        for slot, frame in [(0, cond.past), (1, cond.now)]:
            if frame is not None:
                tokens = self.clean_in(patchify(frame.to(dtype), c.patch))
                parts.append(tokens + self.place + self.moment[slot] + language[:, 0])
        parts.append(state + language[:, 1] + whole[:, :1] + time_a)
        for i in range(len(c.future)):
            tokens = self.video_in(patchify(video[:, i].to(dtype), c.patch))
            parts.append(tokens + self.place + self.moment[2 + i] + language[:, 2] + time_v)
        tokens = self.action_in(action.to(dtype).reshape(b, c.horizon // c.group, -1))
        parts.append(tokens + self.order + language[:, 3] + whole[:, 1:] + time_a)

        frames, chunk = len(c.future) * c.patches, c.horizon // c.group
        bias, x = self._bias(cond, 1 + frames + chunk), torch.cat(parts, dim=1)  # (B, T, D)
        for block in self.blocks:
            x = block(x, bias)
        x = self.norm(x[:, -(frames + chunk) :])
        out = self.video_out(x[:, :frames]).reshape(b * len(c.future), c.patches, -1)
        clean = unpatchify(out, c.latent, c.patch).view(video.shape)
        return clean.float(), self.action_out(x[:, frames:]).reshape(action.shape).float()


def loss(
    model: Wam, cond: Condition, future: Tensor, actions: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Returns (video, action) mean squared errors of the clean predictions at random noise levels.

    Args:
        model: The network.
        cond: The condition.
        future: (B, F, Z, y, x) clean future latents.
        actions: (B, H, A) standardised clean actions.
        generator: Source of noise levels and noise.
    """
    video = future - cond.now[:, None]
    sigma_v, sigma_a = (s.to(video.device) for s in flow.draw_sigmas(video.shape[0], generator))
    noise_v = torch.randn(video.shape, generator=generator).to(video.device)
    noise_a = torch.randn(actions.shape, generator=generator).to(video.device)
    x_v, x_a = flow.interpolate(video, noise_v, sigma_v), flow.interpolate(actions, noise_a, sigma_a)
    clean_v, clean_a = model(cond, x_v, x_a, sigma_v, sigma_a)
    return functional.mse_loss(clean_v, video), functional.mse_loss(clean_a, actions)


@dataclass(frozen=True)
class Noise:
    """Where sampling starts: video (B, F, Z, y, x) and action (B, H, A), standard normal."""

    video: Tensor
    action: Tensor


def draw_noise(config: WamConfig, generators: list[torch.Generator]) -> Noise:
    """Returns one sample's noise per generator, so that a batch gives the same answers as single calls."""
    frame = (len(config.future), *config.latent)
    video = torch.stack([torch.randn(frame, generator=g) for g in generators])
    action = torch.stack([torch.randn(config.horizon, config.action_dim, generator=g) for g in generators])
    return Noise(video, action)


@torch.no_grad()
def sample(
    model: Wam,
    cond: Condition,
    noise: Noise,
    steps: int,
    clamp: Tensor | None = None,
    move_video: bool = True,
    move_action: bool = True,
) -> tuple[Tensor, Tensor]:
    """Returns future latents (B, F, Z, y, x) and standardised actions (B, H, A) after Euler steps from noise.

    Args:
        model: The network.
        cond: The condition.
        noise: Starting point.
        steps: Euler steps.
        clamp: (B, F, Z, y, x) clean future latents that the actions are denoised for; None generates the video too.
        move_video: False leaves the video at pure noise.
        move_action: False leaves the actions at pure noise.
    """
    batch, device = cond.now.shape[0], cond.now.device
    now = cond.now[:, None].float()
    video = noise.video.to(device) if clamp is None else clamp.float() - now
    action, sigmas = noise.action.to(device), flow.schedule(steps)
    move_video = move_video and clamp is None
    for sigma, sigma_next in pairwise(sigmas):
        sigma_v = 0.0 if clamp is not None else sigma if move_video else 1.0
        levels = [torch.full((batch,), s, device=device) for s in (sigma_v, sigma if move_action else 1.0)]
        clean_v, clean_a = model(cond, video, action, levels[0], levels[1])
        if move_video:
            video = flow.euler_step(video, clean_v, sigma, sigma_next)
        if move_action:
            action = flow.euler_step(action, clean_a, sigma, sigma_next)
    return video + now, action
