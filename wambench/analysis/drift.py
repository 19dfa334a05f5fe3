"""How long can a dream be trusted? A world model imagines several chunks, each from the last, and sees nothing between.

The frames are compared with those that the same policy's episode really had, like those of a single chunk
(`imagination`), at horizons of several seconds. The real episode saw new frames and acted on them, so that a dream also
differs from it where the policy would have changed its mind.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeGuard, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wambench.analysis import imagination
from wambench.interface import Chunk, Episode, Observation, Plan, Policy


@runtime_checkable
class Dreamer(Policy, Protocol):
    """A world action model that can go on from what it imagined."""

    frame_offsets: Sequence[int]
    chunk_steps: int

    def dream(self, history: Sequence[Observation], chunks: int) -> NDArray[np.uint8]:
        """Returns (chunks * K, h, w, 3) uint8 frames, for `frame_offsets` and then one chunk later each."""


def can_dream(policy: Policy) -> TypeGuard[Dreamer]:
    """Returns whether a policy has `dream(history, chunks)`, `frame_offsets` and `chunk_steps`."""
    method = getattr(policy, "dream", None)
    return (
        callable(method)
        and "chunks" in inspect.signature(method).parameters
        and all(hasattr(policy, name) for name in ("frame_offsets", "chunk_steps"))
    )


def dreamt(policy: Dreamer, episode: Episode, chunk: Chunk, chunks: int) -> Episode:
    """Returns the episode with one query alone, at which the policy dreams; it is told what it was told then.

    Args:
        policy: The one that played the episode.
        episode: As recorded.
        chunk: One of its queries.
        chunks: Length of the dream.
    """
    now = next(o for o in episode.observations if o.step == chunk.step)
    policy.reset(episode.spec.instruction, episode.spec.seed)
    frames = policy.dream([now], chunks)
    steps = [chunk.step + policy.chunk_steps * i + ahead for i in range(chunks) for ahead in policy.frame_offsets]
    plan = Plan(chunk.plan.actions, frames=frames, frame_steps=np.array(steps))
    return replace(episode, chunks=(replace(chunk, plan=plan),))


def score_runs(runs: Sequence[Path], chunks: int, count: int = 48, seed: int = 0) -> pd.DataFrame:
    """Returns the scores of dreams at `count` moments of each run, a row a frame, as `imagination.FrameScore` has them.

    Raises:
        ValueError: A run has no imagined frames, or its policy cannot dream.
    """
    rows = []
    for run in runs:
        policy = imagination.policy_of(run)
        if not can_dream(policy):
            raise ValueError(f"{run}: its policy has no dream(history, chunks), which drift needs")
        convention = imagination.convention_of(run)
        rng = np.random.default_rng([seed, 4])
        for episode, chunk in imagination.draw_queries(list(imagination.recorded(run)), count, rng):
            rows += [
                vars(score)
                for score in imagination.score_episode(dreamt(policy, episode, chunk, chunks), None, convention)
            ]
    return pd.DataFrame(rows)
