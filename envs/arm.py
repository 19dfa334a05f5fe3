"""An arm's two controllers, computed directly on a MuJoCo model: robosuite 1.5.2's OSC_POSE and GRIP.

Stock robosuite spends most of a control step in the Python of its operational space controller. Here the same torques
come from one small compiled function, and nothing else stands between two physics substeps.

Formulas: O. Khatib, "A unified approach for motion and force control of robot manipulators: the operational space
formulation", IEEE J. Robotics and Automation 3(1), 1987, with position and orientation decoupled, as configured in
robosuite's `default_panda.json`. With J the Jacobian (6, n), M the mass matrix, h the bias force and e the errors:

    tau = J^T [Lambda_pos (kp e_pos - kd v); Lambda_ori (kp e_ori - kd w)] + h + N^T M (k0 (q0 - q) - d0 qdot)
    Lambda = (J M^-1 J^T)^-1 of the rows concerned,    N^T = I - J^T Lambda J M^-1

The Panda has n = 7 joints; other arms are driven the same way, with its gains.
Products are written as loops, without BLAS, so that sums have the same order on every processor.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

import mujoco
import numpy as np
from numba import njit

ARM_JOINTS = tuple(f"robot0_joint{i}" for i in range(1, 8))
ARM_ACTUATORS = tuple(f"robot0_torq_j{i}" for i in range(1, 8))
FINGER_ACTUATORS = ("gripper0_right_gripper_finger_joint1", "gripper0_right_gripper_finger_joint2")
GRIP_SITE = "gripper0_right_grip_site"
BASE_SITE = "robot0_right_center"

POS_SCALE_M = 0.05
ROT_SCALE_RAD = 0.5
STIFFNESS = 150.0
DAMPING = 2.0 * math.sqrt(STIFFNESS)
NULL_STIFFNESS = 10.0
NULL_DAMPING = 2.0 * math.sqrt(NULL_STIFFNESS)
FINGER_SPEED = 0.2
FINGER_SIGNS = np.array([-1.0, 1.0])

STATE_SIZE = 3 + 9 + 7 + 2  # of a Panda


@njit(cache=True)
def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns a @ b of two (3, 3) matrices."""
    out = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                out[i, j] += a[i, k] * b[k, j]
    return out


@njit(cache=True)
def _rotate(rot: np.ndarray, vec: np.ndarray) -> np.ndarray:
    """Returns rot @ vec of a (3, 3) matrix and a (3,) vector."""
    out = np.zeros(3)
    for i in range(3):
        for k in range(3):
            out[i] += rot[i, k] * vec[k]
    return out


@njit(cache=True)
def _factor(a: np.ndarray, n: int) -> None:
    """Overwrites the lower triangle of the symmetric a[:n, :n] by its Cholesky factor.

    robosuite takes a pseudo-inverse that drops singular values below 1e-15 of the largest; the floor keeps such a
    matrix from dividing by zero. The Panda's joint limits keep the arm away from exact singularities.
    """
    largest = 0.0
    for i in range(n):
        largest = max(largest, a[i, i])
    floor = 1e-15 * largest
    for j in range(n):
        pivot = a[j, j]
        for k in range(j):
            pivot -= a[j, k] * a[j, k]
        a[j, j] = math.sqrt(max(pivot, floor))
        for i in range(j + 1, n):
            total = a[i, j]
            for k in range(j):
                total -= a[i, k] * a[j, k]
            a[i, j] = total / a[j, j]


@njit(cache=True)
def _forward(lower: np.ndarray, x: np.ndarray, n: int) -> None:
    """Overwrites x by L^-1 x."""
    for i in range(n):
        total = x[i]
        for k in range(i):
            total -= lower[i, k] * x[k]
        x[i] = total / lower[i, i]


@njit(cache=True)
def _solve(lower: np.ndarray, x: np.ndarray, n: int) -> None:
    """Overwrites x by (L L^T)^-1 x."""
    _forward(lower, x, n)
    for i in range(n - 1, -1, -1):
        total = x[i]
        for k in range(i + 1, n):
            total -= lower[k, i] * x[k]
        x[i] = total / lower[i, i]


@njit(cache=True)
def _jacobian(axis: np.ndarray, anchor: np.ndarray, pos: np.ndarray) -> np.ndarray:
    """Returns the transposed Jacobian (n, 6) of a point that moves with the last of n hinges: linear, angular."""
    n = axis.shape[0]
    jac = np.empty((n, 6))
    for i in range(n):
        x, y, z = pos[0] - anchor[i, 0], pos[1] - anchor[i, 1], pos[2] - anchor[i, 2]
        jac[i, 0] = axis[i, 1] * z - axis[i, 2] * y
        jac[i, 1] = axis[i, 2] * x - axis[i, 0] * z
        jac[i, 2] = axis[i, 0] * y - axis[i, 1] * x
        jac[i, 3:] = axis[i]
    return jac


