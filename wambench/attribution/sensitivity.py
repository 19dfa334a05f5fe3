"""Diagnostics beside attribution: what does the imagined video depend on, how far ahead is it right, is it late?

`horizon` and `lags` read recorded frames alone. `sensitivity` asks the policy again at recorded moments: what it
imagines for another instruction, and for other actions, with the same noise. Distances between frames are root mean
squares over blocks of 8 x 8 pixels and colours, in grey levels of 255: what is imagined is blurred, and pixel by pixel
a sharp picture of the past would be closer to any real frame than a blurred one of the future.
"""

from __future__ import annotations

import csv
import dataclasses
import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeGuard

import numpy as np

from wambench import tasks
from wambench.analysis.imagination import canvases, imagined_futures
from wambench.attribution.table import AttributionRow
from wambench.interface import Episode, Observation, canvas
from wambench.pictures import block_distance
from wambench.records import episode_stem, load_episode, write_whole

TABLE = "sensitivity.csv"
LAGS = tuple(range(-12, 25, 4))  # env steps
MOMENTS = 24  # asked of a run
OTHER_NOISE = 1_000_003  # added to the seed: what chance alone changes is the yardstick


@dataclass(frozen=True)
class Sensitivity:
    """How much an imagined future changes at one moment of an episode.

    Attributes:
        task, episode_seed, step: The moment.
        motion: Distance of the imagined frames from the present one.
        noise: Change by another seed.
        instruction: Change by another instruction, same seed.
        action: Change by the opposite actions, same seed; NaN if the policy cannot be asked.
        other: The instruction that was given instead.
    """

    task: str
    episode_seed: int
    step: int
    motion: float
    noise: float
    instruction: float
    action: float
    other: str


def horizon(episodes: Sequence[Episode]) -> dict[int, tuple[float, float, int]]:
    """Returns, by env steps ahead, the mean distance of imagined from real frames, that of the present one, and n.

    The present frame is what a video that stands still would show: an imagined one that is no closer to what came
    than this has foreseen nothing.
    """
    found: dict[int, list[tuple[float, float]]] = {}
    for episode in episodes:
        seen = canvases(episode)
        for step, frames, frame_steps in imagined_futures(episode):
            for frame, at in zip(frames, frame_steps.tolist(), strict=True):
                if at in seen and step in seen and at > step:
                    pair = block_distance(frame, seen[at]), block_distance(seen[step], seen[at])
                    found.setdefault(at - step, []).append(pair)
    means = {ahead: np.mean(pairs, axis=0) for ahead, pairs in sorted(found.items())}
    return {ahead: (float(m[0]), float(m[1]), len(found[ahead])) for ahead, m in means.items()}


def lags(episodes: Sequence[Episode], asked: Sequence[int] = LAGS) -> dict[int, float]:
    """Returns, by lag in env steps, the mean distance of frames imagined for a step from real ones so much later.

    Only frames for which every lag was seen count, so that all lags are judged on the same frames. The smallest value
    is at the best lag: above 0, what was imagined comes late; below, it had come before.
    """
    rows = []
    for episode in episodes:
        seen = canvases(episode)
        for _, frames, frame_steps in imagined_futures(episode):
            for frame, at in zip(frames, frame_steps.tolist(), strict=True):
                if all(at + lag in seen for lag in asked):
                    rows.append([block_distance(frame, seen[at + lag]) for lag in asked])
    return dict(zip(asked, np.mean(rows, axis=0).tolist(), strict=True)) if rows else {}


