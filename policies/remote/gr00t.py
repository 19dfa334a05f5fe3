"""Client of GR00T's policy server (N1.6 and later): requests and answers over ZeroMQ.

The server says which keys it reads and which past frames it wants (`get_modality_config`). A dead server is noticed by
the end of its TCP connection: ZeroMQ itself would wait for ever.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from wambench.interface import unknown_name
from wambench.policies.remote import codec
from wambench.policies.remote.adapter import Adapter
from wambench.policies.remote.client import (
    EXTENSION,
    Episode,
    LostConnection,
    NoServer,
    Patience,
    RemotePolicy,
    ServerFailed,
    TooLate,
)
from wambench.policies.remote.websocket import LARGEST_MESSAGE

PING_S = 2.0  # ZeroMQ does not tell whether anybody is there


class Wire:
    """A ZeroMQ socket with a context of its own, and a second socket that tells when the first is disconnected."""

    def __init__(self) -> None:
        self._context: Any = None
        self.socket: Any = None
        self.monitor: Any = None

    def open(self, zmq: Any, address: str) -> None:
        """Connects; whether anybody is there is not known by it."""
        self.close()
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.REQ)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_MESSAGE)
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.socket.connect(f"tcp://{address}")

    def close(self) -> None:
        """Closes everything."""
        if self._context is not None:
            self.socket.disable_monitor()
            self.monitor.close(0)
            self._context.destroy(linger=0)
            self._context = None


class Gr00tLink:
    """A connection to a GR00T server at "HOST:PORT"."""

    def __init__(self, address: str, patience: Patience) -> None:
        self.address, self._answer_s = address, patience.answer_s
        self._zmq = codec.needed("zmq")
        self._wire = Wire()
        weakref.finalize(self, self._wire.close)  # a context that is merely forgotten waits for ever for its sockets
        self._flat, self._timed = False, False

    def open(self) -> Mapping[str, Any]:
        """Connects and returns the server's modality configuration, and what it adds of ours."""
        self._wire.open(self._zmq, self.address)
        try:
            self._call("ping", None, PING_S)
        except TooLate as error:
            raise NoServer(f"no answer to a ping within {PING_S:g} s") from error
        said = self._call("get_modality_config", None, self._answer_s)
        if not isinstance(said, Mapping):
            raise codec.Malformed(f"the modality configuration is {type(said).__name__}, expected a map")
        return said

    def fitted(self, adapter: Adapter, metadata: Mapping[str, Any]) -> Adapter:
        """Returns the adapter with the keys and past frames that the server asks for; ValueError if it lacks some."""
        self._flat, self._timed = adapter.flat, adapter.everything
        asked = {kind: tuple(_entry(metadata, kind, "modality_keys")) for kind in ("video", "state", "action")}
        texts = [key for key in _entry(metadata, "language", "modality_keys") or adapter.texts]
        if len(texts) != 1:
            raise ValueError(f"{self.address} asks for {len(texts)} texts: {', '.join(texts)}")
        for kind, known in (("video", adapter.images), ("state", adapter.vectors), ("action", adapter.answer.keys)):
            wanted = [f"{kind}.{key}" for key in asked[kind]]
            short, long = (known, wanted) if kind == "action" else (wanted, known)
            for key in short:
                if wanted and key not in long:
                    raise unknown_name(f"{kind} of the {'server' if kind == 'action' else 'adapter'}:", key, long)
        if any(index != 0 for index in _entry(metadata, "state", "delta_indices")):
            raise ValueError(f"{self.address} asks for past states, which are not sent")
        if adapter.everything:
            return adapter
        return dataclasses.replace(
            adapter,
            images=_those(adapter.images, "video", asked["video"]),
            vectors=_those(adapter.vectors, "state", asked["state"]),
            texts=dict.fromkeys(texts, next(iter(adapter.texts.values()))),
            history=tuple(_entry(metadata, "video", "delta_indices")) or adapter.history or (0,),
        )

    def begin(self, episode: Episode, extension: Mapping[str, Any] | None) -> None:
        """Resets the server."""
        self._call("reset", {"options": extension and {EXTENSION: extension}}, self._answer_s)

    def ask(self, message: dict[str, Any], extension: Mapping[str, Any] | None) -> Any:
        """Returns the answer: "action.KEY" -> (H, n), and what the server says beside it."""
        sent = {key: batched(key, value, self._flat, self._timed) for key, value in message.items()}
        observation = sent if self._flat else nested(sent)
        options = extension and {EXTENSION: extension}
        answer = self._call("get_action", {"observation": observation, "options": options}, self._answer_s)
        if not isinstance(answer, list) or len(answer) != 2 or not all(isinstance(part, Mapping) for part in answer):
            raise codec.Malformed("the answer is no [action, info]")
        actions, info = answer
        named = {key if key.startswith("action.") else f"action.{key}": value for key, value in actions.items()}
        return {**info, **{key: value[0] if np.ndim(value) == 3 else value for key, value in named.items()}}

    def close(self) -> None:
        """Closes the connection."""
        self._wire.close()

    def _call(self, endpoint: str, data: Mapping[str, Any] | None, limit_s: float) -> Any:
        request = {"endpoint": endpoint} if data is None else {"endpoint": endpoint, "data": data}
        wire = self._wire
        wire.socket.send(codec.pack(request, "gr00t"))
        poller = self._zmq.Poller()
        poller.register(wire.socket, self._zmq.POLLIN)
        poller.register(wire.monitor, self._zmq.POLLIN)
        spoke = dict(poller.poll(1000.0 * limit_s))
        if not spoke:
            raise TooLate(f"no answer within {limit_s:g} s")
        if wire.socket not in spoke:
            raise LostConnection("the server closed the connection")
        answer = codec.unpack(wire.socket.recv())
        if isinstance(answer, Mapping) and "error" in answer:
            raise ServerFailed(str(answer["error"]))
        return answer


