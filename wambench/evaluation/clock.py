"""The clock that runs while a policy computes: virtual, so that the same run gives the same rows on any machine.

A clock plays an episode query by query. On the virtual one an answer is there at once, and takes effect as many control
steps later as its latency says; what happens meanwhile is known, so a turn is one `step_chunk`. See `wallclock` for the
real one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from wambench.evaluation.executors import EXECUTORS, Answer, Executor, Timeline
from wambench.evaluation.latency import delay_steps
from wambench.evaluation.plan_validation import validate_plan
from wambench.interface import (
    Chunk,
    EpisodeSpec,
    Guided,
    Observation,
    Outcome,
    Plan,
    Policy,
    SimulationDiverged,
    Simulator,
)

RECENT = 10  # delays whose largest is expected of the next answer, as in real-time chunking
Seconds = Callable[[int, float], float]  # number of the call, measured seconds -> seconds on the clock


class PolicyFailed(Exception):
    """A policy raised, or answered with an invalid plan; `__cause__` is what it raised."""


@contextlib.contextmanager
def policy_at_work() -> Iterator[None]:
    """Turns what a policy raises into PolicyFailed.

    A policy that looks ahead in a simulator (the expert) may make that diverge: this stays the simulator's failure.
    """
    try:
        yield
    except SimulationDiverged:
        raise
    except (Exception, SystemExit) as error:
        raise PolicyFailed(str(error)) from error


class Clock(Protocol):
    """Plays an episode. What the policy raises comes out as PolicyFailed, everything else is the simulator's."""

    def begin(self, sim: Simulator, policy: Policy, spec: EpisodeSpec) -> None:
        """Starts an episode in a simulator that has begun it."""

    def turn(self, outcome: Outcome) -> tuple[Chunk, Outcome]:
        """Asks the policy once and plays until the next query, or to the episode's end."""

    def end(self) -> None:
        """Ends the episode; what is still being computed is dropped."""


class Virtual:
    """The virtual clock.

    Args:
        executor: How chunks are played.
        seconds: Latency of a call.
        replan: Control steps from query to query, at most the plan's length; None for the executor's own.
    """

    def __init__(
        self, executor: Executor = EXECUTORS["sync"], seconds: Seconds = lambda _, __: 0.0, replan: int | None = None
    ) -> None:
        self._executor, self._seconds, self._replan = executor, seconds, replan

    def begin(self, sim: Simulator, policy: Policy, spec: EpisodeSpec) -> None:
        self._sim, self._policy = sim, policy
        self._timeline = Timeline(self._executor.blend, sim.convention)
        self._delays: list[int] = []
        with policy_at_work():
            policy.reset(spec.instruction, spec.seed)

    def turn(self, outcome: Outcome) -> tuple[Chunk, Outcome]:
        step, state, convention = outcome.steps, self._sim.snapshot(), self._sim.convention
        self._timeline.state = outcome.observations[-1].state
        with policy_at_work():
            asked = time.perf_counter()
            answer = self._ask(outcome.observations)
            latency_s = time.perf_counter() - asked
            plan = validate_plan(answer, convention)
        delay = delay_steps(self._seconds(len(self._delays), latency_s), convention.control_hz)
        self._delays.append(delay)
        waits = self._executor.waits
        self._timeline.add(Answer(step, step if waits else step + delay, plan.actions))
        stop = step + max(until_query(plan, self._executor, self._replan, delay), 0 if waits else delay)
        actions = self._timeline.actions(step, stop)
        outcome = self._sim.step_chunk(actions)
        return Chunk(step, state, plan, actions[: outcome.steps - step], latency_s, delay, outcome.progress), outcome

    def end(self) -> None:
        """Nothing is ever open here."""

    def _ask(self, history: Sequence[Observation]) -> Plan:
        previous = expected(self._executor, self._timeline, history[-1].step, self._delays)
        if previous is None:
            return self._policy.act(history)
        assert isinstance(self._policy, Guided)
        return self._policy.act_guided(history, *previous)


def until_query(plan: Plan, executor: Executor, replan: int | None, delay: int) -> int:
    """Returns the control steps from one query to the next if its answer is there in time.

    What a plan or executor wants by itself is cut so that the next answer is expected before this chunk runs dry; what
    was asked for (`replan`) is not.
    """
    length = len(plan.actions)
    if replan is not None:
        return min(replan, length)
    wanted = min(executor.replan or plan.execute or length, length)
    return wanted if executor.waits else max(1, min(wanted, length - delay))


def expected(executor: Executor, timeline: Timeline, step: int, delays: Sequence[int]) -> tuple[np.ndarray, int] | None:
    """Returns what a guided policy is told: the actions to come and the delay to expect; None at the first query."""
    if not executor.guided or not delays:
        return None
    delay = max(delays[-RECENT:])
    return timeline.ahead(step, delay), delay
