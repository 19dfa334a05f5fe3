"""The shipped conventions: limits, hold actions, and which robot a policy's convention asks for."""

from __future__ import annotations

import numpy as np
import pytest

from wambench import conventions
from wambench.conventions import BODIES, CONVENTIONS, DROID, DROID_VELOCITY, LIBERO, robot_of
from wambench.evaluation.plan_validation import validate_plan
from wambench.interface import ControlConvention, InvalidPlan, Plan

JOINTS = np.array([0.1, -0.6, 0.2, -2.5, 0.0, 1.9, 0.3])
STATE = np.concatenate([JOINTS, [0.4], np.zeros(6)])


def test_names() -> None:
    assert set(BODIES) == set(CONVENTIONS) and set(BODIES.values()) == {"libero", "droid"}
    assert [robot_of(one) for one in (LIBERO, DROID, DROID_VELOCITY)] == ["libero", "droid", "droid-velocity"]
    assert robot_of(ControlConvention(action="joint_torque")) == "libero"
    with pytest.raises(ValueError, match="unknown robot 'droit'; did you mean 'droid'"):
        conventions.find("droit")


def test_parts_of_the_state() -> None:
    assert LIBERO.part_of_state("eef_pos") == slice(0, 3) and LIBERO.part_of_state("gripper_qpos") == slice(6, 8)
    with pytest.raises(ValueError, match="unknown part of the state 'eef_poss'; did you mean 'eef_pos'"):
        DROID.part_of_state("eef_poss")
    assert DROID.part_of_state("eef_pos") == slice(8, 11) and DROID.part_of_state("gripper_position") == slice(7, 8)


def test_limits() -> None:
    np.testing.assert_array_equal(LIBERO.limits(), [[-1] * 7, [1] * 7])
    np.testing.assert_array_equal(DROID_VELOCITY.limits(), [[-1] * 7 + [0], [1] * 8])
    low, high = DROID.limits()
    assert low[3] == -3.0718 and high[3] == -0.0698 and (low[-1], high[-1]) == (0.0, 1.0)
    low, _ = ControlConvention(action="joint_position", action_dim=6).limits()
    assert np.isinf(low[:-1]).all() and low[-1] == -1.0  # nothing is known of the joints of another arm


@pytest.mark.parametrize(
    ("convention", "number", "value", "message"),
    [
        (DROID, 3, -0.05, r"an action of -0.05 is out of range \[-3.0718, -0.0698\], the limits of its number 3"),
        (DROID, 7, -0.5, r"-0.5 is out of range \[0, 1\]"),
        (DROID, 0, 2.89, ""),
        (DROID_VELOCITY, 0, 1.5, r"1.5 is out of range \[-1, 1\]"),
        (LIBERO, 2, -1.01, r"-1.01 is out of range \[-1, 1\]"),
        (LIBERO, 2, -1.0000001, ""),
    ],
)
def test_plans_are_held_to_the_limits(convention: ControlConvention, number: int, value: float, message: str) -> None:
    actions = np.tile(convention.hold_action(None, STATE), (4, 1))
    actions[2, number] = value
    if message:
        with pytest.raises(InvalidPlan, match=message):
            validate_plan(Plan(actions), convention)
        return
    kept = validate_plan(Plan(actions), convention).actions
    low, high = convention.limits()
    assert (kept >= low).all() and (kept <= high).all() and np.abs(kept - actions).max() < 1e-6


def test_what_is_held() -> None:
    last = np.append(JOINTS + 0.1, 1.0)
    np.testing.assert_array_equal(DROID.hold_action(None, STATE), [*JOINTS, 0.0])
    np.testing.assert_array_equal(DROID.hold_action(last, STATE), last)
    np.testing.assert_array_equal(DROID_VELOCITY.hold_action(last), [0.0] * 7 + [1.0])
    np.testing.assert_array_equal(DROID_VELOCITY.hold_action(None), np.zeros(8))
    np.testing.assert_array_equal(LIBERO.hold_action(None, STATE), [0.0] * 6 + [-1.0])
    with pytest.raises(ValueError, match="needs the last action, or a state of joints"):
        DROID.hold_action(None)
