"""Checkpoints in the official DreamZero layout: tensors read one at a time, and what does not fit is named.

A folder holds `config.json`, `experiment_cfg/conf.yaml`, `experiment_cfg/metadata.json` (quantiles) and safetensors
files, sharded with an index or single. The names of the tensors begin with `action_head.`: `model.` (the transformer
with its state and action modules), `text_encoder.`, `image_encoder.model.`, `vae.model.`.

A LoRA checkpoint instead names its transformer `action_head.model.base_model.model.`, and its deltas belong to the
weights they were trained on. `conf.yaml` records these: no `pretrained_model_path` means raw Wan, whose files use bare
names (`blocks.0...`). The released loader always takes raw Wan; here another base has to be asked for by name.

`torch` and `safetensors` are enough to read a folder; `huggingface_hub` (extra `dreamzero`) fetches one.
"""

from __future__ import annotations

import difflib
import importlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from wambench.interface import unknown_name

MODEL = "action_head.model."
TEXT = "action_head.text_encoder."
IMAGE = "action_head.image_encoder.model."
VAE = "action_head.vae.model."
COMPONENTS = (MODEL, TEXT, IMAGE, VAE)
LORA = "action_head.model.base_model.model."
SHOWN = 8  # names of each kind in a message

Base = Literal["wan", "dreamzero"]


def library(name: str) -> ModuleType:
    """Imports a library of the extra `dreamzero`, or says how to get it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{name} is missing: pip install 'wambench[dreamzero]'", name=error.name) from error


def shape_of(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Returns the shape of a tensor; ValueError with the nearest name if there is none."""
    if name not in tensors:
        near = difflib.get_close_matches(name, list(tensors), n=1, cutoff=0.5)
        hint = f"; the nearest name is {near[0]!r}" if near else ""
        raise ValueError(f"no tensor {name!r} among {len(tensors)}{hint}")
    return tuple(tensors[name].shape)


def count(tensors: Iterable[str], prefix: str) -> int:
    """Returns how many numbered modules (`prefix` followed by 0, 1, ...) the names hold."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    return 1 + max((int(found[1]) for name in tensors if (found := pattern.match(name))), default=-1)


class Shards(Mapping[str, Tensor]):
    """The tensors of some safetensors files by name; only the one asked for is read."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._handle: dict[str, Any] = {}
        for file in files:
            handle = _open_shard(file)
            self._handle |= dict.fromkeys(handle.keys(), handle)

    def __getitem__(self, name: str) -> Tensor:
        return self._handle[name].get_tensor(name)

    def __contains__(self, name: object) -> bool:  # the inherited one reads the tensor
        return name in self._handle

    def __iter__(self) -> Iterator[str]:
        return iter(self._handle)

    def __len__(self) -> int:
        return len(self._handle)


def _open_shard(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} is no complete safetensors file: {error}") from error


def shards(folder: Path) -> Shards:
    """Opens the safetensors files of a folder; subfolders (an optional `tensorrt/`) are left out.

    Raises:
        ValueError: There are none, the index names files that are absent, or the shards lack tensors of the index.
    """
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if len(indices) > 1:
        raise ValueError(f"{folder} has several indices: {', '.join(index.name for index in indices)}")
    if not indices:
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise ValueError(f"no safetensors files in {folder}")
        return Shards(files)
    weights = json.loads(indices[0].read_text(encoding="utf-8"))["weight_map"]
    names = sorted(set(weights.values()))
    absent = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if absent:
        raise ValueError(f"{indices[0]} names files that are not there: {', '.join(absent)}")
    tensors = Shards(folder / name for name in names)
    if lost := sorted(set(weights) - set(tensors)):
        raise ValueError(f"{indices[0]} names tensors that its shards lack: {_some(lost)}")
    return tensors


