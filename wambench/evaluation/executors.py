"""How chunks become actions when answers take time: which chunk plays at a control step, and what that costs.

An executor knows chunks, when they were asked for, and how many steps their answers took (the delay d); it knows
neither the environment nor the policy. At most one query is open, so that the next one is asked max(d, replan) steps
after the last: of the n steps between two queries the first d play what was there before, the rest the new chunk
(Black et al., arXiv 2506.07339, "naive asynchronous"). With d = 0 every executor but `ensemble` and `rtc` is `sync`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from wambench.interface import Chunk, ControlConvention, unknown_name

ENSEMBLE_DECAY = 0.01  # m of ACT (Zhao et al., arXiv 2304.13705)


@dataclass(frozen=True)
class Answer:
    """A chunk on the clock.

    Attributes:
        step: Control step at which it was asked for; action i is for step + i.
        ready: Control step from which it may be played.
        actions: (H, A).
    """

    step: int
    ready: int
    actions: np.ndarray

    def at(self, step: int) -> np.ndarray | None:
        """Returns the (A,) action for a control step, None if the chunk does not reach there."""
        return self.actions[step - self.step] if step - self.step < len(self.actions) else None


Blend = Callable[[Sequence[Answer], int], np.ndarray | None]


def newest(answers: Sequence[Answer], step: int) -> np.ndarray | None:
    """Returns the action for a step by the newest chunk that is ready; None if there is none or it has run dry."""
    for answer in reversed(answers):
        if answer.ready <= step:
            return answer.at(step)
    return None


def ensembled(answers: Sequence[Answer], step: int) -> np.ndarray | None:
    """Returns ACT's average of what all ready chunks say for a step: weights exp(-m i), i = 0 for the oldest."""
    said = [action for answer in answers if answer.ready <= step and (action := answer.at(step)) is not None]
    if not said:
        return None
    weights = np.exp(-ENSEMBLE_DECAY * np.arange(len(said)))
    return weights @ np.stack(said) / weights.sum()


@dataclass(frozen=True)
class Executor:
    """One way of playing chunks.

    Attributes:
        blend: Which action is for a step, of the chunks that are ready.
        waits: The simulator waits for every answer.
        replan: Control steps from query to query (0: as many as the plan says).
        guided: The policy is told what will be carried out while it computes (`interface.Guided`).
    """

    blend: Blend = newest
    waits: bool = False
    replan: int = 0
    guided: bool = False


EXECUTORS: Mapping[str, Executor] = MappingProxyType(
    {
        "sync": Executor(waits=True),
        "async": Executor(),
        "ensemble": Executor(ensembled, replan=1),
        "rtc": Executor(guided=True),
    }
)


def find(name: str) -> Executor:
    """Returns an executor; raises ValueError with what exists."""
    if name not in EXECUTORS:
        raise unknown_name("executor", name, EXECUTORS)
    return EXECUTORS[name]


class Timeline:
    """The chunks of one episode as they come in, and the actions that follow from them.

    Args:
        blend: Of the executor.
        convention: Declares the hold action.
    """

    def __init__(self, blend: Blend, convention: ControlConvention) -> None:
        self._blend, self._convention = blend, convention
        self.state: np.ndarray | None = None  # of the newest observation: where the robot is held before any action
        self._answers: list[Answer] = []
        self._last: np.ndarray | None = None

    def add(self, answer: Answer) -> None:
        """Adds a chunk."""
        self._answers.append(answer)

    def action(self, step: int) -> np.ndarray:
        """Returns the (A,) action to carry out at a step; the embodiment's hold action if no chunk has one."""
        action = self._blend(self._answers, step)
        self._last = self._convention.hold_action(self._last, self.state) if action is None else action
        return self._last

    def actions(self, start: int, stop: int) -> np.ndarray:
        """Returns the (n, A) actions of control steps [start, stop)."""
        return np.stack([self.action(step) for step in range(start, stop)])

    def ahead(self, step: int, delay: int) -> np.ndarray:
        """Returns (n, A) what will be carried out from a step on if nothing new comes, at least `delay` of it."""
        coming: list[np.ndarray] = []
        while (action := self._blend(self._answers, step + len(coming))) is not None:
            coming.append(action)
        while len(coming) < delay:
            coming.append(self._convention.hold_action(coming[-1] if coming else self._last, self.state))
        return np.stack(coming) if coming else np.zeros((0, self._convention.action_dim))


