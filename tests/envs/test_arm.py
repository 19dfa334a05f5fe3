"""Arm against the installed robosuite: same torques, same trajectories; and its own state, snapshots and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mujoco
import numpy as np
import pytest
import robosuite
from robosuite.utils import transform_utils

from wambench.envs.arm import STATE_SIZE, Arm, rotation_from_axis_angle

pytestmark = pytest.mark.slow

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
Script = Callable[[int, mujoco.MjData, Arm, np.random.Generator], np.ndarray]


@pytest.fixture(scope="module")
def lift() -> Any:
    """Stock robosuite Lift without rendering."""
    return robosuite.make(
        "Lift",
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        hard_reset=False,
        ignore_done=True,
        seed=0,
    )


@pytest.fixture
def base_quat(lift: Any) -> Iterator[np.ndarray]:
    """The rotation of the robot's base, put back after the test."""
    quat = lift.sim.model._model.body("robot0_base").quat
    before = quat.copy()
    yield quat
    quat[:] = before


def controller(env: Any) -> Any:
    return env.robots[0].part_controllers["right"]


def begin(env: Any) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """Resets the stock environment and returns its model and data.

    Its first substep after a reset works with quantities from before the objects were placed (the controller is built
    in the middle of the reset and skips its first update); the flag makes it look again.
    """
    env.reset()
    controller(env).new_update = True
    return env.sim.model._model, env.sim.data._data


def save(model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    state = np.empty(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, state, STATE)
    return state


def load(model: mujoco.MjModel, state: np.ndarray) -> mujoco.MjData:
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, state, STATE)
    mujoco.mj_step1(model, data)
    return data


def twin(env: Any) -> tuple[mujoco.MjModel, mujoco.MjData, Arm]:
    """Returns a second simulation of the same state, with an Arm at its controls."""
    model, stock = begin(env)
    data = load(model, save(model, stock))
    arm = Arm(model)
    arm.reset(data)
    return model, data, arm


def wander(step: int, data: mujoco.MjData, arm: Arm, rng: np.random.Generator) -> np.ndarray:
    """Random actions over the full range."""
    return rng.uniform(-1.2, 1.2, 7)


def stir(step: int, data: mujoco.MjData, arm: Arm, rng: np.random.Generator) -> np.ndarray:
    """Random actions of half the range, which keep the arm off the table and off its limits."""
    return rng.uniform(-0.5, 0.5, 7)


def stretch(step: int, data: mujoco.MjData, arm: Arm, rng: np.random.Generator) -> np.ndarray:
    """Reaches out until the arm is straight and nearly singular."""
    return np.array([1.0, 0.0, 0.3, 0.0, 0.0, 0.0, -1.0])


def grasp(step: int, data: mujoco.MjData, arm: Arm, rng: np.random.Generator) -> np.ndarray:
    """Moves over the cube, down, closes, lifts."""
    cube, eef = data.body("cube_main").xpos, arm.eef_pos(data)
    over = cube + [0.0, 0.0, 0.1 if step < 25 else 0.0]
    target = over if step < 75 else eef + [0.0, 0.0, 0.02]
    move = np.clip((target - eef) / 0.05, -1.0, 1.0)
    return np.array([*move, 0.0, 0.0, 0.0, -1.0 if step < 55 else 1.0])


