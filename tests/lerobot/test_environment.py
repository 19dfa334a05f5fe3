"""The environment with LeRobot's names; without lerobot, which `test_config.py` needs."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.lerobot.environment import LeRobotEnv, vector_of

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {"image_size": (16, 16)}
STILL = np.zeros(7, np.float32)
PUSH = tasks.TASKS["PushCube"]


def expert_actions(task: str, number: int) -> list[np.ndarray]:
    """Returns what the expert does in an episode, in float32 as a network would answer it."""
    env = registration.make(task, **SMALL)
    outcome = env.begin(episode_spec(tasks.TASKS[task], "seen", "none", number, 0), render=False)
    actions = []
    while not (outcome.terminated or outcome.truncated):
        actions.append(env.expert_action().astype(np.float32))
        outcome = env.advance(actions[-1])
    env.close()
    assert outcome.success
    return actions


@pytest.fixture(scope="module")
def env() -> Iterator[LeRobotEnv]:
    made = LeRobotEnv("PushCube", "seen", **SMALL)
    yield made
    made.close()


def test_a_seed_is_the_number_of_an_episode_of_a_run(env: LeRobotEnv) -> None:
    other = registration.make("PushCube", **SMALL)
    for number in (0, 3):
        seen, info = env.reset(seed=number, options={"lerobot_new_rollout": True})
        mine, _ = other.reset(options={"spec": episode_spec(PUSH, "seen", "none", number, 0)})
        assert info == {"progress": 0.0, "is_success": False}
        assert np.array_equal(seen["pixels"]["wrist"], mine["wrist"])
        assert np.array_equal(seen["agent_pos"], mine["state"])
        assert env.observation_space.contains(seen)
    another = LeRobotEnv("PushCube", "seen", run_seed=1, **SMALL).reset(seed=0)[0]
    assert not np.array_equal(another["pixels"]["agentview"], env.reset(seed=0)[0]["pixels"]["agentview"])
    other.close()


def test_episodes_differ_with_and_without_seeds(env: LeRobotEnv) -> None:
    seeds = [*range(4), None, None]
    views = [env.reset(seed=seed)[0]["pixels"]["agentview"].tobytes() for seed in seeds]
    assert len(set(views)) == len(seeds)


def test_what_lerobot_asks_for(env: LeRobotEnv) -> None:
    env.reset(seed=0)
    assert env.get_wrapper_attr("task_description") == PUSH.instruction
    assert env.get_wrapper_attr("task") == "PushCube" and env.get_wrapper_attr("_max_episode_steps") == PUSH.horizon
    assert env.metadata["render_fps"] == 20
    film = env.render()
    assert film.shape == (16, 32, 3) and film.std() > 10
    with pytest.raises(ValueError, match="did you mean 'PushCube'"):
        LeRobotEnv("PushCub")


def test_a_script_that_takes_longer_has_its_horizon() -> None:
    name, level = next(
        (task.name, level) for task in tasks.TASKS.values() if task.script for level in task.script.longer
    )
    env = LeRobotEnv(name, factor=level, **SMALL)
    spec = episode_spec(tasks.TASKS[name], tasks.default_split(name), level, 0, 0)
    assert env.get_wrapper_attr("_max_episode_steps") == spec.horizon > tasks.TASKS[name].horizon


def test_success_is_told_at_the_end_alone(env: LeRobotEnv) -> None:
    """The predicate holds for a second before the episode ends; LeRobot would count each of these steps."""
    env.reset(seed=0)
    told, reward, ended = [], 0.0, False
    for action in expert_actions("PushCube", 0):
        assert not ended
        _, gained, terminated, truncated, info = env.step(action)
        told.append(info["is_success"])
        reward, ended = reward + gained, terminated or truncated
    assert ended and told == [False] * (len(told) - 1) + [True]
    assert reward == pytest.approx(1.0) and info["progress"] == 1.0


def test_one_that_holds_now_and_not_at_the_end_is_no_success() -> None:
    env: Any = LeRobotEnv("PressButton", "seen", **SMALL)
    env.reset(seed=0)
    held = False
    for action in expert_actions("PressButton", 0)[:-1]:
        info = env.step(action)[4]
        held = held or env._env._info(env._env._outcome(()))["success"]
    assert held and not info["is_success"]
    env.close()


def test_the_vector_tells_success_in_final_info_and_goes_on() -> None:
    maker = partial(LeRobotEnv, "PushCube", "seen", **SMALL)
    vector = vector_of([maker, maker], maker(), processes=False)
    assert vector._inner is None
    vector.reset(seed=[0, 1])
    assert vector.call("task_description") == (PUSH.instruction,) * 2 == vector.get_attr("task_description")
    for action in expert_actions("PushCube", 0):
        _, _, terminated, _, info = vector.step(np.stack([action, STILL]))
    assert terminated.tolist() == [True, False] and info["final_info"]["is_success"].tolist() == [True, False]
    vector.close()
    assert vector._inner is None
    vector.close()  # twice is no error


def test_makers_can_be_sent_to_processes() -> None:
    maker = pickle.loads(pickle.dumps(partial(LeRobotEnv, "PushCube", "seen", **SMALL)))
    vector = vector_of([maker, maker], maker(), processes=True)
    assert isinstance(vector.inner, gymnasium.vector.AsyncVectorEnv)
    seen, _ = vector.reset(seed=[0, 1])
    own = maker()
    assert np.array_equal(seen["pixels"]["wrist"][1], own.reset(seed=1)[0]["pixels"]["wrist"])
    vector.close()
