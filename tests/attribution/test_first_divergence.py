"""The first divergence in a real simulator: which ways of playing a chunk again are fatal."""

from __future__ import annotations

import pytest

from wambench.attribution.counterfactuals import timing_of
from wambench.attribution.first_divergence import find_fatal_chunk, steps_to_success
from wambench.attribution.frame_reading import FrameInterpreter
from wambench.attribution.planted_faults import FaultyPolicy
from wambench.attribution.verdicts import first_divergence_verdict
from wambench.envs.tabletop import TabletopEnv
from wambench.evaluation.rollout import rollout
from wambench.interface import EpisodeSpec

pytestmark = pytest.mark.slow


def test_the_experts_own_video_is_never_blamed(
    sim: TabletopEnv, interpreter: FrameInterpreter, spec: EpisodeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = FaultyPolicy(sim, "gripper_sign")
    episode = rollout(sim, policy, spec)
    timing = timing_of(episode)
    assert timing is not None
    monkeypatch.setattr(FrameInterpreter, "aim", lambda *_: 2)  # nothing can be read
    fatal, number = find_fatal_chunk(interpreter, episode, policy, timing)
    assert fatal.readable and not fatal.by_video and first_divergence_verdict(fatal)[0] == "action"
    sim.restore(episode.chunks[number].state)
    left = spec.horizon - episode.chunks[number].step
    assert steps_to_success(sim, left) is not None  # from there the expert is still in time,
    later = episode.chunks[number + 1]
    sim.restore(later.state)
    assert steps_to_success(sim, spec.horizon - later.step) is None  # from the next chunk on it is not


def test_a_video_that_cannot_be_read_is_not_blamed(
    sim: TabletopEnv, interpreter: FrameInterpreter, spec: EpisodeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = FaultyPolicy(sim, "other_object")
    episode = rollout(sim, policy, spec)
    timing = timing_of(episode)
    assert timing is not None
    monkeypatch.setattr(FrameInterpreter, "aim", lambda *_: 2)
    fatal, _ = find_fatal_chunk(interpreter, episode, policy, timing)
    assert not fatal.readable and first_divergence_verdict(fatal) == ("abstain", 0.0)


def test_actions_that_are_right_in_time_make_it_a_matter_of_timing(
    sim: TabletopEnv, interpreter: FrameInterpreter, spec: EpisodeSpec
) -> None:
    policy = FaultyPolicy(sim, "latency")
    episode = rollout(sim, policy, spec)
    timing = timing_of(episode)
    assert timing is not None and episode.progress < 1.0
    policy.latency_steps = 0
    fatal, _ = find_fatal_chunk(interpreter, episode, policy, timing, was_late=True)
    assert fatal.by_action and not fatal.by_action_prompt
    assert first_divergence_verdict(fatal)[0] == "timing"
