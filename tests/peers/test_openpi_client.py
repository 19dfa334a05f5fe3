"""The real openpi-client of PyPI against our server, and its picture tools against ours (`wambench[peers]`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.serving.served import served
from wambench.policies.remote import codec
from wambench.policies.remote.translation import resize_with_pad

reason = "openpi-client is not installed: pip install 'wambench[peers]'"
client = pytest.importorskip("openpi_client.websocket_client_policy", reason=reason)
msgpack_numpy = pytest.importorskip("openpi_client.msgpack_numpy", reason=reason)
image_tools = pytest.importorskip("openpi_client.image_tools", reason=reason)
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*must be used as a context manager")]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Returns the port of our server."""
    with served("random", "openpi") as port:
        yield port


def asked() -> dict[str, Any]:
    """Returns what openpi's LIBERO example sends."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (224, 224, 3), dtype=np.uint8) for _ in range(2)]
    state = np.array([-0.1, 0.0, 1.0, 3.1, 0.0, 0.0, 0.04, -0.04])
    keys = ("observation/image", "observation/wrist_image")
    return {**dict(zip(keys, images, strict=True)), "observation/state": state, "prompt": "lift the red cube"}


def test_its_client_plays_our_policy(port: int) -> None:
    policy = client.WebsocketClientPolicy("127.0.0.1", port)
    assert policy.get_server_metadata()["wambench"]["policy"] == "random"
    first, second = policy.infer(asked()), policy.infer(asked())
    assert first["actions"].shape == (16, 7) and not np.array_equal(first["actions"], second["actions"])
    assert set(first) == {"actions", "policy_timing", "server_timing", "wambench"}


def test_its_client_is_told_what_it_lacks_and_goes_on(port: int) -> None:
    policy = client.WebsocketClientPolicy("127.0.0.1", port)
    with pytest.raises(RuntimeError, match="the message has no text 'prompt'"):
        policy.infer({key: value for key, value in asked().items() if key != "prompt"})
    assert policy.infer(asked())["actions"].shape == (16, 7)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int64", "bool"])
def test_messages_are_its_messages(dtype: str) -> None:
    message: dict[str, Any] = {
        "array": np.arange(6).reshape(2, 3).astype(dtype),
        "number": np.float32(0.5),
        "text": "go",
    }
    assert codec.pack(message) == msgpack_numpy.packb(message)
    read = codec.unpack(msgpack_numpy.packb(message))
    assert np.array_equal(read["array"], message["array"]) and read["array"].dtype == dtype
    assert read["number"] == 0.5 and read["text"] == "go"


@pytest.mark.parametrize("size", [(256, 256), (180, 320), (96, 96), (720, 1280)])
def test_pictures_are_resized_as_by_its_tools(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8)
    assert np.array_equal(resize_with_pad(image, 224, 224), image_tools.resize_with_pad(image, 224, 224))
