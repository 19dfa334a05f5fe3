"""Replay: an episode's actions are played again in a restored simulator, which shows its state at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from wambench.attribution.failure_types import Trace, classify, measure
from wambench.envs.objects import KEYPOINTS, OBJECTS
from wambench.interface import Episode, Outcome

if TYPE_CHECKING:
    from wambench.attribution.oracle import OracleSim

GRIPPED_M = 0.012  # closed fingers that push with both tips hold nothing


def behaviour(sim: OracleSim, episode: Episode) -> str:
    """Returns the type of failure of an episode (`failure_types.TYPES`), "" of a success; the policy needs no video.

    Args:
        sim: A simulator of the episode's task; it is left in the middle of another rollout.
        episode: As recorded, with at least one query.

    Raises:
        ValueError: The episode has no states, or its expert touches nothing.
    """
    return classify(measure(trace(sim, episode), expert_trace(sim, episode)))


def trace(sim: OracleSim, episode: Episode) -> Trace:
    """Returns the state at every control step; each chunk is played from its own snapshot, so nothing can drift."""
    recorder = _begin(sim, episode)
    for chunk in episode.chunks:
        sim.restore(chunk.state)
        for action in chunk.executed:
            recorder.record(sim.advance(action), action)
    return recorder.trace()


def expert_trace(sim: OracleSim, episode: Episode) -> Trace:
    """Returns the trace of the expert in the scene of an episode."""
    recorder = _begin(sim, episode)
    sim.restore(episode.chunks[0].state)
    while True:
        action = sim.expert_action()
        outcome = sim.advance(action)
        recorder.record(outcome, action)
        if outcome.terminated or outcome.truncated:
            return recorder.trace()


def _begin(sim: OracleSim, episode: Episode) -> TraceRecorder:
    if not episode.chunks:
        raise ValueError(f"{episode.spec.task}, seed {episode.spec.seed}: no query was recorded, so nothing is known")
    recorder = TraceRecorder(sim)
    recorder.record(sim.begin(episode.spec, render=False), np.array([0.0] * 6 + [-1.0]))
    return recorder


class TraceRecorder:
    """Takes down the state of a simulator step by step.

    Args:
        sim: Its `view` is read whenever `record` is called.
    """

    def __init__(self, sim: OracleSim) -> None:
        self._sim = sim
        self._objects = sim.task.objects
        # what a hand takes hold of: the handle of a drawer, not its middle
        keys = [next((k for k in KEYPOINTS if k.split("/")[0] == name), name) for name in self._objects]
        self._keys = keys
        self._ranges = [OBJECTS[name].joint_range for name in self._objects]
        self._steps: list[dict[str, np.ndarray]] = []
        self._success_ever = False
        low, high = sim.convention.limits()
        self._half_shut = 0.5 * (low[-1] + high[-1])  # of the gripper's number; 0 where it is a sign

    def record(self, outcome: Outcome, action: np.ndarray) -> None:
        """Takes down the state after an action."""
        view = self._sim.view
        objects = self._objects
        width = self._sim.view.width()
        joints = [
            np.nan if r is None else (view.joint(name) - r[0]) / (r[1] - r[0])
            for name, r in zip(objects, self._ranges, strict=True)
        ]
        self._success_ever = outcome.success_ever
        self._steps.append(
            {
                "hand": view.eef(),
                "width": np.array(width),
                "closing": np.array(action[-1] > self._half_shut),
                "places": np.array([view.pos(key) for key in self._keys]),
                "joints": np.array(joints),
                "touched": np.array([view.touching("fingers", name) for name in objects]),
                "held": np.array([width > GRIPPED_M and view.grasped(name) for name in objects]),
                "progress": np.array(outcome.progress),
                "success": np.array(outcome.success),
            }
        )

    def trace(self) -> Trace:
        """Returns what was taken down."""
        columns = {name: np.stack([step[name] for step in self._steps]) for name in self._steps[0]}
        return Trace(
            objects=self._objects,
            control_hz=self._sim.convention.control_hz,
            hand=columns["hand"],
            width=columns["width"],
            closing=columns["closing"],
            places=columns["places"],
            joints=columns["joints"],
            touched=columns["touched"],
            held=columns["held"],
            progress=columns["progress"],
            success=columns["success"],
            success_ever=self._success_ever,
        )
