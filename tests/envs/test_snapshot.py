"""Snapshots as bytes: exact, of both versions, and refused when they are something else."""

import io
import json

import numpy as np
import pytest

from wambench.envs import snapshot

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
PHYSICS, ARM, LATCHES = RNG.normal(size=57), RNG.normal(size=21), {"steps": 7, "reached": ["reach"], "held": 0}


def first_version() -> bytes:
    buffer = io.BytesIO()
    latches = np.frombuffer(json.dumps(LATCHES).encode(), np.uint8)
    np.savez(buffer, physics=PHYSICS, arm=ARM, latches=latches)
    return buffer.getvalue()


@pytest.mark.parametrize("state", [snapshot.pack(PHYSICS, ARM, LATCHES), first_version()], ids=["this", "first"])
def test_a_state_survives_as_bytes(state: bytes) -> None:
    physics, arm, latches = snapshot.unpack(state)
    np.testing.assert_array_equal(physics, PHYSICS)
    np.testing.assert_array_equal(arm, ARM)
    assert latches == LATCHES
    assert physics.flags.writeable and arm.flags.writeable


@pytest.mark.parametrize(
    "state", [b"", b"{}", snapshot.pack(PHYSICS, ARM, LATCHES)[:200], snapshot.pack(PHYSICS, ARM, LATCHES)[:-3]]
)
def test_something_else_is_refused(state: bytes) -> None:
    with pytest.raises(ValueError, match=r"snapshot"):
        snapshot.unpack(state)
