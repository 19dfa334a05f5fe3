"""Server of RoboArena's interface: openpi's messages with an endpoint and a session; what it needs is its metadata."""

from __future__ import annotations

import contextlib
import functools
import socket
from typing import Any

from wambench.policies.remote import codec
from wambench.policies.remote.client import EXTENSION
from wambench.serving.openpi import answered, opened
from wambench.serving.service import Service
from wambench.serving.websocket import bound, port_of, serve_clients, talk

__all__ = ["bound", "port_of", "serve_forever"]  # what a protocol's module has

RESET = "reset successful"  # the words of RoboArena's own server


def metadata(service: Service) -> dict[str, Any]:
    """Returns RoboArena's PolicyServerConfig of a policy, and our own words."""
    convention = service.adapter.convention
    return {
        **service.metadata,
        "image_resolution": list(convention.image_size),
        "n_external_cameras": sum(camera.startswith("exterior") for camera in convention.cameras),
        "needs_wrist_camera": "wrist" in convention.cameras,
        "needs_stereo_camera": False,
        "needs_session_id": True,
        "action_space": convention.action,
    }


def serve_forever(listening: socket.socket, service: Service, largest: int) -> None:
    """Serves until interrupted."""
    serve_clients(listening, functools.partial(handle, service), largest)


def handle(service: Service, connection: Any) -> None:
    """Talks to one client until it goes."""
    with contextlib.closing(service.conversation_of()) as conversation:
        connection.send(codec.pack(metadata(service)))

        def answer(message: bytes | str) -> bytes | str:
            asked = opened(message)
            endpoint = asked.get("endpoint")
            if endpoint == "reset":
                conversation.forget()
                return RESET
            if endpoint != "infer":
                raise ValueError(f"unknown endpoint {endpoint!r}; there are: infer, reset")
            return codec.pack(answered(conversation.reply(asked, asked.get("session_id"), asked.get(EXTENSION))))

        talk(connection, answer, str)
