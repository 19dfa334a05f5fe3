"""Tests of MyPolicy: python -m pytest test_my_policy.py"""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np

from wambench.evaluation.config import RunConfig
from wambench.evaluation.plan_validation import validate_plan
from wambench.evaluation.run import run
from wambench.interface import Observation
from wambench.templates.policy import MyPolicy


def observed(step: int = 0) -> Observation:
    """Returns an observation of noise, as the policy's convention says."""
    rng = np.random.default_rng(step)
    convention = MyPolicy.convention
    shape = (*convention.image_size, 3)
    images = {camera: rng.integers(0, 255, shape, np.uint8) for camera in convention.cameras}
    return Observation(step, images, rng.uniform(-0.5, 0.5, 8))


def test_it_answers_with_a_valid_plan() -> None:
    policy = MyPolicy()
    policy.reset("lift the red cube", seed=0)
    validate_plan(policy.act([observed()]), policy.convention)


def test_equal_seeds_give_equal_actions() -> None:
    plans = []
    for _ in range(2):
        policy = MyPolicy()
        policy.reset("lift the red cube", seed=3)
        plans.append(policy.act([observed()]))
    np.testing.assert_array_equal(plans[0].actions, plans[1].actions)


def test_it_plays_an_episode(tmp_path: Path) -> None:
    name = f"{inspect.getsourcefile(MyPolicy)}:MyPolicy"
    rows = run(RunConfig.resolve(name, "seen", ["PressButton"], episodes=1, out=tmp_path / "run"))
    assert [(row.status, row.error) for row in rows] == [("ok", "")]
