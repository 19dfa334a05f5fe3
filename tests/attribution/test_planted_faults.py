"""Planted faults are what they say, and the self-test spreads them over the tasks that they can make fail."""

from __future__ import annotations

import numpy as np
import pytest

from wambench import tasks
from wambench.attribution import self_test
from wambench.attribution.planted_faults import FAULTS, STOP_S, FaultyPolicy, fits
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import EpisodeSpec

STOPPING = ("stops_short", "both")


def policy_with(sim: TabletopEnv, fault: str) -> FaultyPolicy:
    policy = FaultyPolicy(sim, fault, latency_steps=0)
    policy.reset("", 5)
    return policy


def imagined(sim: TabletopEnv, fault: str) -> np.ndarray:
    """Returns the frames that a policy with a fault imagines now."""
    return policy_with(sim, fault).imagine((sim.observe(),))


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fits(fault, "LiftCube")])
def test_a_planted_policy_gives_the_same_answer_by_act_extract_and_imagine(
    sim: TabletopEnv, spec: EpisodeSpec, fault: str
) -> None:
    history = sim.begin(spec).observations
    before = sim.snapshot()
    policy = policy_with(sim, fault)
    plan = policy.act(history)
    assert plan.frames is not None
    assert np.array_equal(policy.extract(history, plan.frames), plan.actions)
    assert np.array_equal(policy.imagine(history), plan.frames)
    assert sim.snapshot() == before


@pytest.mark.parametrize("fault", [f for f in FAULTS if fits(f, "LiftCube") and f not in STOPPING])
def test_the_video_is_the_experts_exactly_if_it_is_not_at_fault(
    sim: TabletopEnv, spec: EpisodeSpec, fault: str
) -> None:
    sim.begin(spec)
    same = np.array_equal(imagined(sim, fault), imagined(sim, "none"))
    assert same == (FAULTS[fault] in ("action", "timing"))


@pytest.mark.parametrize("fault", STOPPING)
def test_a_video_that_stops_short_is_right_until_it_stops(sim: TabletopEnv, spec: EpisodeSpec, fault: str) -> None:
    sim.begin(spec)
    assert np.array_equal(imagined(sim, fault)[0], imagined(sim, "none")[0])  # 0.4 s ahead
    for _ in range(round(STOP_S[1] * sim.convention.control_hz)):
        sim.advance(sim.expert_action())
    right = imagined(sim, "none")
    stopped = imagined(sim, fault)
    assert not np.array_equal(stopped[0], right[0]) and not np.array_equal(stopped[1], right[1])


def test_right_actions_are_taken_for_the_experts_video_and_spoilt_by_the_fault_alone(
    sim: TabletopEnv, spec: EpisodeSpec
) -> None:
    history = sim.begin(spec).observations
    right = policy_with(sim, "none").act(history)
    assert right.frames is not None
    extracted = policy_with(sim, "other_object").extract(history, right.frames)
    assert np.array_equal(extracted, right.actions)
    flipped = policy_with(sim, "gripper_sign").extract(history, right.frames)
    assert np.array_equal(flipped[:, :6], right.actions[:, :6])
    assert np.array_equal(flipped[:, 6], -right.actions[:, 6])


def test_every_fault_is_planted_in_the_tasks_that_it_can_make_fail() -> None:
    spread = {fault: {job.task for job in self_test.plan_jobs((fault,), 30)} for fault in FAULTS}
    counts = {fault: len(able) for fault, able in spread.items()}
    rare = {"gripper_sign": 5, "frozen_gripper": 5, "other_object": 3, "other_verb": 11}
    assert counts == dict.fromkeys(FAULTS, 12) | rare
    for name in spread["other_object"]:
        assert {"red_cube", "blue_cube"} <= set(tasks.find(name).objects)


def test_an_unknown_fault_is_refused(sim: TabletopEnv) -> None:
    with pytest.raises(ValueError, match="did you mean 'noise'"):
        FaultyPolicy(sim, "noize")