@njit(cache=True)
def _acceleration(
    jac: np.ndarray, goal_pos: np.ndarray, goal_rot: np.ndarray, pos: np.ndarray, rot: np.ndarray, qvel: np.ndarray
) -> np.ndarray:
    """Returns the wanted acceleration (6,) of the end effector: m/s^2 and rad/s^2, world frame.

    The orientation error is half the sum of the cross products of the columns of the two rotations (`rot`: (9,)).
    """
    wanted = np.zeros(6)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        error = 0.0
        for c in range(3):
            error += rot[3 * j + c] * goal_rot[k, c] - rot[3 * k + c] * goal_rot[j, c]
        speed, turn = 0.0, 0.0
        for c in range(jac.shape[0]):
            speed += jac[c, i] * qvel[c]
            turn += jac[c, 3 + i] * qvel[c]
        wanted[i] = STIFFNESS * (goal_pos[i] - pos[i]) - DAMPING * speed
        wanted[3 + i] = STIFFNESS * 0.5 * error - DAMPING * turn
    return wanted


@njit(cache=True)
def _mobility(jac: np.ndarray, mass_factor: np.ndarray) -> np.ndarray:
    """Returns J M^-1 J^T (6, 6), the inverse of the end effector's inertia."""
    n = jac.shape[0]
    half = jac.copy()
    for c in range(6):
        _forward(mass_factor, half[:, c], n)
    mobility = np.zeros((6, 6))
    for r in range(6):
        for c in range(r + 1):
            for k in range(n):
                mobility[r, c] += half[k, r] * half[k, c]
            mobility[c, r] = mobility[r, c]
    return mobility


