"""What the tasks of the split `memory` promise: the present frame does not tell what to do, and remembering does."""

from collections.abc import Iterator

import numpy as np
import pytest

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.envs.factors import DELAYS
from wambench.envs.script import steps
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import EpisodeSpec, Outcome

pytestmark = pytest.mark.slow

MEMORY_S = 6.6  # four chunks of the released DreamZero: what it can look back on


@pytest.fixture(scope="module", params=tasks.MEMORY)
def env(request: pytest.FixtureRequest) -> Iterator[TabletopEnv]:
    env = registration.make(request.param)
    yield env
    env.close()


def spec_of(env: TabletopEnv, index: int = 0, factor: str = "none") -> EpisodeSpec:
    return episode_spec(env.task, "memory", factor, index, 0)


def alternatives(env: TabletopEnv, episode: EpisodeSpec) -> tuple[EpisodeSpec, ...]:
    assert env.task.script is not None
    return env.task.script.alternatives(episode)


def release(env: TabletopEnv, episode: EpisodeSpec) -> int:
    assert env.task.script is not None
    return env.task.script.release(episode)


def solve(env: TabletopEnv, episode: EpisodeSpec, believed: EpisodeSpec | None = None) -> tuple[Outcome, np.ndarray]:
    """Returns how the expert ends, and the actions it took."""
    outcome, actions = env.begin(episode, render=False), []
    while not (outcome.terminated or outcome.truncated):
        actions.append(env.expert_action(believed))
        outcome = env.advance(actions[-1])
    return outcome, np.array(actions)


@pytest.mark.parametrize("factor", DELAYS)
def test_histories_that_look_alike_now_are_bitwise_equal(env: TabletopEnv, factor: str) -> None:
    episode = spec_of(env, 1, factor)
    now, seen = [], []
    for number, alternative in enumerate(alternatives(env, episode)):
        # whatever the policy tries before the release, no posture stands in for a memory
        tried = np.random.default_rng(number).uniform(-1, 1, (release(env, episode), 7))
        first = env.begin(alternative).observations[0]
        shown = [first, *env.step_chunk(tried).observations]
        seen.append(b"".join(o.images["agentview"].tobytes() for o in shown))
        now.append([shown[-1], *env.step_chunk(np.zeros((1, 7))).observations])
    assert len(set(seen)) == len(seen) >= 2  # what was shown tells them apart
    for others in now[1:]:
        for one, other in zip(now[0], others, strict=True):
            assert one.step == other.step and np.array_equal(one.state, other.state)
            assert all(np.array_equal(one.images[name], other.images[name]) for name in one.images)


def test_they_demand_different_actions(env: TabletopEnv) -> None:
    """What solves one of the alternatives fails in every other one."""
    alike = alternatives(env, spec_of(env, 1))
    for number, episode in enumerate(alike):
        outcome, actions = solve(env, episode)
        assert outcome.success and outcome.progress == 1.0
        for other in alike[:number] + alike[number + 1 :]:
            env.begin(other, render=False)
            assert not env.step_chunk(actions).success_ever


def test_the_true_episode_is_one_of_the_alternatives(env: TabletopEnv) -> None:
    for index in range(6):
        episode = spec_of(env, index)
        alike = alternatives(env, episode)
        assert episode in alike and len({other.to_json() for other in alike}) == len(alike)


def test_answers_are_drawn_evenly(env: TabletopEnv) -> None:
    """No constant answer is right much more often than chance: 300 scenes, 4 standard errors."""
    n, chance = 300, 1 / len(alternatives(env, spec_of(env)))
    numbers = [alternatives(env, episode).index(episode) for episode in (spec_of(env, index) for index in range(n))]
    counts = np.bincount(numbers, minlength=round(1 / chance))
    assert np.abs(counts / n - chance).max() < 4 * np.sqrt(chance * (1 - chance) / n)


@pytest.mark.parametrize("factor", DELAYS)
def test_expert_remembers_for_as_long_as_it_takes(env: TabletopEnv, factor: str) -> None:
    episode = spec_of(env, 2, factor)
    outcome, actions = solve(env, episode)
    assert outcome.success and outcome.progress == 1.0
    assert len(actions) * 1.5 < episode.horizon


def test_what_matters_fits_into_the_memory_of_the_released_model(env: TabletopEnv) -> None:
    assert release(env, spec_of(env)) <= steps(MEMORY_S)


def test_a_wrong_answer_is_final(env: TabletopEnv) -> None:
    episode = spec_of(env, 1)
    believed = next(other for other in alternatives(env, episode) if other != episode)
    outcome, _ = solve(env, episode, believed)
    assert not outcome.success_ever and outcome.progress < 0.6
    while not (outcome.terminated or outcome.truncated):
        outcome = env.advance(env.expert_action())  # remembers at last
    assert not outcome.success_ever