@dataclass(frozen=True)
class Source:
    """Where a tensor of a module comes from.

    Attributes:
        name: Official name.
        third: Which third of the rows, for a fused query-key-value projection; None for all.
        drop: Leading axes of length one to drop.
    """

    name: str
    third: int | None = None
    drop: int = 0

    def read(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Returns the tensor, or the part of it that is meant."""
        value = tensors[self.name]
        for _ in range(self.drop):
            value = value.squeeze(0)
        return value if self.third is None else value.chunk(3)[self.third]


@dataclass(frozen=True)
class Report:
    """What fitted and what did not.

    Attributes:
        filled: Number of module tensors filled.
        missing: Official names that the module needs and the checkpoint lacks.
        unexpected: Names of the checkpoint that nothing needs.
        mismatched: "name: shape, the module has shape".
        unused: Names that are known and by design not needed.
    """

    filled: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Every tensor found its place."""
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        parts = [f"{self.filled} tensors filled"]
        if self.missing:
            near = ((name, difflib.get_close_matches(name, self.unexpected, n=1)) for name in self.missing[:SHOWN])
            named = [f"{name} (nearest: {match[0]})" if match else name for name, match in near]
            parts.append(f"{len(self.missing)} missing: {_some(named, len(self.missing))}")
        for label, names in (("unexpected", self.unexpected), ("of another shape", self.mismatched)):
            if names:
                parts.append(f"{len(names)} {label}: {_some(names)}")
        return "; ".join(parts + ([f"{len(self.unused)} not needed"] if self.unused else []))

    def require(self) -> Report:
        """Returns itself, or raises ValueError naming what does not fit."""
        if not self.fits:
            raise ValueError(f"the checkpoint does not fit: {self}")
        return self


def _some(names: Iterable[str], total: int | None = None) -> str:
    listed = list(names)
    rest = (len(listed) if total is None else total) - min(len(listed), SHOWN)
    return ", ".join(listed[:SHOWN]) + (f" and {rest} more" if rest else "")


def fill(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    sources: Mapping[str, Source],
    *,
    prefix: str = "",
    unused: Callable[[str], bool] = lambda name: False,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Report:
    """Puts tensors in the place of a module's own, one at a time, without a copy where nothing changes.

    Args:
        module: Module, typically on the meta device; frozen and moved nowhere, but its tensors are replaced.
        tensors: Tensors by official name.
        sources: Name in the module -> where it comes from, for every name of `module.state_dict()`.
        prefix: The tensors under this prefix belong to the module; others are not looked at.
        unused: Whether an official name is known to be not needed.
        dtype: Type of the floating-point tensors; None keeps what is stored.
        device: Where they go.

    Returns:
        What fitted; the tensors that did not are left as they were. Call `require` to make it an error.
    """
    filled = 0
    missing = []
    mismatched = []
    for name, target in module.state_dict().items():
        source = sources[name]
        if source.name not in tensors:
            missing.append(source.name)
            continue
        value = source.read(tensors)
        if value.shape != target.shape:
            mismatched.append(f"{source.name}: {tuple(value.shape)}, the module has {tuple(target.shape)}")
            continue
        _place(module, name, value.to(device, dtype if value.is_floating_point() else None))
        filled += 1
    needed = {source.name for source in sources.values()}
    rest = [name for name in tensors if name.startswith(prefix) and name not in needed]
    return Report(
        filled,
        tuple(dict.fromkeys(missing)),
        tuple(name for name in rest if not unused(name)),
        tuple(mismatched),
        tuple(name for name in rest if unused(name)),
    )


def _place(module: nn.Module, name: str, value: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    is_parameter = leaf in owner._parameters
    setattr(owner, leaf, nn.Parameter(value, requires_grad=False) if is_parameter else value)


def load_module(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    prefix: str = MODEL,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Report:
    """Fills a module that uses the official names after `prefix`, such as the transformer.

    Raises:
        ValueError: Tensors are missing, unexpected or of another shape.
        RuntimeError: The module was built on the meta device and has tables there that no checkpoint holds.
    """
    sources = {name: Source(prefix + name) for name in module.state_dict()}
    report = fill(module, tensors, sources, prefix=prefix, dtype=dtype, device=device).require()
    empty = [name for name, table in module.named_buffers() if table.is_meta]
    if empty and torch.device(device).type != "meta":
        raise RuntimeError(f"no checkpoint fills these, and they are still on the meta device: {_some(empty)}")
    return report


class AdaptedTensors(Mapping[str, Tensor]):
    """Weights with LoRA deltas added on reading: W + (alpha / rank) B A, the sum in float32.

    Args:
        own: Tensors of the LoRA checkpoint: deltas, and whole tensors that replace those of the base.
        base: Tensors by official name (empty if `own` holds the base layers too).
        alpha: LoRA alpha; None for alpha = rank.
    """

    def __init__(self, own: Mapping[str, Tensor], base: Mapping[str, Tensor], alpha: float | None = None) -> None:
        self._own = own
        self._base = base
        self._alpha = alpha
        self._whole: dict[str, str] = {}
        self._deltas: dict[str, dict[str, str]] = {}
        for raw in own:
            name = raw.replace(LORA, MODEL, 1).replace(".base_layer.", ".") if raw.startswith(LORA) else raw
            if found := re.fullmatch(r"(.+)\.lora_([AB])(?:\.\w+)?\.weight", name):
                self._deltas.setdefault(f"{found[1]}.weight", {})[found[2]] = raw
            else:
                self._whole[name] = raw
        for name, pair in self._deltas.items():
            if len(pair) != 2:
                raise ValueError(f"half a LoRA pair for {name}: only {', '.join(pair.values())}")
            if name not in self._whole and name not in base:
                raise ValueError(f"a LoRA delta for {name}, which neither the checkpoint nor the base holds")

    def __getitem__(self, name: str) -> Tensor:
        weight = self._own[self._whole[name]] if name in self._whole else self._base[name]
        if name not in self._deltas:
            return weight
        down, up = (self._own[self._deltas[name][half]].float() for half in "AB")
        if (up.shape[0], down.shape[1]) != tuple(weight.shape):
            raise ValueError(f"the LoRA delta for {name} is {up.shape[0]} x {down.shape[1]}, not {tuple(weight.shape)}")
        scale = 1.0 if self._alpha is None else self._alpha / down.shape[0]
        return (weight.float() + scale * up @ down).to(weight.dtype)

    def __contains__(self, name: object) -> bool:
        return name in self._whole or name in self._base

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._base, *self._whole]))

    def __len__(self) -> int:
        return len(self._base.keys() | self._whole.keys())


class RenamedTensors(Mapping[str, Tensor]):
    """Tensors under names with a prefix put in front."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        self._tensors = tensors
        self._prefix = prefix

    def __getitem__(self, name: str) -> Tensor:
        if not name.startswith(self._prefix):
            raise KeyError(name)
        return self._tensors[name.removeprefix(self._prefix)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.startswith(self._prefix) and name[len(self._prefix) :] in self._tensors

    def __iter__(self) -> Iterator[str]:
        return (self._prefix + name for name in self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


@dataclass(frozen=True)
class Quantiles:
    """(D,) first and 99th percentile of one key, in its own unit."""

    q01: np.ndarray
    q99: np.ndarray


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: nothing but names is in memory.

    Attributes:
        folder: Where it lies.
        tensors: Tensors by official name, LoRA deltas already composed.
        config: `config.json`.
        metadata: `experiment_cfg/metadata.json`: embodiment -> statistics and modalities.
        conf: `experiment_cfg/conf.yaml`.
    """

    folder: Path
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    conf: Mapping[str, Any] = field(default_factory=dict)

    @property
    def head(self) -> Mapping[str, Any]:
        """Values of the action head: `num_frame_per_block`, `action_horizon`, `lora_alpha`, ..."""
        return _head(self.config)

    @property
    def transformer(self) -> Mapping[str, Any]:
        """Values of the transformer: `dim`, `num_heads`, `num_layers`, `ffn_dim`, `frame_seqlen`, ..."""
        return self.head.get("diffusion_model_cfg", {})

    @property
    def strays(self) -> tuple[str, ...]:
        """Names that belong to no component."""
        return tuple(name for name in self.tensors if not name.startswith(COMPONENTS))

    def quantiles(self, embodiment: str, modality: Literal["state", "action"], key: str) -> Quantiles:
        """Returns the statistics of one key, e.g. ("oxe_droid", "action", "joint_position")."""
        statistics = _entry(self.metadata, "embodiment", embodiment).get("statistics", {})
        values = _entry(_entry(statistics, "modality", modality), f"{modality} key", key)
        if lost := sorted({"q01", "q99"} - set(values)):
            raise ValueError(f"{embodiment} {modality} {key} has no {' and no '.join(lost)}")
        return Quantiles(*(np.asarray(values[name], np.float64) for name in ("q01", "q99")))


def _entry(table: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    if name not in table:
        raise unknown_name(kind, name, table)
    return table[name]


def _head(config: Mapping[str, Any]) -> Mapping[str, Any]:
    head = config.get("action_head_cfg", config)
    return head["config"] if isinstance(head.get("config"), Mapping) else head


def fetch(source: str | Path, revision: str | None = None) -> Path:
    """Returns the folder of a checkpoint, downloaded from the hub (without `tensorrt/`) if it is no folder here.

    Raises:
        ValueError: It is neither a folder nor the id of a repository that can be had.
    """
    if Path(source).is_dir():
        return Path(source)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise ValueError(f"{str(source)!r} is neither a folder nor a hub id of the form owner/name")
    hub = library("huggingface_hub")
    wanted = ["config.json", "experiment_cfg/*", "*.safetensors", "*.safetensors.index.json"]
    try:
        return Path(
            hub.snapshot_download(
                str(source),
                revision=revision,
                allow_patterns=wanted,
                ignore_patterns=["*/*.safetensors*", "tensorrt/*"],
            )
        )
    except OSError as error:
        raise ValueError(f"{str(source)!r} is no folder here, and the hub does not give it: {error}") from error


def open_checkpoint(
    source: str | Path,
    *,
    revision: str | None = None,
    base: str | Path | None = None,
    base_kind: Base | None = None,
) -> Checkpoint:
    """Opens a checkpoint by path or hub id.

    Args:
        source: Folder or hub id.
        revision: Commit or tag on the hub.
        base: For a checkpoint of LoRA deltas: folder or hub id of the weights they were trained on, raw Wan 2.1
            I2V (safetensors) or a DreamZero checkpoint. Encoders that raw Wan brings only as .pth stay missing.
        base_kind: Kind of base to accept; None for the one that `conf.yaml` records.

    Raises:
        ValueError: It cannot be had or read, or the base is absent or of the other kind.
    """
    folder = fetch(source, revision)
    config = _json(folder / "config.json")
    conf = _yaml(folder / "experiment_cfg" / "conf.yaml")
    own: Mapping[str, Tensor] = shards(folder)
    if any(name.startswith(LORA) for name in own):
        trained_on = conf.get("pretrained_model_path")
        lower = _base(own, base, base_kind or ("dreamzero" if trained_on else "wan"), trained_on)
        own = AdaptedTensors(own, lower, _head(config).get("lora_alpha"))
    elif base is not None:
        raise ValueError(f"{source} holds no LoRA deltas, so it takes no base")
    return Checkpoint(folder, own, config, _json(folder / "experiment_cfg" / "metadata.json"), conf)


def _base(
    own: Mapping[str, Tensor], base: str | Path | None, kind: Base, trained_on: str | None
) -> Mapping[str, Tensor]:
    """Returns the tensors under LoRA deltas, by official name."""
    words = "raw Wan 2.1 I2V" if kind == "wan" else f"a DreamZero checkpoint ({trained_on or 'not recorded'})"
    if base is None:
        if any(".base_layer." in name for name in own):
            return {}
        raise ValueError(f"the checkpoint holds LoRA deltas trained on {words}: name it as base")
    tensors = shards(fetch(base))
    given: Base = "dreamzero" if any(name.startswith(COMPONENTS) for name in tensors) else "wan"
    if given != kind:
        raise ValueError(
            f"the LoRA deltas were trained on {words}, but {base} is of kind {given!r}; "
            f"on other weights they mean nothing (base_kind={given!r} composes them all the same)"
        )
    return tensors if kind == "dreamzero" else RenamedTensors(tensors, MODEL)


def _json(file: Path) -> Mapping[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _yaml(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    yaml = library("yaml")
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is no plain YAML: {error}") from error
