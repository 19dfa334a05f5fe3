"""Tests of MyTask: python -m pytest test_my_task.py"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import numpy as np
import pytest

from wambench import registration, task_module
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import Outcome
from wambench.templates.task import TASK

STILL = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    task_module.load(str(inspect.getsourcefile(TASK.place)))
    env = registration.make(TASK.name)
    yield env
    env.close()


def played(env: TabletopEnv, seed: int, by_expert: bool, disturbed_steps: int = 0) -> Outcome:
    """Returns the end of an episode that the expert, or nobody, plays, after some random actions."""
    env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    outcome = env.advance(STILL)
    while not (outcome.terminated or outcome.truncated):
        action = env.expert_action() if by_expert else STILL
        outcome = env.advance(rng.uniform(-1, 1, 7) if outcome.steps < disturbed_steps else action)
    return outcome


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("disturbed_steps", [0, 20])
def test_the_expert_solves_it(env: TabletopEnv, seed: int, disturbed_steps: int) -> None:
    outcome = played(env, seed, by_expert=True, disturbed_steps=disturbed_steps)
    assert outcome.success and outcome.progress == 1.0


def test_doing_nothing_earns_nothing(env: TabletopEnv) -> None:
    assert played(env, 0, by_expert=False).progress == 0.0
