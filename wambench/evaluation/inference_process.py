"""A process of its own for the policy of a run: it is loaded once, and answers the queries of all workers."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType

from wambench.evaluation.process_pool import (
    SPAWN,
    TICK_S,
    WorkerFailed,
    die_with_parent,
    ending,
    in_one_line,
    interrupts_ignored,
)
from wambench.evaluation.query_service import QueryService, SocketServer, listening
from wambench.evaluation.shared_policy import ConnectBySocket
from wambench.interface import Policy


class InferenceProcess:
    """A context in which the process runs; leaving it kills the process.

    This side owns the listening socket, so that clients which come while the process is being started anew wait.

    Args:
        make: Makes the policy, picklable.
        batch: Queries that may be answered together.
        device: "cpu", "cuda", "cuda:1"; "" if it does not matter.

    Attributes:
        connect: Makes a client of the policy in another process.

    A policy that cannot be made, or a device that is not there, raises WorkerFailed.
    """

    def __init__(self, make: Callable[[], Policy], batch: int, device: str = "") -> None:
        self._arguments = make, batch, device

    def __enter__(self) -> InferenceProcess:
        with contextlib.ExitStack() as stack:
            self._listener, address = stack.enter_context(listening())
            self.connect = ConnectBySocket(address)
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kill()
        self._stack.close()

    def mend(self, hangs: bool = False) -> bool:
        """Starts the process anew if it has died, or if it hangs; returns whether that was so.

        Raises:
            WorkerFailed: It cannot be started any more.
        """
        if not hangs:
            self._process.join(TICK_S)
            if self._process.is_alive():
                return False
        self._kill()
        self._start()
        return True

    def _start(self) -> None:
        ours, theirs = SPAWN.Pipe(duplex=False)
        self._process = SPAWN.Process(target=_run, args=(self._listener, theirs, *self._arguments), daemon=True)
        with interrupts_ignored():  # inherited: Ctrl-C is the parent's to handle
            self._process.start()
        theirs.close()
        with ours:
            try:
                failed = ours.recv()
            except EOFError:
                self._process.join(TICK_S)
                failed = f"the policy's process died while getting ready: {ending(self._process.exitcode)}"
        if failed:
            self._kill()
            raise WorkerFailed(failed)

    def _kill(self) -> None:
        self._process.kill()
        self._process.join()


def check_device(device: str) -> None:
    """Raises ValueError for a GPU that is not there."""
    if not device.startswith("cuda"):
        return
    import torch

    there = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= there:
        raise ValueError(f"there is no device {device!r} here: torch {torch.__version__} sees {there} CUDA devices")


def _run(listener: socket.socket, ready: Connection, make: Callable[[], Policy], batch: int, device: str) -> None:
    """Runs in the process: makes the policy, says so, and answers until the parent is gone."""
    threading.Thread(target=die_with_parent, daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        check_device(device)
        service = QueryService(make, batch)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)  # as in a worker, so that sums have the order they have there
    except (Exception, SystemExit) as error:
        ready.send(in_one_line(error))
        return
    ready.send("")
    ready.close()
    SocketServer(service, listener).serve()
