"""The three frozen encoders of DreamZero 14B, from well-kept libraries, under the official tensor names.

- `load_vae`: the causal video VAE of Wan 2.1 (diffusers `AutoencoderKLWan`). 4n+1 frames become n+1 latent frames.
- `load_text`: the umT5 encoder (transformers `UMT5Stack`).
- `load_clip`: the CLIP ViT vision tower (transformers `CLIPVisionModel`), without its last block.

Each takes its sizes from the shapes of the tensors, so that a tiny instance tests the key maps of the real one, and is
filled one tensor at a time from the meta device. The libraries are the extra `dreamzero`, imported on use.

Letters: B batch, T raw frames, F latent frames, H, W pixels, h = H/8, w = W/8, L text tokens, N image tokens, D width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wambench.policies.dreamzero.official.checkpoint import IMAGE, TEXT, VAE, Source, count, fill, library, shape_of

MASK_CHANNELS = 4  # of the condition: one for each raw frame of a latent frame
CLIP_HEAD_WIDTH = 80  # of ViT-H; tensor shapes do not tell the number of heads
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
UMT5_DISTANCE = 128  # relative positions beyond it share a bucket
# Mean and standard deviation of the 16 latent channels of Wan 2.1, as published with the weights.
LATENT_MEAN = (
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
    0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
)  # fmt: skip
LATENT_STD = (
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
)  # fmt: skip


class VideoVae(nn.Module):
    """Video to normalised latents and back.

    The library's own `decode` clamps, so the frame loop of the decoder stands here; `encode` is the library's.
    """

    autoencoder: Any  # diffusers' AutoencoderKLWan

    def __init__(self, autoencoder: nn.Module, unused: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.unused = unused
        self._slots = sum(isinstance(part, nn.Conv3d) for part in self.autoencoder.decoder.modules())

    def encode(self, video: Tensor) -> Tensor:
        """Returns (B, 16, F, h, w) latents of a (B, 3, T, H, W) video in [-1, 1]; F = 1 + (T-1) // 4.

        The first frame is encoded alone, the others in groups of four; frames beyond 4n+1 are dropped.
        """
        mean = self.autoencoder.encode(video).latent_dist.mean
        shift, scale = self._constants(mean)
        return (mean - shift) / scale

    def decode(self, latents: Tensor, clamp: bool = True) -> Tensor:
        """Returns the (B, 3, 4F-3, H, W) video of (B, 16, F, h, w) normalised latents, in [-1, 1] if clamped."""
        shift, scale = self._constants(latents)
        x = self.autoencoder.post_quant_conv(latents * scale + shift)
        history: list[Tensor | None] = [None] * self._slots
        frames = [
            self.autoencoder.decoder(x[:, :, i : i + 1], feat_cache=history, feat_idx=[0], first_chunk=i == 0)
            for i in range(x.shape[2])
        ]
        video = torch.cat(frames, dim=2)
        return video.clamp(-1.0, 1.0) if clamp else video

    def condition(self, image: Tensor, frames: int) -> Tensor:
        """Returns y, (B, 20, F, h, w): 4 mask channels (1 on frame 0), then the latents of [image, gray, gray, ...].

        The latents of the later frames are those of mid-gray after the image, not zero.

        Args:
            image: (B, 3, H, W) first frame in [-1, 1].
            frames: T of the whole clip, 4n+1.
        """
        video = image.new_zeros(image.shape[0], 3, frames, *image.shape[-2:])
        video[:, :, 0] = image
        latents = self.encode(video)
        mask = latents.new_zeros(latents.shape[0], MASK_CHANNELS, *latents.shape[2:])
        mask[:, :, 0] = 1.0
        return torch.cat([mask, latents], dim=1)

    def _constants(self, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1, -1, 1, 1, 1)
        return like.new_tensor(LATENT_MEAN).view(shape), like.new_tensor(LATENT_STD).view(shape)


class TextEncoder(nn.Module):
    """Token ids to prompt embeddings (umT5)."""

    stack: Any  # transformers' UMT5Stack

    def __init__(self, stack: nn.Module, unused: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.stack = stack
        self.unused = unused

    def hidden_states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Returns (B, L, D) states after the final norm; keys where `mask` (B, L) is 0 are blocked."""
        return self.stack(input_ids=ids, attention_mask=mask).last_hidden_state

    def embed(self, ids: Tensor, mask: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        """Returns the (B, L, D) prompt embedding: rounded to `dtype`, and zero after each sample's own length.

        The released code zeroes every sample of a batch at every sample's length; for one sample it is the same.
        """
        states = self.hidden_states(ids, mask).to(dtype)
        lengths = mask.gt(0).sum(dim=1, keepdim=True)
        return states * (torch.arange(ids.shape[1], device=ids.device) < lengths).unsqueeze(-1)


class ImageEncoder(nn.Module):
    """First frame to image tokens (CLIP vision tower, output of the last block but one, without a final norm)."""

    tower: Any  # transformers' CLIPVisionModel

    def __init__(self, tower: nn.Module, unused: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.tower = tower
        self.unused = unused

    def preprocess(self, image: Tensor) -> Tensor:
        """Returns the (B, 3, S, S) input of the tower (S = 224) for a (B, 3, H, W) image in [-1, 1].

        Bicubic without antialias, the aspect ratio is not kept; then CLIP's mean and standard deviation.
        """
        size = self.tower.config.image_size
        small = F.interpolate(image, (size, size), mode="bicubic", align_corners=False)
        mean, std = (image.new_tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
        return (small * 0.5 + 0.5 - mean) / std

    def forward(self, image: Tensor) -> Tensor:
        """Returns (B, N, D) tokens, the class token first, of a (B, 3, H, W) image in [-1, 1]."""
        embedded = self.tower.embeddings(self.preprocess(image))
        return self.tower.encoder(inputs_embeds=self.tower.pre_layrnorm(embedded)).last_hidden_state


def spread_frames(video: Tensor) -> Tensor:
    """Returns the 9 frames that the released server makes of a client's 4: each twice, and the first once more.

    Reference implementation, checked against the release by `make parity`; no command uses it.
    The inference loop has the general rule (`dreamzero.inference.spread`).
    """
    return torch.cat([video[:, :, :1], video.repeat_interleave(2, dim=2)], dim=2)


def load_vae(
    tensors: Mapping[str, Tensor],
    prefix: str = VAE,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> VideoVae:
    """Returns the VAE with the weights of `tensors` (official names; see `checkpoint.Shards`).

    Raises:
        ValueError: Tensors are missing, unexpected or do not fit together; they are named.
    """
    base = shape_of(tensors, f"{prefix}encoder.conv1.weight")[0]
    stages, temporal = _stages(tensors, f"{prefix}encoder.downsamples.")
    with torch.device("meta"):
        autoencoder = library("diffusers").AutoencoderKLWan(
            base_dim=base,
            decoder_base_dim=shape_of(tensors, f"{prefix}decoder.head.0.gamma")[0],
            z_dim=shape_of(tensors, f"{prefix}conv2.weight")[0],
            dim_mult=[widths[-1] // base for widths in stages],
            num_res_blocks=len(stages[0]),
            temperal_downsample=temporal,
        )
    per_stage = _first_resample(tensors, f"{prefix}decoder.upsamples.") + 1
    sources = {name: Source(prefix + vae_name(name, per_stage)) for name in autoencoder.state_dict()}
    report = fill(autoencoder, tensors, sources, prefix=prefix, dtype=dtype, device=device).require()
    return VideoVae(autoencoder.eval(), report.unused)


def _stages(tensors: Mapping[str, Tensor], blocks: str) -> tuple[list[list[int]], list[bool]]:
    """Returns the output widths of the residual blocks by stage, and whether each halving also halves time."""
    stages: list[list[int]] = [[]]
    temporal = []
    for i in range(count(tensors, blocks)):
        if f"{blocks}{i}.resample.1.weight" in tensors:
            stages.append([])
            temporal.append(f"{blocks}{i}.time_conv.weight" in tensors)
        else:
            stages[-1].append(shape_of(tensors, f"{blocks}{i}.residual.2.weight")[0])
    if not all(stages):
        raise ValueError(f"a stage of {blocks}* has no residual block; the last number is {count(tensors, blocks) - 1}")
    return stages, temporal


def _first_resample(tensors: Mapping[str, Tensor], blocks: str) -> int:
    for i in range(count(tensors, blocks)):
        if f"{blocks}{i}.resample.1.weight" in tensors:
            return i
    raise ValueError(f"no {blocks}*.resample.1.weight: the decoder has no resampling layer")


# Inside a block, library name -> official name.
_VAE_BLOCK = (
    (r"\.norm1\.", ".residual.0."),
    (r"\.conv1\.", ".residual.2."),
    (r"\.norm2\.", ".residual.3."),
    (r"\.conv2\.", ".residual.6."),
    (r"\.conv_shortcut\.", ".shortcut."),
)
# Around the blocks; applied after the above, so that the stem's `conv1` is not taken for a block's.
_VAE_FRAME = (
    (r"^quant_conv\.", "conv1."),
    (r"^post_quant_conv\.", "conv2."),
    (r"\.conv_in\.", ".conv1."),
    (r"\.norm_out\.", ".head.0."),
    (r"\.conv_out\.", ".head.2."),
    (r"\.mid_block\.resnets\.0\.", ".middle.0."),
    (r"\.mid_block\.attentions\.0\.", ".middle.1."),
    (r"\.mid_block\.resnets\.1\.", ".middle.2."),
    (r"\.down_blocks\.", ".downsamples."),
)


def vae_name(name: str, per_stage: int) -> str:
    """Returns the official name of a tensor of `AutoencoderKLWan`.

    Args:
        name: Name in the library.
        per_stage: Layers of a decoder stage (residual blocks and upsampler): the official list is flat.
    """
    for pattern, official in _VAE_BLOCK + _VAE_FRAME:
        name = re.sub(pattern, official, name)
    if found := re.match(r"decoder\.up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)\.", name):
        within = int(found[3]) if found[2] == "resnets" else per_stage - 1
        name = f"decoder.upsamples.{int(found[1]) * per_stage + within}.{name[found.end() :]}"
    return name


# umT5: library name -> official name.
_TEXT = (
    (r"^embed_tokens\.", "token_embedding."),
    (r"^final_layer_norm\.", "norm."),
    (r"^block\.(\d+)\.layer\.0\.layer_norm\.", r"blocks.\1.norm1."),
    (r"^block\.(\d+)\.layer\.1\.layer_norm\.", r"blocks.\1.norm2."),
    (r"^block\.(\d+)\.layer\.0\.SelfAttention\.relative_attention_bias\.", r"blocks.\1.pos_embedding.embedding."),
    (r"^block\.(\d+)\.layer\.0\.SelfAttention\.", r"blocks.\1.attn."),
    (r"^block\.(\d+)\.layer\.1\.DenseReluDense\.wi_0\.", r"blocks.\1.ffn.gate.0."),
    (r"^block\.(\d+)\.layer\.1\.DenseReluDense\.wi_1\.", r"blocks.\1.ffn.fc1."),
    (r"^block\.(\d+)\.layer\.1\.DenseReluDense\.wo\.", r"blocks.\1.ffn.fc2."),
)


def text_name(name: str) -> str:
    """Returns the official name of a tensor of `UMT5Stack`."""
    for pattern, official in _TEXT:
        name = re.sub(pattern, official, name)
    return name


def load_text(
    tensors: Mapping[str, Tensor],
    prefix: str = TEXT,
    *,
    max_distance: int = UMT5_DISTANCE,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> TextEncoder:
    """Returns the text encoder with the weights of `tensors` (official names).

    Args:
        tensors: Tensors by official name.
        prefix: What the names begin with.
        max_distance: Relative position from which all share a bucket, which no shape tells.
        dtype: Type of the weights; None keeps what is stored.
        device: Where they go.

    Raises:
        ValueError: Tensors are missing, unexpected or do not fit together; they are named.
    """
    transformers = library("transformers")
    vocabulary, width = shape_of(tensors, f"{prefix}token_embedding.weight")
    buckets, heads = shape_of(tensors, f"{prefix}blocks.0.pos_embedding.embedding.weight")
    config = transformers.UMT5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=shape_of(tensors, f"{prefix}blocks.0.attn.q.weight")[0] // heads,
        d_ff=shape_of(tensors, f"{prefix}blocks.0.ffn.fc1.weight")[0],
        num_layers=count(tensors, f"{prefix}blocks."),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=max_distance,
        feed_forward_proj="gated-gelu",  # the tanh form
        dropout_rate=0.0,
        is_encoder_decoder=False,
        use_cache=False,
    )
    with torch.device("meta"):
        stack = library("transformers.models.umt5.modeling_umt5").UMT5Stack(config)
    sources = {name: Source(prefix + text_name(name)) for name in stack.state_dict()}
    report = fill(stack, tensors, sources, prefix=prefix, dtype=dtype, device=device).require()
    return TextEncoder(stack.eval(), report.unused)


# CLIP vision tower: library name -> official name under `visual.`.
_CLIP = (
    (r"^embeddings\.class_embedding$", "cls_embedding"),
    (r"^embeddings\.position_embedding\.weight$", "pos_embedding"),
    (r"^embeddings\.patch_embedding\.", "patch_embedding."),
    (r"^pre_layrnorm\.", "pre_norm."),
    (r"^encoder\.layers\.(\d+)\.layer_norm(\d)\.", r"transformer.\1.norm\2."),
    (r"^encoder\.layers\.(\d+)\.self_attn\.[qkv]_proj\.", r"transformer.\1.attn.to_qkv."),
    (r"^encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"transformer.\1.attn.proj."),
    (r"^encoder\.layers\.(\d+)\.mlp\.fc1\.", r"transformer.\1.mlp.0."),
    (r"^encoder\.layers\.(\d+)\.mlp\.fc2\.", r"transformer.\1.mlp.2."),
)
_CLIP_LEADING = {"cls_embedding": 2, "pos_embedding": 1}  # axes of length one in the official tensor


def clip_source(name: str, prefix: str = IMAGE) -> Source:
    """Returns where a tensor of `CLIPVisionModel` comes from; queries, keys and values are thirds of one tensor."""
    official = name
    for pattern, replacement in _CLIP:
        official = re.sub(pattern, replacement, official)
    projection = re.search(r"\.([qkv])_proj\.", name)
    third = "qkv".index(projection[1]) if projection else None
    return Source(f"{prefix}visual.{official}", third, _CLIP_LEADING.get(official, 0))


def load_clip(
    tensors: Mapping[str, Tensor],
    prefix: str = IMAGE,
    *,
    heads: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> ImageEncoder:
    """Returns the image encoder with the weights of `tensors` (official names).

    The last block, `post_norm`, `head` and `log_scale` are known and not needed: they are listed in `unused`.

    Args:
        tensors: Tensors by official name.
        prefix: What the names begin with.
        heads: Attention heads, which no shape tells; None for those of ViT-H, width / 80.
        dtype: Type of the weights; None keeps what is stored.
        device: Where they go.

    Raises:
        ValueError: Tensors are missing, unexpected or do not fit together; they are named.
    """
    visual = f"{prefix}visual."
    blocks = count(tensors, f"{visual}transformer.")
    width, _, patch, _ = shape_of(tensors, f"{visual}patch_embedding.weight")
    positions = shape_of(tensors, f"{visual}pos_embedding")[1]
    number = width / CLIP_HEAD_WIDTH if heads is None else heads
    if number != int(number) or width % number:
        raise ValueError(f"an image encoder of width {width} cannot have {number:g} heads; give `heads`")
    transformers = library("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=shape_of(tensors, f"{visual}transformer.0.mlp.0.weight")[0],
        num_hidden_layers=blocks - 1,
        num_attention_heads=int(number),
        image_size=patch * round((positions - 1) ** 0.5),
        patch_size=patch,
        hidden_act="gelu",  # the erf form
        layer_norm_eps=1e-5,
    )
    with torch.device("meta"):
        tower = transformers.CLIPVisionModel(config)
    tower.post_layernorm = nn.Identity()
    sources = {name: clip_source(name, prefix) for name in tower.state_dict()}
    idle = (f"{visual}transformer.{blocks - 1}.", f"{visual}post_norm.", f"{visual}head", f"{prefix}log_scale")
    report = fill(
        tower, tensors, sources, prefix=prefix, unused=lambda n: n.startswith(idle), dtype=dtype, device=device
    ).require()
    tower.embeddings.position_ids = torch.arange(positions, device=device).unsqueeze(0)  # no tensor of the checkpoint
    return ImageEncoder(tower.eval(), report.unused)
