"""What the tasks of the split `dynamic` promise: things move by themselves, at three speeds, and waiting costs."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.envs.factors import SPEEDS
from wambench.envs.tabletop import TabletopEnv
from wambench.evaluation.clock import Virtual
from wambench.evaluation.executors import timing
from wambench.evaluation.rollout import rollout
from wambench.interface import EpisodeSpec
from wambench.policies.expert import ScriptedExpert

pytestmark = pytest.mark.slow

STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])


@pytest.fixture(scope="module", params=tasks.DYNAMIC)
def env(request: pytest.FixtureRequest) -> Iterator[TabletopEnv]:
    env = registration.make(request.param)
    yield env
    env.close()


def spec_of(env: TabletopEnv, factor: str = "none", index: int = 0) -> EpisodeSpec:
    return episode_spec(env.task, "dynamic", factor, index, 0)


def constant(seconds: float) -> Callable[[int, float], float]:
    return lambda query, measured: seconds


@pytest.mark.parametrize("speed", SPEEDS)
def test_the_expert_keeps_up_at_every_speed(env: TabletopEnv, speed: str) -> None:
    episode, taken = spec_of(env, speed, 1), 0
    outcome = env.begin(episode, render=False)
    while not (outcome.terminated or outcome.truncated):
        outcome, taken = env.advance(env.expert_action()), taken + 1
    assert outcome.success and outcome.progress == 1.0
    assert taken * 1.5 < episode.horizon


def test_something_moves_by_itself(env: TabletopEnv) -> None:
    """The view changes while the robot keeps still."""
    first = env.begin(spec_of(env, "fast")).observations[0]
    seen = [first, *env.step_chunk(np.tile(STILL, (40, 1))).observations]
    changes = [np.abs(one.images["agentview"].astype(int) - first.images["agentview"]).max() for one in seen[1:]]
    assert max(changes) > 60


def test_speeds_are_speeds(env: TabletopEnv) -> None:
    """The sum over half a second of what the things at rest on the table do grows from level to level."""
    moved = []
    for speed in SPEEDS:
        env.begin(spec_of(env, speed, 2), render=False)
        env.step_chunk(np.tile(STILL, (30, 1)))
        fastest = 0.0
        for _ in range(60):
            env.advance(STILL)
            free = slice(9, None)  # the arm's and the fingers' own joints come first
            fastest = max(fastest, float(np.abs(env.scene.data.qvel[free]).max()))
        moved.append(fastest)
    assert moved[0] < moved[1] < moved[2]


def test_the_same_scene_at_every_speed(env: TabletopEnv) -> None:
    same = [dataclasses.replace(spec_of(env, speed), factor="none") for speed in SPEEDS]
    assert len({spec.to_json() for spec in same}) == 1


def test_blind_presses_in_a_row_do_not_succeed() -> None:
    """Pressing many times: the expert of PressButton's motion, up and down, whatever the pendulum does."""
    env = registration.make("PressOnBeat")
    for index in range(6):
        outcome = env.begin(spec_of(env, "none", index), render=False)
        for step in range(env.task.horizon):
            top = env.view.pos("button/top")
            goal = top + [0, 0, -0.03 if step % 16 < 8 else 0.05]
            move = 1.3 * (goal - env.view.eef()) / 0.05
            outcome = env.advance(np.concatenate([np.clip(move, -1, 1), np.zeros(3), [1.0]]))
            if outcome.terminated or outcome.truncated:
                break
        assert not outcome.success_ever, index
    env.close()


def test_waiting_is_charged_where_the_world_waits_for_the_policy() -> None:
    """`sync`: the rollout does not depend on the latency; its progress at equal wall-clock time does."""
    env = registration.make("PickFromBelt")
    episode = spec_of(env, "medium", 1)
    walls = []
    for seconds in (0.0, 1.0):
        played = rollout(env, ScriptedExpert(env), episode, clock=Virtual(seconds=constant(seconds)))
        assert played.status == "ok" and played.success_end
        walls.append(timing(played.chunks, "sync", env.convention, episode.horizon, played.progress).progress_wall)
    assert walls[0] == 1.0 and walls[1] < 1.0
    env.close()
