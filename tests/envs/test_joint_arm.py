"""JointArm and the Robotiq 2F-85: robosuite's torques, the lag, what actions mean, snapshots and errors."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from wambench.conventions import DROID
from wambench.envs import joint_arm, kinematics, robotiq
from wambench.envs.joint_arm import JointArm
from wambench.envs.scene import Scene

pytestmark = pytest.mark.slow
OBJECTS = ("red_cube", "blue_cube", "bin")  # a family that other tests compile, too
START = np.array([0.0, -np.pi / 5, 0.0, -4 * np.pi / 5, 0.0, 3 * np.pi / 5, 0.0])
STATE = mujoco.mjtState.mjSTATE_INTEGRATION


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(OBJECTS, convention="droid")


@pytest.fixture
def arm(scene: Scene) -> JointArm:
    """An arm at its start posture, with the objects far away."""
    return begin(scene, velocity=False)


def begin(scene: Scene, velocity: bool) -> JointArm:
    arm, data = JointArm(scene.model, velocity=velocity), scene.data
    mujoco.mj_resetData(scene.model, data)
    data.qpos[scene.arm_qpos] = START
    for i, name in enumerate(OBJECTS[:2]):
        data.qpos[scene.model.joint(f"{name}_free").qposadr[0]] = 5.0 + i
    mujoco.mj_step1(scene.model, data)
    arm.reset(data)
    return arm


def joints(scene: Scene) -> np.ndarray:
    return scene.data.qpos[scene.arm_qpos].copy()


def test_the_torques_are_robosuites(scene: Scene, arm: JointArm) -> None:
    data, rng = scene.data, np.random.default_rng(0)
    mass = np.empty((scene.model.nv, scene.model.nv))
    for _ in range(10):
        arm.step(data, np.append(START + rng.uniform(-0.3, 0.3, 7), 0.5))
        mujoco.mj_fullM(scene.model, mass, data.qM)
        dofs = scene.model.jnt_dofadr[scene.arm_joints]
        wanted = 400.0 * (arm.goal - joints(scene)) - 40.0 * data.qvel[dofs]  # joint_pos.py of robosuite
        expected = mass[np.ix_(dofs, dofs)] @ wanted + data.qfrc_bias[dofs]
        np.testing.assert_allclose(arm.torques(data), np.clip(expected, arm._low, arm._high), rtol=1e-9, atol=1e-9)


def test_the_arm_lags_by_one_step(scene: Scene, arm: JointArm) -> None:
    times = np.arange(150) / DROID.control_hz
    wanted = 0.25 * np.sin(0.63 * times)
    reached = []
    for target in wanted:
        arm.step(scene.data, np.append(START + target, 0.0))
        reached.append(joints(scene) - START)
    shifts = np.linspace(0.0, 4.0, 81)  # from the end of the step of a target until a joint is there
    for motion in np.transpose(reached)[[0, 1, 3, 5]]:
        shown = np.arange(40, 140)
        errors = [np.abs(np.interp(shown - shift, np.arange(150), wanted) - motion[shown]).max() for shift in shifts]
        assert 0.9 <= shifts[int(np.argmin(errors))] <= 1.2


def test_nothing_moves_that_is_not_told_to(scene: Scene, arm: JointArm) -> None:
    for _ in range(30):
        arm.step(scene.data, np.append(START, 0.0))
    assert np.abs(joints(scene) - START).max() < 1e-4


def test_velocities_start_at_the_joints_as_they_are(scene: Scene) -> None:
    arm = begin(scene, velocity=True)
    arm.step(scene.data, np.array([1.0, 0, 0, 0, 0, -0.5, 0, 0]))
    np.testing.assert_allclose(arm.goal - START, [0.2, 0, 0, 0, 0, -0.1, 0], atol=1e-12)
    before = joints(scene)
    arm.step(scene.data, np.array([4.0, 0, 0, 0, 0, 2.0, 0, 0]))  # scaled down as a whole
    np.testing.assert_allclose(arm.goal - before, [0.2, 0, 0, 0, 0, 0.1, 0], atol=1e-12)


def test_targets_stop_at_the_limits(scene: Scene, arm: JointArm) -> None:
    low, high = DROID.limits()
    arm.step(scene.data, np.append(np.full(7, -9.0), -3.0))
    np.testing.assert_allclose(arm.goal, low[:7], atol=1e-4)
    assert arm.grip == 0.0
    arm.step(scene.data, np.append(np.full(7, 9.0), 3.0))
    np.testing.assert_allclose(arm.goal, high[:7], atol=1e-4)


def test_the_gripper_is_a_position_that_takes_its_time(scene: Scene, arm: JointArm) -> None:
    model, data = scene.model, scene.data
    pads = [model.geom(f"gripper0_right_{side}_fingerpad_collision").id for side in ("left", "right")]

    def width() -> float:
        return float(np.linalg.norm(np.subtract(*data.geom_xpos[pads]))) - robotiq.PAD_THICKNESS

    assert width() == pytest.approx(0.087, abs=1e-3)
    for _ in range(20):
        arm.step(data, np.append(START, 0.5))
    assert data.qpos[scene.finger_qpos[:2]] == pytest.approx([0.4, 0.4], abs=0.01)
    half = width()
    for _ in range(3):
        arm.step(data, np.append(START, 1.0))
    assert 0.01 < width() < half  # 0.2 s are not enough
    for _ in range(7):
        arm.step(data, np.append(START, 1.0))
    assert width() == pytest.approx(0.002, abs=1e-3)
    turned = [data.geom_xmat[pad].reshape(3, 3) for pad in pads]
    assert abs(turned[0][:, 1] @ turned[1][:, 1]) == pytest.approx(1.0, abs=1e-3)  # the pads are parallel


def test_the_fingers_open_along_y_at_the_reset_posture(scene: Scene, arm: JointArm) -> None:
    rotation = arm.eef_rot(scene.data)
    np.testing.assert_allclose(rotation, [[0, 1, 0], [1, 0, 0], [0, 0, -1]], atol=2e-3)


@pytest.mark.parametrize("velocity", [False, True])
def test_the_hand_goes_where_it_is_wanted(scene: Scene, velocity: bool) -> None:
    for axis in range(6):
        arm = begin(scene, velocity)
        wanted = np.zeros(7)
        wanted[axis] = 0.4
        before, turned = arm.eef_pos(scene.data), arm.eef_rot(scene.data)
        for _ in range(8):
            arm.step(scene.data, arm.action_for(scene.data, wanted, arm.eef_pos(scene.data)))
        moved = arm.eef_pos(scene.data) - before
        turn = kinematics._error(before, turned, before, arm.eef_rot(scene.data))[3:]
        found = np.concatenate([moved / joint_arm.POS_SCALE_M, turn / joint_arm.ROT_SCALE_RAD])
        others = np.delete(np.abs(found), axis)
        assert found[axis] > 0.4 and others.max() < 0.2 * found[axis]


def test_a_gripper_of_zero_stays(scene: Scene, arm: JointArm) -> None:
    arm.step(scene.data, np.append(START, 0.1))
    assert arm.action_for(scene.data, np.zeros(7), np.zeros(3))[-1] == arm.grip == pytest.approx(0.1)


def test_a_snapshot_goes_on_bitwise(scene: Scene, arm: JointArm) -> None:
    model, data, rng = scene.model, scene.data, np.random.default_rng(2)
    actions = np.column_stack([START + rng.uniform(-0.3, 0.3, (20, 7)), rng.uniform(0, 1, 20)])
    for action in actions[:10]:
        arm.step(data, action)
    physics = np.empty(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, physics, STATE)
    kept = arm.get_state()
    for action in actions[10:]:
        arm.step(data, action)
    after = data.qpos.tobytes() + arm.get_state().tobytes()
    mujoco.mj_setState(model, data, physics, STATE)
    arm.set_state(kept)
    mujoco.mj_step1(model, data)
    for action in actions[10:]:
        arm.step(data, action)
    assert data.qpos.tobytes() + arm.get_state().tobytes() == after


def test_actions_and_states_of_another_size_are_refused(scene: Scene, arm: JointArm) -> None:
    for bad in (np.zeros(7), np.full(8, np.nan)):
        with pytest.raises(ValueError, match="an action is 8 finite numbers"):
            arm.step(scene.data, bad)
    with pytest.raises(ValueError, match="state of an arm is 15 numbers"):
        arm.set_state(np.zeros(21))
