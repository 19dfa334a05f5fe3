"""Does an imagined video react as the world does? True counterfactuals of the simulator, from one state.

At a recorded moment the simulator is set back and plays two futures: one for each of two action sequences, or by the
experts of two instructions. The policy imagines both, with the same noise. What changes between the two imagined videos
should be what changes between the two true ones:

    reaction = 1 - sum |imagined change - true change|^2 / sum |true change|^2,

in block means (`pictures.block_means`), summed over moments. 1 is right, and 0 is what a video scores that does not
react at all; a video that changes elsewhere falls below.

Consistency asks whether a policy's actions lead where its video leads: the plan's actions are carried out to their end
without another query, and the plan's video is compared with what is then seen: skill against the present frame kept.
A video that has collapsed to the present frame has 0 there, however little the actions do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from wambench import registration, tasks
from wambench.analysis import imagination
from wambench.analysis.intervals import share_of, text
from wambench.attribution.oracle import OracleSim
from wambench.attribution.sensitivity import Imaginer, can_imagine
from wambench.envs.task import Task
from wambench.interface import Chunk, Episode, Observation, Policy, canvas
from wambench.pictures import block_means

MOMENTS = 48  # asked of a run
SAID = {
    "action": "reaction to mirrored actions (1 right, 0 none)",
    "words": "reaction to another instruction (1 right, 0 none)",
    "consistency": "skill of the video against where its own actions lead",
}
KINDS = tuple(SAID)
MIRRORED = np.array([1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0])  # the other actions: to the other side


@dataclass(frozen=True)
class ReactionScore:
    """One moment.

    Attributes:
        task, episode_seed, step: The moment.
        kind: A name of `KINDS`.
        error: Sum of squares of what is wrong: of the change, or of the plan's video.
        size: Sum of squares of the true change, or of the error of the present frame kept.
        other: The instruction or the actions that were compared with the own ones.
    """

    task: str
    episode_seed: int
    step: int
    kind: str
    error: float
    size: float
    other: str = ""


def true_future(sim: OracleSim, state: bytes, act: Callable[[int], np.ndarray], offsets: Sequence[int]) -> np.ndarray:
    """Returns the (T, h, w, 3) frames that actions lead to; the simulator is left as it was.

    Args:
        sim: The simulator.
        state: Snapshot to begin at.
        act: The action of the n-th step.
        offsets: Steps at which frames are taken, ascending; an episode that ends sooner shows its last frame.
    """
    sim.restore(state)
    limits = sim.convention.limits()
    frames = []
    over = False
    for step in range(max(offsets)):
        if not over:
            outcome = sim.advance(np.clip(act(step), *limits))
            over = outcome.terminated or outcome.truncated
        if step + 1 in offsets:
            frames.append(canvas(sim.observe(), sim.convention.cameras))
    sim.restore(state)
    return np.stack(frames)


def by_action(
    policy: Imaginer, sim: OracleSim, episode: Episode, chunk: Chunk, offsets: Sequence[int]
) -> ReactionScore:
    """Returns how the video reacts to the mirror image of the plan's actions."""
    now = _observation(episode, chunk)
    sides = [np.asarray(chunk.plan.actions), np.asarray(chunk.plan.actions) * MIRRORED]
    true = [true_future(sim, chunk.state, _held(side), offsets) for side in sides]
    policy.reset(episode.spec.instruction, episode.spec.seed)
    imagined = [policy.imagine([now], actions=side) for side in sides]
    return _score(episode, chunk, "action", imagined[1], imagined[0], true[1], true[0], "mirrored")


def by_words(
    policy: Imaginer, sim: OracleSim, episode: Episode, chunk: Chunk, other: Task, offsets: Sequence[int]
) -> ReactionScore:
    """Returns how the video reacts to another instruction, beside what the experts of both do."""
    now = _observation(episode, chunk)
    own = tasks.find(episode.spec.task)
    true = [true_future(sim, chunk.state, _played_by(task, sim), offsets) for task in (own, other)]
    imagined = []
    for instruction in (episode.spec.instruction, other.instruction):
        policy.reset(instruction, episode.spec.seed)
        imagined.append(policy.imagine([now]))
    return _score(episode, chunk, "words", imagined[1], imagined[0], true[1], true[0], other.instruction)


def consistency(sim: OracleSim, episode: Episode, chunk: Chunk) -> ReactionScore:
    """Returns how far a plan's video is from where its own actions lead."""
    assert chunk.plan.frames is not None and chunk.plan.frame_steps is not None
    offsets = [int(step) - chunk.step for step in chunk.plan.frame_steps]
    led = true_future(sim, chunk.state, _held(np.asarray(chunk.plan.actions)), offsets)
    now = canvas(_observation(episode, chunk), sim.convention.cameras)
    return _score(episode, chunk, "consistency", np.asarray(chunk.plan.frames), now[None], led, now[None])


