"""The planner: what it carries out is what it imagined to be best, and its options are checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from wambench import policies, registration
from wambench.attribution.counterfactuals import can_extract
from wambench.envs.episodes import episode_spec
from wambench.interface import Guided, Observation
from wambench.policies.dreamzero.planner import Planner
from wambench.policies.dreamzero.policy import DreamZero

WORDS = "lift the red cube"


@pytest.fixture(scope="module")
def seen() -> Sequence[Observation]:
    """Returns the first observation of an episode: the shipped model reads what is in it."""
    env = registration.make("LiftCube", split="seen-v1")
    outcome = env.begin(episode_spec(env.task, "seen-v1", "all", 0, 0))
    env.close()
    return outcome.observations


def planner(**options: object) -> Planner:
    made = policies.load("cem", options)
    assert isinstance(made, Planner)
    made.reset(WORDS, 3)
    return made


def head(words: str = WORDS) -> DreamZero:
    made = DreamZero()
    made.reset(words, 3)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("init", ["head", "zero"])
def test_the_chosen_chunk_scores_as_well_as_the_first(seen: Sequence[Observation], init: str) -> None:
    policy = planner(init=init)
    plan = policy.act(seen)
    assert policy.found is not None and policy.found.after > policy.found.before
    session = policy._current()

    def score(actions: np.ndarray) -> float:
        """Returns how good a chunk of the environment's actions is in imagination, asked for alone."""
        return float(
            policy._scores(session, 0, policy._imagine_chunks(session, 0, policy._standardised(actions)[None]))
        )

    if init == "head":
        first = head().act(seen).actions
        np.testing.assert_array_equal(plan.actions[:, -1], first[:, -1])  # the gripper stays the head's
    else:
        first = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]] * 16, np.float32)  # no motion and open fingers
    assert score(first) == pytest.approx(policy.found.before, abs=1e-4)
    assert score(plan.actions) == pytest.approx(policy.found.after, abs=1e-4)


@pytest.mark.slow
def test_a_plan_shows_what_its_own_actions_lead_to(seen: Sequence[Observation]) -> None:
    policy = planner()
    plan = policy.act(seen)
    assert plan.frames is not None and plan.frame_steps is not None and plan.frame_hands is not None
    assert list(plan.frame_steps) == [8, 16] and plan.frame_hands.shape == (2, 4)
    policy.reset(WORDS, 3)
    frames, _ = policy.imagine_actions(seen, plan.actions)
    np.testing.assert_array_equal(plan.frames, frames)


@pytest.mark.slow
def test_candidates_imagined_together_are_those_imagined_alone(seen: Sequence[Observation]) -> None:
    policy = planner()
    session = policy._ready(seen)
    chunks = torch.randn((3, 16, 7), generator=torch.Generator().manual_seed(0))
    together = policy._scores(session, 0, policy._imagine_chunks(session, 0, chunks))
    alone = torch.cat([policy._scores(session, 0, policy._imagine_chunks(session, 0, one[None])) for one in chunks])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0.0)
    assert len(set(together.tolist())) == 3


@pytest.mark.slow
def test_answers_repeat_under_a_seed_and_a_step(seen: Sequence[Observation]) -> None:
    for options in ({}, {"init": "zero"}, {"choose": "random"}):
        policy = planner(**options)
        answers = []
        for seed in (3, 3, 4):
            policy.reset(WORDS, seed)
            policy.act(seen)
            answers.append(policy.act([replace(seen[-1], step=4)]).actions)
        np.testing.assert_array_equal(answers[0], answers[1])
        assert not np.array_equal(answers[0], answers[2])


@pytest.mark.slow
def test_lots_and_unreadable_goals_plan_nothing(seen: Sequence[Observation]) -> None:
    lots = planner(choose="random")
    drawn, aimed = lots.act(seen).actions, planner().act(seen).actions
    assert not np.array_equal(drawn, aimed) and lots.found is not None and 0.0 <= lots.found.after <= 1.0
    blind = planner()
    blind.reset("open the drawer", 3)  # there is none
    np.testing.assert_array_equal(blind.act(seen).actions, head("open the drawer").act(seen).actions)


@pytest.mark.slow
def test_it_neither_continues_another_plan_nor_reads_another_video() -> None:
    policy = planner()
    assert not isinstance(policy, Guided) and not can_extract(policy)
    assert isinstance(head(), Guided) and can_extract(head())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"init": "heads"}, "unknown init 'heads'; did you mean 'head'"),
        ({"choose": "agreement"}, "unknown choose 'agreement'; there are: goal, random"),
        ({"told": "all"}, "unknown told 'all'; there are: nothing, instruction"),
        ({"elite": 3}, "unknown argument of policy 'cem': 'elite'; did you mean 'elites'"),
        ({"candidates": 4}, "elites must be at least 2, and fewer than all: got 4 of 4"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"spread": -1.0}, "spread positive, got 3 and -1.0"),
        ({"lookahead": 2}, "cem plans one chunk: lookahead must be 1, got 2"),
    ],
)
def test_misuse_is_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        policies.load("cem", options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"knots": 5}, r"knots must divide a chunk of 16: one of \[1, 2, 4, 8, 16\], got 5"),
        ({"knots": 0}, "got 0"),
        ({"mode": "no_video"}, "mode no_video: no key points are imagined"),
    ],
)
def test_what_does_not_fit_the_model_is_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        policies.load("cem", options)
