"""What every task promises; new tasks are tested by being listed."""

import hashlib
import json
import multiprocessing
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from wambench import registration, tasks
from wambench.envs.episodes import TRAINING, episode_spec
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import EpisodeSpec, Outcome

pytestmark = pytest.mark.slow

NAMES = list(tasks.TASKS)


@pytest.fixture(scope="module", params=NAMES)
def env(request: pytest.FixtureRequest) -> Iterator[TabletopEnv]:
    env = registration.make(request.param, render_mode="rgb_array")
    yield env
    env.close()


def training(env: TabletopEnv, index: int = 0) -> EpisodeSpec:
    return episode_spec(env.task, TRAINING, "none", index, 0)


def unseen(env: TabletopEnv, index: int = 0) -> EpisodeSpec:
    return episode_spec(env.task, env.split, "all", index, 0)


def let_expert_finish(env: TabletopEnv) -> Outcome:
    outcome = env.advance(env.expert_action())
    while not (outcome.terminated or outcome.truncated):
        outcome = env.advance(env.expert_action())
    return outcome


def wobble(env: TabletopEnv, steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, 7))


def test_gymnasium_accepts_it(env: TabletopEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # render mode "human" opens a window
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = gymnasium.make(f"wambench/{env.task.id}", render_mode="rgb_array")
        check_env(made.unwrapped, skip_render_check=False)
        made.close()


@pytest.mark.parametrize("index", range(2))
def test_expert_solves_it_in_training_environments(env: TabletopEnv, index: int) -> None:
    env.begin(training(env, index), render=False)
    outcome = let_expert_finish(env)
    assert outcome.success and outcome.success_ever and outcome.progress == 1.0
    assert outcome.stages == tuple(stage.name for stage in env.task.stages)


@pytest.mark.parametrize("index", range(2))
def test_expert_solves_it_in_unseen_environments(env: TabletopEnv, index: int) -> None:
    env.begin(unseen(env, index), render=False)
    outcome = let_expert_finish(env)
    assert outcome.success and outcome.progress == 1.0


def test_expert_takes_over_from_a_random_state(env: TabletopEnv) -> None:
    successes = 0
    for seed in range(3):
        env.begin(training(env, seed), render=False)
        for action in wobble(env, 60, seed):
            env.advance(action)
        for _ in range(env.task.horizon):
            outcome = env.advance(env.expert_action())
            if outcome.terminated:
                break
        successes += outcome.success
    assert successes >= 2


def test_doing_nothing_makes_no_progress(env: TabletopEnv) -> None:
    still = np.array([0, 0, 0, 0, 0, 0, -1.0])
    for spec in (training(env), unseen(env), unseen(env, 1)):
        env.begin(spec, render=False)
        outcome = env.step_chunk(np.tile(still, (env.task.horizon, 1)))
        assert outcome.truncated and not outcome.terminated and outcome.steps == env.task.horizon
        assert outcome.progress == 0.0 and not outcome.success_ever


def test_seeds_decide_everything(env: TabletopEnv) -> None:
    first, info = env.reset(seed=5)
    again, same = env.reset(seed=5)
    other, different = env.reset(seed=6)
    assert info["spec"] == same["spec"] != different["spec"]
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert not np.array_equal(first["agentview"], other["agentview"])
    repeated, _ = env.reset(options={"spec": info["spec"]})
    assert all(np.array_equal(first[key], repeated[key]) for key in first)
    assert not any(np.shares_memory(first[key], again[key]) for key in first)
    assert env.observation_space.contains(first)


def test_a_chunk_equals_its_steps(env: TabletopEnv) -> None:
    actions = wobble(env, 10)
    env.begin(training(env))
    chunk = env.step_chunk(actions)
    whole = env.snapshot()
    env.begin(training(env))
    for action in actions:
        observation, _, _, _, _ = env.step(action)
    assert env.snapshot() == whole
    assert [o.step for o in chunk.observations] == [4, 8, 10]
    assert np.array_equal(chunk.observations[-1].images["wrist"], observation["wrist"])


def test_restore_is_exact_in_the_middle_of_the_work(env: TabletopEnv) -> None:
    """Branches at several moments of the expert's work (a grasp among them) and in mid-chunk."""
    env.begin(training(env), render=False)
    for _ in range(4):
        for _ in range(9):
            env.advance(env.expert_action())
        branch = env.snapshot()
        actions = [env.expert_action() for _ in range(1)] + list(wobble(env, 6))
        ends: list[bytes] = []
        frames: list[np.ndarray] = []
        for _ in range(2):
            env.restore(branch)
            assert env.snapshot() == branch
            if ends:
                for action in actions:
                    if env.advance(action).terminated:
                        break  # a chunk ends where the episode ends
            else:
                env.step_chunk(np.array(actions))
            ends.append(env.snapshot())
            frames.append(env.observe().images["agentview"])
        assert ends[0] == ends[1] and np.array_equal(frames[0], frames[1])
        env.restore(branch)


def test_nothing_of_an_episode_leaks_into_the_next(env: TabletopEnv) -> None:
    env.begin(training(env, 3))
    clean = env.observe().images
    env.begin(unseen(env, 1))
    env.step_chunk(wobble(env, 5))
    env.begin(training(env, 3))
    assert all(np.array_equal(clean[name], image) for name, image in env.observe().images.items())


def trajectory(task: str) -> str:
    env = registration.make(task)
    frame = env.begin(training(env)).observations[0].images["agentview"]
    env.step_chunk(wobble(env, 20))
    digest = hashlib.sha256(frame.tobytes() + env.snapshot()).hexdigest()
    env.close()
    return digest


@pytest.mark.parametrize("task", ["LiftCube", "OpenDrawer"])
def test_processes_agree(task: str) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        elsewhere = pool.map(trajectory, [task, task])
    assert set(elsewhere) == {trajectory(task)}


def test_make_vec() -> None:
    envs = gymnasium.make_vec("wambench/PressButton-v1", num_envs=2, split="unseen-envs", factor="camera")
    observations, _ = envs.reset(seed=3)
    assert observations["agentview"].shape == (2, 96, 96, 3)
    observations, rewards, _, _, _ = envs.step(envs.action_space.sample())
    assert rewards.shape == (2,)
    envs.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "LiftCubes"}, "LiftCube"),
        ({"task": "LiftCube", "split": "unsen-envs"}, "unseen-envs"),
        ({"task": "LiftCube", "split": "unseen-tasks"}, "not in split"),
        ({"task": "LiftCube", "split": "seen", "factor": "camera"}, "training environments"),
        ({"task": "LiftCube", "split": "unseen-envs", "factor": "camra"}, "camera"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        registration.make(**arguments)


def test_spec_of_another_task_is_refused() -> None:
    env = registration.make("LiftCube")
    with pytest.raises(ValueError, match="PressButton"):
        env.begin(episode_spec(tasks.TASKS["PressButton"], "seen", "none", 0, 0))


def test_snapshot_is_plain_data(env: TabletopEnv) -> None:
    env.begin(training(env), render=False)
    assert len(env.snapshot()) < 20_000
    assert json.loads(training(env).to_json())["task"] == env.task.id