@dataclass(frozen=True)
class Timing:
    """What time did to an episode.

    Attributes:
        stale_ratio: Share of control steps whose action rests on an older observation than the newest query's.
        holds: Control steps at which the hold action was sent.
        effective_hz: Control steps with an action of the policy, per second of the clock, waiting included.
        boundary_jump: Mean over the switches of |new - old|_2, what the step of the switch would have been without the
            new chunk against what it is; without the gripper; NaN if no two chunks ever reach to the same step.
        jerk: Root mean square of the second difference of the commands carried out, without the gripper, times rate^2:
            commands are displacements, so this is the third derivative of the commanded path, in units of an action.
        progress_wall: Progress within the episode's time (horizon / rate), of which waiting takes its part.
    """

    stale_ratio: float = math.nan
    holds: int = 0
    effective_hz: float = math.nan
    boundary_jump: float = math.nan
    jerk: float = math.nan
    progress_wall: float = math.nan


def timing(
    chunks: Sequence[Chunk], executor: str, convention: ControlConvention, horizon: int, progress: float
) -> Timing:
    """Returns what time did to an episode that was recorded as `chunks`.

    Args:
        chunks: As recorded.
        executor: Which one played.
        convention: Rate of the actions, and what they mean.
        horizon: Control steps of the episode's time.
        progress: At its end.
    """
    how = find(executor)
    steps = sum(len(chunk.executed) for chunk in chunks)
    if steps == 0:
        return Timing(progress_wall=progress)
    end = chunks[0].step + steps
    answers: list[Answer] = []
    stale = holds = 0
    jumps = []
    for chunk in chunks:
        ready = chunk.step if how.waits else chunk.step + chunk.delay
        before = tuple(answers)
        answers.append(Answer(chunk.step, ready, chunk.plan.actions))
        span = range(chunk.step, chunk.step + len(chunk.executed))
        held = [step for step in span if how.blend(answers, step) is None]
        holds += len(held)
        stale += sum(step < ready and step not in held for step in span)
        old, new = how.blend(before, ready), how.blend(answers, ready)
        if ready < end and old is not None and new is not None:
            jumps.append(float(np.linalg.norm((new - old)[:-1])))
    waited = sum(chunk.delay for chunk in chunks) if how.waits else 0
    return Timing(
        stale_ratio=stale / steps,
        holds=holds,
        effective_hz=(steps - holds) * convention.control_hz / (steps + waited),
        boundary_jump=float(np.mean(jumps)) if jumps else math.nan,
        jerk=jerk(np.concatenate([chunk.executed for chunk in chunks]), convention.control_hz),
        progress_wall=progress_within(chunks, horizon, progress) if waited else progress,
    )


def jerk(actions: np.ndarray, control_hz: float) -> float:
    """Returns the jerk (see `Timing`) of (n, A) displacements, NaN for fewer than three."""
    if len(actions) < 3:
        return math.nan
    second = np.diff(actions[:, :-1], 2, axis=0)
    return float(np.sqrt((second**2).sum(axis=1).mean())) * control_hz**2


def progress_within(chunks: Sequence[Chunk], horizon: int, progress: float, delay: int | None = None) -> float:
    """Returns the progress after the last whole chunk within `horizon` steps of the clock, if the simulator waits.

    Args:
        chunks: As recorded.
        horizon: Control steps of the episode's time.
        progress: At the end of the episode.
        delay: Steps of waiting at every query; None for those that were recorded.
    """
    now, reached = 0, 0.0
    for chunk in chunks:
        now += (chunk.delay if delay is None else delay) + len(chunk.executed)
        if now > horizon:
            return reached
        reached = chunk.progress
    return progress
