"""A websocket to a policy server, with errors that say what happened."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from wambench.policies.remote.client import LostConnection, NoServer, TooLate
from wambench.policies.remote.codec import needed

LARGEST_MESSAGE = 256 * 2**20  # bytes: a chunk of imagined video in full size is 35 million
LONGEST_HANDSHAKE_S = 30.0  # a server that computes does not shake hands meanwhile
CLOSE_S = 1.0  # that a server has to agree to closing
API_KEY = "WAMBENCH_API_KEY"  # in the environment, not in the arguments: those are recorded


class WebSocket:
    """A connection that is opened, and opened again.

    No compression and no pings: a server that computes for a minute answers none.

    Args:
        address: "HOST:PORT".
        answer_s: Seconds to wait for a message.
    """

    def __init__(self, address: str, answer_s: float) -> None:
        self.address, self._answer_s = address, answer_s
        self._client, self._errors = needed("websockets.sync.client"), needed("websockets.exceptions")
        self._open = needed("websockets.protocol").State.OPEN
        self._connection: Any = None
        self._closing = contextlib.ExitStack()

    def open(self) -> None:
        """Connects; NoServer says why it cannot."""
        self.close()
        key = os.environ.get(API_KEY)
        try:
            connecting = self._client.connect(
                f"ws://{self.address}",
                compression=None,
                max_size=LARGEST_MESSAGE,
                ping_interval=None,
                proxy=None,
                open_timeout=min(self._answer_s, LONGEST_HANDSHAKE_S),
                close_timeout=CLOSE_S,
                additional_headers={"Authorization": f"Api-Key {key}"} if key else None,
            )
            self._connection = self._closing.enter_context(connecting)
        except (OSError, self._errors.WebSocketException) as error:
            raise NoServer(" ".join(str(error).split()) or type(error).__name__) from error

    def receive(self) -> bytes | str:
        """Returns the next message, bytes or text; TooLate or LostConnection if there is none."""
        try:
            return self._connection.recv(timeout=self._answer_s)
        except TimeoutError as error:
            raise TooLate(f"no answer within {self._answer_s:g} s") from error
        except (OSError, self._errors.ConnectionClosed) as error:
            raise LostConnection(f"the server closed the connection: {error}") from error

    def check(self) -> None:
        """Raises LostConnection if the server is known to have gone."""
        if self._connection.protocol.state is not self._open:
            raise LostConnection("the server closed the connection")

    def send(self, message: bytes) -> None:
        """Sends a message; LostConnection if nobody is there."""
        try:
            self._connection.send(message)
        except (OSError, self._errors.ConnectionClosed) as error:
            raise LostConnection(f"the server closed the connection: {error}") from error

    def close(self) -> None:
        """Closes the connection."""
        self._connection = None
        with contextlib.suppress(OSError, self._errors.WebSocketException):
            self._closing.close()
