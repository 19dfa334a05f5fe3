"""Other arms: they start and see as the Panda does, and obey the same actions."""

from __future__ import annotations

import functools

import mujoco
import numpy as np
import pytest

from wambench.envs import kinematics, meshes, robot
from wambench.envs.arm import BASE_SITE, GRIP_SITE, Arm
from wambench.envs.robot import ARMS, DOWN, HOME, OTHER_ARMS

pytestmark = pytest.mark.slow

WRIST = "robot0_eye_in_hand"


@functools.cache
def compiled(name: str) -> mujoco.MjModel:
    spec = robot.tabletop_spec(name)
    meshes.simplify(spec, meshes.Detail(solid=name != "Panda"))
    return spec.compile()


def started(name: str) -> tuple[mujoco.MjModel, mujoco.MjData, Arm]:
    model, parts = compiled(name), ARMS[name]
    data = mujoco.MjData(model)
    data.qpos[[model.joint(joint).qposadr[0] for joint in parts.joints]] = parts.initial
    mujoco.mj_step1(model, data)
    arm = Arm(model, joints=parts.joints, motors=parts.motors)
    arm.reset(data)
    return model, data, arm


def wrist_in_hand(data: mujoco.MjData) -> np.ndarray:
    """Returns the pose of the wrist camera seen from the grip site, (4, 3)."""
    camera, site = data.camera(WRIST), data.site(GRIP_SITE)
    frame = site.xmat.reshape(3, 3)
    return np.vstack([(camera.xpos - site.xpos) @ frame, frame.T @ camera.xmat.reshape(3, 3)])


@pytest.mark.parametrize("name", OTHER_ARMS)
def test_hand_starts_at_home_and_sees_what_the_panda_sees(name: str) -> None:
    model, data, arm = started(name)
    assert np.abs(arm.eef_pos(data) - HOME).max() < 2e-3
    assert np.abs(arm.eef_rot(data) - DOWN).max() < 5e-3
    panda, at_start, _ = started("Panda")
    assert np.abs(wrist_in_hand(data) - wrist_in_hand(at_start)).max() < 2e-3
    assert model.camera(WRIST).fovy == panda.camera(WRIST).fovy


def test_home_is_where_the_panda_starts() -> None:
    _, data, arm = started("Panda")
    assert np.abs(arm.eef_pos(data) - HOME).max() < 1e-3
    np.testing.assert_array_equal(robot.initial_qpos({"pan": 0, "reach": 0, "elbow": 0}), ARMS["Panda"].initial)


@pytest.mark.parametrize("name", OTHER_ARMS)
def test_arms_obey(name: str) -> None:
    """Ten steps along each axis move the hand that way and hardly any other; then it stands still."""
    _, data, arm = started(name)
    for axis in range(3):
        before, turned = arm.eef_pos(data), arm.eef_rot(data)
        push = 0.4 * np.eye(7)[axis]
        for _ in range(10):
            arm.step(data, push)
        moved = arm.eef_pos(data) - before
        assert moved[axis] > 0.03, (axis, moved)
        assert np.abs(np.delete(moved, axis)).max() < 0.012, (axis, moved)
        assert np.abs(arm.eef_rot(data) - turned).max() < 0.05
    for _ in range(20):
        arm.step(data, np.zeros(7))
    still = arm.eef_pos(data)
    for _ in range(10):
        arm.step(data, np.zeros(7))
    assert np.abs(arm.eef_pos(data) - still).max() < 2e-3
    assert np.isfinite(arm.torques(data)).all() and arm.torques(data).shape == (len(ARMS[name].joints),)


def test_state_of_an_arm_of_six_joints() -> None:
    _, data, arm = started("UR5e")
    arm.step(data, np.array([0.3, 0.1, 0.0, 0.0, 0.0, 0.2, 1.0]))
    state = arm.get_state()
    assert state.shape == (20,)
    arm.reset(data)
    arm.set_state(state)
    np.testing.assert_array_equal(arm.get_state(), state)
    with pytest.raises(ValueError, match="20 numbers"):
        arm.set_state(np.zeros(21))


@pytest.mark.parametrize("name", OTHER_ARMS)
def test_base_does_not_move_and_meshes_are_small(name: str) -> None:
    model = compiled(name)
    assert model.body_weldid[model.site(BASE_SITE).bodyid[0]] == 0
    assert model.nmeshface < 40_000  # robosuite's IIWA: 291,961


def test_unknown_arm() -> None:
    with pytest.raises(ValueError, match="did you mean 'UR5e'"):
        robot.tabletop_spec("UR5")


def test_reach_finds_a_pose_and_says_when_there_is_none() -> None:
    model, data, _ = started("Kinova3")
    site = model.site(GRIP_SITE).id
    joints = np.array([model.joint(name).id for name in ARMS["Kinova3"].joints])
    goal, turned = HOME + [0.08, -0.12, -0.15], np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    assert kinematics.reach(model, data, site, joints, goal, turned)
    assert np.abs(data.site_xpos[site] - goal).max() < 1e-3
    assert np.abs(data.site_xmat[site].reshape(3, 3) - turned).max() < 5e-3
    limited = model.jnt_limited[joints] == 1
    low, high = model.jnt_range[joints[limited]].T
    angles = data.qpos[model.jnt_qposadr[joints[limited]]]
    assert ((angles >= low) & (angles <= high)).all()
    assert not kinematics.reach(model, data, site, joints, HOME + [2.0, 0.0, 0.0], turned)


def test_start_moves_with_the_offsets() -> None:
    still = {"pan": 0.0, "reach": 0.0, "elbow": 0.0}
    np.testing.assert_allclose(robot.initial_hand(still), HOME, atol=1e-12)
    assert robot.initial_hand({**still, "pan": 0.3})[1] > 0.1
    assert robot.initial_hand({**still, "reach": 0.1})[2] < HOME[2] - 0.03
    assert robot.initial_hand({**still, "elbow": 0.1})[0] > HOME[0] + 0.03
