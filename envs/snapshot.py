"""The exact state of an episode as bytes: plain numbers and JSON, without pickles, written in microseconds."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

MAGIC = b"WAM2"
HEAD = struct.Struct("<4sII")  # magic, lengths of physics and arm
FIRST = b"PK"  # snapshots of the first version are npz files


def pack(physics: np.ndarray, arm: np.ndarray, latches: Mapping[str, Any]) -> bytes:
    """Returns a state as bytes: a head, both arrays as little-endian float64, then the latches as JSON.

    Args:
        physics: (p,) `mjSTATE_INTEGRATION`.
        arm: (a,) what the controllers remember.
        latches: JSON values: steps and stages reached.
    """
    numbers = [array.astype("<f8", copy=False).tobytes() for array in (physics, arm)]
    return b"".join((HEAD.pack(MAGIC, len(physics), len(arm)), *numbers, json.dumps(latches).encode()))


def unpack(state: bytes) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Returns (physics, arm, latches) of a snapshot of this version or the first; raises ValueError if it is none."""
    if state.startswith(FIRST):
        with np.load(io.BytesIO(state), allow_pickle=False) as saved:
            return saved["physics"], saved["arm"], json.loads(saved["latches"].tobytes())
    if not state.startswith(MAGIC) or len(state) < HEAD.size:
        raise ValueError(f"not a snapshot: it begins with {state[:4]!r}")
    _, physics, arm = HEAD.unpack_from(state)
    end = HEAD.size + 8 * (physics + arm)
    try:
        latches = json.loads(state[end:])
    except ValueError as error:
        raise ValueError(f"a damaged snapshot of {len(state)} bytes: {error}") from error
    numbers = np.frombuffer(state[HEAD.size : end], "<f8").astype(np.float64)
    return numbers[:physics], numbers[physics:], latches
