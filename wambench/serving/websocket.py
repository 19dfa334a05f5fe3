"""A websocket server with one thread a client, health checks, and a limit on messages."""

from __future__ import annotations

import contextlib
import errno
import http
import socket
import sys
from collections.abc import Callable
from typing import Any

from wambench.evaluation.failures import reason
from wambench.policies.remote.codec import needed

HEALTH = {"/healthz": "OK\n", "/health": '{"status": "ok"}\n'}  # of openpi and vla-eval
INTERNAL_ERROR = 1011  # as openpi's server closes
Handle = Callable[[Any], None]


def bound(host: str, port: int, largest: int) -> socket.socket:
    """Returns a socket that listens; one that is taken, or an address that is not ours, raises ValueError.

    The limit on messages, `largest` bytes, is set when it serves.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(refusal(host, port, error)) from error


def port_of(listening: socket.socket) -> int:
    """Returns the port of a listening socket."""
    return int(listening.getsockname()[1])


def refusal(host: str, port: int, error: OSError) -> str:
    """Returns why a port cannot be had, in one line."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken: give another --port"
    return f"cannot listen at {host}:{port}: {error.strerror or error}"


def serve_clients(listening: socket.socket, handle: Handle, largest: int) -> None:
    """Serves until interrupted.

    Args:
        listening: From `bound`.
        handle: Talks to one client, in a thread of its own; the connection is closed when it returns.
        largest: Bytes of a message; a larger one closes its connection.
    """
    serve, closed = needed("websockets.sync.server").serve, needed("websockets.exceptions").ConnectionClosed
    options = {"compression": None, "max_size": largest, "ping_interval": None, "close_timeout": 1.0}

    def guarded(connection: Any) -> None:
        try:
            handle(connection)
        except closed:
            return
        except Exception as error:  # of one client; the others go on
            tell_error(connection, error)
            with contextlib.suppress(closed):
                connection.send(one_line(error))
                connection.close(INTERNAL_ERROR)

    with serve(guarded, sock=listening, process_request=_health, **options) as server:
        server.serve_forever()


def talk(connection: Any, answer: Callable[[Any], Any], refused: Callable[[str], Any]) -> None:
    """Answers one message after another; one that cannot be answered is answered with an error, and survived.

    Args:
        connection: A websocket.
        answer: Message -> answer, None for none.
        refused: The text of an error -> answer.
    """
    for message in connection:
        try:
            made = answer(message)
        except Exception as error:
            tell_error(connection, error)
            made = refused(one_line(error))
        if made is not None:
            connection.send(made)


def tell_error(connection: Any, error: Exception) -> None:
    """Says on standard error what a client could not be answered."""
    place = ":".join(map(str, connection.remote_address[:2]))
    print(f"wambench: client {place}: {reason(error)}", file=sys.stderr, flush=True)


def one_line(error: Exception) -> str:
    """Returns an error as a client is told it."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _health(connection: Any, request: Any) -> Any:
    """Answers a health check over HTTP; anything else goes on to the websocket's handshake."""
    text = HEALTH.get(request.path.partition("?")[0])
    return None if text is None else connection.respond(http.HTTPStatus.OK, text)