def _entry(metadata: Mapping[str, Any], kind: str, name: str) -> list[Any]:
    """Returns an entry of a modality's configuration, [] if the server does not say."""
    found = metadata.get(kind)
    return list(found.get(name) or []) if isinstance(found, Mapping) else []


def _those(known: Mapping[str, Any], kind: str, keys: Iterable[str]) -> dict[str, Any]:
    wanted = {f"{kind}.{key}" for key in keys}
    return {key: value for key, value in known.items() if not wanted or key in wanted}


def batched(key: str, value: Any, flat: bool, timed: bool) -> Any:
    """Returns a value with the axes that GR00T has in front: batch and, for states, time; texts are lists.

    Args:
        key: "video.X", "state.X" or that of a text.
        value: (T, h, w, 3), (n,) or text.
        flat: Texts are [text] and not [[text]].
        timed: States are (T, n) already.
    """
    if isinstance(value, str):
        return [value] if flat else [[value]]
    return value[None] if key.startswith("video.") or timed else value[None, None]


def nested(message: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns {"video": {"image": ...}, ...} of {"video.image": ...}; what is neither video nor state is language."""
    made: dict[str, dict[str, Any]] = {"video": {}, "state": {}, "language": {}}
    for key, value in message.items():
        kind, _, name = key.partition(".")
        made[kind if kind in ("video", "state") else "language"][name if kind in ("video", "state") else key] = value
    return made


def policy(
    address: str,
    adapter: str | None = None,
    execute: int | None = None,
    timeout_s: float = 300.0,
    wait_s: float = 10.0,
) -> RemotePolicy:
    """Returns the policy of a GR00T server.

    Args:
        address: "HOST:PORT".
        adapter: Name of a shipped adapter or a TOML file. Required unless the server is `wambench serve`, because the
            server says its keys and not what their numbers mean.
        execute: Actions to carry out before the next query, instead of the adapter's number.
        timeout_s: Longest wait for an answer.
        wait_s: Longest wait for a server that is not there (yet, or any more).
    """
    patience = Patience(timeout_s, wait_s)
    return RemotePolicy(Gr00tLink(address, patience), f"gr00t://{address}", adapter, "", execute, patience)
