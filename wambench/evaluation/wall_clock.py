"""The real clock: the policy computes in a worker of its own while a paced simulator goes on.

A turn is the same as on the virtual clock (`clock`), but what the delay will be is found out tick by tick. For people
with a GPU; rows depend on the machine. What an episode leaves unanswered at its end is cancelled: its result
is dropped, and the next episode begins when the call in progress has returned.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor as Worker
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from wambench.evaluation.clock import Seconds, expected, policy_at_work, until_query
from wambench.evaluation.executors import Answer, Executor, Timeline
from wambench.evaluation.plan_validation import validate_plan, without_tensors
from wambench.evaluation.process_pool import SPAWN, die_with_parent
from wambench.interface import Chunk, EpisodeSpec, Observation, Outcome, Plan, Policy, Simulator


class Inference:
    """A policy in a thread (for a GPU: the interpreter is free while it computes) or in a process (for a CPU).

    Args:
        policy: The policy itself, for a thread; or a function that makes it, picklable, for a process.
    """

    def __init__(self, policy: Policy | Callable[[], Policy]) -> None:
        self._worker: Worker
        self._ask: Callable[..., tuple[Any, float]]
        if isinstance(policy, Policy):
            self._worker, self._ask = ThreadPoolExecutor(1), _Caller(policy)
        else:
            self._worker = ProcessPoolExecutor(1, SPAWN, _enter_process, (policy,))
            self._ask = _ask_process

    def submit(self, method: str, *arguments: Any) -> Future[tuple[Any, float]]:
        """Returns the promise of a method's result and the seconds it took; calls are answered one by one."""
        return self._worker.submit(self._ask, method, *arguments)

    def close(self) -> None:
        """Ends the worker after the call in progress."""
        self._worker.shutdown(wait=True, cancel_futures=True)


class _Caller:
    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def __call__(self, method: str, *arguments: Any) -> tuple[Any, float]:
        began = time.perf_counter()
        result = getattr(self._policy, method)(*arguments)
        took_s = time.perf_counter() - began
        return without_tensors(result) if isinstance(result, Plan) else result, took_s  # tensors do not always pickle


_caller: _Caller | None = None  # of an inference process


def _enter_process(make: Callable[[], Policy]) -> None:
    global _caller
    threading.Thread(target=die_with_parent, daemon=True).start()
    _caller = _Caller(make())
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def _ask_process(method: str, *arguments: Any) -> tuple[Any, float]:
    assert _caller is not None
    return _caller(method, *arguments)


