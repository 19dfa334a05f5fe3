"""Axis-angle vectors and matrices are inverse to each other, and turn as their formulas say."""

import math

import numpy as np
import pytest

from wambench.rotations import about_axis, rotation_matrix, rotation_of_sine, rotation_vector


def test_a_quarter_turn_about_the_vertical() -> None:
    turned = rotation_matrix(np.array([0.0, 0.0, np.pi / 2])) @ np.array([1.0, 0.0, 0.0])
    np.testing.assert_allclose(turned, [0.0, 1.0, 0.0], atol=1e-12)


@pytest.mark.parametrize("arctan2", [np.arctan2, math.atan2])
def test_vectors_come_back(arctan2: object) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        vector = rng.normal(size=3)
        vector *= rng.uniform(0.0, 3.0) / np.linalg.norm(vector)
        rotation = rotation_matrix(vector)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(rotation_vector(rotation, arctan2), vector, atol=1e-9)  # type: ignore[arg-type]


def test_small_turns_are_their_vector() -> None:
    tiny = np.array([3e-10, 0.0, -1e-10])
    np.testing.assert_allclose(rotation_vector(rotation_matrix(tiny)), np.zeros(3), atol=1e-9)
    skew = np.array([[0.0, 1e-10, 0.0], [-1e-10, 0.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(rotation_vector(np.eye(3) + skew), [0.0, 0.0, -1e-10], atol=1e-16)


def test_half_differences_give_the_rotation_back() -> None:
    rotation = about_axis(np.array([0.6, 0.0, 0.8]), 0.7)
    half = (rotation - rotation.T)[[2, 0, 1], [1, 2, 0]] / 2.0
    np.testing.assert_allclose(rotation_of_sine(half), rotation, atol=1e-12)
    assert np.array_equal(rotation_of_sine(np.zeros(3)), np.eye(3))
    assert np.isfinite(rotation_of_sine(np.array([2.0, 0.0, 0.0]))).all()  # a network may say more than a sine can be
