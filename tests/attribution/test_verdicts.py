"""The verdicts of the intervention and of the first divergence, on constructed rollouts."""

import dataclasses
import math

import pytest

from wambench.attribution.shapley import CounterfactualProgress
from wambench.attribution.verdicts import Fatal, first_divergence_verdict, intervention_verdict


@pytest.mark.parametrize(
    ("progress", "verdict"),
    [
        (CounterfactualProgress(0.2, 1.0, 0.2, 1.0), "video"),
        (CounterfactualProgress(0.2, 0.2, 1.0, 1.0), "action"),
        (CounterfactualProgress(0.2, 0.2, 0.2, 1.0), "both"),  # each alone helps nothing
        (CounterfactualProgress(0.2, 1.0, 1.0, 1.0), "both"),  # either alone is enough
        (CounterfactualProgress(0.2, 0.2, 0.2, 0.2), "instrument"),
        (CounterfactualProgress(1.0, 1.0, 1.0, 1.0), "none"),
        (CounterfactualProgress(0.2, math.nan, 1.0, 1.0), "abstain"),
    ],
)
def test_the_intervention_blames_what_its_replacement_wins_back(progress: CounterfactualProgress, verdict: str) -> None:
    found, confidence = intervention_verdict(progress)
    assert found == verdict
    assert 0.0 <= confidence <= 1.0


def test_what_latency_alone_cost_is_blamed_on_it() -> None:
    assert intervention_verdict(CounterfactualProgress(1.0, 1.0, 1.0, 1.0), timing=0.6)[0] == "timing"
    assert intervention_verdict(CounterfactualProgress(0.3, 1.0, 0.3, 1.0), timing=0.1)[0] == "video"


@pytest.mark.parametrize(
    ("fatal", "verdict"),
    [
        (Fatal(False, False), "instrument"),
        (Fatal(True, True), "stall"),
        (Fatal(True, False, by_video=True, by_action=True, by_action_prompt=True), "video"),
        (Fatal(True, False, by_video=True, by_action=True, by_action_prompt=True, action_alone=True), "both"),
        (Fatal(True, False, by_action=True, by_action_prompt=True, action_alone=True), "action"),
        (Fatal(True, False, by_action=True, by_action_prompt=False), "timing"),
        (Fatal(True, False), "contact"),
    ],
)
def test_the_first_divergence_blames_the_way_that_is_fatal(fatal: Fatal, verdict: str) -> None:
    assert first_divergence_verdict(fatal)[0] == verdict


def test_a_chunk_that_cannot_be_read_is_not_blamed() -> None:
    fatal = Fatal(solvable_start=True, solvable_end=False, readable=False, by_video=True, by_action=True)
    assert first_divergence_verdict(dataclasses.replace(fatal, by_action_prompt=True))[0] == "abstain"
    assert first_divergence_verdict(fatal)[0] == "timing"  # that it came too late is known without its frames
