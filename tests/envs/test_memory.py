"""Many resets and episodes in one process: what is compiled, drawn and recorded must be given back."""

import dataclasses
import gc
import itertools

import pytest

from wambench import registration
from wambench.envs.episodes import episode_spec
from wambench.evaluation.rollout import rollout
from wambench.records import encode_episode
from wambench.speed import simulation as bench_simulation
from wambench.speed.simulation import Drift
from wambench.suite.doctor import MIB, resident

pytestmark = pytest.mark.slow

TASKS = ("LiftCube", "OpenDrawer")
MARGIN_MIB = 64  # keeping the frames of every episode would add 110, every renderer or scene a multiple of that
LEAK_MIB = 3  # those frames would add 14 in every block


def play(task: str, episodes: range) -> None:
    """Plays and encodes episodes of one second in a simulator of their own, all factors varied."""
    env, policy = (
        registration.make(task, split="unseen-envs", image_size=bench_simulation.SIZE),
        Drift(),
    )
    for index in episodes:
        spec = dataclasses.replace(episode_spec(env.task, env.split, env.factor, index, 0), horizon=20)
        episode = rollout(env, policy, spec)
        assert episode.status == "ok" and episode.steps == 20
        assert len(encode_episode(episode, env.convention.cameras)) > 10_000
    env.close()


def grown(blocks: int, length: int) -> list[float]:
    """Returns by how many MiB the process has grown since its warm-up, after each block of episodes.

    The warm-up is two blocks of each task: allocator and graphics driver still take a step of some 30 MiB there.
    """
    sizes, warm = [], 2 * len(TASKS)
    for block in range(warm + blocks):
        play(TASKS[block % len(TASKS)], range(block * length, (block + 1) * length))
        gc.collect()
        sizes.append(resident() / MIB)
    return [size - sizes[warm - 1] for size in sizes[warm:]]


def test_memory_does_not_grow_over_200_resets_and_episodes() -> None:
    growth = grown(blocks=8, length=25)
    # the allocator takes a step of some 30 MiB now and then; what is not given back grows in every block
    rising = sum(after - before > LEAK_MIB for before, after in itertools.pairwise([0.0, *growth]))
    assert rising <= 2 and growth[-1] < MARGIN_MIB, growth
