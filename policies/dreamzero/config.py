"""Sizes and switches of the DreamZero transformer, and its named configs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from wambench.interface import unknown_name


@dataclass(frozen=True)
class DiTConfig:
    """Sizes and layout. The defaults are the released DROID 14B.

    Attributes:
        width, layers, heads, ffn: Of the transformer.
        latent_channels: Channels of a noisy latent, and of the predicted video.
        condition_channels: Channels of the condition `y` that are concatenated to the latent (0: none).
        grid: (rows, columns) of patches in a frame.
        patch: Latent cells per patch, (rows, columns).
        text_dim, image_dim: Width of text and image tokens; image_dim 0 leaves the image branch out.
        freq_dim: Width of the sinusoid under the time embedding.
        action_dim, state_dim: Padded lengths of action and state; action_dim 0 leaves both modalities out.
        hidden: Hidden width of state encoder and action decoder.
        categories: Weight banks of the category-specific layers (the release has one).
        frames_per_chunk, actions_per_chunk, states_per_chunk: K, H, S.
        max_chunks: Chunks in a training sequence and in one life of the cache.
        frame_vector: Floats of the vector token of each frame (0: no such token).
        based: Frames are told the last real frame before their chunk, cell by cell (frame 0: itself). Without it a
            noisy patch must find the clean one of its place by attention, which takes some 100,000 samples to learn.
        prediction: "velocity" (noise - clean) or "clean" (see `to_velocity`).
        state_sees_chunk: States attend to all that their chunk's actions attend to, as they do at inference anyway.
            False is the released training mask: a state sees only itself.
        noisy_first_frame: The noisy copy holds frame 0 too (released); nothing reads its prediction.
        bidirectional: Every token sees every token; `clean` then holds only the observed frames and `noisy` the ones
            after them; no cache.
        activation: Of the MLPs: "gelu" (tanh form, released) or "silu" (a quarter of its time on a CPU).
        attention: "sdpa" (fused kernels) or "explicit" (matmul and softmax: several times faster to train on a CPU).
        eps: Of all norms inside the blocks.
    """

    width: int = 5120
    layers: int = 40
    heads: int = 40
    ffn: int = 13824
    latent_channels: int = 16
    condition_channels: int = 20
    grid: tuple[int, int] = (22, 40)
    patch: tuple[int, int] = (2, 2)
    text_dim: int = 4096
    image_dim: int = 1280
    freq_dim: int = 256
    action_dim: int = 32
    state_dim: int = 64
    hidden: int = 1024
    categories: int = 1
    frames_per_chunk: int = 2
    actions_per_chunk: int = 24
    states_per_chunk: int = 1
    max_chunks: int = 4
    frame_vector: int = 0
    based: bool = False
    prediction: str = "velocity"
    state_sees_chunk: bool = False
    noisy_first_frame: bool = True
    bidirectional: bool = False
    activation: str = "gelu"
    attention: str = "sdpa"
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} needs an even number of dimensions for each of {self.heads} heads")
        if self.prediction not in ("velocity", "clean"):
            raise unknown_name("prediction", self.prediction, ("velocity", "clean"))
        if self.activation not in ("gelu", "silu"):
            raise unknown_name("activation", self.activation, ("gelu", "silu"))
        if self.attention not in ("sdpa", "explicit"):
            raise unknown_name("attention", self.attention, ("sdpa", "explicit"))

    @property
    def head_dim(self) -> int:
        """Dimensions of one attention head."""
        return self.width // self.heads

    @property
    def patches(self) -> int:
        """Patches of a frame."""
        return self.grid[0] * self.grid[1]

    @property
    def frame_tokens(self) -> int:
        """Tokens of a frame: its patches, and the vector token if there is one."""
        return self.patches + (self.frame_vector > 0)

    @property
    def input_channels(self) -> int:
        """Channels of what a patch is embedded from: latent, base and condition."""
        return self.latent_channels * (1 + self.based) + self.condition_channels

    @property
    def input_vector(self) -> int:
        """Floats of what a vector token is embedded from."""
        return self.frame_vector * (1 + self.based)

    @property
    def window(self) -> int:
        """Latent frames in one life of the cache: 1 + M K."""
        return 1 + self.max_chunks * self.frames_per_chunk

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, y, x) of a frame's latent."""
        return self.latent_channels, self.grid[0] * self.patch[0], self.grid[1] * self.patch[1]


CONFIGS: dict[str, DiTConfig] = {
    "tiny": DiTConfig(
        width=48, layers=2, heads=2, ffn=96, latent_channels=4, condition_channels=0, grid=(2, 3), patch=(2, 2),
        text_dim=16, image_dim=0, freq_dim=32, action_dim=3, state_dim=5, hidden=32, actions_per_chunk=4,
        frame_vector=5, prediction="clean", state_sees_chunk=True, noisy_first_frame=False, activation="silu",
        attention="explicit",
    ),
    "nano": DiTConfig(
        width=192, layers=4, heads=3, ffn=768, latent_channels=24, condition_channels=0, grid=(2, 4), patch=(3, 3),
        text_dim=71, image_dim=0, freq_dim=128, action_dim=7, state_dim=11, hidden=512, actions_per_chunk=16,
        frame_vector=68, prediction="clean", state_sees_chunk=True, noisy_first_frame=False, activation="silu",
        attention="explicit",
    ),
    "mini": DiTConfig(
        width=384, layers=10, heads=6, ffn=1536, latent_channels=24, condition_channels=0, grid=(2, 4), patch=(3, 3),
        text_dim=71, image_dim=0, freq_dim=128, action_dim=7, state_dim=11, hidden=512, actions_per_chunk=16,
        frame_vector=68, prediction="clean", state_sees_chunk=True, noisy_first_frame=False, activation="silu",
    ),
    "14b": DiTConfig(),
}  # fmt: skip


def config_for(name: str, **changes: object) -> DiTConfig:
    """Returns a named config with some fields changed."""
    if name not in CONFIGS:
        raise unknown_name("model config", name, CONFIGS)
    return replace(CONFIGS[name], **changes)  # type: ignore[arg-type]
