"""What the robot touches first and comes nearest to is noted, and restoring a state takes it back."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.envs.tabletop import TabletopEnv
from wambench.tasks import skills

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def env() -> TabletopEnv:
    return registration.make("LiftCube", "unseen-envs-v1", "distractors")


def begin(env: TabletopEnv, index: int = 0) -> None:
    env.begin(episode_spec(tasks.find("LiftCube"), "unseen-envs-v1", "distractors", index, 0), render=False)


def go_to(env: TabletopEnv, place: np.ndarray, steps: int) -> None:
    """Moves the closed hand straight to a place."""
    for _ in range(steps):
        env.advance(np.clip(skills.servo(env.view, place, skills.CLOSE), -1.0, 1.0))


def test_nothing_is_touched_by_a_hand_that_hovers(env: TabletopEnv) -> None:
    begin(env)
    for place in (env.view.pos("blue_cube"), env.view.pos("red_cube")):
        go_to(env, np.array([*place[:2], env.view.table_z + 0.12]), 25)
        outcome = env.advance(np.zeros(7))
    assert outcome.first_touched == "" and outcome.nearest in ("blue_cube", "red_cube")


@pytest.mark.parametrize(("first", "second"), [("blue_cube", "red_cube"), ("red_cube", "blue_cube")])
def test_the_first_of_two_is_told_whatever_follows(env: TabletopEnv, first: str, second: str) -> None:
    begin(env)
    for name in (first, second):
        place = env.view.pos(name)
        go_to(env, np.array([*place[:2], env.view.table_z + 0.14]), 25)
        go_to(env, place, 15)
        go_to(env, np.array([*env.view.eef()[:2], env.view.table_z + 0.14]), 15)
    outcome = env.advance(np.zeros(7))
    assert outcome.first_touched == first
    assert env._contacts.noted[-1].distance < 0.01


def test_a_distractor_counts_as_an_object(env: TabletopEnv) -> None:
    begin(env)
    placed = env.episode.look["distractors"]["placed"][0]  # type: ignore[union-attr]
    go_to(env, np.array([placed["x"], placed["y"], env.view.table_z + 0.16]), 40)
    go_to(env, np.array([placed["x"], placed["y"], env.view.table_z + 0.03]), 20)
    outcome = env.advance(np.zeros(7))
    assert outcome.first_touched.startswith("distractor_") and outcome.nearest == outcome.first_touched


def test_a_restored_state_knows_nothing_of_what_came_after_it(env: TabletopEnv) -> None:
    begin(env)
    place = env.view.pos("blue_cube")
    go_to(env, np.array([*place[:2], env.view.table_z + 0.14]), 25)
    state, notes = env.snapshot(), list(env._contacts.noted)
    go_to(env, place, 15)
    assert env.advance(np.zeros(7)).first_touched == "blue_cube"
    env.restore(state)
    assert env._contacts.noted == notes
    assert env.advance(np.zeros(7)).first_touched == ""


def test_a_copy_goes_on_with_what_was_noted(env: TabletopEnv) -> None:
    begin(env)
    place = env.view.pos("red_cube")
    go_to(env, np.array([*place[:2], env.view.table_z + 0.14]), 25)
    go_to(env, place, 15)
    twin = copy.deepcopy(env)
    assert twin.advance(np.zeros(7)) == env.advance(np.zeros(7))
    assert twin._contacts.noted == env._contacts.noted and twin._contacts.noted[-1].first_touched == "red_cube"
    twin.close()
