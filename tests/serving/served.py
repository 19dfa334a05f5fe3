"""A `wambench serve` in a process of its own, for tests."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def served(policy: str, protocol: str, *options: str) -> Iterator[int]:
    """Yields the port of a server, once it answers."""
    command = [sys.executable, "-m", "wambench", "serve", "--policy", policy, "--protocol", protocol, "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            yield int(next(found[1] for line in lines if (found := re.search(r" at \S+?:(\d+): ", line))))
        finally:
            process.kill()


def free_port() -> int:
    """Returns a port that nobody listens at; somebody else may take it meanwhile, which a server then says."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
