"""The servo follows a path on the mass that it believes the controller to be."""

import numpy as np
import pytest

from wambench.attribution.pose_servo import (
    FREQUENCY,
    PERIOD_S,
    POS_SCALE_M,
    Servo,
    bend_path,
    interpolate_rotations,
    response,
)
from wambench.rotations import rotation_matrix, rotation_vector


def test_response_agrees_with_integration() -> None:
    for goal, speed in ((1.0, 0.0), (0.0, 1.0)):
        x, v, fine = 0.0, speed, 2000
        for _ in range(2):
            aim, h = x + goal, PERIOD_S / fine
            for _ in range(fine):
                v += h * (FREQUENCY**2 * (aim - x) - 2 * FREQUENCY * v)
                x += h * v
        assert response(2)[0 if goal else 1] == pytest.approx(x, rel=2e-3)


def test_rotations_turn_evenly() -> None:
    end = rotation_matrix(np.array([0.0, 0.3, 0.4]))
    path = interpolate_rotations(np.eye(3), (4, 8), [end, end])
    assert path.shape == (8, 3, 3)
    assert np.allclose(rotation_vector(path[1]), [0.0, 0.15, 0.2])
    assert np.allclose(path[3:], end)


def test_a_bent_way_passes_through_what_was_seen() -> None:
    way = np.linspace([0.0, 0.0, 1.0], [0.15, 0.0, 1.0], 16)
    seen = way[[3, 7, 15]] + np.array([[0.0, 0.0, -0.02], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    new = bend_path(way, (4, 8, 16), seen)
    assert np.allclose(new[[3, 7, 15]], seen)
    assert np.allclose(new[:, 2] - way[:, 2], np.interp(np.arange(1, 17), [0, 4, 8], [0.0, -0.02, 0.0]))


def test_servo_reaches_the_end_of_its_path_and_keeps_to_the_grip() -> None:
    servo, state, v = Servo(), np.array([0.0, 0.0, 1.0, *[0.0] * 5]), np.zeros(3)
    way = np.array([0.0, 0.0, 1.0]) + np.linspace(0, 1, 17)[1:, None] * np.array([0.08, -0.04, 0.02])
    servo.begin(way, np.tile(np.eye(3), (16, 1, 1)), np.where(np.arange(16) < 8, -1.0, 1.0))
    grips = []
    for _ in range(24):
        action = servo.act(state)
        assert np.abs(action).max() <= 1.0
        grips.append(action[6])
        aim = state[:3] + action[:3] * POS_SCALE_M
        for _ in range(200):
            v += PERIOD_S / 200 * (FREQUENCY**2 * (aim - state[:3]) - 2 * FREQUENCY * v)
            state[:3] += PERIOD_S / 200 * v
    assert np.linalg.norm(state[:3] - way[-1]) < 0.002
    assert grips == [-1.0] * 8 + [1.0] * 16