def _score(
    episode: Episode,
    chunk: Chunk,
    kind: str,
    imagined: np.ndarray,
    imagined_base: np.ndarray,
    true: np.ndarray,
    true_base: np.ndarray,
    other: str = "",
) -> ReactionScore:
    change = block_means(imagined) - block_means(imagined_base)
    wanted = block_means(true) - block_means(true_base)
    error, size = float(((change - wanted) ** 2).sum()), float((wanted**2).sum())
    return ReactionScore(episode.spec.task, episode.spec.seed, chunk.step, kind, error, size, other)


def _held(actions: np.ndarray) -> Callable[[int], np.ndarray]:
    return lambda step: actions[min(step, len(actions) - 1)]


def _played_by(task: Task, sim: OracleSim) -> Callable[[int], np.ndarray]:
    return lambda step: sim.hand_action(task.expert(sim.view))


def _observation(episode: Episode, chunk: Chunk) -> Observation:
    return next(o for o in episode.observations if o.step == chunk.step)


def others(task: Task) -> list[Task]:
    """Returns the tasks that could be asked for in the same scene by another instruction, without a script."""
    return [t for t in tasks.TASKS.values() if t.objects == task.objects and t.name != task.name and not t.script]


def ask(policy: Policy, episodes: Sequence[Episode], count: int, rng: np.random.Generator) -> list[ReactionScore]:
    """Returns the scores of moments drawn from recorded queries of a policy.

    Args:
        policy: The one that played them; without `imagine` only its consistency is measured.
        episodes: Recorded ones of unscripted tasks; others are left out.
        count: Number of moments, spread over the episodes.
        rng: Source of the draws.

    Raises:
        ValueError: No episode has imagined frames.
    """
    plain = [episode for episode in episodes if not tasks.find(episode.spec.task).script]
    found: list[ReactionScore] = []
    for episode, chunk in imagination.draw_queries(plain, count, rng):
        with simulator_at(episode) as sim:
            found += _ask_at(policy, sim, episode, chunk, rng)
    return found


@contextmanager
def simulator_at(episode: Episode) -> Iterator[OracleSim]:
    """Returns a context with a simulator at the start of an episode."""
    sim = registration.make(episode.spec.task, robot=episode.spec.robot)
    try:
        sim.begin(episode.spec, render=False)
        yield sim
    finally:
        sim.close()


def _ask_at(
    policy: Policy, sim: OracleSim, episode: Episode, chunk: Chunk, rng: np.random.Generator
) -> list[ReactionScore]:
    found = [consistency(sim, episode, chunk)]
    if not can_imagine(policy):
        return found
    assert chunk.plan.frame_steps is not None
    offsets = [int(step) - chunk.step for step in chunk.plan.frame_steps]
    if "actions" in inspect.signature(policy.imagine).parameters:
        found.append(by_action(policy, sim, episode, chunk, offsets))
    if possible := others(tasks.find(episode.spec.task)):
        other = possible[int(rng.integers(len(possible)))]
        found.append(by_words(policy, sim, episode, chunk, other, offsets))
    return found


def ask_runs(runs: Sequence[Path], count: int = MOMENTS, seed: int = 0) -> pd.DataFrame:
    """Returns the scores of `count` moments of each run, a row a moment and kind, asking the policy of the run."""
    from wambench import policies
    from wambench.attribution.attribute import load_run

    rows: list[ReactionScore] = []
    for run in runs:
        config = load_run(run).config
        policy = policies.load(config.policy, config.policy_args)
        rows += ask(policy, list(imagination.recorded(run)), count, np.random.default_rng([seed, 3]))
    return pd.DataFrame([vars(row) for row in rows])


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per kind: `kind`, the reaction or skill as `mean`, `low`, `high`, and `n` moments."""
    rows = []
    for kind in KINDS:
        asked = scores[scores["kind"] == kind]
        if len(asked):
            groups = [group for _, group in asked.groupby("task")]
            parts, wholes = ([g[name].to_numpy(float) for g in groups] for name in ("error", "size"))
            lost = share_of(parts, wholes)
            rows.append(
                {"kind": kind, "mean": 1 - lost.mean, "low": 1 - lost.high, "high": 1 - lost.low, "n": len(asked)}
            )
    return pd.DataFrame(rows)


def to_text(table: pd.DataFrame) -> str:
    """Returns the table of `summarise` for people."""
    return "\n".join(
        f"{SAID[row['kind']]}: {text((row['mean'], row['low'], row['high']), 2)} (n = {row['n']})"
        for row in table.to_dict("records")
    )
