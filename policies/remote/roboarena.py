"""Client of RoboArena's policy servers, DreamZero's among them: openpi's messages with an endpoint and a session.

The server says what it needs (`PolicyServerConfig`). A reset is answered with text, and so is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from wambench.policies.remote import codec
from wambench.policies.remote.adapter import Adapter
from wambench.policies.remote.client import EXTENSION, Episode, Patience, RemotePolicy, ServerFailed
from wambench.policies.remote.openpi import OpenPiLink, received

EXTERIOR = "observation/exterior_image_{}_left"


class RoboArenaLink(OpenPiLink):
    """A connection to a RoboArena server at "HOST:PORT"."""

    def __init__(self, address: str, patience: Patience) -> None:
        super().__init__(address, patience)
        self._session = ""

    def fitted(self, adapter: Adapter, metadata: Mapping[str, Any]) -> Adapter:
        """Returns the adapter with the pictures that the server needs, in the size it wants."""
        if "action_space" not in metadata:
            raise ValueError(f"{self._socket.address} says no action_space, as RoboArena's servers do: openpi://?")
        if metadata.get("needs_stereo_camera"):
            raise ValueError(f"{self._socket.address} needs stereo cameras, which no convention here has")
        exterior = int(metadata.get("n_external_cameras", 1))
        needed = {EXTERIOR.format(i) for i in range(exterior)}
        needed |= {"observation/wrist_image_left"} if metadata.get("needs_wrist_camera", True) else set()
        lacking = sorted(needed - set(adapter.images))
        if lacking:
            raise ValueError(f"{self._socket.address} needs {', '.join(lacking)}, which the adapter does not send")
        size = metadata.get("image_resolution")
        images = {
            key: dataclasses.replace(picture, size=tuple(size) if size else None)
            for key, picture in adapter.images.items()
            if key in needed
        }
        return dataclasses.replace(adapter, images=images)

    def begin(self, episode: Episode, extension: Mapping[str, Any] | None) -> None:
        """Resets the server; what it answers is a text that tells of no error."""
        self._session = episode.id
        self._socket.send(codec.pack({"endpoint": "reset", "session_id": episode.id}))
        said = self._socket.receive()
        if isinstance(said, str) and ("Traceback" in said or "rror" in said):
            raise ServerFailed(said)

    def ask(self, message: dict[str, Any], extension: Mapping[str, Any] | None) -> Any:
        """Returns the answer; a bare array, which DreamZero's server sends, as `actions`."""
        asked = {**message, "endpoint": "infer", "session_id": self._session}
        self._socket.send(codec.pack(asked if extension is None else {**asked, EXTENSION: extension}))
        answer = received(self._socket)
        return {"actions": answer} if isinstance(answer, np.ndarray) else answer


def policy(
    address: str,
    adapter: str | None = None,
    execute: int | None = None,
    timeout_s: float = 300.0,
    wait_s: float = 10.0,
) -> RemotePolicy:
    """Returns the policy of a RoboArena server.

    Args:
        address: "HOST:PORT".
        adapter: Name of a shipped adapter or a TOML file; None for "roboarena" (absolute joint positions).
        execute: Actions to carry out before the next query, instead of the adapter's number.
        timeout_s: Longest wait for an answer.
        wait_s: Longest wait for a server that is not there (yet, or any more).
    """
    patience = Patience(timeout_s, wait_s)
    url = f"roboarena://{address}"
    return RemotePolicy(RoboArenaLink(address, patience), url, adapter, "roboarena", execute, patience)
