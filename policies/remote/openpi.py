"""Client of openpi's websocket server, and of what else speaks like it: NVIDIA's Cosmos policies, `wambench serve`.

The server sends its metadata first; then every message has one answer. A message of text is an error. There is no word
for the beginning of an episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wambench.policies.remote import codec
from wambench.policies.remote.adapter import Adapter
from wambench.policies.remote.client import EXTENSION, Episode, Patience, RemotePolicy, ServerFailed
from wambench.policies.remote.websocket import WebSocket

ROBOARENA = "needs_session_id"  # an entry that only RoboArena's servers have


class OpenPiLink:
    """A connection to an openpi server at "HOST:PORT"."""

    def __init__(self, address: str, patience: Patience) -> None:
        self._socket = WebSocket(address, patience.answer_s)

    def open(self) -> Mapping[str, Any]:
        """Connects and returns the metadata."""
        self._socket.open()
        metadata = received(self._socket)
        if not isinstance(metadata, Mapping):
            raise codec.Malformed(f"metadata is {type(metadata).__name__}, expected a map")
        return metadata

    def fitted(self, adapter: Adapter, metadata: Mapping[str, Any]) -> Adapter:
        """Returns the adapter as it is; a RoboArena server raises ValueError."""
        if ROBOARENA in metadata:
            raise ValueError(f"{self._socket.address} speaks RoboArena's protocol: --policy roboarena://HOST:PORT")
        return adapter

    def begin(self, episode: Episode, extension: Mapping[str, Any] | None) -> None:
        """Says nothing, because our own servers see a new session in the first message, but looks who is there."""
        self._socket.check()

    def ask(self, message: dict[str, Any], extension: Mapping[str, Any] | None) -> Any:
        """Returns the answer."""
        asked = message if extension is None else {**message, EXTENSION: extension}
        self._socket.send(codec.pack(asked))
        return received(self._socket)

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()


def received(socket: WebSocket) -> Any:
    """Returns the next message; one of text raises ServerFailed, bytes that are no message Malformed."""
    message = socket.receive()
    if isinstance(message, str):
        raise ServerFailed(message)
    return codec.unpack(message)


def policy(
    address: str,
    adapter: str | None = None,
    execute: int | None = None,
    timeout_s: float = 300.0,
    wait_s: float = 10.0,
) -> RemotePolicy:
    """Returns the policy of an openpi server.

    Args:
        address: "HOST:PORT".
        adapter: Name of a shipped adapter or a TOML file. Required unless the server is `wambench serve`, because
            openpi's servers do not say what they read, nor whether they answer joint positions or velocities.
        execute: Actions to carry out before the next query, instead of the adapter's number.
        timeout_s: Longest wait for an answer.
        wait_s: Longest wait for a server that is not there (yet, or any more).
    """
    patience = Patience(timeout_s, wait_s)
    return RemotePolicy(OpenPiLink(address, patience), f"openpi://{address}", adapter, "", execute, patience)
