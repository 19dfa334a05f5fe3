"""A Panda told joint positions or joint velocities, with a position gripper: the robot of the DROID data.

Formula: robosuite's JOINT_POSITION, a computed torque with M the mass matrix, h the bias force and g the target:

    tau = M (kp (g - q) - kd qdot) + h,    kd = 2 sqrt(kp)

A target is held for a whole control step, without interpolation, as DROID's controller holds it. How far the arm lags
behind a moving target is 2 / sqrt(kp) s: 0.1 s with the stiffness here, 0.28 s with robosuite's default of 50.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import mujoco
import numpy as np
from numba import njit

from wambench.envs import kinematics, robotiq
from wambench.envs.arm import ARM_ACTUATORS, ARM_JOINTS, POS_SCALE_M, ROT_SCALE_RAD, Arm, _jacobian

STIFFNESS = 400.0  # 1/s^2
DAMPING = 2.0 * math.sqrt(STIFFNESS)
MAX_TURN_RAD = 0.2  # of a joint in a step, at velocity 1 (droid's robot_ik_solver)
# The experts' gains are made for OSC_POSE, which is softer. So that the hand sets out and stops as gently, and is as
# fast at full scale (0.3 m/s), their actions become a mean of a new target, at this many times the displacement, and
# the last one, with this share of the new. Without it the hand leaves before the fingers hold what they close around.
FOLLOW, SHARE_OF_NEW = 1.45, 0.4
POSTURE_GAIN = 0.1  # a step, of the way back to the rest posture, as far as the hand's pose is not touched


@njit(cache=True)
def _computed_torques(
    out: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    goal: np.ndarray,
    qpos: np.ndarray,
    qvel: np.ndarray,
    bias: np.ndarray,
    packed: np.ndarray,
) -> None:
    """Writes the clipped joint torques (n,) in N m to `out`; `packed` is M row by row, without its upper triangle."""
    n = goal.shape[0]
    wanted = np.empty(n)
    for i in range(n):
        wanted[i] = STIFFNESS * (goal[i] - qpos[i]) - DAMPING * qvel[i]
    for i in range(n):
        total = bias[i]
        for k in range(n):
            row, column = max(i, k), min(i, k)
            total += packed[row * (row + 1) // 2 + column] * wanted[k]
        out[i] = min(max(total, low[i]), high[i])


class JointArm(Arm):
    """Drives a Panda with a Robotiq 2F-85 (`envs.robotiq`) by its joints.

    An action is (8,): seven joint targets in rad, or velocities in [-1, 1], and the gripper, 0 open to 1 closed. What
    lies outside its limits is clipped. The gripper's target follows its command at the speed of the real one.

    Invariant: as `Arm`.

    Args:
        model: Compiled model with the arm's joints, actuators and sites.
        control_hz: Actions per second; a step has floor(1 / (control_hz * timestep)) substeps: 33 of 2 ms at 15 Hz.
        velocity: Take velocities instead of positions.
        joints: Names of the arm's joints, from the base on; the Panda's unless given.
        motors: Names of their torque actuators.

    Raises:
        ValueError: As `Arm`.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        control_hz: float = 15.0,
        velocity: bool = False,
        joints: Sequence[str] = ARM_JOINTS,
        motors: Sequence[str] = ARM_ACTUATORS,
    ) -> None:
        super().__init__(model, control_hz, joints, motors, robotiq.MOTORS)
        self._velocity = velocity
        self._limits = model.jnt_range[self._joints].T.copy()
        self._grip_step = robotiq.SPEED / control_hz
        self.goal = np.zeros(self.count)
        self.grip = 0.0

    def reset(self, data: mujoco.MjData) -> None:
        """Takes the current joints as target and rest posture, and an open gripper."""
        self._bind(data)
        self.rest = data.qpos[self._qpos].copy()
        self.goal = self.rest.copy()
        self.grip = 0.0

    def _inputs(self) -> tuple[np.ndarray, ...]:
        """Returns what `_computed_torques` reads: limits, target, and live views of the state."""
        return self._low, self._high, self.goal, *self._state[:4]

    def step(self, data: mujoco.MjData, action: np.ndarray) -> None:
        """Carries out one action (8,) for one control step.

        Raises:
            ValueError: The action has another shape or is not finite.
        """
        action = np.asarray(action, dtype=np.float64)
        if action.shape != (self.count + 1,) or not math.isfinite(action.sum()):
            raise ValueError(f"an action is {self.count + 1} finite numbers, got shape {action.shape}: {action}")
        self._bind(data)
        target = action[:-1]
        if self._velocity:
            target = self._state[0] + MAX_TURN_RAD * target / max(1.0, float(np.abs(target).max()))
        self.goal = np.clip(target, *self._limits)
        wanted = min(max(float(action[-1]), 0.0), 1.0)
        self.grip += min(max(wanted - self.grip, -self._grip_step), self._grip_step)
        self._finger_ctrl[:] = robotiq.CLOSED_RAD * self.grip
        model, ctrl, inputs = self.model, self._ctrl, self._inputs()
        for _ in range(self.substeps):
            _computed_torques(ctrl, *inputs)
            mujoco.mj_step2(model, data)
            mujoco.mj_step1(model, data)

    def torques(self, data: mujoco.MjData) -> np.ndarray:
        """Returns the torques (n,) in N m for the current state and target, clipped to the motors' limits."""
        self._bind(data)
        out = np.empty(self.count)
        _computed_torques(out, *self._inputs())
        return out

    def action_for(self, data: mujoco.MjData, wanted: np.ndarray, point: np.ndarray) -> np.ndarray:
        """Returns the (8,) action that moves the hand as an action of OSC_POSE would, by inverse kinematics.

        Args:
            data: The state now.
            wanted: (7,) in [-1, 1], see `Arm`; a gripper of 0 stays as it is.
            point: (3,) of the hand in m, world frame, that shall make the displacement.
        """
        self._bind(data)
        qpos, axis, anchor = self._state[0], self._state[4], self._state[5]
        error = np.concatenate([POS_SCALE_M * wanted[:3], ROT_SCALE_RAD * wanted[3:6]])
        jacobian = _jacobian(axis, anchor, point).T
        turn = kinematics.turn(jacobian, FOLLOW * error, POSTURE_GAIN * (self.rest - qpos))
        target = qpos + SHARE_OF_NEW * turn + (1.0 - SHARE_OF_NEW) * (self.goal - qpos)
        target = np.clip(target, *self._limits)
        grip = self.grip if wanted[6] == 0 else float(wanted[6] > 0)
        if self._velocity:
            speed = (target - qpos) / MAX_TURN_RAD
            target = speed / max(1.0, float(np.abs(speed).max()))
        return np.array([*target, grip])

    def get_state(self) -> np.ndarray:
        """Returns all that the controller remembers, (2 n + 1,): target, rest posture, the gripper's target."""
        return np.concatenate([self.goal, self.rest, [self.grip]])

    def set_state(self, state: np.ndarray) -> None:
        """Takes back what `get_state` returned.

        Raises:
            ValueError: The array has another size.
        """
        state = np.asarray(state, dtype=np.float64)
        if state.shape != (2 * self.count + 1,):
            raise ValueError(f"the state of an arm is {2 * self.count + 1} numbers, got shape {state.shape}")
        self.goal, self.rest, grip = np.split(state.copy(), [self.count, 2 * self.count])
        self.grip = float(grip[0])
