"""Progress read from key points: of true ones, an expert's is all of it and that of a robot at rest nothing."""

import contextlib

import numpy as np
import pytest

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.envs.tabletop import TabletopEnv
from wambench.world_model import key_point_goals as goals

POINTS = tuple(dict.fromkeys(point for goal in goals.GOALS.values() for point in goal.points)) + (goals.HAND,)


@pytest.mark.parametrize("name", goals.GOALS)
def test_every_stage_of_a_task_is_read(name: str) -> None:
    task = tasks.find(name)
    assert set(goals.GOALS[name].stages) == {stage.name for stage in task.stages}
    read = goals.as_read(task)
    assert [(stage.name, stage.weight, stage.after) for stage in read.stages] == [
        (stage.name, stage.weight, stage.after) for stage in task.stages
    ]


def test_what_key_points_cannot_tell_is_named() -> None:
    goals.check_readable(["LiftCube", "PressButton"], POINTS)
    with pytest.raises(ValueError, match=r"cannot tell the progress of WipeSpot; they can of: LiftCube"):
        goals.check_readable(["LiftCube", "WipeSpot"], POINTS)
    with pytest.raises(ValueError, match="PlaceInBin is read from bin, which this world model does not imagine"):
        goals.check_readable(["PlaceInBin"], ("hand", "red_cube"))


def seen(sim: TabletopEnv) -> dict[str, np.ndarray]:
    """Returns the true key points that decide."""
    return {name: sim.view.point(name) for name in (goals.HAND, *goals.GOALS[sim.task.name].points)}


def played(name: str, acts: bool, split: str) -> tuple[float, float]:
    """Returns the true progress of an episode and that read every 8 steps, of the expert or of a robot at rest."""
    task = tasks.find(name)
    with contextlib.closing(registration.make(name, split=split)) as sim:
        spec = episode_spec(task, split, tasks.default_factor(split), 0, 0, "fast")
        outcome = sim.begin(spec, render=False)
        progress = goals.KeyPointProgress(spec, seen(sim), sim.view.width())
        while not (outcome.terminated or outcome.truncated):
            action = sim.expert_action() if acts else sim.convention.hold_action(None)
            outcome = sim.advance(action)
            if outcome.steps % 8 == 0 or outcome.terminated or outcome.truncated:
                progress.advance(seen(sim), sim.view.width(), outcome.steps % 8 or 8)
    return outcome.progress, progress.tracker.progress


@pytest.mark.parametrize("name", ["LiftCube", "CloseDrawer"])
def test_an_expert_is_read_to_succeed_and_rest_to_do_nothing(name: str) -> None:
    assert played(name, acts=True, split="seen-v1") == (1.0, 1.0)
    assert played(name, acts=False, split="seen-v1") == (0.0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", goals.GOALS)
def test_every_expert_is_read_to_succeed(name: str) -> None:
    split = tasks.default_split(name)
    assert played(name, acts=True, split=split) == (1.0, 1.0)
    assert played(name, acts=False, split=split) == (0.0, 0.0)


def test_between_two_moments_things_move_in_a_straight_line() -> None:
    """A cube that is high for one moment, of which a fifth of a second lies above the bar, is not lifted for longer."""
    spec = episode_spec(tasks.find("LiftCube"), "seen-v1", "none", 0, 0, "fast")
    low = {"hand": np.array([0.0, 0.0, 0.82]), "red_cube": np.array([0.0, 0.0, 0.82])}
    high = {name: place + [0, 0, 0.12] for name, place in low.items()}
    progress = goals.KeyPointProgress(spec, low, 0.08)
    progress.advance(low, 0.044, 8)
    assert progress.tracker.stages == ("reach", "grasp")
    progress.advance(high, 0.044, 8)  # above 7.5 cm in 3 of 8 steps
    assert progress.tracker.progress == pytest.approx(0.5)
    progress.advance(high, 0.044, 8)
    assert progress.tracker.progress == 1.0 and not progress.tracker.settled
    progress.advance(high, 0.044, 16)
    assert progress.tracker.settled
