"""Server of openpi's websocket protocol: metadata first, then one answer a message; errors are text."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Mapping
from typing import Any

from wambench.policies.remote import codec
from wambench.policies.remote.client import EXTENSION
from wambench.serving.conversation import Reply
from wambench.serving.service import Service
from wambench.serving.websocket import bound, port_of, serve_clients, talk

__all__ = ["bound", "port_of", "serve_forever"]  # what a protocol's module has


def serve_forever(listening: socket.socket, service: Service, largest: int) -> None:
    """Serves until interrupted."""
    serve_clients(listening, functools.partial(handle, service), largest)


def handle(service: Service, connection: Any) -> None:
    """Talks to one client until it goes."""
    with contextlib.closing(service.conversation_of()) as conversation:
        connection.send(codec.pack(service.metadata))

        def answer(message: bytes | str) -> bytes:
            asked = opened(message)
            return codec.pack(answered(conversation.reply(asked, asked.get("session_id"), asked.get(EXTENSION))))

        talk(connection, answer, str)


def opened(message: bytes | str) -> Mapping[str, Any]:
    """Returns a message that must be a packed map."""
    if isinstance(message, str):
        raise codec.Malformed("a message of text: this server reads msgpack")
    asked = codec.unpack(message)
    if not isinstance(asked, Mapping):
        raise codec.Malformed(f"a message that is {type(asked).__name__}, expected a map")
    return asked


def answered(reply: Reply) -> dict[str, Any]:
    """Returns an answer as it is packed."""
    timing = {"infer_ms": reply.infer_ms}
    made = {**reply.actions, "policy_timing": timing, "server_timing": timing, EXTENSION: reply.extension}
    return made if reply.video is None else {**made, "video": reply.video}
