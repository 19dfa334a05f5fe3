"""A policy server of a few lines that speaks openpi's protocol and goes wrong as it is told, in a process of its own.

`python -m tests.policies.remote.fault_server PORT FAULT,FAULT,...`: one fault an episode, at its second query; "ok" for
none. It drives the point of `tests.stubs.LineSim` to the right. It does not use our server, so that client and server
cannot be wrong together.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from typing import Any

import msgpack
import numpy as np
from websockets.sync.server import serve

LATE_S = 2.0
TRACEBACK = "Traceback (most recent call last):\n  File \"policy.py\", line 1, in infer\nKeyError: 'observation/image'"


def packed(values: np.ndarray) -> bytes:
    array = {b"__ndarray__": True, b"data": values.tobytes(), b"dtype": values.dtype.str, b"shape": values.shape}
    return msgpack.packb({"actions": array})


def right(steps: int = 8) -> np.ndarray:
    actions = np.zeros((steps, 7))
    actions[:, 0] = 0.6
    return actions


def answer(fault: str) -> bytes | str | None:
    """Returns what is sent, None for closing without a word."""
    match fault:
        case "late":
            time.sleep(LATE_S)
        case "closes":
            return None
        case "dies":
            os._exit(1)
        case "garbage":
            return b"\xc1\xff\x00 no msgpack"
        case "traceback":
            return TRACEBACK
        case "shape":
            return packed(right()[:, :5])
        case "nan":
            return packed(right() * np.nan)
        case "key":
            return msgpack.packb({"action_chunk": [1.0]})
    return packed(right())


def main(port: int, faults: list[str]) -> None:
    episodes = itertools.chain(faults, itertools.repeat("ok"))
    playing: dict[str, Any] = {"fault": "ok", "query": 0}

    def talk(connection: Any) -> None:
        connection.send(msgpack.packb({}))
        for message in connection:
            at = np.frombuffer(msgpack.unpackb(message)["observation/state"][b"data"], np.float32)[0]
            if at == 0:  # where every episode of a line begins
                playing.update(fault=next(episodes), query=0)
            playing["query"] += 1
            made = answer(playing["fault"] if playing["query"] == 2 else "ok")
            if made is None:
                return
            connection.send(made)

    with serve(talk, "127.0.0.1", port, compression=None, max_size=None) as server:
        print(server.socket.getsockname()[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2].split(","))
