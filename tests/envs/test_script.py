"""Scripted events: deterministic, exactly restored, and nothing to those who have none."""

import numpy as np
import pytest

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.envs.factors import LEVELS
from wambench.envs.task import Script

pytestmark = pytest.mark.slow

SCRIPTED = [task.name for task in tasks.TASKS.values() if task.script]
STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_restored_episode_goes_on_bitwise_equal(name: str) -> None:
    """At moments all over the episode, hidden memory included: physics, latches and both pictures."""
    env = registration.make(name)
    outcome = env.begin(episode_spec(env.task, env.split, "none", 3, 0), render=False)
    branches = 0
    for _ in range(6):
        for _ in range(17):
            outcome = env.advance(env.expert_action())
        if outcome.terminated or outcome.truncated:
            break
        branches += 1
        branch = env.snapshot()
        actions = np.random.default_rng(0).uniform(-1, 1, (12, 7))
        first = env.step_chunk(actions)
        end = env.snapshot()
        for _ in range(9):
            env.advance(STILL)  # something else happens in between
        env.restore(branch)
        assert env.snapshot() == branch
        again = env.step_chunk(actions)
        assert env.snapshot() == end and again.stages == first.stages
        for one, other in zip(first.observations, again.observations, strict=True):
            assert all(np.array_equal(one.images[key], other.images[key]) for key in one.images)
        env.restore(branch)
    assert branches >= 2, "an episode that is over at once tests nothing"
    env.close()


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_level_is_a_factor_of_its_tasks_alone(name: str) -> None:
    script = tasks.TASKS[name].script
    assert script is not None
    for level in LEVELS:
        if level in script.levels:
            assert registration.make(name, factor=level).factor == level
        else:
            with pytest.raises(ValueError, match=f"no level '{level}'; it has: {script.levels[0]}"):
                registration.make(name, factor=level)


def test_a_task_without_a_script_has_no_levels() -> None:
    with pytest.raises(ValueError, match="'LiftCube' has no level 'slow'"):
        registration.make("LiftCube", factor="slow")


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="medium"):
        Script(levels=("slow", "fast"), level="medium")


def test_a_snapshot_without_script_has_no_memory() -> None:
    env = registration.make("LiftCube")
    env.begin(episode_spec(env.task, "seen", "none", 0, 0), render=False)
    assert b"memory" not in env.snapshot()
