"""Our GR00T server with clients that know nothing of ours, and our client when a server of ZeroMQ is late or dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.serving.served import served
from wambench import cli
from wambench.interface import Observation
from wambench.policies import load
from wambench.policies.remote.client import LostConnection, NoServer, TooLate

zmq = pytest.importorskip("zmq", reason="needs wambench[remote]")
msgpack = pytest.importorskip("msgpack")

from tests.policies.remote.stand_ins import from_npy, gr00t, to_npy  # noqa: E402
from tests.policies.remote.test_dialects import GR00T_LIBERO, gr00t_answer, libero  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Returns the port of our server."""
    with served("noop", "gr00t") as port:
        yield port


def call(port: int, request: Any) -> Any:
    """Returns the answer to a request, as a client of GR00T's would have it."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"tcp://127.0.0.1:{port}")
        socket.send(request if isinstance(request, bytes) else msgpack.packb(request, default=to_npy))
        assert socket.poll(20_000), "no answer"
        return msgpack.unpackb(socket.recv(), object_hook=from_npy)


def observation(size: int = 256) -> dict[str, Any]:
    """Returns what a stock client sends."""
    image = np.zeros((1, 1, size, size, 3), np.uint8)
    names = ("x", "y", "z", "roll", "pitch", "yaw")
    state = {**{name: np.zeros((1, 1, 1), np.float32) for name in names}, "gripper": np.zeros((1, 1, 2), np.float32)}
    text = {"annotation.human.action.task_description": [["go"]]}
    return {"video": {"image": image, "wrist_image": image}, "state": state, "language": text}


def test_a_stock_client_is_answered(port: int) -> None:
    assert call(port, {"endpoint": "ping"})["status"] == "ok"
    config = call(port, {"endpoint": "get_modality_config"})
    assert config["video"]["as_json"] == {"delta_indices": [0], "modality_keys": ["image", "wrist_image"]}
    assert call(port, {"endpoint": "reset", "data": {"options": None}}) == {}
    action, _ = call(port, {"endpoint": "get_action", "data": {"observation": observation(), "options": None}})
    assert action["x"].shape == (1, 16, 1) and action["x"].dtype == np.float32
    assert (action["gripper"] == 1.0).all(), "1 is open in GR00T's LIBERO"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (b"\xc1", "Malformed"),
        (b"", "Malformed"),
        ({"endpoint": "kill"}, "unknown endpoint 'kill'; there are: ping"),
        ({"endpoint": "get_action", "data": {}}, "data has no observation"),
        ({"endpoint": "get_action", "data": {"observation": {"video": {}}}}, "the message has no text"),
        ({"endpoint": "get_action", "data": {"observation": observation()["video"]}}, "the message has no text"),
        ([1], "a message that is list, expected a map"),
    ],
)
def test_a_malformed_request_is_answered_with_an_error_and_survived(port: int, request_: Any, said: str) -> None:
    assert said in call(port, request_)["error"]
    assert call(port, {"endpoint": "ping"})["status"] == "ok"


def test_a_port_that_is_taken_is_one_line(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--policy", "noop", "--protocol", "gr00t", "--port", str(port)]) == 2
    assert capsys.readouterr().err == f"wambench: error: port {port} of 127.0.0.1 is taken: give another --port\n"


def test_a_late_answer_is_told_and_the_next_episode_is_played() -> None:
    answers = iter([3.0, 0.0])

    def late(asked: dict[str, Any]) -> Any:
        time.sleep(next(answers))
        return gr00t_answer(dict.fromkeys(GR00T_LIBERO["action"][1], 1))(asked)

    with gr00t(GR00T_LIBERO, late) as (address, _):
        policy = load(f"gr00t://{address}", {"adapter": "gr00t-libero", "timeout_s": 1.0})
        policy.reset("go", 0)
        with pytest.raises(TooLate, match="no answer within 1 s"):
            policy.act([libero()])
        with pytest.raises(LostConnection, match="was lost earlier in this episode"):
            policy.act([libero()])
        policy.reset("go", 1)
        assert policy.act([libero()]).actions.shape == (40, 7)


def test_a_server_that_dies_is_noticed_at_once() -> None:
    """ZeroMQ would wait for ever."""
    with served("tests.serving.stubs:Sleeper", "gr00t") as port:
        policy = load(f"gr00t://127.0.0.1:{port}", {"timeout_s": 60.0, "wait_s": 1.0})
        policy.reset("go", 0)
        raised: list[BaseException] = []

        def ask() -> None:
            try:
                policy.act([small()])
            except BaseException as error:
                raised.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(1.0)
    asking.join(10.0)
    assert not asking.is_alive() and isinstance(raised[0], LostConnection)
    with pytest.raises(NoServer, match="no answer to a ping within 2 s"):
        policy.reset("go", 1)


def small() -> Observation:
    """Returns an observation of the stub policies."""
    images = {camera: np.zeros((18, 32, 3), np.uint8) for camera in ("agentview", "wrist")}
    return Observation(0, images, np.zeros(8))
