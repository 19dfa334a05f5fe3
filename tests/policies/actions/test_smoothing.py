"""Action smoothing: polynomials pass, jitter does not, the gripper stays."""

from typing import Any

import numpy as np
import pytest

from wambench.conventions import DROID
from wambench.interface import ControlConvention, Guided, Plan, Policy
from wambench.policies.actions.smoothing import SmoothedPolicy, smooth

T = np.linspace(-1.0, 1.0, 24)[:, None]


def test_a_cubic_passes_unchanged() -> None:
    actions = np.concatenate([T**3 - T, 0.5 * T**2, np.sign(T)], axis=1)
    np.testing.assert_allclose(smooth(actions), actions, atol=1e-9)


def test_jitter_is_reduced() -> None:
    rng = np.random.default_rng(0)
    actions = np.concatenate([np.sin(3 * T) + 0.2 * rng.normal(size=T.shape), np.sign(T)], axis=1)
    jerk = [np.abs(np.diff(a[:, 0], 3)).mean() for a in (actions, smooth(actions))]
    assert jerk[1] < 0.3 * jerk[0]
    np.testing.assert_array_equal(smooth(actions)[:, 1], actions[:, 1])


def test_short_chunks_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 11 actions, got 10"):
        smooth(np.zeros((10, 7)))


def test_a_smoothed_policy_is_the_policy_with_smooth_chunks() -> None:
    rough = np.random.default_rng(0).uniform(-1, 1, (16, 7))

    class Rough:
        convention, device = ControlConvention(), "somewhere"

        def reset(self, instruction: str, seed: int) -> None:
            self.seed = seed

        def act(self, history: Any) -> Plan:
            return Plan(rough, 4)

    class Continuing(Rough):
        def act_guided(self, history: Any, previous: np.ndarray, delay: int) -> Plan:
            return Plan(rough[::-1], delay)

    policy = SmoothedPolicy(Rough())
    policy.reset("", 3)
    plan = policy.act([])
    np.testing.assert_array_equal(plan.actions, np.clip(smooth(rough), -1, 1))
    assert plan.execute == 4 and policy.device == "somewhere" and policy.seed == 3
    assert isinstance(policy, Policy) and not isinstance(policy, Guided)
    guided = SmoothedPolicy(Continuing())
    assert isinstance(guided, Guided) and guided.act_guided([], rough, 2).execute == 2
    np.testing.assert_array_equal(guided.act_guided([], rough, 2).actions, np.clip(smooth(rough[::-1]), -1, 1))


def test_chunks_that_are_known_to_be_too_short_are_refused_at_once() -> None:
    class Short:
        convention, chunk_steps = ControlConvention(), 10

        def reset(self, instruction: str, seed: int) -> None: ...

        def act(self, history: Any) -> Plan:
            return Plan(np.zeros((self.chunk_steps, 7)))

    with pytest.raises(ValueError, match="at least 11 actions, got 10"):
        SmoothedPolicy(Short())
    Short.chunk_steps = 11
    assert SmoothedPolicy(Short()).act([]).actions.shape == (11, 7)


def test_what_is_smoothed_stays_within_the_limits_of_its_convention() -> None:
    """Joint positions go beyond 1 rad, and a filter may overshoot a joint's limit."""
    joints = np.tile([0.0, 0.5, 0.0, -2.0, 0.0, 3.7, 0.0, 0.0], (16, 1))
    joints[8:, 5] = 1.5

    class Joints:
        convention = DROID

        def reset(self, instruction: str, seed: int) -> None: ...

        def act(self, history: Any) -> Plan:
            return Plan(joints)

    actions = SmoothedPolicy(Joints()).act([]).actions
    low, high = DROID.limits()
    assert (actions >= low).all() and (actions <= high).all()
    assert actions[:, 3].max() == pytest.approx(-2.0) and actions[:, 5].max() > 3.0
