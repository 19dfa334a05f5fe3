"""The library encoders: golden files, key maps at tiny and at real sizes, and what the wrappers promise."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity import encoders
from wambench.policies.dreamzero.official import checkpoint, droid
from wambench.policies.dreamzero.official import encoders as wan
from wambench.policies.dreamzero.official.checkpoint import IMAGE, TEXT, VAE

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

GOLDEN = Path(__file__).parents[3] / "golden" / "dreamzero"
torch.set_num_threads(1)


def tensors_of(name: str, prefix: str) -> dict[str, Tensor]:
    tensors = load_file(GOLDEN / f"{name}.safetensors")
    return {key: value for key, value in tensors.items() if key.startswith(prefix)}


@pytest.fixture(scope="module")
def vae() -> wan.VideoVae:
    return wan.load_vae(tensors_of("vae", VAE))


@pytest.fixture(scope="module")
def text() -> wan.TextEncoder:
    return wan.load_text(tensors_of("text_encoder", TEXT))


@pytest.mark.parametrize("file", encoders.CHECKS)
def test_golden(file: str) -> None:
    beyond = [result for result in encoders.CHECKS[file](GOLDEN) if not result.passed]
    assert not beyond


@torch.no_grad()
def test_first_frame_law_and_causality(vae: wan.VideoVae) -> None:
    """Latent 0 knows frame 0 alone, latent i nothing after frame 4i; 8n+1 frames give 2n+1 latents and come back."""
    video = torch.rand(1, 3, 9, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = vae.encode(video)
    assert latents.shape == (1, 16, 3, 4, 6) and vae.decode(latents).shape == video.shape
    torch.testing.assert_close(latents[:, :, :1], vae.encode(video[:, :, :1]), atol=1e-6, rtol=0)
    changed = video.clone()
    changed[:, :, 5:] *= -1
    after = vae.encode(changed)
    torch.testing.assert_close(after[:, :, :2], latents[:, :, :2], atol=1e-6, rtol=0)
    assert (after[:, :, 2] - latents[:, :, 2]).abs().max() > 0.01
    first = vae.decode(latents, clamp=False)[:, :, :1]
    torch.testing.assert_close(first, vae.decode(latents[:, :, :1], clamp=False), atol=1e-5, rtol=0)


@torch.no_grad()
def test_condition_marks_the_first_frame_only(vae: wan.VideoVae) -> None:
    image = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    y = vae.condition(image, 9)
    assert y.shape == (2, 20, 3, 4, 6)
    assert (y[:, :4, 0] == 1).all() and (y[:, :4, 1:] == 0).all()
    assert y[:, 4:, 1:].abs().max() > 0.01  # gray after the image is not zero in latents
    torch.testing.assert_close(y[:, 4:, :1], vae.encode(image.unsqueeze(2)), atol=1e-6, rtol=0)


@torch.no_grad()
def test_prompt_embedding_does_not_depend_on_its_neighbours(text: wan.TextEncoder) -> None:
    ids = torch.arange(1, 21).view(2, 10)
    mask = (torch.arange(10) < torch.tensor([[3], [8]])).long()
    both = text.embed(ids, mask, torch.float32)
    assert (both[0, 3:] == 0).all() and (both[1, 8:] == 0).all() and (both[1, 3:8] != 0).all()
    other = ids.clone()
    other[0, 3:] = 40  # words under the mask
    torch.testing.assert_close(text.embed(other, mask, torch.float32), both, atol=1e-6, rtol=0)
    assert text.embed(ids, mask).dtype == torch.bfloat16


def meta(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def test_real_umt5_fits() -> None:
    """The names and shapes of umT5-XXL as the official checkpoint has them: 242 tensors, 5.681 B parameters."""
    shapes = {f"{TEXT}token_embedding.weight": (256384, 4096), f"{TEXT}norm.weight": (4096,)}
    for n in range(24):
        block = f"{TEXT}blocks.{n}."
        shapes |= {f"{block}norm{i}.weight": (4096,) for i in (1, 2)}
        shapes |= {f"{block}attn.{p}.weight": (4096, 4096) for p in "qkvo"}
        shapes |= {f"{block}ffn.{p}.weight": (10240, 4096) for p in ("gate.0", "fc1")}
        shapes |= {f"{block}ffn.fc2.weight": (4096, 10240), f"{block}pos_embedding.embedding.weight": (32, 64)}
    assert len(shapes) == 242
    stack = wan.load_text(meta(shapes), device="meta").stack
    assert sum(p.numel() for p in stack.parameters()) == pytest.approx(5.681e9, rel=1e-4)


def test_real_clip_fits() -> None:
    """The names and shapes of ViT-H/14: 393 tensors, of which the last block and the head are not needed."""
    visual, d = f"{IMAGE}visual.", 1280
    shapes: dict[str, tuple[int, ...]] = {
        f"{IMAGE}log_scale": (),
        f"{visual}cls_embedding": (1, 1, d),
        f"{visual}head": (d, 1024),
        f"{visual}patch_embedding.weight": (d, 3, 14, 14),
        f"{visual}pos_embedding": (1, 257, d),
    }
    shapes |= {f"{visual}{norm}.{leaf}": (d,) for norm in ("pre_norm", "post_norm") for leaf in ("weight", "bias")}
    for n in range(32):
        linear = {"attn.to_qkv": (3 * d, d), "attn.proj": (d, d), "mlp.0": (4 * d, d), "mlp.2": (d, 4 * d)}
        for part, shape in linear.items():
            shapes |= {f"{visual}transformer.{n}.{part}.weight": shape}
            shapes |= {f"{visual}transformer.{n}.{part}.bias": shape[:1]}
        norms = (f"{visual}transformer.{n}.{norm}" for norm in ("norm1", "norm2"))
        shapes |= {f"{norm}.{leaf}": (d,) for norm in norms for leaf in ("weight", "bias")}
    assert len(shapes) == 393
    encoder = wan.load_clip(meta(shapes), device="meta")
    assert encoder.tower.config.num_attention_heads == 16
    assert len(encoder.tower.encoder.layers) == 31 and encoder.tower.config.image_size == 224
    assert len(encoder.unused) == 12 + 4


def test_real_vae_fits() -> None:
    """The golden names with every width 24 times as large (the real 96) are the Wan 2.1 VAE: 194 tensors, 127 M."""
    shapes = {}
    for name, tensor in tensors_of("vae", VAE).items():
        latent = name.startswith((f"{VAE}conv1.", f"{VAE}conv2."))
        shape = [n if latent or axis > 1 or n in (1, 3) else 24 * n for axis, n in enumerate(tensor.shape)]
        if name.startswith(f"{VAE}encoder.head.2."):
            shape[0] = tensor.shape[0]
        if name == f"{VAE}decoder.conv1.weight":
            shape[1] = tensor.shape[1]
        shapes[name] = tuple(shape)
    assert len(shapes) == 194
    autoencoder = wan.load_vae(meta(shapes), device="meta").autoencoder
    assert sum(p.numel() for p in autoencoder.parameters()) == pytest.approx(126.9e6, rel=1e-3)


class Counted(Mapping[str, Tensor]):
    """Tensors that are copied at every reading, as from a file, and count how many are alive."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors, self.read = tensors, dict.fromkeys(tensors, 0)

    def __getitem__(self, name: str) -> Tensor:
        self.read[name] += 1
        return self.tensors[name].clone()

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def test_big_tensors_are_read_once_and_cast_on_the_way() -> None:
    tensors = Counted(tensors_of("image_encoder", IMAGE))
    encoder = wan.load_clip(tensors, heads=4, dtype=torch.bfloat16)
    assert {p.dtype for p in encoder.parameters()} == {torch.bfloat16}
    assert all(tensors.read[name] == 0 for name in encoder.unused)
    once = [n for n, times in tensors.read.items() if times == 1]
    assert f"{IMAGE}visual.transformer.1.mlp.0.weight" in once  # the fused qkv is read three times, a third each


