"""Inverse kinematics of an arm's hand by damped least squares.

Formula: S. R. Buss, "Introduction to inverse kinematics with Jacobian transpose, pseudoinverse and damped least squares
methods", 2004: dq = J^T (J J^T + d^2 I)^-1 e, with e the position and orientation error of a site.
"""

from __future__ import annotations

import mujoco
import numpy as np

DAMPING = 0.03
MAX_TURN = 0.5  # rad a joint may move in one iteration: far steps leave the branch of the start posture
TOLERANCE_M, TOLERANCE_RAD = 1e-3, 5e-3


def reach(
    model: mujoco.MjModel,
    data: mujoco.MjData,
    site: int,
    joints: np.ndarray,
    pos: np.ndarray,
    rot: np.ndarray,
    iterations: int = 40,
) -> bool:
    """Moves some joints until a site is at a pose; whether it got there (within 1 mm and 5 mrad).

    Starts from the posture in `data` and stays on its branch. Leaves positions, not velocities, up to date.

    Args:
        model: The model.
        data: Changed in place: `qpos` of the joints and what `mj_kinematics` and `mj_comPos` compute.
        site: Id of the site.
        joints: (n,) ids of hinge joints.
        pos: (3,) wanted position in m, world frame.
        rot: (3, 3) wanted rotation, site to world.
        iterations: Most steps to take.
    """
    qpos, dofs = model.jnt_qposadr[joints], model.jnt_dofadr[joints]
    low, high = np.where(model.jnt_limited[joints], model.jnt_range[joints].T, [[-np.inf], [np.inf]])
    jacobian = np.empty((6, model.nv))
    for _ in range(iterations):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        error = _error(data.site_xpos[site], data.site_xmat[site].reshape(3, 3), pos, rot)
        if np.linalg.norm(error[:3]) < TOLERANCE_M and np.linalg.norm(error[3:]) < TOLERANCE_RAD:
            return True
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        part = jacobian[:, dofs]
        step = part.T @ np.linalg.solve(part @ part.T + DAMPING**2 * np.eye(6), error)
        step *= min(1.0, MAX_TURN / max(1e-9, float(np.abs(step).max())))
        data.qpos[qpos] = np.clip(data.qpos[qpos] + step, low, high)
    return False


def turn(jacobian: np.ndarray, error: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Returns the (n,) turn of the joints in rad that moves a site by `error`: one step of damped least squares.

    Args:
        jacobian: (6, n), linear above angular.
        error: (6,) way to go in m, and rotation vector in rad.
        rest: (n,) turn in rad that is made as far as it leaves the site where it is.
    """
    inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + DAMPING**2 * np.eye(6))
    step: np.ndarray = inverse @ (error - jacobian @ rest) + rest
    return step


def _error(at: np.ndarray, turned: np.ndarray, pos: np.ndarray, rot: np.ndarray) -> np.ndarray:
    """Returns (6,): the way to go in m, and the rotation vector left in rad."""
    quat, turn = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(rot @ turned.T).ravel())
    mujoco.mju_quat2Vel(turn, quat, 1.0)
    return np.concatenate([pos - at, turn])
