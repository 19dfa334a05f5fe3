"""From (task, split, factor, index, seed) to an `EpisodeSpec`: pure arithmetic, no simulator."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from wambench.conventions import BODIES, ROBOT, find
from wambench.envs.factors import LOOKALIKE, draw_elsewhere, draw_look
from wambench.envs.lookalikes import place_lookalike
from wambench.envs.objects import DISTRACTORS
from wambench.envs.task import Placement, Task
from wambench.interface import EpisodeSpec

CONTROL_HZ = 20.0
# Streams of seeds that are never those of an evaluation: demonstrations, and action-free video in other rooms.
TRAINING = "train"
VIDEO = "video"


def _seed(*parts: object) -> int:
    """Returns a 31-bit seed; equal parts give equal seeds on every machine (unlike `hash`)."""
    return int(np.random.default_rng([zlib.crc32(repr(part).encode()) for part in parts]).integers(2**31 - 1))


def _without_rivals(distractors: Mapping[str, Any], instruction: str) -> dict[str, Any]:
    """Returns a draw of distractors in which nothing answers to a word of the instruction: no can beside "the bottle".

    A kind of distractor that nothing else stands for takes the place; where there is none, the place stays empty.
    """
    words = set(instruction.split())
    fair = [kind for kind, item in enumerate(DISTRACTORS) if not words & set(item.answers_to)]
    drawn = [one["kind"] for one in distractors["placed"]]
    spare = [kind for kind in fair if kind not in drawn]
    kinds = [kind if kind in fair else spare.pop(0) if spare else None for kind in drawn]
    placed = [{**one, "kind": kind} for one, kind in zip(distractors["placed"], kinds, strict=True) if kind is not None]
    return {"count": len(placed), "placed": placed}


def _plain(placed: Placement) -> dict[str, float]:
    """Returns a placement as JSON values; `surface` only where there is one, as in specs of before it existed."""
    values = {key: round(float(value), 6) for key, value in dataclasses.asdict(placed).items()}
    return values if values["surface"] else {key: value for key, value in values.items() if key != "surface"}


def episode_spec(
    task: Task,
    split: str,
    factor: str,
    index: int,
    seed: int,
    visual: str = "fast",
    paraphrase: bool = False,
    robot: str = ROBOT,
) -> EpisodeSpec:
    """Returns episode `index` of run seed `seed`, the same for every policy.

    Poses depend on (seed, task, index) alone, so that episodes of different factors are the same scenes; that of a
    look-alike is a draw of its own.

    Args:
        task: The task.
        split: Name of the split it is evaluated in; "train" is the stream of the demonstrations, "video" that of the
            action-free video, whose environments are those of `factors.ELSEWHERE` whatever the factor.
        factor: "all", "none", one factor or "lookalike", see `envs.factors`.
        index: Non-negative number of the episode.
        seed: Seed of the run.
        visual: Visual profile, "fast" or "full".
        paraphrase: Give the policy the motion-level instruction instead of the short command.
        robot: A name of `conventions.CONVENTIONS`: who plays it. Scene, seed and time in seconds are the same for all.
    """
    stream = split if split in (TRAINING, VIDEO) else "evaluation"
    poses = task.place(np.random.default_rng(_seed(stream, "poses", task.id, seed, index)))
    missing = set(task.objects) - set(poses)
    if missing:
        raise ValueError(f"{task.id} does not place {sorted(missing)}")
    named = task.objects
    if factor == LOOKALIKE:
        extra = place_lookalike(task, poses, np.random.default_rng(_seed(stream, LOOKALIKE, task.id, seed, index)))
        poses, named = {**poses, **extra}, (*task.objects, *extra)
    said = task.script.wording if task.script else lambda text, _: text
    look_seed = _seed(stream, "look", task.id, seed, index)
    look = draw_elsewhere(look_seed) if split == VIDEO else draw_look(look_seed, factor)
    spec = EpisodeSpec(
        task=task.id,
        split=split,
        factor=factor,
        seed=_seed(stream, "episode", task.id, seed, index),
        instruction=said(task.motion if paraphrase else task.instruction, factor),
        motion=said(task.motion, factor),
        horizon=task.horizon + (task.script.longer.get(factor, 0) if task.script else 0),
        control_hz=CONTROL_HZ,
        visual=visual,
        poses={name: _plain(poses[name]) for name in named},
        look={**look, "distractors": _without_rivals(look["distractors"], task.instruction)},
    )
    return played_by(spec, robot)


def played_by(episode: EpisodeSpec, robot: str) -> EpisodeSpec:
    """Returns the same episode for a robot: its control rate, and as many steps as last as long.

    Args:
        episode: Of any robot.
        robot: A name of `conventions.CONVENTIONS`.
    """
    rate = find(robot).control_hz
    horizon = round(episode.horizon * rate / episode.control_hz)
    return dataclasses.replace(episode, robot=BODIES[robot], control_hz=rate, horizon=horizon)
