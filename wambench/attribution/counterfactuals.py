"""Definition 2, the intervention: the episode again, with the expert's video or the tracker's actions put in.

A counterfactual is a rollout of the same episode in which one part of the policy is replaced. f(video, actions) is its
progress, and each of the two is the policy's own or the oracle's:

    f(own, own)        the policy as it is                       `play_own`
    f(oracle, own)     its actions for the expert's video        `play_extracted`
    f(own, oracle)     its video, followed by the instrument     `play_followed`
    f(oracle, oracle)  the expert's video, followed likewise     `play_followed`

A policy's video is what it imagines at each query; the oracle's is the expert's future (`oracle`). A policy's actions
for a given video are its `extract`; the oracle's actions for any video are a servo along the poses that are read out of
its frames (`frame_reading`). The placebo is a treatment that should change nothing: the policy's own video, put in by
`extract`. Everything random is a function of (episode seed, env step), so the rollouts are paired.

What the four say of an episode is arithmetic (`shapley`, `verdicts.intervention_verdict`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard

import numpy as np

from wambench.attribution.frame_reading import FrameInterpreter
from wambench.attribution.oracle import OracleSim
from wambench.attribution.pose_servo import Servo
from wambench.evaluation.plan_validation import validate_plan
from wambench.interface import ControlConvention, Episode, EpisodeSpec, Observation, Outcome, Plan, Policy

UNREADABLE = 0.5  # a rollout in which more than this share of the frames is unread says nothing
LOOK = 8  # control steps that the servo follows a video for at least: half the cost of 4, and what the ceiling had


class Imagining(Policy, Protocol):
    """A world action model whose actions for a given future can be asked for."""

    def extract(self, history: Sequence[Observation], frames: np.ndarray) -> np.ndarray:
        """Returns its own actions (H, A) for (K, h, w, 3) frames."""


def can_extract(policy: Policy) -> TypeGuard[Imagining]:
    """Returns whether a policy's actions for a given future can be asked for."""
    return callable(getattr(policy, "extract", None))


@dataclass(frozen=True)
class ChunkTiming:
    """When a policy answers.

    Attributes:
        offsets: Env steps from a query to each frame that it imagines.
        execute: Actions carried out before the next query.
    """

    offsets: tuple[int, ...]
    execute: int


def timing_of(episode: Episode) -> ChunkTiming | None:
    """Returns when the policy of a recorded episode answered; None if it imagined nothing."""
    for chunk in episode.chunks:
        plan = chunk.plan
        if plan.frames is not None and plan.frame_steps is not None:
            offsets = tuple(int(step) - chunk.step for step in plan.frame_steps)
            return ChunkTiming(offsets, int(plan.execute or len(plan.actions)))
    return None


@dataclass(frozen=True)
class RolloutResult:
    """What came of a rollout.

    Attributes:
        progress: Reached, in [0, 1].
        shown: Frames that the servo should have followed.
        unread: How many of them could not be read.
        difference: Largest difference of an action from the one that the policy gave by itself.
    """

    progress: float
    shown: int = 0
    unread: int = 0
    difference: float = 0.0

    @property
    def value(self) -> float:
        """The progress, NaN if too little could be read."""
        return float("nan") if self.unread > UNREADABLE * self.shown else self.progress


def play_own(sim: OracleSim, spec: EpisodeSpec, policy: Policy, timing: ChunkTiming) -> RolloutResult:
    """Returns f(own, own): the episode as the policy plays it when its answers take no time.

    Args:
        sim: A simulator of the episode's task.
        spec: The episode.
        policy: Imagines frames.
        timing: How many actions are carried out before the next query.

    Raises:
        ValueError: The policy imagined nothing.
    """
    outcome = _begin(sim, spec, policy)
    while not _is_over(outcome):
        plan, _ = _imagine(policy, outcome.observations, sim.convention)
        outcome = _step(sim, plan.actions, timing)
    return RolloutResult(outcome.progress)


