"""Checkpoints in the official layout: written tiny, read back tensor by tensor, and every misfit named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wambench.policies.dreamzero.official import checkpoint
from wambench.policies.dreamzero.official.checkpoint import LORA, MODEL, AdaptedTensors, Shards, open_checkpoint

GOLDEN = Path(__file__).parents[3] / "golden" / "dreamzero"
NEW_MODULES = ("state_encoder", "action_encoder", "action_decoder")
QUERY = "blocks.0.self_attn.q.weight"
CONFIG = {"action_head_cfg": {"config": {"lora_rank": 2, "lora_alpha": 6, "diffusion_model_cfg": {"num_heads": 2}}}}
METADATA = {
    "oxe_droid": {
        "statistics": {
            "state": {"joint_position": {"q01": [-1.0] * 7, "q99": [1.0] * 7}},
            "action": {"joint_position": {"q01": [-0.5] * 7, "q99": [0.5] * 7}, "gripper_position": {"mean": [0.4]}},
        }
    }
}


def tiny_tensors() -> dict[str, Tensor]:
    """Returns all components at golden size by official name."""
    files = ("policy_head_dit_weights", "vae", "text_encoder", "image_encoder")
    loaded = [load_file(GOLDEN / f"{name}.safetensors") for name in files]
    return {name: value for part in loaded for name, value in part.items() if name.startswith("action_head.")}


def write_tiny_checkpoint(
    folder: Path, tensors: Mapping[str, Tensor] | None = None, conf: str = "pretrained_model_path: null\n", n: int = 3
) -> Path:
    """Writes a checkpoint in the official layout: n shards with an index, config, quantiles, and a tensorrt folder."""
    weights = dict(tiny_tensors() if tensors is None else tensors)
    (folder / "experiment_cfg").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "experiment_cfg" / "metadata.json").write_text(json.dumps(METADATA))
    (folder / "experiment_cfg" / "conf.yaml").write_text(conf)
    index: dict[str, str] = {}
    for i in range(n):
        file = f"model-{i + 1:05}-of-{n:05}.safetensors"
        part = {name: weights[name].contiguous() for name in sorted(weights)[i::n]}
        save_file(part, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "tensorrt").mkdir()
    (folder / "tensorrt" / "engine.safetensors").write_bytes(b"not a tensor file")
    return folder


def like(shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    """Returns a module on the meta device whose parameters have these dotted names and shapes."""
    root = nn.Module()
    for name, shape in shapes.items():
        *path, leaf = name.split(".")
        owner = root
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        owner.register_parameter(leaf, nn.Parameter(torch.empty(shape, device="meta")))
    return root


def transformer_shapes() -> dict[str, tuple[int, ...]]:
    return {n.removeprefix(MODEL): tuple(t.shape) for n, t in tiny_tensors().items() if n.startswith(MODEL)}


def test_round_trip(tmp_path: Path) -> None:
    opened, original = open_checkpoint(write_tiny_checkpoint(tmp_path / "c")), tiny_tensors()
    assert set(opened.tensors) == set(original) and not opened.strays
    for name, value in original.items():
        assert torch.equal(opened.tensors[name], value)
    module = like(transformer_shapes())
    report = checkpoint.load_module(module, opened.tensors)
    assert report.filled == len(transformer_shapes()) and report.fits
    assert all(torch.equal(value, original[MODEL + name]) for name, value in module.state_dict().items())
    assert not any(p.requires_grad for p in module.parameters())
    assert opened.transformer["num_heads"] == 2 and opened.head["lora_alpha"] == 6
    quantiles = opened.quantiles("oxe_droid", "action", "joint_position")
    np.testing.assert_array_equal(quantiles.q99, [0.5] * 7)


def test_the_real_transformer_loads(tmp_path: Path) -> None:
    from tests.parity import dit

    file = GOLDEN / "policy_head_dit_weights.safetensors"
    config = dit.config_from(file, heads=2, grid=(2, 3))
    opened = open_checkpoint(write_tiny_checkpoint(tmp_path / "c"))
    model = dit.DiT(config)
    checkpoint.load_module(model, opened.tensors, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(model.state_dict()[QUERY], opened.tensors[MODEL + QUERY].bfloat16(), atol=0.0, rtol=0.0)


def test_the_encoders_load(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    from wambench.policies.dreamzero.official import encoders as wan

    tensors = open_checkpoint(write_tiny_checkpoint(tmp_path / "c")).tensors
    vae, text, image = wan.load_vae(tensors), wan.load_text(tensors), wan.load_clip(tensors, heads=4)
    assert vae.encode(torch.zeros(1, 3, 1, 16, 16)).shape == (1, 16, 1, 2, 2)
    assert text.stack.config.vocab_size == 64 and len(image.unused) == 16


def test_misfits_are_named(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    tensors[f"{MODEL}blocks.0.self_attn.query.weight"] = tensors.pop(MODEL + QUERY)
    tensors[f"{MODEL}patch_embedding.bias"] = torch.zeros(3)
    tensors["action_head.stranger"] = torch.zeros(1)
    opened = open_checkpoint(write_tiny_checkpoint(tmp_path / "c", tensors))
    assert opened.strays == ("action_head.stranger",)
    with pytest.raises(ValueError, match="does not fit") as error:
        checkpoint.load_module(like(transformer_shapes()), opened.tensors)
    for words in (
        "1 missing",
        "q.weight (nearest: ",
        "1 unexpected",
        "patch_embedding.bias: (3,), the module has (64,)",
    ):
        assert words in str(error.value)


def test_only_names_are_read_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = Shards.__getitem__

    def recorded(self: Shards, name: str) -> Tensor:
        read.append(name)
        return whole(self, name)

    monkeypatch.setattr(Shards, "__getitem__", recorded)
    opened = open_checkpoint(write_tiny_checkpoint(tmp_path / "c"))
    assert MODEL + QUERY in opened.tensors and "nothing" not in opened.tensors
    assert not read
    checkpoint.load_module(like(transformer_shapes()), opened.tensors)
    assert sorted(read) == sorted(MODEL + name for name in transformer_shapes())  # each once, nothing else


def test_tables_outside_the_checkpoint_must_not_stay_on_the_meta_device(tmp_path: Path) -> None:
    save_file({f"{MODEL}a": torch.ones(2)}, tmp_path / "model.safetensors")
    module = like({"a": (2,)})
    module.register_buffer("table", torch.empty(3, device="meta"), persistent=False)
    with pytest.raises(RuntimeError, match="meta device: table"):
        checkpoint.load_module(module, open_checkpoint(tmp_path).tensors)


def test_single_file_without_index(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    opened = open_checkpoint(tmp_path)
    assert torch.equal(opened.tensors["a"], torch.ones(2)) and opened.config == {} and opened.strays == ("a",)


@pytest.mark.parametrize("damage", ["lost shard", "cut shard", "lost tensor", "outside", "bad yaml", "empty"])
def test_broken_folders(tmp_path: Path, damage: str) -> None:
    folder = write_tiny_checkpoint(tmp_path / "c")
    index, shard = folder / "model.safetensors.index.json", folder / "model-00002-of-00003.safetensors"
    table = json.loads(index.read_text())
    words = "names files that are not there"
    if damage == "lost shard":
        shard.unlink()
    elif damage == "cut shard":
        shard.write_bytes(shard.read_bytes()[:-100])
        words = "no complete safetensors file"
    elif damage == "lost tensor":
        table["weight_map"]["action_head.model.new"] = shard.name
        words = "names tensors that its shards lack: action_head.model.new"
    elif damage == "outside":
        table["weight_map"]["x"] = "../c/" + shard.name
    elif damage == "bad yaml":
        (folder / "experiment_cfg" / "conf.yaml").write_text("a: !!python/object:os.system {}\n")
        words = "no plain YAML"
    else:
        for file in folder.glob("*.safetensors*"):
            file.unlink()
        words = "no safetensors files"
    if index.exists():
        index.write_text(json.dumps(table))
    with pytest.raises(ValueError, match=words):
        open_checkpoint(folder)


def test_unknown_statistics(tmp_path: Path) -> None:
    opened = open_checkpoint(write_tiny_checkpoint(tmp_path / "c"))
    with pytest.raises(ValueError, match="did you mean 'oxe_droid'"):
        opened.quantiles("oxe_droyd", "action", "joint_position")
    with pytest.raises(ValueError, match="did you mean 'joint_position'"):
        opened.quantiles("oxe_droid", "action", "joint_positions")
    with pytest.raises(ValueError, match="has no q01 and no q99"):
        opened.quantiles("oxe_droid", "action", "gripper_position")


def test_hub_download_leaves_tensorrt_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def snapshot_download(repo_id: str, **how: Any) -> str:
        asked.update(how, repo_id=repo_id)
        if repo_id.endswith("absent"):
            raise OSError("404")
        return str(folder)

    folder = write_tiny_checkpoint(tmp_path / "c")
    monkeypatch.setattr(checkpoint, "library", lambda name: SimpleNamespace(snapshot_download=snapshot_download))
    assert checkpoint.fetch("owner/name", "v1") == folder
    assert asked["repo_id"] == "owner/name" and asked["revision"] == "v1" and "tensorrt/*" in asked["ignore_patterns"]
    with pytest.raises(ValueError, match="the hub does not give it: 404"):
        open_checkpoint("owner/absent")
    with pytest.raises(ValueError, match="neither a folder nor a hub id"):
        open_checkpoint(str(tmp_path / "nowhere"))


# LoRA


def lora_tensors(base_layers: bool) -> dict[str, Tensor]:
    """Returns a LoRA checkpoint of rank 2 on one projection, with its own state and action modules."""
    whole = tuple(MODEL + name for name in NEW_MODULES)
    tensors = {n.replace(MODEL, LORA, 1): t for n, t in tiny_tensors().items() if n.startswith(whole)}
    path, rng = f"{LORA}blocks.0.self_attn.q.", torch.Generator().manual_seed(0)
    tensors[f"{path}lora_A.default.weight"] = torch.randn(2, 64, generator=rng)
    tensors[f"{path}lora_B.default.weight"] = torch.randn(64, 2, generator=rng)
    if base_layers:
        for name, value in tiny_tensors().items():
            if name.startswith(MODEL):
                tensors[name.replace(MODEL, LORA, 1).replace("attn.q.", "attn.q.base_layer.")] = value
    return tensors


def raw_wan(folder: Path) -> Path:
    """Writes the transformer without the new modules under bare names, as raw Wan has it; the query is doubled."""
    folder.mkdir()
    wan = {n.removeprefix(MODEL): t for n, t in tiny_tensors().items() if n.startswith(MODEL)}
    wan = {n: t for n, t in wan.items() if not n.startswith(NEW_MODULES)}
    save_file(wan | {QUERY: 2 * wan[QUERY]}, folder / "diffusion_pytorch_model.safetensors")
    return folder


def expected_query(weight: Tensor, lora: Mapping[str, Tensor]) -> Tensor:
    down, up = (lora[f"{LORA}blocks.0.self_attn.q.lora_{half}.default.weight"] for half in "AB")
    return weight + 6 / 2 * up @ down  # alpha / rank of the config


def test_lora_composes_on_raw_wan(tmp_path: Path) -> None:
    lora, wan = lora_tensors(base_layers=False), raw_wan(tmp_path / "wan")
    folder = write_tiny_checkpoint(tmp_path / "lora", lora, n=1)
    with pytest.raises(ValueError, match=r"trained on raw Wan 2[.]1 I2V: name it as base"):
        open_checkpoint(folder)
    opened = open_checkpoint(folder, base=wan)
    original = tiny_tensors()[MODEL + QUERY]
    torch.testing.assert_close(opened.tensors[MODEL + QUERY], expected_query(2 * original, lora))
    checkpoint.load_module(like(transformer_shapes()), opened.tensors)


def test_lora_refuses_another_base(tmp_path: Path) -> None:
    wan, droid = raw_wan(tmp_path / "wan"), write_tiny_checkpoint(tmp_path / "droid")
    lora = lora_tensors(base_layers=False)
    on_wan = write_tiny_checkpoint(tmp_path / "on_wan", lora)
    on_droid = write_tiny_checkpoint(tmp_path / "on_droid", lora, "pretrained_model_path: ckpts/DreamZero-AgiBot\n")
    with pytest.raises(ValueError, match="is of kind 'dreamzero'"):
        open_checkpoint(on_wan, base=droid)
    with pytest.raises(ValueError, match=r"DreamZero-AgiBot.*is of kind 'wan'"):
        open_checkpoint(on_droid, base=wan)
    with pytest.raises(ValueError, match="no LoRA deltas"):
        open_checkpoint(droid, base=wan)
    original = tiny_tensors()[MODEL + QUERY]
    for opened in (
        open_checkpoint(on_droid, base=droid),
        open_checkpoint(on_wan, base=droid, base_kind="dreamzero"),
    ):
        torch.testing.assert_close(opened.tensors[MODEL + QUERY], expected_query(original, lora))
        checkpoint.load_module(like(transformer_shapes()), opened.tensors)


def test_lora_with_its_own_base_layers(tmp_path: Path) -> None:
    lora = lora_tensors(base_layers=True)
    opened = open_checkpoint(write_tiny_checkpoint(tmp_path / "c", lora))
    assert set(opened.tensors) == {MODEL + name for name in transformer_shapes()}
    torch.testing.assert_close(opened.tensors[MODEL + QUERY], expected_query(tiny_tensors()[MODEL + QUERY], lora))
    checkpoint.load_module(like(transformer_shapes()), opened.tensors)


def test_lora_pairs_must_be_whole() -> None:
    pair = {f"{LORA}a.lora_A.weight": torch.ones(2, 3), f"{LORA}a.lora_B.weight": torch.ones(4, 2)}
    composed = AdaptedTensors(pair, {f"{MODEL}a.weight": torch.zeros(4, 3)})
    assert torch.equal(composed[f"{MODEL}a.weight"], torch.full((4, 3), 2.0)) and len(composed) == 1
    with pytest.raises(ValueError, match="half a LoRA pair"):
        AdaptedTensors({f"{LORA}a.lora_A.weight": torch.ones(2, 3)}, {f"{MODEL}a.weight": torch.zeros(4, 3)})
    with pytest.raises(ValueError, match="neither the checkpoint nor the base"):
        AdaptedTensors(pair, {})
    with pytest.raises(ValueError, match="is 4 x 3, not"):
        AdaptedTensors(pair, {f"{MODEL}a.weight": torch.zeros(5, 3)})[f"{MODEL}a.weight"]
