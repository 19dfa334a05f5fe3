"""What users of Gymnasium expect: options, ends, info, wrappers, windows, and other people's checkers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FrameStackObservation, RecordVideo

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import SimulationDiverged

pytestmark = pytest.mark.slow

TASK = tasks.TASKS["PushCube"]
ID = f"wambench/{TASK.id}"
STILL = np.zeros(7, np.float32)


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    made = registration.make("PushCube", image_size=(32, 32))
    yield made
    made.close()


# -- options, info, ends ---------------------------------------------------------------------------------------------


def test_unknown_options_of_reset_are_refused_with_the_nearest(env: TabletopEnv) -> None:
    with pytest.raises(ValueError, match="unknown reset option 'sepc'; did you mean 'spec'"):
        env.reset(options={"sepc": "{}"})
    with pytest.raises(ValueError, match="an EpisodeSpec or its JSON, not int"):
        env.reset(options={"spec": 3})
    assert env.reset(seed=0, options={})[1]["instruction"] == TASK.instruction


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cameras": ("agentview", "wirst")}, "unknown camera 'wirst'; did you mean 'wrist'"),
        ({"cameras": ()}, "at least one camera"),
        ({"rotation": "none"}, "unknown rotation of the state 'none'"),
        ({"render_mode": "rgb_aray"}, "unknown render mode 'rgb_aray'; did you mean 'rgb_array'"),
        ({"video_hz": 15}, "video_hz must divide control_hz"),
        ({"image_size": (96, -1)}, "two positive integers"),
    ],
)
def test_arguments_are_checked_where_the_environment_is_made(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        registration.make("PushCube", **values)


def test_info_and_spec_say_what_gymnasium_users_look_for() -> None:
    made = gymnasium.make(ID, image_size=(8, 8))
    assert made.spec is not None and made.spec.max_episode_steps == TASK.horizon
    assert gymnasium.spec(ID).max_episode_steps == TASK.horizon
    _, info = made.reset(seed=0)
    assert info["instruction"] == "push the red cube to the yellow zone"
    assert made.step(STILL)[4]["instruction"] == info["instruction"]
    made.close()


def test_the_time_limit_of_gymnasium_changes_nothing(env: TabletopEnv) -> None:
    made = gymnasium.make(ID, image_size=(32, 32))
    (_, info), flags = made.reset(seed=4), []
    env.reset(options={"spec": info["spec"]})
    for _ in range(TASK.horizon):
        flags.append((made.step(STILL)[2:4], env.step(STILL)[2:4]))
    assert all(wrapped == bare for wrapped, bare in flags)
    assert [truncated for (_, truncated), _ in flags] == [False] * (TASK.horizon - 1) + [True]
    made.close()


def test_success_in_the_last_step_ends_and_truncates_with_and_without_the_time_limit(env: TabletopEnv) -> None:
    made = gymnasium.make(ID, image_size=(32, 32))
    spec = episode_spec(TASK, "train", "none", 0, 0)
    made.reset(options={"spec": spec})
    simulator: Any = made.unwrapped
    ended = False
    while not ended:
        ended = made.step(simulator.expert_action())[2]
    steps, made = simulator._steps, gymnasium.make(ID, image_size=(32, 32), max_episode_steps=simulator._steps)
    short = {**vars(spec), "horizon": steps}
    for one in (made, env):
        one.reset(options={"spec": type(spec)(**short)})
        simulator = one.unwrapped
        flags = [one.step(simulator.expert_action())[2:4] for _ in range(steps)]
        assert flags == [(False, False)] * (steps - 1) + [(True, True)]
    made.close()


def test_a_step_after_the_end_asks_for_a_reset(env: TabletopEnv) -> None:
    fresh = registration.make("PushCube")
    for act in (lambda: fresh.step(STILL), lambda: fresh.step_chunk(STILL[None])):
        with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
            act()
    env.reset(seed=0)
    before = env.snapshot()
    env.step_chunk(np.tile(STILL, (TASK.horizon + 5, 1)))
    for act in (lambda: env.step(STILL), lambda: env.step_chunk(STILL[None])):
        with pytest.raises(gymnasium.error.ResetNeeded, match=rf"over .horizon of {TASK.horizon} steps.: call reset"):
            act()
    env.restore(before)
    env.step(STILL)  # a snapshot from before the end goes on


def test_arrays_of_reset_and_step_belong_to_the_caller(env: TabletopEnv) -> None:
    seen, _ = env.reset(seed=0)
    later, *_ = env.step(STILL)
    kept = {key: value.copy() for key, value in later.items()}
    for value in (*seen.values(), *later.values()):
        value += 1
    again = env.observe()
    assert np.array_equal(again.state, kept["state"]) and np.array_equal(again.images["wrist"], kept["wrist"])
    assert not again.state.flags.writeable and not again.images["wrist"].flags.writeable


# -- rotation --------------------------------------------------------------------------------------------------------


def largest_step(rotation: str) -> tuple[float, int]:
    """Returns the largest change of a rotation number in one control step, and how often one jumps by more than 1."""
    env = registration.make("PushCube", rotation=rotation, image_size=(8, 8))
    env.begin(episode_spec(TASK, "train", "none", 0, 0), render=False)
    states, over = [env.proprioception()], False
    while not over:
        outcome = env.advance(env.expert_action())
        states.append(env.proprioception())
        over = outcome.terminated or outcome.truncated
    turns = np.abs(np.diff(np.array(states)[:, 3:-2], axis=0)).max(axis=1)
    env.close()
    return float(turns.max()), int((turns > 1).sum())


def test_rotation_6d_is_continuous_over_an_episode_where_axis_angle_jumps() -> None:
    largest, jumps = largest_step("rotation_6d")
    assert largest < 0.1 and jumps == 0
    largest, jumps = largest_step("axis_angle")
    assert largest > 3 and jumps >= 2


def test_rotation_6d_is_the_same_rotation(env: TabletopEnv) -> None:
    other = registration.make("PushCube", rotation="rotation_6d", image_size=(8, 8), cameras=("wrist",))
    seen, info = other.reset(seed=2)
    env.reset(options={"spec": info["spec"]})
    assert list(seen) == ["wrist", "state"] and seen["state"].shape == (11,)
    assert other.observation_space.contains(seen)
    for _ in range(3):
        other.step(STILL), env.step(STILL)
    state, rotation = other.proprioception(), env.view.eef_rot()
    assert np.array_equal(state[3:9], [*rotation[:, 0], *rotation[:, 1]])
    assert np.array_equal(np.delete(state, range(3, 9)), np.delete(env.proprioception(), range(3, 6)))
    other.close()


# -- divergence ------------------------------------------------------------------------------------------------------

FAULTS = {
    "huge speed": lambda data, q, v: data.qvel.__setitem__(v, 1e11),
    "speed that is no number": lambda data, q, v: data.qvel.__setitem__(v, np.nan),
    "place that is no number": lambda data, q, v: data.qpos.__setitem__(q, np.nan),
    "force without end": lambda data, q, v: data.qfrc_applied.__setitem__(v, 1e13),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", ["step", "advance", "step_chunk"])
def test_divergence_is_noticed(
    env: TabletopEnv, fault: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to a file in the present folder
    env.reset(seed=0)
    env.step_chunk(np.tile(STILL, (5, 1)))
    before = env.snapshot()
    joint = env.scene.model.joint("red_cube_free")
    FAULTS[fault](env.scene.data, joint.qposadr[0], joint.dofadr[0])
    for _ in range(2):  # and it stays so
        with pytest.raises(SimulationDiverged, match="the simulation diverged at step"):
            getattr(env, way)(STILL[None] if way == "step_chunk" else STILL)
    env.restore(before)
    env.step(STILL)  # what lies before the fault goes on
    env.reset(seed=0)
    env.step(STILL)


def test_a_snapshot_that_holds_no_numbers_is_refused(
    env: TabletopEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env.reset(seed=0)
    good = env.snapshot()
    env.scene.data.qpos[0] = np.nan
    bad = env.snapshot()
    with pytest.raises(SimulationDiverged, match="positions"):
        env.restore(bad)
    env.restore(good)
    other = registration.make("StackCubes")
    other.reset(seed=0)
    with pytest.raises(ValueError, match="a snapshot of another scene"):
        other.restore(good)
    other.close()


# -- wrappers, checkers, windows -------------------------------------------------------------------------------------


def test_frame_stack() -> None:
    made = FrameStackObservation(gymnasium.make(ID, image_size=(16, 16)), 3)
    seen, _ = made.reset(seed=0)
    assert seen["agentview"].shape == (3, 16, 16, 3) and seen["state"].shape == (3, 8)
    assert made.observation_space.contains(made.step(STILL)[0])
    made.close()


def test_record_video(tmp_path: Path) -> None:
    pytest.importorskip("moviepy", reason="RecordVideo needs wambench[video]")
    made = RecordVideo(gymnasium.make(ID, render_mode="rgb_array", image_size=(64, 64)), str(tmp_path / "films"))
    made.reset(seed=0)
    for _ in range(10):
        made.step(STILL)
    made.close()
    import imageio.v2 as imageio

    frames = imageio.mimread(next((tmp_path / "films").glob("*.mp4")))
    assert 10 <= len(frames) <= 11 and frames[0].shape == (64, 64, 3)  # MoviePy may leave out the last one
    assert frames[0].std() > 10


@pytest.mark.parametrize("rotation", ["axis_angle", "rotation_6d"])
def test_checker_of_gymnasium(rotation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame", reason="render mode human needs wambench[view]")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    made = gymnasium.make(ID, render_mode="rgb_array", rotation=rotation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(made.unwrapped, skip_render_check=False)
    made.close()


def test_checker_of_stable_baselines3(env: TabletopEnv) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker", reason="stable-baselines3 is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*CnnPolicy.*|.*image.*", category=UserWarning)
        checker.check_env(registration.make("PushCube", image_size=(48, 48)), warn=True)


def test_human_mode_shows_both_views(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame", reason="render mode human needs wambench[view]")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    made = registration.make("PushCube", render_mode="human")
    made.reset(seed=0)
    first = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    assert first.shape == (480, 960, 3) and first.std() > 10
    for _ in range(5):
        made.step(np.array([1.0, 0, 0, 0, 0, 0, 0]))
    assert made.render() is None
    later = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    expected = made.renderer.render(made.scene.data, ["agentview", "robot0_eye_in_hand"], (480, 480))
    assert np.array_equal(later, np.concatenate(list(expected.values()), axis=1))
    assert not np.array_equal(first, later)
    made.close()
    assert not pygame.display.get_init()


@pytest.mark.parametrize("driver", ["", "x11"])  # what SDL finds by itself, and a display that is not there
def test_human_mode_without_a_display_is_one_clear_line(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame", reason="render mode human needs wambench[view]")
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if driver:
        monkeypatch.setenv("SDL_VIDEODRIVER", driver)
        monkeypatch.setenv("DISPLAY", ":97531")
    with pytest.raises(RuntimeError, match=r"finds no display .*render_mode='rgb_array'"):
        registration.make("PushCube", render_mode="human")


def test_human_mode_without_pygame_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pygame", None)
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match=r"wambench\[view\]"):
        registration.make("PushCube", render_mode="human")
