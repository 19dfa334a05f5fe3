"""Episodes start as they should, and a start that does not is found."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from wambench import registration, tasks
from wambench.envs.episodes import TRAINING, episode_spec
from wambench.envs.objects import DISTRACTORS
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import EpisodeSpec
from wambench.suite import resets

pytestmark = pytest.mark.slow

STARTS = 20  # in the command 500
CAN = {"kind": 0, "x": 0.05, "y": 0.335, "yaw": 0.0}


@pytest.fixture(scope="module", params=list(tasks.TASKS))
def env(request: pytest.FixtureRequest) -> Iterator[TabletopEnv]:
    env = registration.make(request.param)
    yield env
    env.close()


@pytest.mark.parametrize("environments", resets.ENVIRONMENTS)
def test_episodes_start_at_rest_whole_undone_and_in_sight(env: TabletopEnv, environments: str) -> None:
    split, factor = (TRAINING, "none") if environments == "train" else (env.split, "all")
    for index in range(STARTS // 2):
        assert resets.faults(env, episode_spec(env.task, split, factor, index, 0)) == {}, index


@pytest.fixture(scope="module")
def bottle() -> Iterator[TabletopEnv]:
    env = registration.make("PushBottle")
    yield env
    env.close()


def start(env: TabletopEnv, **poses: dict[str, float]) -> EpisodeSpec:
    spec = episode_spec(env.task, env.split, "all", 0, 0)
    moved = {name: {**pose, **poses.get(name, {})} for name, pose in spec.poses.items()}
    return dataclasses.replace(spec, poses=moved)


@pytest.mark.parametrize(
    ("poses", "fault"),
    [
        ({"bottle": {"z": -0.004}}, "overlaps"),
        ({"bottle": {"z": 0.25}}, "moves"),
        ({"plate": {"x": 0.0, "y": 0.0}, "zone": {"x": 0.0, "y": 0.0, "z": -0.01}}, "is hidden"),
    ],
)
def test_a_bad_start_is_found(bottle: TabletopEnv, poses: dict[str, dict[str, float]], fault: str) -> None:
    assert fault in resets.faults(bottle, start(bottle, **poses))


def test_a_start_that_is_done_is_found() -> None:
    env = registration.make("OpenDrawer")
    spec = episode_spec(env.task, env.split, "none", 0, 0)
    easy = dataclasses.replace(
        env.task, stages=tuple(dataclasses.replace(stage, after=None, weight=0.25) for stage in env.task.stages)
    )
    opened = dataclasses.replace(spec, poses={**spec.poses, "drawer": {**spec.poses["drawer"], "joint": 0.13}})
    assert "is begun" not in resets.faults(env, spec)
    env.task = easy
    assert "is begun" in resets.faults(env, opened)
    env.close()


def test_no_distractor_answers_to_the_words(bottle: TabletopEnv) -> None:
    kinds = set()
    for index in range(60):
        placed = episode_spec(bottle.task, bottle.split, "all", index, 0).look["distractors"]["placed"]
        kinds |= {DISTRACTORS[one["kind"]].name for one in placed}
        assert len({one["kind"] for one in placed}) == len(placed) == 2
    assert kinds == {"distractor_mug", "distractor_carton"}


def test_a_can_beside_the_bottle_is_found(bottle: TabletopEnv) -> None:
    spec = start(bottle)
    look: dict[str, Any] = {**spec.look, "distractors": {"count": 1, "placed": [{**CAN}]}}
    assert "has a rival" in resets.faults(bottle, dataclasses.replace(spec, look=look))


def test_tables_say_what_falls_short() -> None:
    import pandas as pd

    row = {"task": "A-v1", "environments": "train", "n": 5, **dict.fromkeys(resets.FAULTS, 0), "example": ""}
    frame = pd.DataFrame([row, {**row, "environments": "unseen", "moves": 2, "example": "3: moves, cube at 4 cm/s"}])
    assert resets.shortfalls(frame) == ["A-v1 in unseen environments: 2 of 5 moves; e.g. 3: moves, cube at 4 cm/s"]
    assert "| A-v1 | unseen | 5 | 0 | 2 | 0 | 0 | 0 |" in resets.markdown(frame)
