"""The look-alike is one more object and nothing else: pairs, experts that still succeed, and nothing to be earned."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.envs.lookalikes import LANE, NEAREST, _distance, lookalike_of, place_lookalike
from wambench.envs.naming import named_object
from wambench.envs.objects import OBJECTS
from wambench.envs.tabletop import TabletopEnv
from wambench.evaluation.config import RunConfig
from wambench.interface import EpisodeSpec

WITH = [task.name for task in tasks.TASKS.values() if lookalike_of(task)]


def specs(task: str, index: int = 0) -> tuple[EpisodeSpec, EpisodeSpec]:
    """Returns an episode of the training environments without and with the look-alike."""
    found = tasks.find(task)
    split = tasks.default_split(task)
    return episode_spec(found, split, "none", index, 0), episode_spec(found, split, "lookalike", index, 0)


def test_tasks_that_name_an_object_by_its_colour_have_one() -> None:
    assert WITH == [
        "LiftCube", "PlaceInBin", "PlaceOnPlate", "StackCubes", "PushCube", "HoistCube", "PullBlock", "DepositCube",
        "BinThenLift", "PushAndPlace",
    ]  # fmt: skip
    for name in WITH:
        task, own = tasks.TASKS[name], lookalike_of(tasks.TASKS[name])
        named = named_object(task.objects, task.instruction)
        assert own not in task.objects and OBJECTS[own].half == OBJECTS[named].half
        assert own.split("_")[0] not in task.instruction.split()


@pytest.mark.parametrize("task", WITH)
def test_everything_else_of_the_episode_is_drawn_as_without(task: str) -> None:
    own = lookalike_of(tasks.find(task))
    for index in range(20):
        without, with_it = specs(task, index)
        placed = dict(with_it.poses)
        del placed[own]
        assert placed == without.poses and with_it.look == without.look and with_it.seed == without.seed
        assert dataclasses.replace(with_it, factor="none", poses=placed) == without
        assert specs(task, index)[1] == with_it
        assert EpisodeSpec.from_json(with_it.to_json()).hash == with_it.hash != without.hash


@pytest.mark.parametrize("task", WITH)
def test_it_stands_near_and_in_nobodys_way(task: str) -> None:
    found = tasks.find(task)
    named, own = named_object(found.objects, found.instruction), lookalike_of(found)
    away = []
    for index in range(60):
        poses = {name: np.array([p["x"], p["y"]]) for name, p in specs(task, index)[1].poses.items()}
        away.append(np.linalg.norm(poses[own] - poses[named]))
        ways = [_distance(poses[own], poses[named], poses[name]) for name in found.objects if name != named]
        assert min(ways) >= LANE - 1e-6
    assert min(away) >= NEAREST - 1e-6 and np.mean(away) < 0.18


def test_a_task_without_one_says_which_have_it() -> None:
    with pytest.raises(ValueError, match="'PressButton' has no look-alike; in 'seen-v1' these have one: LiftCube, "):
        tasks.check("PressButton", "seen-v1", "lookalike")
    with pytest.raises(ValueError, match="has no look-alike"):
        place_lookalike(tasks.TASKS["PressButton"], {}, np.random.default_rng(0))
    with pytest.raises(ValueError, match="did you mean 'lookalike'"):
        tasks.check("LiftCube", "seen-v1", "look-alike")


def test_a_run_plays_the_tasks_that_have_one_unless_others_are_named() -> None:
    config = RunConfig.resolve("noop", "seen-v1", factors=("none", "lookalike"))
    assert config.tasks == ("LiftCube", "PlaceInBin", "PlaceOnPlate", "StackCubes", "PushCube")
    assert RunConfig.resolve("noop", "seen-v1").tasks == tasks.SEEN_V1
    assert RunConfig.resolve("noop", "unseen-envs-v1", ("LiftCube",), ("distractors", "lookalike")).tasks
    with pytest.raises(ValueError, match="'OpenDrawer' has no look-alike"):
        RunConfig.resolve("noop", "seen-v1", ("OpenDrawer",), ("lookalike",))


class Swapped:
    """A view in which two objects have each other's names: what an expert sees who takes one for the other."""

    def __init__(self, view: Any, a: str, b: str) -> None:
        self._view, self._names = view, {a: b, b: a}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._view, name)
        if not callable(found):
            return found
        return lambda *given: found(*(self._names.get(one, one) if isinstance(one, str) else one for one in given))


def play(env: TabletopEnv, spec: EpisodeSpec, view: Any = None) -> Any:
    """Returns the last outcome of an expert that reads a view, or the true one."""
    outcome = env.begin(spec, render=False)
    while not (outcome.terminated or outcome.truncated):
        outcome = env.advance(np.clip(env.task.expert(view or env.view), -1.0, 1.0))
    return outcome


@pytest.mark.slow
@pytest.mark.parametrize("task", WITH)
def test_experts_succeed_beside_it_and_who_goes_for_it_earns_nothing(task: str) -> None:
    env = registration.make(task, tasks.default_split(task), "lookalike")
    named, own = named_object(env.task.objects, env.task.instruction), lookalike_of(env.task)
    for index in range(2):
        spec = specs(task, index)[1]
        right = play(env, spec)
        assert right.success and right.progress == 1.0 and right.first_touched == named
        assert right.nearest in env.task.objects
        env.begin(spec, render=False)
        wrong = play(env, spec, Swapped(env.view, named, own))
        assert wrong.progress == 0.0 and wrong.first_touched == own
    env.close()


@pytest.mark.slow
def test_it_is_seen_and_all_else_looks_the_same_and_states_come_back_bitwise() -> None:
    env = registration.make("PlaceOnPlate", "seen-v1", "none")
    without, with_it = specs("PlaceOnPlate")
    before = env.begin(without).observations[0].images["agentview"].astype(int)
    after = env.begin(with_it).observations[0].images["agentview"].astype(int)
    changed = np.abs(before - after).max(axis=2) > 8
    assert 0.001 < changed.mean() < 0.06
    start, actions = env.snapshot(), np.random.default_rng(0).uniform(-1, 1, (12, 7))
    ends = []
    for _ in range(2):
        env.restore(start)
        for action in actions:
            env.advance(action)
        ends.append(env.snapshot())
    assert ends[0] == ends[1]
    again = env.begin(without).observations[0].images["agentview"].astype(int)
    np.testing.assert_array_equal(again, before)
    with pytest.raises(ValueError, match="object 'green_cub'"):
        env.begin(dataclasses.replace(without, poses={**without.poses, "green_cub": without.poses["red_cube"]}))
    env.close()
