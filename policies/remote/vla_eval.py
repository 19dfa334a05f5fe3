"""Client of vla-eval's model servers: hello, episode_start, one action an observation, episode_end.

The server holds the rest of a chunk back, so that every control step is a query. What it says of its formats
(`action_spec`, `observation_spec`) is compared with the adapter, and refused where vla-eval itself only warns.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from wambench.policies.remote import codec
from wambench.policies.remote.adapter import Adapter
from wambench.policies.remote.client import EXTENSION, Episode, Patience, RemotePolicy, ServerFailed
from wambench.policies.remote.websocket import WebSocket

PROTOCOL_VERSION = 1
# Formats of vla-eval's DimSpec that say the same as a word of ours.
GRIPPERS: Mapping[str, str] = MappingProxyType(
    {
        "binary_close_positive": "close_positive",
        "binary_close_negative": "open_positive",
        "binary_close_01": "closed_is_1",
    }
)
FORMATS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "osc_pose_delta": MappingProxyType({"position": "delta_xyz", "rotation": "axis_angle"}),
        "joint_position": MappingProxyType({"joint_pos": "joint_pos"}),
    }
)
STATES = "eef_pos3_axisangle3_gripper2"


class VlaEvalLink:
    """A connection to a vla-eval model server at "HOST:PORT"."""

    def __init__(self, address: str, patience: Patience) -> None:
        self._socket = WebSocket(address, patience.answer_s)
        self._sequence = 0
        self._playing = False

    def open(self) -> Mapping[str, Any]:
        """Connects, says hello and returns the server's hello."""
        self._socket.open()
        self._playing = False
        self._say(
            "hello", {"harness_version": "wambench", "protocol_version": PROTOCOL_VERSION, "benchmark": "wambench"}
        )
        metadata = self._heard("hello")
        if metadata.get("protocol_version", PROTOCOL_VERSION) != PROTOCOL_VERSION:
            raise ValueError(f"{self._socket.address} speaks version {metadata['protocol_version']} of vla-eval")
        return metadata

    def fitted(self, adapter: Adapter, metadata: Mapping[str, Any]) -> Adapter:
        """Returns the adapter with what the server asks for; a format that it does not have raises ValueError."""
        action, seen = _formats(metadata, "action_spec"), _formats(metadata, "observation_spec")
        lines = [
            f"{name}: the server answers {action[name]}, the adapter expects {expected}"
            for name, expected in FORMATS.get(adapter.convention.action, {}).items()
            if action and action.get(name) not in (expected, "raw")
        ]
        if seen.get("state", STATES) not in (STATES, "raw") and not adapter.everything:
            lines.append(f"state: the server reads {seen['state']}, the adapter sends {STATES}")
        if lines:
            raise ValueError(f"{self._socket.address} does not fit the adapter: {'; '.join(lines)}")
        if adapter.everything:
            return adapter
        params = metadata.get("observation_params") or {}
        images = {k: v for k, v in adapter.images.items() if v.camera != "wrist" or params.get("send_wrist_image")}
        vectors = adapter.vectors if params.get("send_state") else {}
        says = GRIPPERS.get(action.get("gripper", ""), adapter.answer.gripper)
        answer = dataclasses.replace(adapter.answer, gripper=says)
        return dataclasses.replace(adapter, images=images, vectors=vectors, answer=answer)

    def begin(self, episode: Episode, extension: Mapping[str, Any] | None) -> None:
        """Starts an episode, and ends the one before."""
        if self._playing:
            self._say("episode_end", {})
        task: dict[str, Any] = {"task": {"name": episode.instruction}, "mode": "sync"}
        self._say("episode_start", task if extension is None else {**task, EXTENSION: extension})
        self._playing = True

    def ask(self, message: dict[str, Any], extension: Mapping[str, Any] | None) -> Any:
        """Returns the answer."""
        images = {key.removeprefix("images."): value for key, value in message.items() if key.startswith("images.")}
        others = {key: value for key, value in message.items() if not key.startswith("images.")}
        asked = {"images": images, **others}
        self._say("observation", asked if extension is None else {**asked, EXTENSION: extension})
        answer = self._heard("action")
        return {"actions": answer["action"], **answer} if "action" in answer else answer

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def _say(self, kind: str, payload: Mapping[str, Any]) -> None:
        self._sequence += 1
        said = {"type": kind, "payload": payload, "seq": self._sequence, "timestamp": time.time()}
        self._socket.send(codec.pack(said, "vla_eval"))

    def _heard(self, kind: str) -> Mapping[str, Any]:
        """Returns what a message of a kind carries; an error raises ServerFailed, anything else Malformed."""
        received = self._socket.receive()
        if isinstance(received, str):
            raise ServerFailed(received)
        message = codec.unpack(received)
        payload = message.get("payload") if isinstance(message, Mapping) else None
        if not isinstance(payload, Mapping):
            raise codec.Malformed("a message without a payload")
        if message.get("type") == "error":
            raise ServerFailed(str(payload.get("error", payload)))
        if message.get("type") != kind or message.get("seq") != self._sequence:
            got, number = message.get("type"), message.get("seq")
            raise codec.Malformed(f"a message {got!r} {number}, expected {kind!r} {self._sequence}")
        return payload


def _formats(metadata: Mapping[str, Any], name: str) -> dict[str, str]:
    """Returns name -> format of what a server declares, {} if it does not."""
    declared = metadata.get(name)
    found = declared if isinstance(declared, Mapping) else {}
    return {key: str(spec.get("format")) for key, spec in found.items() if isinstance(spec, Mapping)}


def policy(
    address: str,
    adapter: str | None = None,
    execute: int | None = None,
    timeout_s: float = 300.0,
    wait_s: float = 10.0,
) -> RemotePolicy:
    """Returns the policy of a vla-eval model server.

    Args:
        address: "HOST:PORT".
        adapter: Name of a shipped adapter or a TOML file; None for "vla-eval" (LIBERO's convention).
        execute: Actions to carry out before the next query, instead of the adapter's number.
        timeout_s: Longest wait for an answer.
        wait_s: Longest wait for a server that is not there (yet, or any more).
    """
    patience = Patience(timeout_s, wait_s)
    url = f"vla-eval://{address}"
    return RemotePolicy(VlaEvalLink(address, patience), url, adapter, "vla-eval", execute, patience)
