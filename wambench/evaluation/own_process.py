"""Plays episodes without touching the process that asks for them, and records nothing: for use during training.

Simulators and the renderer's OpenGL contexts live in worker processes. Between them and the caller stands one more
process, the module `own_process` run as a program: it starts the workers, so that the caller gets no thread, no signal
handler and no child of `multiprocessing`, which would import the caller's script once more. A policy that is an object
of the caller's answers in the caller's thread, through a socket (`query_service.SocketServer`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from wambench.evaluation.config import RunConfig
from wambench.evaluation.process_pool import LostJob, Pool, WorkerFailed, in_one_line
from wambench.evaluation.query_service import QueryService, SocketServer, listening
from wambench.evaluation.run import plan
from wambench.evaluation.shared_policy import ConnectBySocket
from wambench.evaluation.worker import MakeSim, lost_result, set_up
from wambench.records import Row


def play(config: RunConfig, make_sim: MakeSim, service: QueryService | None) -> list[Row]:
    """Returns the rows of a run in the order of its table.

    Args:
        config: What is played; nothing is recorded.
        make_sim: Module-level function that makes the simulator of a task in a worker.
        service: Answers here, in this thread, for all workers; None: each worker makes the policy of the config.

    Raises:
        WorkerFailed: No worker could be set up, or the process died.
    """
    rows: dict[int, Row] = {}
    with contextlib.ExitStack() as stack:
        server = address = None
        if service is not None:
            listener, address = stack.enter_context(listening())
            server = SocketServer(service, listener)
        process = stack.enter_context(_process((config, make_sim, address)))
        while True:
            if server is not None:
                server.serve([process])
            try:
                kind, told = process.recv()
            except (EOFError, OSError):
                raise WorkerFailed("the process that plays the episodes died") from None
            if kind == "failed":
                raise WorkerFailed(told)
            if kind == "done":
                return [rows[index] for index in sorted(rows)]
            rows[told[0]] = told[1]


@contextlib.contextmanager
def _process(payload: Any) -> Iterator[Connection]:
    """Yields the connection to a new process that has been given its payload; ends the process."""
    ours, theirs = socket.socketpair()
    with contextlib.closing(Connection(ours.detach())) as connection:
        with theirs:
            number = theirs.fileno()
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(number)],
                pass_fds=[number],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(part or os.getcwd() for part in sys.path)},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the caller's to handle
            )
        try:
            connection.send(payload)
            yield connection
        finally:
            process.kill()
            process.wait()


def main(number: int) -> None:
    """Plays what is asked for through a connection, and ends when its other side does."""
    connection = Connection(number)
    config, make_sim, address = connection.recv()
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    jobs = plan(config)
    payload = config, make_sim, ConnectBySocket(address) if address else None, jobs[0].spec.task
    try:
        with Pool(set_up, payload, min(config.workers, len(jobs))) as pool:
            for index, result in pool.results(jobs, config.time_limit_s):
                lost = isinstance(result, LostJob)
                row, _ = lost_result(config, jobs[index], result) if lost else result
                connection.send(("row", (index, row)))
    except Exception as error:
        connection.send(("failed", in_one_line(error)))
    else:
        connection.send(("done", None))


def _end_with(connection: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
