"""A chunk of actions is bitwise its single steps, and draws no frame that nobody asked for."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from wambench import registration
from wambench.envs.episodes import episode_spec
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import Observation

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["LiftCube", "OpenDrawer"])
def env(request: pytest.FixtureRequest) -> Iterator[TabletopEnv]:
    env = registration.make(request.param)
    yield env
    env.close()


def begin(env: TabletopEnv) -> None:
    env.begin(episode_spec(env.task, env.split, env.factor, 0, 0), render=False)


def expert_actions(env: TabletopEnv) -> np.ndarray:
    """Returns the actions of an episode to its end: approach, contact, and the work itself."""
    begin(env)
    actions, outcome = [], None
    while outcome is None or not (outcome.terminated or outcome.truncated):
        actions.append(env.expert_action())
        outcome = env.advance(actions[-1])
    assert outcome.progress == 1.0
    return np.array(actions)


def alike(one: Observation, other: Observation) -> bool:
    images = all(np.array_equal(one.images[camera], other.images[camera]) for camera in one.images)
    return one.step == other.step and np.array_equal(one.state, other.state) and images


@pytest.mark.parametrize("length", [1, 7, 16])
def test_chunks_of_any_length_are_their_single_steps(env: TabletopEnv, length: int) -> None:
    actions = expert_actions(env)
    begin(env)
    chunks, states = [], []
    for start in range(0, len(actions), length):
        chunks.append(env.step_chunk(actions[start : start + length]))
        states.append(env.snapshot())
    begin(env)
    wanted = {observation.step: observation for chunk in chunks for observation in chunk.observations}
    ends = {chunk.steps: (chunk, state) for chunk, state in zip(chunks, states, strict=True)}
    for step, action in enumerate(actions, start=1):
        outcome = env.advance(action)
        if step in wanted:
            assert alike(env.observe(), wanted[step])
        if step in ends:
            chunk, state = ends[step]
            assert env.snapshot() == state
            assert (outcome.progress, outcome.stages, outcome.success) == (chunk.progress, chunk.stages, chunk.success)
            assert (outcome.terminated, outcome.truncated) == (chunk.terminated, chunk.truncated)
    assert chunks[-1].terminated and chunks[-1].steps == len(actions)


def test_only_frames_of_the_video_rate_and_the_last_are_drawn(
    env: TabletopEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(env)
    drawn: list[int] = []
    really = env.renderer.render

    def render(*arguments: Any) -> Any:
        drawn.append(len(arguments[1]))
        return really(*arguments)

    monkeypatch.setattr(env.renderer, "render", render)
    still = np.tile([0, 0, 0, 0, 0, 0, -1.0], (10, 1))
    for actions, steps in ((still, [4, 8, 10]), (still[:6], [12, 16]), (still[:1], [17])):
        before = len(drawn)
        assert [observation.step for observation in env.step_chunk(actions).observations] == steps
        assert drawn[before:] == [2] * len(steps)  # both cameras, once
    env.advance(still[0])
    assert len(drawn) == 6
