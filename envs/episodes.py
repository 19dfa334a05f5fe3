"""From (task, split, factor, index, seed) to an `EpisodeSpec`: pure arithmetic, no simulator."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np

from wambench.envs.factors import draw_elsewhere, draw_look
from wambench.envs.task import Task
from wambench.interface import EpisodeSpec

CONTROL_HZ = 20.0
# Streams of seeds that are never those of an evaluation: demonstrations, and action-free video in other rooms.
TRAINING = "train"
VIDEO = "video"


def _seed(*parts: object) -> int:
    """Returns a 31-bit seed; equal parts give equal seeds on every machine (unlike `hash`)."""
    return int(np.random.default_rng([zlib.crc32(repr(part).encode()) for part in parts]).integers(2**31 - 1))


def episode_spec(
    task: Task, split: str, factor: str, index: int, seed: int, visual: str = "fast", paraphrase: bool = False
) -> EpisodeSpec:
    """Returns episode `index` of run seed `seed`, the same for every policy.

    Poses depend on (seed, task, index) alone, so that episodes of different factors are the same scenes.

    Args:
        task: The task.
        split: Name of the split it is evaluated in; "train" is the stream of the demonstrations, "video" that of the
            action-free video, whose environments are those of `factors.ELSEWHERE` whatever the factor.
        factor: "all", "none" or one factor, see `envs.factors`.
        index: Non-negative number of the episode.
        seed: Seed of the run.
        visual: Visual profile, "fast" or "full".
        paraphrase: Give the policy the motion-level instruction instead of the short command.
    """
    stream = split if split in (TRAINING, VIDEO) else "evaluation"
    poses = task.place(np.random.default_rng(_seed(stream, "poses", task.id, seed, index)))
    missing = set(task.objects) - set(poses)
    if missing:
        raise ValueError(f"{task.id} does not place {sorted(missing)}")
    look_seed = _seed(stream, "look", task.id, seed, index)
    return EpisodeSpec(
        task=task.id,
        split=split,
        factor=factor,
        seed=_seed(stream, "episode", task.id, seed, index),
        instruction=task.motion if paraphrase else task.instruction,
        motion=task.motion,
        horizon=task.horizon,
        control_hz=CONTROL_HZ,
        visual=visual,
        poses={
            name: {key: round(float(value), 6) for key, value in dataclasses.asdict(poses[name]).items()}
            for name in task.objects
        },
        look=draw_elsewhere(look_seed) if split == VIDEO else draw_look(look_seed, factor),
    )
