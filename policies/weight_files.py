"""Weight files: safetensors whose metadata say what is in them, and where the shipped ones are."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def read_weights(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the float32 tensors and the metadata of a weights file; one that is no such file raises ValueError."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("wambench", "{}"))
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ValueError(f"{path}: no such weights file") from None
    except (OSError, safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: damaged weights file ({error})") from None
    if meta.get("kind") != kind:
        raise ValueError(f"{path}: holds {meta.get('kind', 'unknown')!r} weights, not {kind!r}")
    return tensors, meta


def load_into(model: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Copies tensors into a model; names or shapes that do not fit raise ValueError."""
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: weights do not fit the model ({reason})") from None
    if not all(bool(torch.isfinite(t).all()) for t in tensors.values()):
        raise ValueError(f"{path}: damaged weights file (not finite)")


def load_model(path: str | Path, kind: str, build: Callable[[dict[str, Any]], M]) -> tuple[M, dict[str, Any]]:
    """Returns the model of a weights file in evaluation mode, and the file's metadata.

    Args:
        path: The file.
        kind: What it must hold.
        build: Makes the model of the config in the metadata; KeyError, TypeError and ValueError mean a damaged file.

    A missing, damaged or foreign file raises ValueError.
    """
    tensors, meta = read_weights(path, kind)
    try:
        model = build(meta["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged weights file (config: {error})") from None
    load_into(model, tensors, path)
    return model.eval(), meta


def warm_start(model: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> list[str]:
    """Copies the tensors that fit by name and shape, returns the names of the others; none at all raises ValueError."""
    own = model.state_dict()
    fitting = {name: t for name, t in tensors.items() if name in own and own[name].shape == t.shape}
    if not fitting:
        raise ValueError(f"{path}: no tensor fits the model that should start from it")
    model.load_state_dict(fitting, strict=False)
    return sorted(set(own) - set(fitting))


def write_weights(path: str | Path, tensors: dict[str, Tensor], exact: set[str], meta: dict[str, Any]) -> None:
    """Writes a weights file in one step: float16, except the tensors named in `exact`."""
    half = {k: (v.float() if k in exact else v.half()).contiguous() for k, v in tensors.items()}
    path = Path(path)
    part = Path(f"{path}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(half, str(part), metadata={"wambench": json.dumps(meta, sort_keys=True)})
    part.replace(path)


# Shipped encoders, newest last; every policy reads with the one it was trained with.
ENCODERS = ("encoder-v1.safetensors", "encoder-v2.safetensors")
ENCODER = ENCODERS[-1]  # what trainings read with unless told otherwise


def packaged(name: str) -> Path:
    """Returns the path of a weights file that is shipped with the package."""
    return Path(str(importlib.resources.files("wambench.policies"))) / "weights" / name


def find(given: str | None, default: str) -> Path:
    """Returns a weights file: the one at the given path, else the shipped one of that name; None: the default.

    What is neither is returned as a path, so that reading it raises the error.
    """
    if given is None:
        return packaged(default)
    path = Path(given)
    shipped = packaged(path.name)
    return shipped if not path.exists() and given == path.name and shipped.is_file() else path


def digest(path: Path) -> str:
    """Returns the SHA-256 of a weights file; one that cannot be read raises ValueError."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: cannot read weights ({error.strerror})") from None


def encoder_for(weights: str | Path, meta: dict[str, Any], given: str | Path | None = None) -> Path:
    """Returns the encoder file that weights were trained with.

    Args:
        weights: The weights file, for the error.
        meta: Its metadata, whose `encoder` is the digest of the encoder.
        given: The file that should be it (None: one of the shipped ones).

    Raises:
        ValueError: It is another one, cannot be read, or is none of the shipped ones.
    """
    if given is not None:
        if digest(Path(given)) != meta.get("encoder"):
            raise ValueError(f"{weights}: trained with another encoder than {given}")
        return Path(given)
    for path in map(packaged, ENCODERS):
        if digest(path) == meta.get("encoder"):
            return path
    raise ValueError(f"{weights}: trained with another encoder than {', '.join(ENCODERS)}; give its encoder")