class Wall:
    """The wall clock.

    Args:
        inference: Where the policy computes.
        executor: How chunks are played.
        seconds: Latency of a call; an answer that comes earlier is held back until then.
        replan: Control steps from query to query, at most the plan's length; None for the executor's own.
        pace: Times as fast as the simulator's own time, latencies included.
    """

    def __init__(
        self, inference: Inference, executor: Executor, seconds: Seconds, replan: int | None = None, pace: float = 1.0
    ) -> None:
        self._inference, self._executor, self._seconds, self._replan = inference, executor, seconds, replan
        self._pace = pace
        self._open: Future[tuple[Plan, float]] | None = None

    def begin(self, sim: Simulator, policy: Policy, spec: EpisodeSpec) -> None:
        self._sim = sim
        self._timeline = Timeline(self._executor.blend, sim.convention)
        self._delays: list[int] = []
        self._period_s = 1.0 / (sim.convention.control_hz * self._pace)
        with policy_at_work():
            self._inference.submit("reset", spec.instruction, spec.seed).result()
        self._due = time.perf_counter()

    def turn(self, outcome: Outcome) -> tuple[Chunk, Outcome]:
        state = self._sim.snapshot()
        self._timeline.state = outcome.observations[-1].state
        turn = _Turn(self._sim, self._timeline, outcome)
        asked = self._query(outcome)
        chunk: Chunk | None = None
        while True:
            if chunk is None:
                with policy_at_work():
                    chunk = self._answered(turn, state, asked)
            if turn.over or (chunk and turn.ticks >= self._stop(chunk)):
                break
            turn.tick()
            self._sleep()
        nothing = Plan(np.zeros((0, self._sim.convention.action_dim)), 0)
        chunk = chunk or Chunk(turn.start, state, nothing, turn.executed, math.nan, turn.ticks)  # cancelled
        return replace(chunk, executed=turn.executed, progress=turn.outcome.progress), turn.seen

    def end(self) -> None:
        """Drops what is still being computed."""
        if self._open is not None:
            self._open.cancel()
            self._open = None

    def _stop(self, chunk: Chunk) -> int:
        """Returns how many steps a turn has."""
        return until_query(chunk.plan, self._executor, self._replan, chunk.delay)

    def _query(self, outcome: Outcome) -> float:
        history = outcome.observations
        previous = expected(self._executor, self._timeline, outcome.steps, self._delays)
        asked = time.perf_counter()
        self._open = self._inference.submit(
            *(("act", history) if previous is None else ("act_guided", history, *previous))
        )
        return asked

    def _answered(self, turn: _Turn, state: bytes, asked: float) -> Chunk | None:
        """Returns the chunk of the open query if it is there by now; an executor that waits waits for it."""
        assert self._open is not None
        waits, query, before = self._executor.waits, len(self._delays), time.perf_counter()
        if not waits and not self._open.done():
            return None
        answer, latency_s = self._open.result()
        left = self._seconds(query, 0.0) / self._pace - (time.perf_counter() - asked)
        if left > 0 and not waits:
            return None
        time.sleep(max(0.0, left))
        self._open = None
        plan = validate_plan(answer, self._sim.convention)
        delay = turn.ticks
        if waits:
            delay = math.ceil((time.perf_counter() - before) / self._period_s)
            self._due = time.perf_counter()  # the simulator stood still
        self._delays.append(delay)
        self._timeline.add(Answer(turn.start, turn.start if waits else turn.start + delay, plan.actions))
        return Chunk(turn.start, state, plan, turn.executed, latency_s, delay)

    def _sleep(self) -> None:
        """Waits for the next control step; one that came too late shifts those after it."""
        self._due = max(self._due + self._period_s, time.perf_counter() - self._period_s)
        time.sleep(max(0.0, self._due - time.perf_counter()))


class _Turn:
    """The control steps from one query to the next."""

    def __init__(self, sim: Simulator, timeline: Timeline, outcome: Outcome) -> None:
        self.start, self.outcome = outcome.steps, outcome
        self._sim, self._timeline = sim, timeline
        self._seen: list[Observation] = []
        self._actions: list[np.ndarray] = []

    @property
    def ticks(self) -> int:
        """Control steps so far."""
        return len(self._actions)

    @property
    def over(self) -> bool:
        """The episode has ended."""
        return self.outcome.terminated or self.outcome.truncated

    @property
    def executed(self) -> np.ndarray:
        """(n, A) actions so far."""
        return np.array(self._actions).reshape(len(self._actions), self._sim.convention.action_dim)

    @property
    def seen(self) -> Outcome:
        """The outcome of all steps: observations at the video rate, and the one of now."""
        stride = self._sim.convention.frame_stride
        kept = [o for o in self._seen[:-1] if o.step % stride == 0]
        return replace(self.outcome, observations=(*kept, *self._seen[-1:]))

    def tick(self) -> None:
        """Carries out one action."""
        self._actions.append(self._timeline.action(self.start + self.ticks))
        self.outcome = self._sim.step_chunk(self._actions[-1][None])
        self._seen.extend(self.outcome.observations)


def inference_of(policy: Policy, make: Callable[[], Policy]) -> Inference:
    """Returns where a policy computes: a thread if on a GPU or behind a socket, else a process, which makes its own."""
    elsewhere = str(getattr(policy, "device", "cpu")).startswith(("cuda", "remote"))
    return Inference(policy if elsewhere else make)
