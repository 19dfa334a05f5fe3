"""The DROID robot under a handful of tasks: what Gymnasium, snapshots, resets and episodes promise of every robot."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from wambench import registration, tasks
from wambench.conventions import DROID, DROID_VELOCITY
from wambench.envs.episodes import TRAINING, episode_spec, played_by
from wambench.envs.scene import compile_family
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import EpisodeSpec, Outcome

pytestmark = pytest.mark.slow
SMALL = (18, 32)
# Grasping, pushing closed fingers, a handle, something remembered and something that moves by itself.
NAMES = ("LiftCube", "PressButton", "OpenDrawer", "PressWhenDark", "PickFromBelt")


def training(env: TabletopEnv, index: int = 0) -> EpisodeSpec:
    return episode_spec(env.task, TRAINING, "none", index, 0, robot=env.robot)


def let_expert_finish(env: TabletopEnv) -> Outcome:
    while True:
        outcome = env.advance(env.expert_action())
        if outcome.terminated or outcome.truncated:
            return outcome


@pytest.fixture(scope="module", params=NAMES)
def env(request: pytest.FixtureRequest) -> Iterator[TabletopEnv]:
    made = registration.make(request.param, robot="droid", image_size=SMALL)
    yield made
    made.close()


def test_the_expert_acts_within_the_limits_and_solves_it(env: TabletopEnv) -> None:
    low, high = env.convention.limits()
    env.begin(training(env), render=False)
    while True:
        action = env.expert_action()
        assert action.shape == (8,) and (action >= low).all() and (action <= high).all()
        outcome = env.advance(action)
        if outcome.terminated or outcome.truncated:
            break
    assert outcome.success and outcome.progress == 1.0
    assert outcome.stages == tuple(stage.name for stage in env.task.stages)


def test_holding_the_joints_makes_no_progress(env: TabletopEnv) -> None:
    env.begin(episode_spec(env.task, env.split, "all", 0, 0, robot="droid"), render=False)
    start = env.proprioception()
    hold = env.convention.hold_action(None, start)
    for _ in range(env.task.horizon):
        outcome = env.advance(hold)
        if outcome.truncated:
            break
    assert outcome.truncated and outcome.steps == round(0.75 * env.task.horizon) and outcome.progress == 0.0
    np.testing.assert_allclose(env.proprioception()[:7], start[:7], atol=1e-3)


def test_a_restored_snapshot_goes_on_bitwise(env: TabletopEnv) -> None:
    env.begin(training(env), render=False)
    for _ in range(3):
        for _ in range(8):
            env.advance(env.expert_action())
        branch, ends = env.snapshot(), []
        for _ in range(2):
            env.restore(branch)
            assert env.snapshot() == branch
            for _ in range(5):
                env.advance(env.expert_action())
            ends.append(env.snapshot() + env.observe().images["wrist"].tobytes())
        assert ends[0] == ends[1]


def test_seeds_and_specs_decide_everything(env: TabletopEnv) -> None:
    first, info = env.reset(seed=5)
    env.reset(seed=6)
    again, same = env.reset(options={"spec": info["spec"]})
    assert info["spec"] == same["spec"] and all(np.array_equal(first[key], again[key]) for key in first)
    assert env.observation_space.contains(first)
    assert np.abs(first["exterior_1"].astype(int) - first["exterior_2"]).mean() > 1


def test_a_chunk_equals_its_steps(env: TabletopEnv) -> None:
    env.begin(training(env), render=False)
    joints = env.proprioception()[:8]
    actions = joints + np.random.default_rng(0).uniform(0, 0.1, (8, 8))
    seen = env.step_chunk(actions).observations
    whole = env.snapshot()
    assert [one.step for one in seen] == [3, 6, 8]
    env.begin(training(env), render=False)
    for action in actions:
        env.advance(action)
    assert env.snapshot() == whole


def test_a_reset_compiles_nothing(env: TabletopEnv) -> None:
    env.begin(training(env), render=False)
    model, misses = env.scene.model, compile_family.cache_info().misses
    env.begin(training(env, 1), render=False)
    assert env.scene.model is model and compile_family.cache_info().misses == misses


def test_gymnasium_accepts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # render mode "human" opens a window
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")  # joints have limits of their own
        made = gymnasium.make("wambench/PressButton-v1", robot="droid", image_size=SMALL, render_mode="rgb_array")
        check_env(made.unwrapped, skip_render_check=False)
        made.close()


def test_the_convention_is_that_of_the_data() -> None:
    made = registration.make("LiftCube", robot="droid")
    assert made.convention == DROID and made.episode is None
    assert registration.make("LiftCube", robot="droid-velocity").convention == DROID_VELOCITY
    seen, _ = made.reset(seed=0)
    assert seen["wrist"].shape == (180, 320, 3) and seen["state"].shape == (14,)
    joints, gripper, pos = np.split(seen["state"], [7, 8, 11])[:3]
    np.testing.assert_allclose(joints, [0, -0.628, 0, -2.513, 0, 1.885, 0], atol=0.05)
    assert gripper == 0.0 and np.array_equal(pos, made.view.site())
    made.close()


def test_velocities_solve_it_too() -> None:
    made = registration.make("LiftCube", robot="droid-velocity", image_size=SMALL)
    made.begin(training(made), render=False)
    assert np.abs(made.expert_action()).max() <= 1.0
    assert let_expert_finish(made).success
    with pytest.raises(ValueError, match="has the robot droid-velocity, the episode spec is for libero"):
        made.begin(episode_spec(made.task, TRAINING, "none", 0, 0))
    made.close()


def test_a_copy_goes_on_bitwise() -> None:
    made = registration.make("LiftCube", robot="droid", image_size=SMALL)
    made.begin(training(made), render=False)
    for _ in range(5):
        made.advance(made.expert_action())
    other = copy.deepcopy(made)
    for one in (made, other):
        for _ in range(5):
            one.advance(one.expert_action())
    assert made.snapshot() == other.snapshot()
    for one in (made, other):
        one.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"robot": "droyd"}, "unknown robot 'droyd'; did you mean 'droid'"),
        ({"robot": "droid", "cameras": ("agentview",)}, "unknown camera 'agentview'; .*exterior_1, exterior_2, wrist"),
        ({"robot": "droid", "rotation": "rotation_6d"}, "state of droid has its rotation as axis_angle"),
        ({"robot": "droid", "arm": "UR5e"}, "droid is a Panda, not a UR5e"),
        ({"robot": "droid", "video_hz": 4}, "video_hz must divide control_hz"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        registration.make("LiftCube", **options)


def test_an_episode_is_the_same_scene_for_every_robot() -> None:
    task = tasks.TASKS["PressWhenDark"]
    libero = episode_spec(task, "memory", "delay-4", 3, 0)
    droid = episode_spec(task, "memory", "delay-4", 3, 0, robot="droid")
    assert (droid.poses, droid.look, droid.seed) == (libero.poses, libero.look, libero.seed)
    assert droid.horizon / droid.control_hz == pytest.approx(libero.horizon / libero.control_hz, abs=0.04)
    assert '"robot":"' not in libero.to_json() and EpisodeSpec.from_json(libero.to_json()) == libero
    assert EpisodeSpec.from_json(droid.to_json()) == droid and droid.hash != libero.hash
    assert droid == episode_spec(task, "memory", "delay-4", 3, 0, robot="droid-velocity")
    assert played_by(libero, "droid") == droid and played_by(libero, "libero") == libero
