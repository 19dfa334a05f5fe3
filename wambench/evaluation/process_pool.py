"""Spawned worker processes that take one job after another; the death of one costs the job it was doing.

Spawned and not forked: a GL context, a mujoco renderer and torch's threads do not survive a fork. Every worker
renders in its main thread only.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from wambench.evaluation.failures import full, reason
from wambench.records.rows import DIED, MACHINE

GRACE_S = 20.0  # a rollout ends itself at its time limit; a worker that hangs is killed this much later
GOING_ON = object()  # what `_result` returns for a worker that has no result yet
TICK_S = 0.5
CLOSE_S = 5.0
SPAWN = multiprocessing.get_context("spawn")

Handle = Callable[[Any], Any]
Setup = Callable[[Any], tuple[Any, Handle]]


class WorkerFailed(RuntimeError):
    """A worker could not be set up: nothing can be run."""


@dataclass(frozen=True)
class LostJob:
    """A job without a result: its worker died, failed, or (`timeout`) took too long and was killed.

    `traceback` is there if it failed by an exception.
    """

    reason: str
    timeout: bool = False
    traceback: str = ""


class _Worker:
    """One process, seen from the parent: getting ready, idle, or busy with the job of index `job`."""

    def __init__(self, setup: Setup, payload: Any, daemon: bool) -> None:
        self.connection, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(theirs, setup, payload), daemon=daemon)
        self.ready = False
        self.job: int | None = None
        self.since = time.monotonic()
        with interrupts_ignored():  # inherited: Ctrl-C is the parent's to handle, also while the child still imports
            self.process.start()
        theirs.close()

    def begin(self, job: int, work: Any) -> None:
        self.job, self.since = job, time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it died a moment ago: `receive` will tell
            self.connection.send(work)

    def receive(self) -> tuple[str, Any] | None:
        """Returns its next message, or None if it died without a word."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return None

    def bury(self) -> str:
        """Ends the process and returns how it had ended."""
        self.process.join(TICK_S)
        code = self.process.exitcode
        self.process.kill()
        self.process.join()
        self.connection.close()
        return ending(code)


def ending(code: int | None) -> str:
    """Returns in words how a process ended, of its exit code."""
    if code is None:
        return "it hung"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def in_one_line(error: BaseException) -> str:
    """Returns in one line why something could not be set up."""
    kind = "" if isinstance(error, ValueError | OSError | RuntimeError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())


class Pool:
    """A context of worker processes; leaving it kills them.

    Args:
        setup: Module-level function run in every worker: payload -> (what to tell the parent, job -> result).
        payload: Its argument, picklable.
        workers: How many processes.
        daemon: False for workers that start a process themselves, which multiprocessing forbids to daemons.

    Attributes:
        info: What the first worker's setup told.

    A setup that fails raises WorkerFailed here, with its message.
    """

    def __init__(self, setup: Setup, payload: Any, workers: int, daemon: bool = True) -> None:
        self._setup, self._payload, self._count, self._daemon = setup, payload, workers, daemon
        self._workers: list[_Worker] = []
        self.info: Any = None

    def __enter__(self) -> Pool:
        try:
            self._workers = [_Worker(self._setup, self._payload, self._daemon) for _ in range(self._count)]
            self.info = _ready(self._workers[0], self._workers[0].receive())  # the others get ready meanwhile
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            if not self._daemon:  # lets it end its own process, unless that takes too long
                worker.connection.close()
                worker.process.join(CLOSE_S)
            worker.process.kill()
        for worker in self._workers:
            worker.bury()
        self._workers = []

    def results(self, jobs: Sequence[Any], limit_s: float) -> Iterator[tuple[int, Any]]:
        """Yields (index of the job, its result or Lost) as they come in.

        Args:
            jobs: Picklable jobs, begun in this order.
            limit_s: Seconds a job may take, from its start or its call of `begun`; `GRACE_S` later its worker is
                killed.
        """
        queue, left = deque(range(len(jobs))), len(jobs)
        while left:
            self._feed(queue, jobs)
            for worker in self._stirring(limit_s):
                done, result = worker.job, self._result(worker, limit_s)
                if done is not None and result is not GOING_ON:
                    left -= 1
                    self._feed(queue, jobs)  # nobody waits while the caller is busy with this result
                    yield done, result
            missing = min(self._count, len(queue)) - len(self._workers)
            self._workers += [_Worker(self._setup, self._payload, self._daemon) for _ in range(missing)]

    def _feed(self, queue: deque[int], jobs: Sequence[Any]) -> None:
        """Gives every idle worker a job."""
        for worker in self._workers:
            if worker.ready and worker.job is None and queue:
                job = queue.popleft()
                worker.begin(job, jobs[job])

    def _stirring(self, limit_s: float) -> list[_Worker]:
        """Waits a moment and returns the workers that spoke, died, or are late."""
        handles = [worker.connection for worker in self._workers]
        spoke = wait(handles, TICK_S)  # the end of a process closes its connection, so this covers death
        begun = time.monotonic() - limit_s - GRACE_S
        return [w for w in self._workers if w.connection in spoke or (w.job is not None and w.since < begun)]

    def _result(self, worker: _Worker, limit_s: float) -> Any:
        """Returns what a stirring worker has to say about its job; a dead or late one is taken out of the pool."""
        late = not worker.connection.poll()
        message = None if late else worker.receive()
        if message is None:
            self._workers.remove(worker)
            end = worker.bury()
            if not worker.ready:
                raise WorkerFailed(f"a worker process died while getting ready: {end}")
            reason = f"no answer after {limit_s + GRACE_S:g} s" if late else f"{MACHINE}{DIED}: {end}"
            return LostJob(reason, timeout=late)
        if not worker.ready:
            _ready(worker, message)
            return None
        kind, result = message
        if kind == "begun":
            worker.since = time.monotonic()
            return GOING_ON
        worker.job = None
        return LostJob(*result) if kind == "failed" else result


def _ready(worker: _Worker, message: tuple[str, Any] | None) -> Any:
    """Marks a worker as ready and returns what its setup told."""
    if message is None:
        raise WorkerFailed(f"a worker process died while getting ready: {worker.bury()}")
    kind, told = message
    if kind == "failed":
        raise WorkerFailed(told)
    worker.ready = True
    return told


@contextlib.contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Lets what is started meanwhile ignore Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_to_parent: Connection | None = None  # of a worker process


def begun() -> None:
    """Tells the parent of a worker that the time of its job counts from now: what came before was preparation."""
    if _to_parent is not None:
        _to_parent.send(("begun", None))


def _serve(connection: Connection, setup: Setup, payload: Any) -> None:
    """Runs in the worker: sets up, then answers one job after another until the parent is gone."""
    global _to_parent
    _to_parent = connection
    threading.Thread(target=die_with_parent, daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        info, handle = setup(payload)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)  # one process per core: more threads than that only get in each other's way
    except (Exception, SystemExit) as error:
        connection.send(("failed", in_one_line(error)))
        return
    connection.send(("ready", info))
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            answer = ("done", handle(job))
        except (Exception, SystemExit) as error:
            answer = ("failed", (reason(error), False, full(error)))
        connection.send(answer)


def die_with_parent() -> None:
    """Ends this process with the parent's, also when it was killed: an orphan would go on computing for nobody."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