class Imaginer(Protocol):
    """A policy that can be asked for its video alone."""

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode."""

    @property
    def imagine(self) -> Callable[..., np.ndarray]:
        """A function of the history, and perhaps of `actions` (H, A) in [-1, 1], that returns imagined frames."""


def can_imagine(policy: object) -> TypeGuard[Imaginer]:
    """Returns whether a policy can be asked for its video alone."""
    return hasattr(policy, "imagine")


def sensitivity(policy: object, episodes: Sequence[Episode], count: int, rng: np.random.Generator) -> list[Sensitivity]:
    """Returns what another instruction, other actions and other noise do to imagined futures.

    Args:
        policy: An `Imaginer`.
        episodes: Recorded ones; moments are drawn from their queries.
        count: Number of moments, spread over the episodes.
        rng: Source of the draws.

    Raises:
        ValueError: The policy cannot be asked to imagine.
    """
    if not can_imagine(policy):
        raise ValueError("this policy has no imagine(history): its video cannot be asked what it listens to")
    takes_actions = "actions" in inspect.signature(policy.imagine).parameters
    found = []
    for i in range(count):
        episode = episodes[i % len(episodes)]
        chunk = episode.chunks[int(rng.integers(len(episode.chunks)))]
        now = next(o for o in episode.observations if o.step == chunk.step)
        instructions = _other_instructions(episode)
        other = instructions[int(rng.integers(len(instructions)))]
        found.append(_compare(policy, episode, now, other, chunk.plan.actions if takes_actions else None))
    return found


def _compare(
    policy: Imaginer, episode: Episode, now: Observation, other: str, actions: np.ndarray | None
) -> Sensitivity:
    own = episode.spec.instruction
    seed = episode.spec.seed

    def imagine(instruction: str, seed: int, **given: np.ndarray) -> np.ndarray:
        policy.reset(instruction, seed)
        return policy.imagine([now], **given)

    plain = imagine(own, seed)
    by_action = float("nan")
    if actions is not None:
        by_action = block_distance(imagine(own, seed, actions=actions), imagine(own, seed, actions=-actions))
    present = np.broadcast_to(canvas(now, list(now.images)), plain.shape)
    return Sensitivity(
        task=episode.spec.task,
        episode_seed=seed,
        step=now.step,
        motion=block_distance(plain, present),
        noise=block_distance(plain, imagine(own, seed + OTHER_NOISE)),
        instruction=block_distance(plain, imagine(other, seed)),
        action=by_action,
        other=other,
    )


def _other_instructions(episode: Episode) -> list[str]:
    """Returns instructions that could be given in the same scene, or those of other scenes if there are none."""
    own = tasks.find(episode.spec.task)
    rest = [task for task in tasks.TASKS.values() if task.verb != own.verb]
    same = [task.instruction for task in rest if task.objects == own.objects]
    return same or [task.instruction for task in rest]


def ask(run: Path, rows: Sequence[AttributionRow], count: int = MOMENTS) -> Path | None:
    """Writes RUN/sensitivity.csv for moments of the attributed failures and returns it; None without `imagine`."""
    from wambench import policies
    from wambench.attribution.attribute import load_run

    path = run / TABLE
    config = load_run(run).config
    policy = policies.load(config.policy, config.policy_args) if rows and not path.is_file() else None
    if not can_imagine(policy):
        return path if path.is_file() else None
    rng = np.random.default_rng(config.seed)
    chosen = [rows[i] for i in rng.permutation(len(rows))[:count]]
    episodes = [load_episode(run / "episodes" / f"{episode_stem(row.key)}.npz") for row in chosen]
    write(path, sensitivity(policy, episodes, count, rng))
    return path


def write(path: Path, rows: Sequence[Sensitivity]) -> None:
    """Writes the rows as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([f.name for f in dataclasses.fields(Sensitivity)])
    writer.writerows([f"{v:.3f}" if isinstance(v, float) else v for v in dataclasses.astuple(row)] for row in rows)
    write_whole(path, buffer.getvalue())


def read(path: Path) -> list[Sensitivity]:
    """Returns the rows that `write` wrote; a foreign file raises ValueError."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return [_parse(row) for row in rows]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a table of sensitivities: {error}") from error


def _parse(row: Mapping[str, str]) -> Sensitivity:
    return Sensitivity(
        task=row["task"],
        episode_seed=int(row["episode_seed"]),
        step=int(row["step"]),
        motion=float(row["motion"]),
        noise=float(row["noise"]),
        instruction=float(row["instruction"]),
        action=float(row["action"]),
        other=row["other"],
    )
