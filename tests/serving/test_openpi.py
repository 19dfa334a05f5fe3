"""Our openpi server against messages that its clients should not send, and with a client that knows no extension."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.serving.served import ROOT, served
from tests.stubs import heed_interrupts
from wambench import cli
from wambench.policies.remote import codec

client = pytest.importorskip("websockets.sync.client", reason="needs wambench[remote]")
exceptions = pytest.importorskip("websockets.exceptions")
msgpack = pytest.importorskip("msgpack")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Returns the port of a server."""
    with served("tests.stubs:Steady", "openpi", "--largest-message", "1", "--clients", "2") as port:
        yield port


def connected(port: int) -> Any:
    return client.connect(f"ws://127.0.0.1:{port}", compression=None, proxy=None, max_size=None)


def observation(changed: dict[str, Any] | None = None, size: int = 8) -> dict[str, Any]:
    """Returns what a stock client sends, with some entries changed, or taken out (None)."""
    image = np.zeros((size, size, 3), np.uint8)
    state = np.zeros(8, np.float32)
    asked = {"observation/image": image, "observation/wrist_image": image, "observation/state": state, "prompt": "go"}
    return {key: value for key, value in {**asked, **(changed or {})}.items() if value is not None}


def answer(connection: Any, message: bytes | str) -> Any:
    connection.send(message)
    made = connection.recv(timeout=20)
    return made if isinstance(made, str) else codec.unpack(made)


def test_health_is_told_over_http(port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as response:
        assert response.status == 200 and response.read() == b"OK\n"


def test_a_stock_client_is_answered(port: int) -> None:
    """Without seed, step and history; pictures of another size are brought to the policy's."""
    with connected(port) as connection:
        assert "adapter" in codec.unpack(connection.recv())["wambench"]
        made = answer(connection, codec.pack(observation(size=32)))
        assert made["actions"].shape == (8, 7) and made["actions"][0, 0] == 0.6
        assert made["video"].shape == (2, 8, 16, 3) and made["wambench"]["video_steps"] == [4, 8]
        assert made["server_timing"]["infer_ms"] > 0
        second = answer(connection, codec.pack(observation()))
        assert (second["video"] == 8).all(), "the second query is for step 8: the first plan had eight actions"
        again = answer(connection, codec.pack(observation({"prompt": "another"})))
        assert (again["video"] == 0).all(), "another instruction begins another episode"


OBJECTS = {b"__ndarray__": True, b"data": b"\x00" * 8, b"dtype": "|O", b"shape": [1]}
SHORT = {b"__ndarray__": True, b"data": b"\x00" * 8, b"dtype": "<f4", b"shape": [1000000]}


def npy(header: str) -> dict[str, Any]:
    """Returns an array as GR00T sends it: an .npy file with a header of our own."""
    head = header.encode().ljust(118)
    return {"__ndarray_class__": True, "as_npy": b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head}


ENDLESS = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,), }")
PICKLED = npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("text", "a message of text: this server reads msgpack"),
        (b"", "Malformed"),
        (b"\xc1", "Malformed"),
        (b"\x81\xa1a", "Malformed"),
        (b"\x91" * 5000, "Malformed"),
        (msgpack.packb([1, 2]), "a message that is list, expected a map"),
        (msgpack.packb({"observation/image": OBJECTS}), "an array of object"),
        (msgpack.packb({"observation/image": SHORT}), "with shape (1000000,) in 8 bytes"),
        (msgpack.packb({"observation/image": ENDLESS}), "with shape (99999999999,) in 0 bytes"),
        (msgpack.packb({"observation/image": PICKLED}), "an array of object"),
        (codec.pack({}), "the message has no text 'prompt'"),
        (codec.pack(observation({"prompt": b"go"})), "the message has no text 'prompt'"),
        (codec.pack(observation({"observation/wrist_image": None})), "no picture 'observation/wrist_image'"),
        (codec.pack(observation({"observation/image": np.zeros((8, 8, 3), np.float32)})), "expected uint8"),
        (codec.pack(observation({"observation/image": np.zeros((0, 8, 3), np.uint8)})), "expected uint8"),
        (codec.pack(observation({"observation/state": np.zeros(5)})), "expected (8,)"),
        (codec.pack(observation({"wambench": {"seed": -1}})), "seed must be a whole number from 0"),
        (codec.pack(observation({"wambench": {"steps": [4, 0]}})), "steps must rise"),
        (codec.pack(observation({"wambench": {"steps": [0], "states": np.zeros((3, 8))}})), "states have shape (3, 8)"),
    ],
)
def test_a_malformed_message_is_answered_with_an_error_and_survived(port: int, message: bytes | str, said: str) -> None:
    with connected(port) as connection:
        connection.recv()
        assert said in answer(connection, message)
        assert answer(connection, codec.pack(observation()))["actions"].shape == (8, 7), "the same client goes on"


def test_a_message_that_is_too_large_ends_its_client_alone(port: int) -> None:
    with connected(port) as connection:
        connection.recv()
        connection.send(b"\x00" * (2**20 + 1))
        with pytest.raises(exceptions.ConnectionClosed, match="1009"):
            connection.recv(timeout=20)
    with connected(port) as connection:
        connection.recv()
        assert answer(connection, codec.pack(observation()))["actions"].shape == (8, 7)


def test_one_client_too_many_is_told_so(port: int) -> None:
    with connected(port) as first, connected(port) as second:
        assert first.recv() and second.recv()
        with connected(port) as third:
            assert "this server has 2 clients already" in third.recv(timeout=20)
            with pytest.raises(exceptions.ConnectionClosed, match="1011"):
                third.recv(timeout=20)


def test_a_port_that_is_taken_is_one_line(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--policy", "noop", "--protocol", "openpi", "--port", str(port)]) == 2
    assert capsys.readouterr().err == f"wambench: error: port {port} of 127.0.0.1 is taken: give another --port\n"


def test_an_address_of_another_machine_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--policy", "noop", "--protocol", "openpi", "--host", "192.0.2.1", "--port", "0"]) == 2
    assert "cannot listen at 192.0.2.1:0" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["openpi", "gr00t"])
def test_ctrl_c_ends_the_server_at_once(protocol: str) -> None:
    command = [sys.executable, "-m", "wambench", "serve", "--policy", "noop", "--protocol", protocol, "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=heed_interrupts
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)):
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(20) == 0
            finally:
                process.kill()  # or leaving would wait for it for ever
        assert process.stdout.read() == "\nwambench: stopped\n"
