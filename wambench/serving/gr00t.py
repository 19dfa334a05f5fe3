"""Server of GR00T's protocol (N1.6 and later): ZeroMQ, endpoints, nested observations; errors are {"error": text}.

Its own server answers REQ sockets one by one. This one listens as a ROUTER, so that each client has its own episode.
Nobody can end it from outside: there is no endpoint "kill".
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from wambench.evaluation.failures import reason
from wambench.policies.remote import codec
from wambench.policies.remote.client import EXTENSION
from wambench.serving.conversation import Conversation, Reply
from wambench.serving.openpi import opened
from wambench.serving.service import Service
from wambench.serving.websocket import refusal

TICK_MS = 500
Handle = Callable[[bytes, bytes], bytes]


def bound(host: str, port: int, largest: int) -> Any:
    """Returns a socket that listens; one that is taken, or an address that is not ours, raises ValueError."""
    zmq = codec.needed("zmq")
    listening = zmq.Context.instance().socket(zmq.ROUTER)
    listening.setsockopt(zmq.MAXMSGSIZE, largest)
    listening.setsockopt(zmq.LINGER, 0)
    listening.setsockopt(zmq.IPV6, ":" in host)
    try:
        listening.bind(f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port or '*'}")
    except zmq.ZMQError as error:
        listening.close(0)
        raise ValueError(refusal(host, port, OSError(error.errno, error.strerror))) from error
    return listening


def port_of(listening: Any) -> int:
    """Returns the port of a listening socket."""
    zmq = codec.needed("zmq")
    return int(listening.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])


def serve_forever(listening: Any, service: Service, largest: int) -> None:
    """Serves until interrupted; who sends what is no request is left without an answer."""
    clients = Clients(service)
    try:
        while True:
            if not listening.poll(TICK_MS):
                continue
            frames = listening.recv_multipart()
            if len(frames) == 3 and not frames[1]:
                listening.send_multipart([frames[0], b"", clients.answer(frames[0], frames[2])])
    finally:
        clients.close()


class Clients:
    """The conversations of all clients; ZeroMQ does not tell who has gone, so the one that was silent longest goes."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._known: OrderedDict[bytes, Conversation] = OrderedDict()

    def answer(self, client: bytes, message: bytes) -> bytes:
        """Returns the answer to a request, whatever it is."""
        try:
            return codec.pack(self._answered(client, opened(message)), "gr00t")
        except Exception as error:
            print(f"wambench: client: {reason(error)}", file=sys.stderr, flush=True)
            return codec.pack({"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}, "gr00t")

    def close(self) -> None:
        """Ends them all."""
        for conversation in self._known.values():
            conversation.close()

    def _answered(self, client: bytes, asked: Mapping[str, Any]) -> Any:
        endpoint, data = asked.get("endpoint", "get_action"), asked.get("data") or {}
        if endpoint == "ping":
            return {"status": "ok", "message": "Server is running"}
        if endpoint == "get_modality_config":
            return modality_config(self._service)
        if endpoint == "reset":
            self._conversation(client).forget()
            return {}
        if endpoint != "get_action":
            raise ValueError(f"unknown endpoint {endpoint!r}; there are: ping, get_modality_config, get_action, reset")
        if not isinstance(data, Mapping) or not isinstance(data.get("observation"), Mapping):
            raise ValueError("data has no observation")
        ours = (data.get("options") or {}).get(EXTENSION)
        return answered(self._conversation(client).reply(flattened(data["observation"]), None, ours))

    def _conversation(self, client: bytes) -> Conversation:
        if client not in self._known:
            if len(self._known) >= self._service.config.clients:
                self._known.popitem(last=False)[1].close()
            self._known[client] = self._service.conversation_of()
        self._known.move_to_end(client)
        return self._known[client]


def modality_config(service: Service) -> dict[str, Any]:
    """Returns what GR00T's server says of itself, and our own words."""
    adapter = service.adapter
    keys = {
        "video": [key.removeprefix("video.") for key in adapter.images],
        "state": [key.removeprefix("state.") for key in adapter.vectors],
        "action": [key.removeprefix("action.") for key in adapter.answer.keys],
        "language": list(adapter.texts),
    }
    said = {
        kind: {"__ModalityConfig_class__": True, "as_json": {"delta_indices": [0], "modality_keys": names}}
        for kind, names in keys.items()
    }
    return {**said, EXTENSION: service.extension}


def flattened(observation: Mapping[str, Any]) -> dict[str, Any]:
    """Returns {"video.image": (T, h, w, 3), ...} of an observation, nested or flat, without GR00T's axis of batches."""
    flat: dict[str, Any] = {}
    for kind, inner in observation.items():
        if not isinstance(inner, Mapping):
            flat[kind] = inner
            continue
        for key, value in inner.items():
            flat[key if kind == "language" else f"{kind}.{key}"] = value
    return {key: _unbatched(value) for key, value in flat.items()}


def _unbatched(value: Any) -> Any:
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, np.ndarray):
        if value.ndim < 2 or len(value) != 1:
            raise ValueError(f"an array of shape {value.shape}: a batch of one is expected")
        return value[0]
    return value


def answered(reply: Reply) -> list[dict[str, Any]]:
    """Returns [action, info] as GR00T's server answers, batches of one."""
    actions = {key.removeprefix("action."): values[None].astype(np.float32) for key, values in reply.actions.items()}
    info: dict[str, Any] = {EXTENSION: reply.extension}
    return [actions, info if reply.video is None else {**info, "video": reply.video}]
