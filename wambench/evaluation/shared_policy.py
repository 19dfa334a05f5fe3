"""The client of a `query_service`: a policy for whoever holds it, while the real one answers elsewhere."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from wambench.evaluation.failures import RelayedError, full
from wambench.evaluation.query_service import Answer
from wambench.interface import ControlConvention, Observation, Plan, Policy
from wambench.records.rows import MACHINE

LOST = f"{MACHINE}the policy's process died"

Ask = Callable[[str, tuple[Any, ...]], Answer]  # method and arguments of a query -> its answer


class SharedPolicy:
    """A policy that answers elsewhere. What it raises there is raised here as `RelayedError`.

    It has `act_guided`, and attributes such as `weights_hash`, if the policy has.

    Args:
        ask: Asks a query and returns its answer.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        facts = self._result("facts")
        self.convention: ControlConvention = facts.convention
        vars(self).update(facts.others)
        if facts.guided:
            self.act_guided = self._act_guided

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode."""
        self._result("reset", instruction, seed)

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns the policy's plan."""
        return self._result("act", history)

    def _act_guided(self, history: Sequence[Observation], previous: np.ndarray, delay: int) -> Plan:
        return self._result("act_guided", history, previous, delay)

    def _result(self, method: str, *arguments: Any) -> Any:
        answer = self._ask(method, arguments)
        if answer.failed:
            raise RelayedError(*answer.result)
        return answer.result


class AskBySocket:
    """Asks through a Unix socket.

    It connects when it is first asked, and again after the other side has died: as long as somebody keeps the listening
    socket open, a new process at its end finds those who wait.

    Args:
        address: Path of the socket.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: Connection | None = None

    def __call__(self, method: str, arguments: tuple[Any, ...]) -> Answer:
        """Returns the answer; the end of the connection is an error of the machine."""
        try:
            if self._connection is None:
                with socket.socket(socket.AF_UNIX) as end:
                    end.connect(self._address)
                    self._connection = Connection(end.detach())
            self._connection.send((method, arguments))
            answer: Answer = self._connection.recv()
        except (EOFError, OSError) as error:
            self._connection = None
            raise RelayedError(LOST, full(error), machine=True) from error
        return answer


@dataclass(frozen=True)
class ConnectBySocket:
    """Makes the client of a policy behind a Unix socket, in whatever process it is called."""

    address: str

    def __call__(self) -> Policy:
        return SharedPolicy(AskBySocket(self.address))
