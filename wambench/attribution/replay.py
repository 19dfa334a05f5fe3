"""What happened in a recorded episode, by playing its actions again in a restored world that shows its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wambench.attribution.failure_types import Trace, classify, measure
from wambench.envs.objects import KEYPOINTS, THINGS
from wambench.interface import Episode, Outcome

if TYPE_CHECKING:
    from wambench.envs.tabletop import TabletopEnv

GRIPPED_M = 0.012  # closed fingers that push with both tips hold nothing


def behaviour(world: TabletopEnv, episode: Episode) -> str:
    """Returns the type of failure of an episode (`failure_types.TYPES`), "" of a success; the policy needs no video.

    Args:
        world: A world of the episode's task; it is left in the middle of another rollout.
        episode: As recorded, with at least one query.

    Raises:
        ValueError: The episode has no states, or its expert touches nothing.
    """
    return classify(measure(trace(world, episode), expert_trace(world, episode)))


def trace(world: TabletopEnv, episode: Episode) -> Trace:
    """Returns the state at every control step; each chunk is played from its own snapshot, so nothing can drift."""
    watch = _begin(world, episode)
    for chunk in episode.chunks:
        world.restore(chunk.state)
        for action in chunk.executed:
            watch.see(world.advance(action), action)
    return watch.trace()


def expert_trace(world: TabletopEnv, episode: Episode) -> Trace:
    """Returns the trace of the expert in the scene of an episode."""
    watch = _begin(world, episode)
    world.restore(episode.chunks[0].state)
    while True:
        action = world.expert_action()
        outcome = world.advance(action)
        watch.see(outcome, action)
        if outcome.terminated or outcome.truncated:
            return watch.trace()


def _begin(world: TabletopEnv, episode: Episode) -> Watch:
    if not episode.chunks:
        raise ValueError(f"{episode.spec.task}, seed {episode.spec.seed}: no query was recorded, so nothing is known")
    watch = Watch(world)
    watch.see(world.begin(episode.spec, render=False), np.array([0.0] * 6 + [-1.0]))
    return watch


class Watch:
    """Takes down the state of a world step by step.

    Args:
        world: Whose `view` is read whenever `see` is called.
    """

    def __init__(self, world: TabletopEnv) -> None:
        self._world, self._things = world, world.task.things
        # what a hand takes hold of: the handle of a drawer, not its middle
        keys = [next((k for k in KEYPOINTS if k.split("/")[0] == name), name) for name in self._things]
        self._keys, self._ranges = keys, [THINGS[name].joint_range for name in self._things]
        self._steps: list[dict[str, np.ndarray]] = []
        self._success_ever = False

    def see(self, outcome: Outcome, action: np.ndarray) -> None:
        """Takes down the state after an action."""
        view, things, width = self._world.view, self._things, self._world.view.width()
        joints = [
            np.nan if r is None else (view.joint(name) - r[0]) / (r[1] - r[0])
            for name, r in zip(things, self._ranges, strict=True)
        ]
        self._success_ever = outcome.success_ever
        self._steps.append(
            {
                "hand": view.eef(),
                "width": np.array(width),
                "closing": np.array(action[-1] > 0),
                "places": np.array([view.pos(key) for key in self._keys]),
                "joints": np.array(joints),
                "touched": np.array([view.touching("fingers", name) for name in things]),
                "held": np.array([width > GRIPPED_M and view.grasped(name) for name in things]),
                "progress": np.array(outcome.progress),
                "success": np.array(outcome.success),
            }
        )

    def trace(self) -> Trace:
        """Returns what was taken down."""
        columns: dict[str, Any] = {name: np.stack([step[name] for step in self._steps]) for name in self._steps[0]}
        hz = self._world.convention.control_hz
        return Trace(things=self._things, control_hz=hz, success_ever=self._success_ever, **columns)
