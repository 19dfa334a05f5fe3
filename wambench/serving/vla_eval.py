"""Server of vla-eval's protocol: its harness and ours ask for one action an observation; errors do not close."""

from __future__ import annotations

import contextlib
import functools
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

import wambench
from wambench.evaluation.failures import reason
from wambench.policies.remote import codec
from wambench.policies.remote.client import EXTENSION
from wambench.policies.remote.vla_eval import FORMATS, GRIPPERS, PROTOCOL_VERSION, STATES
from wambench.serving.conversation import Conversation
from wambench.serving.openpi import opened
from wambench.serving.service import Service
from wambench.serving.websocket import bound, one_line, port_of, serve_clients

__all__ = ["bound", "port_of", "serve_forever"]  # what a protocol's module has


def serve_forever(listening: socket.socket, service: Service, largest: int) -> None:
    """Serves until interrupted."""
    serve_clients(listening, functools.partial(handle, service), largest)


def handle(service: Service, connection: Any) -> None:
    """Talks to one client until it goes."""
    with contextlib.closing(service.conversation_of()) as conversation:
        for message in connection:
            sequence = 0
            try:
                asked = opened(message)
                sequence = int(asked.get("seq", 0))
                said = answer(service, conversation, asked)
            except Exception as error:
                print(f"wambench: client: {reason(error)}", file=sys.stderr, flush=True)
                said = ("error", {"error": one_line(error)})
            if said is not None:
                kind, payload = said
                sent = {"type": kind, "payload": payload, "seq": sequence, "timestamp": time.time()}
                connection.send(codec.pack(sent, "vla_eval"))


def answer(service: Service, conversation: Conversation, asked: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Returns type and payload of the answer to a message, None for none."""
    kind, payload = asked.get("type"), asked.get("payload")
    if not isinstance(payload, Mapping):
        raise codec.Malformed("a message without a payload")
    if kind == "hello":
        return "hello", hello(service)
    if kind in ("episode_start", "episode_end"):
        conversation.forget()
        return None
    if kind != "observation":
        raise ValueError(f"unknown type {kind!r}; there are: hello, episode_start, observation, episode_end")
    images = payload.get("images")
    named = {f"images.{key}": value for key, value in images.items()} if isinstance(images, Mapping) else {}
    reply = conversation.step({**payload, **named}, None, payload.get(EXTENSION))
    made = {**reply.actions, EXTENSION: reply.extension}
    return "action", made if reply.video is None else {**made, "video": reply.video}


def hello(service: Service) -> dict[str, Any]:
    """Returns what the server says of itself."""
    convention = service.adapter.convention
    gripper = next((name for name, ours in GRIPPERS.items() if ours == service.adapter.answer.gripper), "raw")
    action = {name: _spec(name, 3, format) for name, format in FORMATS.get(convention.action, {}).items()}
    cameras = {key.removeprefix("images."): _spec("image", 0, "rgb_hwc_uint8") for key in service.adapter.images}
    return {
        "harness_version": f"wambench {wambench.__version__}",
        "protocol_version": PROTOCOL_VERSION,
        "model_server": service.config.policy,
        "capabilities": {},
        "observation_params": {"send_state": True, "send_wrist_image": True},
        "action_spec": {**action, "gripper": _spec("gripper", 1, gripper)},
        "observation_spec": {
            **cameras,
            "state": _spec("state", 8, STATES),
            "language": _spec("language", 0, "language"),
        },
        EXTENSION: service.extension,
    }


def _spec(name: str, dims: int, format: str) -> dict[str, Any]:
    return {"name": name, "dims": dims, "format": format}