def test_what_does_not_fit_is_named() -> None:
    tensors = tensors_of("text_encoder", TEXT)
    tensors[f"{TEXT}blocks.1.attn.queries.weight"] = tensors.pop(f"{TEXT}blocks.1.attn.q.weight")
    tensors[f"{TEXT}blocks.0.ffn.fc2.weight"] = torch.zeros(5, 7)
    with pytest.raises(ValueError, match="does not fit") as error:
        wan.load_text(tensors)
    for words in ("1 missing", "attn.q.weight (nearest", "1 unexpected", "attn.queries", "(5, 7), the module has (32,"):
        assert words in str(error.value)
    with pytest.raises(ValueError, match="no tensor"):
        wan.load_vae({})
    with pytest.raises(ValueError, match="5 heads"):
        wan.load_clip(tensors_of("image_encoder", IMAGE), heads=5)
    with pytest.raises(ValueError, match="give `heads`"):  # width 32 is no ViT-H: guessing would be silently wrong
        wan.load_clip(tensors_of("image_encoder", IMAGE))


def test_libraries_are_imported_on_use() -> None:
    for module in (wan, checkpoint, droid):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        names = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
        names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        roots = {name.split(".")[0] for name in names}
        assert not roots & {"diffusers", "transformers", "huggingface_hub", "yaml", "ftfy", "tokenizers"}
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'wambench\[dreamzero\]'"):
        checkpoint.library("no_such_library")