def torques_of_both(
    env: Any, script: Script, episodes: int, steps: int, patch: pytest.MonkeyPatch
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Returns ours, robosuite's, and the condition of J M^-1 J^T at every substep, robosuite being in control."""
    rng = np.random.default_rng(1)
    seen: list[tuple[np.ndarray, np.ndarray, float]] = []
    for _ in range(episodes):
        model, data = begin(env)
        osc, arm = controller(env), Arm(model)
        stock = osc.run_controller

        def compared(osc: Any = osc, arm: Arm = arm, stock: Any = stock, data: mujoco.MjData = data) -> np.ndarray:
            torques = stock()
            arm.set_state(np.concatenate([osc.goal_pos, osc.goal_ori.ravel(), osc.initial_joint, np.zeros(2)]))
            condition = float(np.linalg.cond(osc.J_full @ np.linalg.inv(osc.mass_matrix) @ osc.J_full.T))
            seen.append((arm.torques(data), np.clip(torques, osc.actuator_min, osc.actuator_max), condition))
            return torques

        patch.setattr(osc, "run_controller", compared)
        for step in range(steps):
            env.step(script(step, data, arm, rng))
    assert len(seen) == 25 * episodes * steps
    return seen


@pytest.mark.parametrize(("script", "episodes", "steps"), [(wander, 4, 90), (stir, 4, 90), (grasp, 4, 110)])
def test_torques_are_those_of_robosuite(
    lift: Any, script: Script, episodes: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,160 random and expert control steps, every substep, every joint: within 1e-6 of its own torque."""
    for ours, theirs, _ in torques_of_both(lift, script, episodes, steps, monkeypatch):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)
        assert np.abs(ours - theirs).max() < 1e-10 * np.abs(theirs).max()  # measured: 2e-12


def test_torques_of_a_straight_arm_differ_by_rounding(lift: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reaching out until the arm is straight, which no random or expert step does.

    Where the arm is nearly singular the inverses magnify rounding by the condition number of J M^-1 J^T (here up to
    1e10); against 60-digit arithmetic the larger part of that difference is robosuite's. Up to 1.02e-6 of the largest
    torque has been seen in one substep.
    """
    compared = torques_of_both(lift, stretch, 4, 70, monkeypatch)
    for ours, theirs, condition in compared:
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        assert error < 1e-10 * max(1.0, 1e-4 * condition)
    assert max(condition for *_, condition in compared) > 1e6, "the arm must have been nearly straight"


@pytest.mark.parametrize(
    ("script", "yaw", "tolerance"),
    [(stir, 0.0, 1e-10), (stir, 0.6, 1e-10), (wander, 0.0, 1e-6), (grasp, 0.0, 1e-6)],
)
def test_trajectories_are_those_of_robosuite(
    lift: Any, base_quat: np.ndarray, script: Script, yaw: float, tolerance: float
) -> None:
    """200 steps of the same actions in two simulations; in a grasp the contacts magnify the last digits."""
    rng = np.random.default_rng(2)
    base_quat[:] = [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
    _, data, arm = twin(lift)
    state = arm.get_state()
    state[12:19] = controller(lift).initial_joint
    arm.set_state(state)
    stock, gripper = lift.sim.data._data, lift.robots[0].gripper["right"]
    fresh = mujoco.MjData(arm.model)  # robosuite leaves positions in space one substep behind those of the joints
    for step in range(200):
        action = script(step, data, arm, rng)
        lift.step(action)
        arm.step(data, action)
        np.testing.assert_allclose(data.qpos[:9], stock.qpos[:9], rtol=0.0, atol=tolerance)
        fresh.qpos[:] = stock.qpos
        mujoco.mj_kinematics(arm.model, fresh)
        np.testing.assert_allclose(arm.eef_pos(data), arm.eef_pos(fresh), rtol=0.0, atol=tolerance)
        np.testing.assert_array_equal(arm.get_state()[19:], gripper.current_action)
        np.testing.assert_array_equal(data.ctrl[7:], stock.ctrl[7:])
    lifted = data.body("cube_main").xpos[2] > 0.9
    assert lifted == (script is grasp)


def test_rotation_is_robosuites_to_the_last_bit() -> None:
    rng = np.random.default_rng(3)
    for scale in (0.0, 1e-9, 1e-3, 0.5, 3.0):
        for _ in range(200):
            vec = rng.uniform(-scale, scale, 3)
            expected = transform_utils.quat2mat(transform_utils.axisangle2quat(vec))
            np.testing.assert_array_equal(rotation_from_axis_angle(vec), expected)


def test_state_is_exact_in_the_middle_of_a_grasp(lift: Any) -> None:
    """A branch from a snapshot equals the original bit for bit; one without the arm's state does not."""
    rng = np.random.default_rng(4)
    model, data, arm = twin(lift)
    for step in range(58):
        arm.step(data, grasp(step, data, arm, rng))
    physics, hidden = save(model, data), arm.get_state()
    assert hidden.shape == (STATE_SIZE,)
    assert 0.0 < abs(hidden[-1]) < 1.0, "the gripper's command must be on its way for this test to mean anything"

    branch, other = load(model, physics), Arm(model)
    other.set_state(hidden)
    naive, forgetful = load(model, physics), Arm(model)
    forgetful.reset(naive)
    for step in range(58, 110):
        action = grasp(step, data, arm, rng)
        for simulation, driver in ((data, arm), (branch, other), (naive, forgetful)):
            driver.step(simulation, action)
    assert data.body("cube_main").xpos[2] > 0.9
    np.testing.assert_array_equal(save(model, branch), save(model, data))
    np.testing.assert_array_equal(other.get_state(), arm.get_state())
    assert np.abs(naive.qpos - data.qpos).max() > 1e-6


def test_step_leaves_derived_quantities_fresh(lift: Any) -> None:
    model, data, arm = twin(lift)
    for _ in range(5):
        arm.step(data, np.array([1.0, -1.0, 0.5, 0.3, 0.0, -0.3, 1.0]))
    again = load(model, save(model, data))
    for name in ("site_xpos", "site_xmat", "qfrc_bias", "M"):
        np.testing.assert_array_equal(getattr(data, name), getattr(again, name))


def test_one_arm_drives_several_simulations(lift: Any) -> None:
    model, data, arm = twin(lift)
    first, second = load(model, save(model, data)), load(model, save(model, data))
    hidden, action = arm.get_state(), np.array([0.5, 0.5, -0.5, 0.0, 0.2, 0.0, 1.0])
    for simulation in (first, second):
        arm.set_state(hidden)
        arm.step(simulation, action)
    np.testing.assert_array_equal(save(model, first), save(model, second))
    assert first.time > data.time


def test_actions_are_clipped(lift: Any) -> None:
    model, data, arm = twin(lift)
    other, twice = load(model, save(model, data)), Arm(model)
    twice.set_state(arm.get_state())
    arm.step(data, np.array([1.0, -1.0, 0.0, 1.0, 0.0, 0.0, 1.0]))
    twice.step(other, np.array([7.0, -3.0, 0.0, 2.0, 0.0, 0.0, 0.1]))
    np.testing.assert_array_equal(save(model, data), save(model, other))


def test_goal_is_the_pose_reached_and_displaced(lift: Any) -> None:
    _, data, arm = twin(lift)
    np.testing.assert_allclose(arm.torques(data), data.qfrc_bias[:7], atol=1e-9)
    start, rot, base = arm.eef_pos(data), arm.eef_rot(data), data.site("robot0_right_center").xpos.copy()
    for _ in range(20):
        reached = arm.eef_pos(data)
        arm.step(data, np.array([0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0]))
        np.testing.assert_allclose(arm.get_state()[:3], reached - base + [0.0, 0.0125, 0.0], atol=1e-12)
    moved = arm.eef_pos(data) - start
    assert moved[1] > 0.05
    assert np.abs(moved[[0, 2]]).max() < 0.01
    np.testing.assert_allclose(arm.eef_rot(data), rot, atol=0.1)


def test_singular_arm_has_finite_torques(lift: Any) -> None:
    model, data, arm = twin(lift)
    arm.reset(data)
    data.qpos[:7] = 0.0
    mujoco.mj_forward(model, data)
    torques = arm.torques(data)
    assert np.isfinite(torques).all()
    assert (np.abs(torques) <= [80.0] * 5 + [12.0] * 2).all()


def test_control_rates(lift: Any) -> None:
    model, _ = begin(lift)
    assert [Arm(model, rate).substeps for rate in (20.0, 15.0, 10.0, 500.0)] == [25, 33, 50, 1]
    with pytest.raises(ValueError, match="above the physics rate"):
        Arm(model, 1000.0)


@pytest.mark.parametrize("action", [np.zeros(6), np.zeros((1, 7)), np.full(7, np.nan), [0, 0, 0, np.inf, 0, 0, 0]])
def test_bad_actions(lift: Any, action: np.ndarray) -> None:
    model, data, arm = twin(lift)
    before = save(model, data)
    with pytest.raises(ValueError, match="7 finite numbers"):
        arm.step(data, action)
    np.testing.assert_array_equal(save(model, data), before)


def test_bad_state_and_bad_models(lift: Any) -> None:
    _, _, arm = twin(lift)
    with pytest.raises(ValueError, match="21 numbers"):
        arm.set_state(np.zeros(20))
    joint = "<body><joint name='robot0_joint{}'/><geom size='0.1'/></body>"
    almost = "".join(joint.format(i) for i in (1, 2, 3, 4, 5, 6, 8))
    with pytest.raises(ValueError, match=r"robot0_joint7.*nearest is \['robot0_joint"):
        Arm(mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{almost}</worldbody></mujoco>"))