def play_extracted(
    interpreter: FrameInterpreter, spec: EpisodeSpec, policy: Imagining, timing: ChunkTiming, placebo: bool = False
) -> RolloutResult:
    """Returns f(oracle, own): the episode with the policy's actions for the expert's video.

    Args:
        interpreter: Of a simulator of the episode's task.
        spec: The episode.
        policy: Extracts actions.
        timing: Env steps at which it expects frames, and how many actions are carried out before the next query.
        placebo: Put in its own video instead.

    Raises:
        ValueError: The policy imagined nothing, and its own video was to be put in.
    """
    sim = interpreter.sim
    outcome = _begin(sim, spec, policy)
    difference = 0.0
    while not _is_over(outcome):
        history = outcome.observations
        if placebo:
            plan, frames = _imagine(policy, history, sim.convention)
            actions = policy.extract(history, frames)
            difference = max(difference, float(np.abs(actions - plan.actions).max()))
        else:
            actions = policy.extract(history, interpreter.oracle.video(timing.offsets))
        outcome = _step(sim, actions, timing)
    return RolloutResult(outcome.progress, difference=difference)


def play_followed(
    interpreter: FrameInterpreter, spec: EpisodeSpec, policy: Policy | None, timing: ChunkTiming
) -> RolloutResult:
    """Returns f(own, oracle): the episode with a servo that follows the policy's video.

    Args:
        interpreter: Reads the frames, of a simulator of the episode's task.
        spec: The episode.
        policy: Imagines frames; None for the expert's video instead, f(oracle, oracle).
        timing: Env steps from a query to each frame, and control steps between queries (at least `LOOK`).

    Raises:
        ValueError: The policy imagined nothing.
    """
    sim = interpreter.sim
    servo = Servo()
    outcome = _begin(sim, spec, policy)
    shown = 0
    unread = 0
    while not _is_over(outcome):
        history = outcome.observations
        if policy is None:
            frames = interpreter.oracle.video(timing.offsets)
            hands = None
        else:
            plan, frames = _imagine(policy, history, sim.convention)
            hands = plan.frame_hands
        unread += interpreter.aim(servo, history[-1], frames, timing.offsets, hands)
        shown += len(interpreter.paths.steps)
        outcome = follow(sim, servo, max(timing.execute, LOOK))
    return RolloutResult(outcome.progress, shown, unread)


def follow(sim: OracleSim, servo: Servo, steps: int, beyond: bool = False) -> Outcome:
    """Lets the servo drive for some steps and returns the outcome, with observations at the video rate.

    Args:
        sim: A simulator.
        servo: On its way.
        steps: Control steps, at least 1.
        beyond: Whether it goes on beyond the episode's end.
    """
    stride = sim.convention.frame_stride
    seen: list[Observation] = []
    for i in range(steps):
        outcome = sim.advance(servo.act(sim.proprioception()))
        over = _is_over(outcome) and not beyond
        if over or i == steps - 1 or outcome.steps % stride == 0:
            seen.append(sim.observe())
        if over:
            break
    return dataclasses.replace(outcome, observations=tuple(seen))


def _begin(sim: OracleSim, spec: EpisodeSpec, policy: Policy | None) -> Outcome:
    outcome = sim.begin(spec)
    if policy is not None:
        policy.reset(spec.instruction, spec.seed)
    return outcome


def _is_over(outcome: Outcome) -> bool:
    return outcome.terminated or outcome.truncated


def _step(sim: OracleSim, actions: np.ndarray, timing: ChunkTiming) -> Outcome:
    return sim.step_chunk(np.clip(actions[: timing.execute], *sim.convention.limits()))


def _imagine(policy: Policy, history: Sequence[Observation], convention: ControlConvention) -> tuple[Plan, np.ndarray]:
    """Returns a policy's answer and the frames in it."""
    plan = validate_plan(policy.act(history), convention)
    if plan.frames is None:
        raise ValueError(f"the policy imagined nothing at step {history[-1].step}, though it did in the run")
    return plan, plan.frames
