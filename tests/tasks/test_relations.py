"""A relation names what it named when the episode began: moving things about does not change who is meant."""

import numpy as np
import pytest

from wambench import registration
from wambench.envs.episodes import TRAINING, episode_spec
from wambench.tasks import lift_left_cube, lift_right_cube, place_nearest_in_bin

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("index", range(3))
def test_the_wrong_cube_carried_to_the_left_is_not_the_left_one(index: int) -> None:
    env = registration.make("LiftLeftCube")
    env.begin(episode_spec(env.task, TRAINING, "none", index, 0), render=False)
    right = lift_right_cube.right(env.view)
    left = lift_left_cube.left(env.view)
    assert {left, right} == set(lift_left_cube.CUBES)
    scene = env.scene
    address = scene.model.joint(f"{right}_free").qposadr[0]
    state = scene.data.qpos.copy()
    state[address + 1] = env.view.pos(left)[1] - 0.08  # beyond the left one, in the air, as if it were carried
    state[address + 2] += 0.12
    scene.data.qpos[:] = state
    outcome = env.advance(np.zeros(7))
    assert env.view.pos(right)[1] < env.view.pos(left)[1]
    assert lift_left_cube.left(env.view) == left
    assert outcome.progress == 0.0


@pytest.mark.parametrize("index", range(5))
def test_scenes_leave_no_doubt(index: int) -> None:
    for name in ("LiftLeftCube", "PlaceNearestInBin"):
        task = registration.make(name).task
        placed = task.place(np.random.default_rng(index))
        red, blue, box = (np.array([placed[n].x, placed[n].y]) for n in ("red_cube", "blue_cube", "bin"))
        if name == "LiftLeftCube":
            assert abs(red[1] - blue[1]) > lift_left_cube.APART
        else:
            away = abs(np.linalg.norm(red - box) - np.linalg.norm(blue - box))
            assert away > place_nearest_in_bin.NEARER


@pytest.mark.parametrize(("one", "other"), [("SlideHatchLeft", "SlideHatchRight"), ("LiftLeftCube", "LiftRightCube")])
def test_opposite_instructions_share_their_scenes(one: str, other: str) -> None:
    """The same draws place the same scene, so that only the instruction tells the two tasks apart."""
    first, second = registration.make(one).task, registration.make(other).task
    assert first.objects == second.objects and first.instruction != second.instruction
    for seed in range(3):
        assert first.place(np.random.default_rng(seed)) == second.place(np.random.default_rng(seed))


def test_an_expert_of_the_opposite_instruction_earns_little() -> None:
    for one, other in (("SlideHatchLeft", "SlideHatchRight"), ("LiftLeftCube", "LiftRightCube")):
        env, opposite = registration.make(one), registration.make(other).task
        env.begin(episode_spec(env.task, TRAINING, "none", 0, 0), render=False)
        for _ in range(env.task.horizon):
            outcome = env.advance(np.clip(opposite.expert(env.view), -1, 1))
        assert outcome.progress <= 0.2 and not outcome.success_ever
        env.close()
