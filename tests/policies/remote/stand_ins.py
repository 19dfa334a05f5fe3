"""Servers of a few lines that speak as the released ones do, in threads: what they are sent is kept for the tests.

They are written from the released servers' messages and use none of our servers' code.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgpack
import numpy as np
import zmq
from websockets.sync.server import serve


def to_wire(value: Any) -> Any:
    """Returns an array as openpi's msgpack_numpy has it."""
    return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}


def from_wire(found: dict[Any, Any]) -> Any:
    """Returns what a map of openpi's msgpack_numpy stands for."""
    if b"__ndarray__" in found:
        return np.ndarray(found[b"shape"], found[b"dtype"], found[b"data"])
    return found


@contextlib.contextmanager
def websocket(metadata: Mapping[str, Any], answer: Callable[[dict[str, Any]], Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yields address and received messages of a server of openpi's kind; answers of text are sent as text."""
    received: list[Any] = []

    def talk(connection: Any) -> None:
        connection.send(msgpack.packb(dict(metadata)))
        for message in connection:
            received.append(msgpack.unpackb(message, object_hook=from_wire))
            made = answer(received[-1])
            connection.send(made if isinstance(made, str) else msgpack.packb(made, default=to_wire))

    with serve(talk, "127.0.0.1", 0, compression=None, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.socket.getsockname()[1]}", received
        finally:
            server.shutdown()
            thread.join()


def to_npy(value: Any) -> Any:
    """Returns an array as GR00T's server has it."""
    file = io.BytesIO()
    np.save(file, value)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}


def from_npy(found: dict[str, Any]) -> Any:
    """Returns what a map of GR00T's messages stands for."""
    return np.load(io.BytesIO(found["as_npy"])) if "__ndarray_class__" in found else found


@contextlib.contextmanager
def gr00t(
    modalities: Mapping[str, tuple[list[int], list[str]]], answer: Callable[[dict[str, Any]], Any]
) -> Iterator[tuple[str, list[Any]]]:
    """Yields address and received requests of a server of GR00T's kind, which answers one request after another."""
    received: list[Any] = []
    context = zmq.Context()
    socket = context.socket(zmq.REP)
    port = socket.bind_to_random_port("tcp://127.0.0.1")
    over = threading.Event()
    config = {
        kind: {"__ModalityConfig_class__": True, "as_json": {"delta_indices": when, "modality_keys": keys}}
        for kind, (when, keys) in modalities.items()
    }

    def talk() -> None:
        while not over.is_set():
            if not socket.poll(50):
                continue
            request = msgpack.unpackb(socket.recv(), object_hook=from_npy)
            received.append(request)
            known = {"ping": {"status": "ok"}, "get_modality_config": config, "reset": {}}
            made = known[request["endpoint"]] if request["endpoint"] in known else answer(request["data"])
            socket.send(msgpack.packb(made, default=to_npy))

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield f"127.0.0.1:{port}", received
    finally:
        over.set()
        thread.join()
        socket.close(0)
        context.term()
