"""One policy that answers the queries of many episodes, in whatever process it lives.

A query names its client (a simulation worker, which plays one episode at a time), a method and its arguments. Nothing
waits for a batch to fill: what has arrived when the policy is free is answered together, the oldest first, at most
`batch` of it. A client has one open query, so that everybody who waits is answered before anybody is answered twice.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from wambench.evaluation.failures import RelayedError, full, of_machine, reason
from wambench.evaluation.plan_validation import without_tensors
from wambench.interface import Batched, ControlConvention, Guided, Policy
from wambench.records.rows import MACHINE

FORGOTTEN = f"{MACHINE}the policy was started anew in the middle of the episode"


@dataclass(frozen=True)
class PolicyFacts:
    """What a client must know of a policy that it has not got.

    Attributes:
        convention: Of the policy.
        guided: It has `act_guided`.
        batched: It plays several episodes at once; else there is one copy of it for each client.
        others: Those of `TOLD` that it has.
    """

    convention: ControlConvention
    guided: bool
    batched: bool
    others: dict[str, Any]


WAITING = 1024  # clients that may wait to be let in
TOLD = ("device", "weights_hash", "corpus", "chunk_steps")


def facts_of(policy: Policy) -> PolicyFacts:
    """Returns what a client must know of a policy."""
    others = {name: getattr(policy, name) for name in TOLD if hasattr(policy, name)}
    if "device" in others:
        others["device"] = str(others["device"])  # a torch.device would make its reader import torch
    return PolicyFacts(policy.convention, isinstance(policy, Guided), isinstance(policy, Batched), others)


class Query(NamedTuple):
    """Who asks for what; a client is anything that can be a key."""

    client: Any
    method: str
    arguments: tuple[Any, ...]


class Answer(NamedTuple):
    """What comes back: a result, or (`failed`) the three arguments of a `failures.RelayedError`."""

    failed: bool
    result: Any


class QueryService:
    """Answers queries.

    Args:
        make: Makes the policy. It is called once if that is `interface.Batched`, and otherwise once for each client,
            because a policy of one episode can only play one at a time.
        batch: Queries that may be answered together.
    """

    def __init__(self, make: Callable[[], Policy], batch: int) -> None:
        self._make, self.batch = make, batch
        self._policy = make()
        self.facts = facts_of(self._policy)
        self._batched = self._policy if isinstance(self._policy, Batched) else None
        self._spare: list[Policy] = [] if self._batched else [self._policy]
        self._episodes: dict[Any, Any] = {}  # sessions of a batched policy, else policies

    def forget(self, client: Any) -> None:
        """Drops the episode of a client that is gone."""
        left = self._episodes.pop(client, None)
        if left is not None and self._batched is None:
            self._spare.append(left)

    def answers(self, queries: Sequence[Query]) -> Iterator[tuple[Any, Answer]]:
        """Yields client and answer of each query, as soon as it is there."""
        batched = [one for one in queries if self._batched and one.method == "act" and one.client in self._episodes]
        together = {one.client for one in batched} if len(batched) > 1 else set()
        for query in queries:
            if query.client not in together:
                yield query.client, self._alone(query)
        if together:
            yield from self._together(batched)

    def _together(self, queries: Sequence[Query]) -> Iterator[tuple[Any, Answer]]:
        """Yields the answers of one batch; if that fails, they are asked one by one, and who is to blame is told."""
        assert self._batched is not None
        try:
            sessions = [self._episodes[query.client] for query in queries]
            plans = self._batched.act_batch(sessions, [query.arguments[0] for query in queries])
            answers = [Answer(False, without_tensors(plan)) for plan in plans]
            if len(answers) != len(queries):
                raise ValueError(f"act_batch gave {len(answers)} plans for {len(queries)} episodes")
        except (Exception, SystemExit):
            for query in queries:
                yield query.client, self._alone(query)
        else:
            for query, answer in zip(queries, answers, strict=True):
                yield query.client, answer

    def _alone(self, query: Query) -> Answer:
        try:
            return Answer(False, self._call(query))
        except (Exception, SystemExit) as error:
            return Answer(True, (reason(error), full(error), of_machine(error)))

    def _call(self, query: Query) -> Any:
        client, method, arguments = query
        if method == "facts":
            return self.facts
        if method == "reset":
            return self._reset(client, *arguments)
        if client not in self._episodes:
            raise RelayedError(FORGOTTEN, FORGOTTEN + "\n", True)
        policy: Any = self._episodes[client]
        if self._batched is not None:
            self._batched.resume(policy)
            policy = self._batched
        result = getattr(policy, method)(*arguments)
        return without_tensors(result)

    def _reset(self, client: Any, instruction: str, seed: int) -> None:
        if self._batched is not None:
            self._episodes.pop(client, None)  # the memory of the last episode goes before that of the next one comes
            self._episodes[client] = self._batched.session(instruction, seed)
            return
        if client not in self._episodes:
            self._episodes[client] = self._spare.pop() if self._spare else self._make()
        self._episodes[client].reset(instruction, seed)


@contextlib.contextmanager
def listening() -> Iterator[tuple[socket.socket, str]]:
    """Yields a listening Unix socket and its address, in a folder that nobody else may enter."""
    folder = tempfile.mkdtemp(prefix="wambench-")
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            address = str(Path(folder, "policy"))
            listener.bind(address)
            listener.listen(WAITING)
            yield listener, address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class SocketServer:
    """Answers whoever connects to a listening Unix socket, in the thread that calls `serve`.

    Args:
        service: Has the answers.
        listener: The socket.
    """

    def __init__(self, service: QueryService, listener: socket.socket) -> None:
        self._service, self._listener = service, listener
        self._clients: list[Connection] = []
        self._waiting: deque[Query] = deque()

    def serve(self, others: Sequence[Connection] = ()) -> list[Connection]:
        """Answers until one of `others` has something to say, and returns those that have."""
        while True:
            ready = wait([self._listener, *self._clients, *others], 0.0 if self._waiting else None)
            spoke = [one for one in others if one in ready]
            if spoke:
                return spoke
            if self._listener in ready:
                self._clients.append(Connection(self._listener.accept()[0].detach()))
            for client in [one for one in self._clients if one in ready]:
                self._hear(client)
            now = [self._waiting.popleft() for _ in range(min(self._service.batch, len(self._waiting)))]
            for client, answer in self._service.answers(now):
                _send(client, answer)

    def _hear(self, client: Connection) -> None:
        """Takes a client's query, or its leave."""
        try:
            self._waiting.append(Query(client, *client.recv()))
        except (EOFError, OSError):
            self._clients.remove(client)
            self._waiting = deque(query for query in self._waiting if query.client is not client)
            self._service.forget(client)
            client.close()


def _send(client: Any, answer: Answer) -> None:
    try:
        with contextlib.suppress(OSError):  # it is gone: the next round will notice
            client.send(answer)
    except Exception as error:  # what a policy answered cannot be pickled
        client.send(Answer(True, (reason(error), full(error), False)))
