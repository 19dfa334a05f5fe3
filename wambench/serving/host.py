"""Where a served policy lives: one thread computes, and every client has an episode of its own."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from wambench.evaluation.plan_validation import validate_plan
from wambench.interface import Observation, Plan, Policy
from wambench.policies.remote.client import OFFERED


class PolicyHost:
    """A policy in a thread of its own, so that a server answers health checks while it computes.

    Clients take turns. A policy with `session` keeps what it knows of an episode in a value that `reset` replaces, so
    that a shallow copy for each client shares its networks; any other policy is made for each client, and used again
    when a client has gone.

    Args:
        make: Makes the policy.
        most: Clients at a time.
    """

    def __init__(self, make: Callable[[], Policy], most: int) -> None:
        self._make, self._most = make, most
        self._thread = ThreadPoolExecutor(1)
        self.policy = self._call(self._first)
        self._shared = hasattr(self.policy, "session")
        self._free: list[Policy] = [self.policy]
        self.clients = 0

    def _first(self) -> Policy:
        policy = self._make()
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)  # as in a run: the same answers, bit by bit
        return policy

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._thread.submit(function, *arguments).result()

    def enter(self) -> Seat:
        """Returns the place of a new client; ValueError if all are taken."""
        return self._call(self._enter)

    def _enter(self) -> Seat:
        if self.clients >= self._most:
            raise ValueError(f"this server has {self.clients} clients already (--clients {self._most})")
        policy = copy.copy(self.policy) if self._shared else self._unused()
        self.clients += 1
        return Seat(self, policy)

    def _unused(self) -> Policy:
        return self._free.pop() if self._free else self._make()

    def leave(self, policy: Policy) -> None:
        """Gives a place back."""
        self._call(self._leave, policy)

    def _leave(self, policy: Policy) -> None:
        self.clients -= 1
        if not self._shared:
            self._free.append(policy)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Returns what a function returns in the policy's thread."""
        return self._call(function, *arguments)

    def close(self) -> None:
        """Ends the thread after the call in progress."""
        self._thread.shutdown(wait=True, cancel_futures=True)


class Seat:
    """One client's episode."""

    def __init__(self, host: PolicyHost, policy: Policy) -> None:
        self._host, self._policy = host, policy

    def begin(self, instruction: str, seed: int) -> None:
        """Starts an episode."""
        self._host.call(self._policy.reset, instruction, seed)

    def act(self, history: Sequence[Observation], method: str = "act", *more: Any) -> Plan:
        """Returns the policy's next plan, checked.

        Args:
            history: What was seen.
            method: "act", or another one of `OFFERED` that the policy has.
            more: Its further arguments.
        """
        if method != "act" and method not in offered(self._policy):
            raise ValueError(f"this policy has no {method}")
        return self._host.call(self._act, history, method, *more)

    def leave(self) -> None:
        """Makes room for another client."""
        self._host.leave(self._policy)

    def _act(self, history: Sequence[Observation], method: str, *more: Any) -> Plan:
        made = getattr(self._policy, method)(history, *more)
        return validate_plan(made if isinstance(made, Plan) else Plan(made), self._policy.convention)


def offered(policy: Policy) -> list[str]:
    """Returns what a policy can be asked beside `act`, of `OFFERED`."""
    return [name for name in OFFERED if hasattr(policy, name)]
