"""A servo that drives the arm along poses of the gripper, such as a tracker reads from imagined frames. Pure numpy.

The controller it acts through answers a displacement like a critically damped mass: with natural frequency w, control
period T, goal g relative to the hand and velocity v, after one period

    x' = g (1 - (1 + wT) exp(-wT)) + v T exp(-wT),    v' = g w^2 T exp(-wT) + v (1 - wT) exp(-wT).

The servo asks for the displacement that, held for two periods, brings the hand to where the path is by then; what
contact holds back is added up, so that a hand that should press presses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

POS_SCALE_M, ROT_SCALE_RAD = 0.05, 0.5  # of an action of 1 (interface.Spec: "osc_pose_delta")
FREQUENCY = math.sqrt(150.0)  # rad/s of robosuite's OSC_POSE
PERIOD_S = 0.05
OPEN, CLOSE = -1.0, 1.0
FINGER_STEP_M = 0.008  # change of the opening in one step
FINGER_LAG = 1.5  # steps until it begins
MOVED_M = 0.006  # a smaller change of the opening is none
RISE_M = 0.008  # a hand that rises by more than this does so after its fingers have moved
PUSH = 0.25  # share of a step's shortfall that is added up
PUSH_M = 0.025


@dataclass(frozen=True)
class Pose:
    """Where the gripper is: position (3,) in m, rotation (3, 3), opening in m (0 closed, 0.08 open)."""

    position: np.ndarray
    rotation: np.ndarray
    width: float


def pose_of(state: np.ndarray) -> Pose:
    """Returns the pose in an (8,) robot state (`interface.Observation`)."""
    return Pose(state[:3].copy(), rotation_matrix(state[3:6]), float(abs(state[6] - state[7])))


def rotation_matrix(vector: np.ndarray) -> np.ndarray:
    """Returns the (3, 3) rotation of an axis-angle vector in rad (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-9:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + math.sin(angle) * cross + (1.0 - math.cos(angle)) * cross @ cross


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Returns the (3,) axis-angle in rad of a rotation whose angle is well below pi."""
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    sine, cosine = float(np.linalg.norm(axis)) / 2, (float(np.trace(rotation)) - 1) / 2
    return axis / 2 if sine < 1e-9 else axis / (2 * sine) * math.atan2(sine, cosine)


def response(steps: int) -> tuple[float, float]:
    """Returns how far the hand moves in some steps per metre asked for at each, and per m/s of its velocity."""
    w, decay = FREQUENCY * PERIOD_S, math.exp(-FREQUENCY * PERIOD_S)
    by_goal, by_speed, goal_v, speed_v = 0.0, 0.0, 0.0, 1.0
    for _ in range(steps):
        by_goal += 1.0 - (1.0 + w) * decay + goal_v * PERIOD_S * decay
        by_speed += speed_v * PERIOD_S * decay
        goal_v, speed_v = FREQUENCY * w * decay + goal_v * (1.0 - w) * decay, speed_v * (1.0 - w) * decay
    return by_goal, by_speed


AHEAD = 2
BY_GOAL, BY_SPEED = response(AHEAD)


class Servo:
    """Follows one path after another within an episode; remembers its grip, its last position and its push."""

    def __init__(self) -> None:
        self._grip = OPEN
        self._before: Pose | None = None
        self._push = np.zeros(3)
        self._wanted: np.ndarray | None = None

    def begin(self, state: np.ndarray, steps: Sequence[int], poses: Sequence[Pose]) -> None:
        """Takes a new path.

        Args:
            state: (8,) now.
            steps: Control steps from now to each pose, rising.
            poses: Where the gripper should be then; at least one.
        """
        self._start, self._steps, self._poses, self._now = pose_of(state), list(steps), list(poses), 0
        change = poses[0].width - self._start.width
        self._sign = 0.0 if abs(change) < MOVED_M else (OPEN if change > 0 else CLOSE)
        busy = min(float(steps[0]), abs(change) / FINGER_STEP_M + FINGER_LAG)
        first = poses[0].position[2] > self._start.position[2] + RISE_M
        self._hold = busy if self._sign and first else 0.0
        self._grip_from = 0.0 if first else steps[0] - busy

    def act(self, state: np.ndarray) -> np.ndarray:
        """Returns the (7,) action for one control step, given the (8,) state."""
        here = pose_of(state)
        if self._sign and self._now >= self._grip_from:
            self._grip = self._sign
        position, rotation = self._reference(self._now + AHEAD)
        self._press(here)
        last = self._before or here
        speed = (here.position - last.position) / PERIOD_S
        turning = rotation_vector(here.rotation @ last.rotation.T) / PERIOD_S
        move = (position + self._push - here.position - BY_SPEED * speed) / BY_GOAL / POS_SCALE_M
        turn = (rotation_vector(rotation @ here.rotation.T) - BY_SPEED * turning) / BY_GOAL / ROT_SCALE_RAD
        self._before, self._now = here, self._now + 1
        self._wanted = self._reference(self._now)[0]
        move /= max(1.0, float(np.abs(move).max()))
        return np.concatenate([move, np.clip(turn, -0.5, 0.5), [self._grip]])

    def _press(self, here: Pose) -> None:
        if self._wanted is not None:
            self._push += PUSH * (self._wanted - here.position)
            self._push *= min(1.0, PUSH_M / max(1e-9, float(np.linalg.norm(self._push)))) * 0.9

    def _reference(self, step: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns position and rotation of the path some steps after it began, straight between its poses."""
        first = float(self._steps[0])
        if step < first:
            step = max(0.0, step - self._hold) * first / max(1.0, first - self._hold)
        places = [0.0, *self._steps]
        poses = [self._start, *self._poses]
        i = min(int(np.searchsorted(places, step, side="right")), len(poses) - 1)
        share = min(1.0, (step - places[i - 1]) / (places[i] - places[i - 1]))
        a, b = poses[i - 1], poses[i]
        turned = rotation_matrix(share * rotation_vector(b.rotation @ a.rotation.T)) @ a.rotation
        return a.position + share * (b.position - a.position), turned
