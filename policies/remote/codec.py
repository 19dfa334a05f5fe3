"""Messages as bytes: msgpack with numpy arrays, in the three spellings that policy servers use.

- "openpi" (also RoboArena, DreamZero, Cosmos): a map with bytes keys `__ndarray__`, `data`, `dtype`, `shape`.
- "vla_eval": the same with text keys; pictures may also be PNG or JPEG (`__image__`).
- "gr00t": a map `__ndarray_class__` with the bytes of an .npy file.

Nothing is ever unpickled: an array of objects is refused in both directions.
"""

from __future__ import annotations

import functools
import importlib
import io
import json
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.lib import format as npy

KINDS = "biuf"  # booleans, integers and floats
MOST_DIMENSIONS = 8
LARGEST_PICTURE = 64_000_000  # pixels


class Malformed(ValueError):
    """Bytes that are no message of these protocols."""


def pack(message: Any, spelling: str = "openpi") -> bytes:
    """Returns a message (maps, lists, text, numbers, arrays) as bytes; an array of objects raises ValueError."""
    return library().packb(message, default=SPELLINGS[spelling])


def unpack(data: bytes) -> Any:
    """Returns the message in bytes of any of the spellings; arrays are read-only. Anything else raises Malformed."""
    try:
        return library().unpackb(data, object_hook=_array)
    except Malformed:
        raise
    except Exception as error:  # msgpack has half a dozen kinds, and so have headers of .npy files
        raise Malformed(f"no msgpack message: {type(error).__name__}: {error}") from error


@functools.cache
def library() -> Any:
    """Returns msgpack; where it is missing, ValueError says how to install it."""
    return needed("msgpack")


def needed(module: str) -> Any:
    """Returns a module of the extra `remote`; a missing one raises ValueError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"policies behind a socket need {error.name}: pip install 'wambench[remote]'") from error


def _checked(array: np.ndarray | np.generic) -> None:
    if array.dtype.kind not in KINDS:
        raise ValueError(f"arrays of {array.dtype} are not sent, only booleans, integers and floats")


def _openpi(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        _checked(value)
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        _checked(value)
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    return _plain(value)


def _vla_eval(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        _checked(value)
        return {"__ndarray__": True, "data": value.tobytes(), "dtype": value.dtype.str, "shape": list(value.shape)}
    return value.item() if isinstance(value, np.generic) else _plain(value)


def _gr00t(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        _checked(value)
        file = io.BytesIO()
        np.save(file, value, allow_pickle=False)
        return {"__ndarray_class__": True, "as_npy": file.getvalue()}
    return value.item() if isinstance(value, np.generic) else _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise ValueError(f"{type(value).__name__} cannot be sent")


SPELLINGS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {"openpi": _openpi, "vla_eval": _vla_eval, "gr00t": _gr00t}
)


def _array(found: dict[Any, Any]) -> Any:
    """Returns what a map stands for: an array, a number, a picture, a configuration of GR00T, or itself."""
    for mark, read in READERS.items():
        if mark in found:
            return read(found)
        if mark.encode() in found:
            return read({_text(key): value for key, value in found.items()})
    return found


def _text(key: Any) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)


def _dtype(name: Any) -> np.dtype:
    dtype = np.dtype(_text(name))
    if dtype.kind not in KINDS:
        raise Malformed(f"an array of {dtype}: only booleans, integers and floats are read")
    return dtype


def _raw(found: Mapping[str, Any]) -> np.ndarray:
    dtype, shape, data = _dtype(found["dtype"]), found["shape"], found["data"]
    whole = all(isinstance(size, int) and size >= 0 for size in shape)
    if len(shape) > MOST_DIMENSIONS or not whole or math.prod(shape) * dtype.itemsize != len(data):
        raise Malformed(f"an array of {dtype} with shape {tuple(shape)} in {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)


def _number(found: Mapping[str, Any]) -> Any:
    return _dtype(found["dtype"]).type(found["data"])


def _npy(found: Mapping[str, Any]) -> np.ndarray:
    """Returns the array of an .npy file; its header is checked before any memory is taken for what it promises."""
    file = io.BytesIO(found["as_npy"])
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shape, columns_first, dtype = readers[npy.read_magic(file)](file)
    array = _raw({"dtype": dtype.str, "shape": shape[::-1] if columns_first else shape, "data": file.read()})
    return array.T if columns_first else array


def _picture(found: Mapping[str, Any]) -> np.ndarray:
    if found["format"] == "raw":
        return _raw(found)
    from PIL import Image

    if found["format"] not in ("png", "jpeg"):
        raise Malformed(f"a picture in the format {found['format']!r}")
    with Image.open(io.BytesIO(found["data"]), formats=("PNG", "JPEG")) as image:
        if image.width * image.height > LARGEST_PICTURE:
            raise Malformed(f"a picture of {image.width}x{image.height} pixels")
        return np.asarray(image)


def _configuration(found: Mapping[str, Any]) -> Any:
    values = found["as_json"]
    return json.loads(values) if isinstance(values, str) else values  # N1.5 sends text, N1.6 a map


READERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = MappingProxyType(
    {
        "__ndarray__": _raw,
        "__npgeneric__": _number,
        "__image__": _picture,
        "__ndarray_class__": _npy,
        "__ModalityConfig_class__": _configuration,
    }
)
