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

from wambench.rotations import rotation_matrix, rotation_vector

POS_SCALE_M = 0.05  # displacement of an action of 1 (`interface.ControlConvention.action`: "osc_pose_delta")
ROT_SCALE_RAD = 0.5  # rotation of an action of 1, likewise
FREQUENCY = math.sqrt(150.0)  # rad/s of robosuite's OSC_POSE: the square root of its stiffness
PERIOD_S = 0.05  # of control at 20 Hz
PUSH = 0.25  # share of a step's shortfall that is added up; chosen by hand, no derivation is recorded
PUSH_M = 0.025  # the sum is at most so long, half of what an action can ask for; chosen by hand, too


@dataclass(frozen=True)
class Pose:
    """Where the gripper is: position (3,) in m, rotation (3, 3), opening in m (0 closed, 0.08 open)."""

    position: np.ndarray
    rotation: np.ndarray
    width: float


def pose_of(state: np.ndarray) -> Pose:
    """Returns the pose in a robot state (`interface.Observation`): (8,) with axis-angle or (11,) with rotation_6d."""
    if len(state) == 11:
        first, second = state[3:6], state[6:9]
        matrix = np.stack([first, second, np.cross(first, second)], axis=1)
        return Pose(state[:3].copy(), matrix, float(abs(state[9] - state[10])))
    return Pose(state[:3].copy(), rotation_matrix(state[3:6]), float(abs(state[6] - state[7])))


def response(steps: int) -> tuple[float, float]:
    """Returns how far the hand moves in some steps per metre asked for at each, and per m/s of its velocity."""
    w = FREQUENCY * PERIOD_S
    decay = math.exp(-FREQUENCY * PERIOD_S)
    by_goal = 0.0
    by_speed = 0.0
    goal_v = 0.0
    speed_v = 1.0
    for _ in range(steps):
        by_goal += 1.0 - (1.0 + w) * decay + goal_v * PERIOD_S * decay
        by_speed += speed_v * PERIOD_S * decay
        goal_v = FREQUENCY * w * decay + goal_v * (1.0 - w) * decay
        speed_v = speed_v * (1.0 - w) * decay
    return by_goal, by_speed


AHEAD = 2  # periods that a displacement is held for; within one, the hand moves 13 % of it
BY_GOAL, BY_SPEED = response(AHEAD)


def interpolate_rotations(start: np.ndarray, steps: Sequence[int], rotations: Sequence[np.ndarray]) -> np.ndarray:
    """Returns (N, 3, 3) rotations at every step to the last one, turning evenly from pose to pose.

    Args:
        start: (3, 3) now.
        steps: Control steps from now to each pose, rising.
        rotations: (3, 3) each.
    """
    path: list[np.ndarray] = []
    before = start
    begun = 0
    for end, rotation in zip(steps, rotations, strict=True):
        vector = rotation_vector(rotation @ before.T)
        path += [rotation_matrix((i + 1) / (end - begun) * vector) @ before for i in range(end - begun)]
        before = rotation
        begun = end
    return np.stack(path)


def bend_path(way: np.ndarray, steps: Sequence[int], positions: np.ndarray) -> np.ndarray:
    """Returns (N, 3) a way that passes through (K, 3) positions at some steps, bent evenly between them.

    Args:
        way: (N, 3) positions at the steps from now.
        steps: Control steps from now to each position, rising, at most N.
        positions: (K, 3).
    """
    knots = [0, *steps]
    off = np.concatenate([np.zeros((1, 3)), positions - way[np.array(steps) - 1]])
    bends = [np.interp(np.arange(1, len(way) + 1), knots, column) for column in off.T]
    return np.asarray(way + np.stack(bends, axis=1))


class Servo:
    """Follows one path after another within an episode; remembers its last pose, its grip and what held it back.

    Args:
        grip: What the fingers were told last, +1 closes and -1 opens.

    Attributes:
        before: Pose one step ago.
        grip: As given, then as told last.
        way: (N, 3) positions at the steps of the path; empty before the first one.
    """

    def __init__(self, grip: float = -1.0) -> None:
        self.before: Pose | None = None
        self.grip = grip
        self.way = np.zeros((0, 3))
        self._rotations = np.zeros((0, 3, 3))
        self._grips = np.zeros(0)
        self._now = 0
        self._push = np.zeros(3)
        self._wanted: np.ndarray | None = None

    @property
    def idle(self) -> bool:
        """Whether it has not been given a path yet."""
        return len(self.way) == 0

    def begin(self, positions: np.ndarray, rotations: np.ndarray, grips: np.ndarray) -> None:
        """Takes a new path: (N, 3) positions, (N, 3, 3) rotations and (N,) grips (+1 closes) at the steps from now."""
        self.way = positions
        self._rotations = rotations
        self._grips = grips
        self._now = 0

    def bend(self, steps: Sequence[int], positions: np.ndarray) -> None:
        """Makes the path pass through (K, 3) positions at some of its steps."""
        self.way = bend_path(self.way, steps, positions)

    def stay(self, here: Pose, steps: int) -> None:
        """Takes the path that stays where the hand is, with the grip as told last."""
        self.begin(np.tile(here.position, (steps, 1)), np.tile(here.rotation, (steps, 1, 1)), np.full(steps, self.grip))

    def act(self, state: np.ndarray) -> np.ndarray:
        """Returns the (7,) action for one control step, given the (8,) state."""
        here = pose_of(state)
        if self._wanted is not None:
            self._push = 0.9 * (self._push + PUSH * (self._wanted - here.position))
            self._push *= min(1.0, PUSH_M / max(1e-9, float(np.linalg.norm(self._push))))
        last = self.before or here
        aim = min(self._now + AHEAD, len(self.way)) - 1
        speed = (here.position - last.position) / PERIOD_S
        turning = rotation_vector(here.rotation @ last.rotation.T) / PERIOD_S
        move = self.way[aim] + self._push - here.position - BY_SPEED * speed
        turn = rotation_vector(self._rotations[aim] @ here.rotation.T) - BY_SPEED * turning
        move = move / BY_GOAL / POS_SCALE_M
        turn = turn / BY_GOAL / ROT_SCALE_RAD
        place = min(self._now, len(self.way) - 1)
        self._wanted = self.way[place]
        self.grip = float(self._grips[place])
        self.before = here
        self._now += 1
        return np.concatenate([move / max(1.0, float(np.abs(move).max())), np.clip(turn, -0.5, 0.5), [self.grip]])
