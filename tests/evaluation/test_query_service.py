"""One policy for many episodes: the answers of single calls, nobody waits for a batch, nobody starves."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.policies.test_contract import observations
from tests.stubs import Faulty, Steady, Together
from wambench import policies
from wambench.evaluation.failures import RelayedError
from wambench.evaluation.process_pool import SPAWN
from wambench.evaluation.query_service import Answer, Query, QueryService, SocketServer
from wambench.evaluation.shared_policy import AskBySocket, SharedPolicy
from wambench.interface import Batched, Guided, Observation, Plan, Policy

HISTORY = observations(Steady(), 4)


def ask(service: QueryService, *queries: tuple[Any, ...]) -> dict[Any, Answer]:
    """Returns the answers to queries of (client, method, arguments...) that came at the same time."""
    return dict(service.answers([Query(client, method, rest) for client, method, *rest in queries]))  # type: ignore


@contextmanager
def served(service: QueryService, place: Path) -> Iterator[str]:
    """Serves in a thread, and yields the address."""
    ours, theirs = SPAWN.Pipe()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "s"))
        listener.listen()
        thread = threading.Thread(target=SocketServer(service, listener).serve, args=([theirs],))
        thread.start()
        try:
            yield str(place / "s")
        finally:
            ours.send("stop")
            thread.join()


def test_a_batch_is_one_call_and_gives_the_answers_of_single_ones() -> None:
    policy = Together()
    service = QueryService(lambda: policy, batch=8)
    ask(service, *((client, "reset", "go", 10 + client) for client in range(5)))
    for step in range(3):
        together = ask(service, *((client, "act", HISTORY[step : step + 1]) for client in range(5)))
        assert policy.sizes[-1] == 5
        for client in range(5):
            alone = Together()
            alone.reset("go", 10 + client)
            plans = [alone.act(HISTORY[i : i + 1]) for i in range(step + 1)]
            np.testing.assert_array_equal(together[client].result.actions, plans[-1].actions)


def test_an_error_in_a_batch_is_that_of_one_episode() -> None:
    policy = Together(every=5)
    service = QueryService(lambda: policy, batch=8)
    ask(service, *((client, "reset", "go", 10 + client) for client in range(3)))
    answers = ask(service, *((client, "act", HISTORY) for client in range(3)))
    assert policy.sizes == [3, 1, 1, 1] and [answers[i].failed for i in range(3)] == [True, False, False]
    reason, traceback, machine = answers[0].result
    assert reason.startswith("KeyError: 'no such object' (stubs.py:") and "act_batch" in traceback and not machine


def test_a_wrong_number_of_plans_is_found_out() -> None:
    class Short(Together):
        def act_batch(self, sessions: Sequence[Any], histories: Sequence[Sequence[Observation]]) -> list[Plan]:
            return super().act_batch(sessions, histories)[:1]

    service = QueryService(Short, batch=8)
    ask(service, *((client, "reset", "go", client) for client in range(2)))
    answers = ask(service, *((client, "act", HISTORY[:1]) for client in range(2)))
    assert not answers[0].failed and not answers[1].failed, "one by one it has an answer for each"


def test_a_policy_of_one_episode_has_a_copy_for_each_client() -> None:
    made: list[Policy] = []

    def make() -> Policy:
        made.append(policies.load("random"))
        return made[-1]

    service = QueryService(make, batch=8)
    ask(service, *((client, "reset", "go", client) for client in range(3)))
    answers = [ask(service, *((client, "act", HISTORY[:1]) for client in range(3))) for _ in range(2)]
    assert len(made) == 3
    for client in range(3):
        alone = policies.load("random")
        alone.reset("go", client)
        for both in answers:
            np.testing.assert_array_equal(both[client].result.actions, alone.act(HISTORY[:1]).actions)
    service.forget(1)
    ask(service, (7, "reset", "go", 7))
    assert len(made) == 3, "the copy of a client that is gone serves the next one"


def test_a_client_is_a_policy(tmp_path: Path) -> None:
    for policy in (Together(), Faulty(every=1)):
        with served(QueryService(lambda policy=policy: policy, batch=8), tmp_path) as address:  # type: ignore[misc]
            client = SharedPolicy(AskBySocket(address))
            assert client.convention == policy.convention and isinstance(client, Policy)
            assert isinstance(client, Guided) == isinstance(policy, Guided)
            client.reset("go", 3)
            policy.reset("go", 3)
            np.testing.assert_array_equal(client.act(HISTORY[:1]).actions, policy.act(HISTORY[:1]).actions)
        (tmp_path / "s").unlink()
    with pytest.raises(RelayedError, match="the policy's process died") as lost:
        client.act(HISTORY)
    assert lost.value.machine and lost.value.reason.startswith("machine: ")
    assert not hasattr(client, "act_guided") and not hasattr(client, "weights_hash")


def test_errors_come_over_as_they_were_raised(tmp_path: Path) -> None:
    with served(QueryService(lambda: Faulty(every=1), batch=8), tmp_path) as address:
        client = SharedPolicy(AskBySocket(address))
        with pytest.raises(RelayedError, match="started anew in the middle") as forgotten:
            client.act(HISTORY)
        assert forgotten.value.machine
        client.reset("go", 3)
        with pytest.raises(RelayedError, match="KeyError: 'no such object") as raised:
            client.act(HISTORY)
        assert not raised.value.machine and "stubs.py" in raised.value.traceback
        client.reset("go", 3)
        assert client.act(HISTORY[:1]).actions.shape == (8, 7), "and the next episode goes on"


def test_what_cannot_be_sent_is_an_error_of_its_episode(tmp_path: Path) -> None:
    class Odd(Steady):
        def act(self, history: Sequence[Observation]) -> Plan:
            return Plan(threading.Lock())  # type: ignore[arg-type]

    with served(QueryService(Odd, batch=8), tmp_path) as address:
        client = SharedPolicy(AskBySocket(address))
        client.reset("go", 3)
        with pytest.raises(RelayedError, match="cannot pickle"):
            client.act(HISTORY)


def test_one_query_does_not_wait_for_others_and_nobody_starves(tmp_path: Path) -> None:
    """Of 6 clients that ask again at once, in batches of 2, each has its share, and a lone one is served."""
    policy = Together(pause_s=0.002)
    counts = [0] * 6
    until = time.monotonic() + 1.0

    def play(number: int, address: str) -> None:
        client = SharedPolicy(AskBySocket(address))
        client.reset("go", number)
        while time.monotonic() < until:
            client.act(HISTORY[:1])
            counts[number] += 1

    with served(QueryService(lambda: policy, batch=2), tmp_path) as address:
        threads = [threading.Thread(target=play, args=(number, address)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert max(policy.sizes) == 2 and 10 < max(counts) < 2 * min(counts), "equal shares but for their start"
        policy.sizes.clear()
        play_alone = SharedPolicy(AskBySocket(address))
        play_alone.reset("go", 0)
        for _ in range(5):
            play_alone.act(HISTORY[:1])
        assert policy.sizes == [1] * 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dreamzero", "pi0", "l1"])
def test_shipped_policies_answer_a_batch_bit_by_bit_as_single_calls(name: str) -> None:
    policy = policies.load(name)
    assert isinstance(policy, Batched)
    service = QueryService(lambda: policy, batch=8)
    told = ["press the button", "open the drawer", "lift the red cube"]
    seen = [observations(policy, 3, seed=i) for i in range(3)]
    ask(service, *((i, "reset", told[i], i) for i in range(3)))
    first = ask(service, *((i, "act", seen[i][:1]) for i in range(3)))
    then = ask(service, *((i, "act", seen[i][1:]) for i in range(3)))
    alone = policies.load(name)
    for i in range(3):
        alone.reset(told[i], i)
        for together, history in ((first, seen[i][:1]), (then, seen[i][1:])):
            plan = alone.act(history)
            np.testing.assert_array_equal(together[i].result.actions, plan.actions)
            if plan.frames is not None:
                np.testing.assert_array_equal(together[i].result.frames, plan.frames)