@njit(cache=True)
def _torques(
    out: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    goal_pos: np.ndarray,
    goal_rot: np.ndarray,
    rest: np.ndarray,
    qpos: np.ndarray,
    qvel: np.ndarray,
    bias: np.ndarray,
    packed: np.ndarray,
    axis: np.ndarray,
    anchor: np.ndarray,
    pos: np.ndarray,
    rot: np.ndarray,
) -> None:
    """Writes the clipped joint torques (n,) in N m to `out`; goals are in the world frame, `packed` is M row by row."""
    n = axis.shape[0]
    mass = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            mass[i, j] = packed[i * (i + 1) // 2 + j]
            mass[j, i] = mass[i, j]
    jac = _jacobian(axis, anchor, pos)
    wrench = _acceleration(jac, goal_pos, goal_rot, pos, rot, qvel)
    homing = np.empty(n)
    for i in range(n):
        homing[i] = NULL_STIFFNESS * (rest[i] - qpos[i]) - NULL_DAMPING * qvel[i]

    factor = mass.copy()
    _factor(factor, n)
    mobility = _mobility(jac, factor)
    rotation = mobility[3:, 3:].copy()
    _factor(rotation, 3)
    _factor(mobility, 6)  # its leading block is the factor of the position rows
    _solve(mobility, wrench[:3], 3)
    _solve(rotation, wrench[3:], 3)

    # N^T M a = M a - J^T Lambda J a: the wrench of the homing motion is taken out of the end effector's
    taken = np.zeros(6)
    for c in range(6):
        for k in range(n):
            taken[c] += jac[k, c] * homing[k]
    _solve(mobility, taken, 6)
    for i in range(n):
        total = bias[i]
        for c in range(6):
            total += jac[i, c] * (wrench[c] - taken[c])
        for k in range(n):
            total += mass[i, k] * homing[k]
        out[i] = min(max(total, low[i]), high[i])


def rotation_from_axis_angle(vec: np.ndarray) -> np.ndarray:
    """Returns the rotation matrix (3, 3) of an axis-angle vector (3,) in rad, rounded as robosuite rounds it.

    robosuite passes through a float32 quaternion, which moves an entry by up to 1e-7. The same roundings, down to the
    order of the sum under the root, keep trajectories equal to its own to the last digits.
    """
    x, y, z = vec
    angle = math.sqrt(x * x + y * y + z * z)
    if angle == 0.0:
        return np.eye(3)
    scale = math.sin(angle / 2.0)
    q = np.array([math.cos(angle / 2.0), x / angle * scale, y / angle * scale, z / angle * scale], dtype=np.float32)
    norm = np.float32(sum((q * q).tolist()))  # float32 products, added in float64
    q = (q.astype(np.float64) * math.sqrt(2.0 / float(norm))).astype(np.float32)
    p = np.outer(q, q)
    _, xx, yy, zz = p.diagonal().tolist()
    return np.array(
        [
            [1.0 - yy - zz, p[1, 2] - p[3, 0], p[1, 3] + p[2, 0]],
            [p[1, 2] + p[3, 0], 1.0 - xx - zz, p[2, 3] - p[1, 0]],
            [p[1, 3] - p[2, 0], p[2, 3] + p[1, 0], 1.0 - xx - yy],
        ],
        dtype=np.float64,
    )


def _id(model: mujoco.MjModel, kind: mujoco.mjtObj, name: str, count: int) -> int:
    """Returns the id of a named element, or raises ValueError with the nearest name."""
    found = mujoco.mj_name2id(model, kind, name)
    if found < 0:
        names = [mujoco.mj_id2name(model, kind, i) or "" for i in range(count)]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
        raise ValueError(f"the model has no {kind.name} {name!r}; it has {count}, the nearest is {near}")
    return found


def _run(ids: list[int], what: str) -> slice:
    """Returns consecutive ids as a slice, which gives views instead of copies."""
    if ids != list(range(ids[0], ids[0] + len(ids))):
        raise ValueError(f"{what} are not consecutive in the model: {ids}")
    return slice(ids[0], ids[0] + len(ids))


class Arm:
    """Drives an arm with a PandaGripper that stands on a fixed base, names as robosuite gives them.

    An action is (7,) in [-1, 1]: displacement of the grip site along the axes of the base (+-0.05 m), rotation about
    them (axis-angle, +-0.5 rad), and the gripper (positive closes, negative opens, by sign only). Goals are relative to
    the pose reached, not to the previous goal.

    Invariant: on entry to and exit from `step`, quantities that depend on position and velocity are computed for the
    current state (`mujoco.mj_step1` or `mj_forward` has run). After `mj_setState`, run `mj_step1`.

    Args:
        model: Compiled model with the arm's joints, actuators and sites.
        control_hz: Actions per second; a step has floor(1 / (control_hz * timestep)) substeps, as in robosuite.
        joints: Names of the arm's joints, from the base on; the Panda's unless given.
        motors: Names of their torque actuators.
        fingers: Names of the two actuators of the gripper.

    Raises:
        ValueError: A name is missing, the rate is too high, or the arm is not a chain of hinges on a fixed base.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        control_hz: float = 20.0,
        joints: Sequence[str] = ARM_JOINTS,
        motors: Sequence[str] = ARM_ACTUATORS,
        fingers: Sequence[str] = FINGER_ACTUATORS,
    ) -> None:
        obj = mujoco.mjtObj
        self.model = model
        self.substeps = math.floor(1.0 / (control_hz * model.opt.timestep) + 1e-6)
        if self.substeps < 1:
            raise ValueError(f"control_hz {control_hz} is above the physics rate {1.0 / model.opt.timestep:g}")
        self.count = len(joints)
        ids = [_id(model, obj.mjOBJ_JOINT, name, model.njnt) for name in joints]
        self._joints = _run(ids, "arm joints")
        self._qpos = _run([int(model.jnt_qposadr[j]) for j in ids], "arm positions")
        self._dofs = _run([int(model.jnt_dofadr[j]) for j in ids], "arm velocities")
        self._motors = _run([_id(model, obj.mjOBJ_ACTUATOR, n, model.nu) for n in motors], "arm motors")
        self._fingers = _run([_id(model, obj.mjOBJ_ACTUATOR, n, model.nu) for n in fingers], "finger motors")
        self._grip = _id(model, obj.mjOBJ_SITE, GRIP_SITE, model.nsite)
        self._base = _id(model, obj.mjOBJ_SITE, BASE_SITE, model.nsite)
        self._inertia = self._chain()
        self._low, self._high = np.ascontiguousarray(model.actuator_ctrlrange[self._motors].T)
        self._finger_mid, self._finger_half = self._finger_range()
        self.goal_pos, self.goal_rot = np.zeros(3), np.eye(3)
        self.rest = np.zeros(self.count)
        self.fingers = np.zeros(2)
        self._data: mujoco.MjData | None = None

    def _chain(self) -> slice:
        """Returns where the arm's mass matrix lies in `MjData.M`: the lower triangle, 28 numbers for a Panda."""
        model, first = self.model, self._dofs.start
        parents = model.dof_parentid[self._dofs]
        hinges = np.all(model.jnt_type[self._joints] == mujoco.mjtJoint.mjJNT_HINGE)
        if not hinges or parents.tolist() != [-1, *range(first, first + self.count - 1)]:
            raise ValueError(f"the arm must be one chain of {self.count} hinges that starts at the simulator")
        if model.body_weldid[model.site_bodyid[self._base]] != 0:
            raise ValueError(f"{BASE_SITE!r} moves; only a fixed base is supported")
        start = int(model.M_rowadr[first])
        return slice(start, start + self.count * (self.count + 1) // 2)

    def _finger_range(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = self.model.actuator_ctrlrange[self._fingers].T
        return 0.5 * (high + low), 0.5 * (high - low)

    def _bind(self, data: mujoco.MjData) -> None:
        """Keeps views into `data`, whose arrays never move, so that a substep looks nothing up."""
        if data is self._data:
            return
        self._data = data
        self._ctrl, self._finger_ctrl = data.ctrl[self._motors], data.ctrl[self._fingers]
        self._base_pos, self._base_rot = data.site_xpos[self._base], data.site_xmat[self._base].reshape(3, 3)
        self._grip_pos, self._grip_rot = data.site_xpos[self._grip], data.site_xmat[self._grip]
        self._state: tuple[np.ndarray, ...] = (
            data.qpos[self._qpos],
            data.qvel[self._dofs],
            data.qfrc_bias[self._dofs],
            data.M[self._inertia],
            data.xaxis[self._joints],
            data.xanchor[self._joints],
            self._grip_pos,
            self._grip_rot,
        )

    def reset(self, data: mujoco.MjData) -> None:
        """Takes the current pose as goal and the current joints as rest posture; forgets the gripper's command."""
        self._bind(data)
        self.rest = data.qpos[self._qpos].copy()
        self.fingers = np.zeros(2)
        self._aim(np.zeros(6))

    def _aim(self, delta: np.ndarray) -> None:
        """Sets the goal, in the frame of the base, to the current pose moved by delta (6,) in m and rad."""
        to_base = np.ascontiguousarray(self._base_rot.T)
        self.goal_pos = _rotate(to_base, self._grip_pos) - _rotate(to_base, self._base_pos) + delta[:3]
        turned = _product(to_base, self._grip_rot.reshape(3, 3))
        self.goal_rot = _product(rotation_from_axis_angle(delta[3:]), turned)

    def _inputs(self) -> tuple[np.ndarray, ...]:
        """Returns what `_torques` reads: limits, world goal, rest posture, and live views of the state."""
        goal_pos = self._base_pos + _rotate(self._base_rot, self.goal_pos)
        return self._low, self._high, goal_pos, _product(self._base_rot, self.goal_rot), self.rest, *self._state

    def step(self, data: mujoco.MjData, action: np.ndarray) -> None:
        """Carries out one action (7,) for one control step; values outside [-1, 1] are clipped.

        Raises:
            ValueError: The action has another shape or is not finite.
        """
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (7,) or not math.isfinite(action.sum()):
            raise ValueError(f"an action is 7 finite numbers, got shape {action.shape}: {action}")
        self._bind(data)
        delta = np.clip(action[:6], -1.0, 1.0)
        delta[:3] *= POS_SCALE_M
        delta[3:] *= ROT_SCALE_RAD
        self._aim(delta)
        self.fingers = np.clip(self.fingers + FINGER_SIGNS * FINGER_SPEED * np.sign(action[6]), -1.0, 1.0)
        self._finger_ctrl[:] = self._finger_mid + self._finger_half * self.fingers
        model, ctrl, inputs = self.model, self._ctrl, self._inputs()
        for _ in range(self.substeps):
            _torques(ctrl, *inputs)
            mujoco.mj_step2(model, data)
            mujoco.mj_step1(model, data)

    def action_for(self, data: mujoco.MjData, wanted: np.ndarray, point: np.ndarray) -> np.ndarray:
        """Returns the action that moves the hand as `wanted` says, an action of OSC_POSE: itself."""
        return wanted

    def torques(self, data: mujoco.MjData) -> np.ndarray:
        """Returns the torques (n,) in N m for the current state and goal, clipped to the motors' limits."""
        self._bind(data)
        out = np.empty(self.count)
        _torques(out, *self._inputs())
        return out

    def get_state(self) -> np.ndarray:
        """Returns all that the controllers remember, (14 + n,): goal position and rotation, rest posture, fingers."""
        return np.concatenate([self.goal_pos, self.goal_rot.ravel(), self.rest, self.fingers])

    def set_state(self, state: np.ndarray) -> None:
        """Takes back what `get_state` returned.

        Raises:
            ValueError: The array has another size.
        """
        state = np.asarray(state, dtype=np.float64)
        size = 3 + 9 + self.count + 2
        if state.shape != (size,):
            raise ValueError(f"the state of an arm is {size} numbers, got shape {state.shape}")
        goal_pos, goal_rot, rest, fingers = np.split(state.copy(), [3, 12, 12 + self.count])
        self.goal_pos, self.goal_rot, self.rest, self.fingers = goal_pos, goal_rot.reshape(3, 3), rest, fingers

    def eef_pos(self, data: mujoco.MjData) -> np.ndarray:
        """Returns the position (3,) of the grip site in m, world frame."""
        return data.site_xpos[self._grip].copy()

    def eef_rot(self, data: mujoco.MjData) -> np.ndarray:
        """Returns the rotation (3, 3) of the grip site, gripper to world."""
        return data.site_xmat[self._grip].reshape(3, 3).copy()
