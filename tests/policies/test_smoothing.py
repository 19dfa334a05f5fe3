"""Action smoothing: polynomials pass, jitter does not, the gripper stays."""

import numpy as np
import pytest

from wambench.policies.smoothing import smooth

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
