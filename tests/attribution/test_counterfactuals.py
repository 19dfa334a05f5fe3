"""The intervention in a real simulator: what the four rollouts come to, and the answers for planted faults."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from wambench.attribution import self_test
from wambench.attribution.attribute import attribute_episode
from wambench.attribution.counterfactuals import (
    RolloutResult,
    can_extract,
    play_extracted,
    play_followed,
    play_own,
    timing_of,
)
from wambench.attribution.frame_reading import FrameInterpreter
from wambench.attribution.planted_faults import FAULTS, OFFSETS, FaultyPolicy
from wambench.attribution.table import AttributionRow
from wambench.envs.tabletop import TabletopEnv
from wambench.evaluation.rollout import rollout
from wambench.interface import EpisodeSpec, Observation, Plan

pytestmark = pytest.mark.slow


def test_the_instrument_solves_what_the_expert_solves(
    sim: TabletopEnv, interpreter: FrameInterpreter, spec: EpisodeSpec
) -> None:
    timing = timing_of(rollout(sim, FaultyPolicy(sim, "frozen"), spec))
    assert timing is not None and timing.offsets == OFFSETS
    assert play_followed(interpreter, spec, None, timing).value == 1.0


def test_a_policy_played_again_does_what_it_did_and_its_placebo_changes_nothing(
    sim: TabletopEnv, interpreter: FrameInterpreter, spec: EpisodeSpec
) -> None:
    policy = FaultyPolicy(sim, "noise")
    episode = rollout(sim, policy, spec)
    timing = timing_of(episode)
    assert timing is not None
    assert play_own(sim, spec, policy, timing).progress == episode.progress
    placebo = play_extracted(interpreter, spec, policy, timing, placebo=True)
    assert placebo.progress == episode.progress and placebo.difference == 0.0


def test_a_rollout_of_mostly_unread_frames_says_nothing() -> None:
    assert RolloutResult(0.6, shown=10, unread=5).value == 0.6
    assert np.isnan(RolloutResult(0.6, shown=10, unread=6).value)
    assert RolloutResult(0.6).value == 0.6  # none had to be read


class Blind:
    """Imagines nothing."""

    def __init__(self, sim: TabletopEnv) -> None:
        self.convention = sim.convention

    def reset(self, instruction: str, seed: int) -> None: ...

    def act(self, history: Sequence[Observation]) -> Plan:
        return Plan(np.zeros((8, 7)))


def test_a_policy_that_stops_imagining_is_an_error(
    sim: TabletopEnv, interpreter: FrameInterpreter, spec: EpisodeSpec
) -> None:
    timing = timing_of(rollout(sim, FaultyPolicy(sim, "frozen"), spec))
    assert timing is not None
    with pytest.raises(ValueError, match="imagined nothing at step 0"):
        play_followed(interpreter, spec, Blind(sim), timing)
    with pytest.raises(ValueError, match="imagined nothing at step 0"):
        play_own(sim, spec, Blind(sim), timing)
    assert timing_of(rollout(sim, Blind(sim), spec)) is None


@pytest.mark.parametrize("fault", ["gripper_sign", "other_object"])
def test_one_episode_is_attributed_to_what_was_planted(
    sim: TabletopEnv, interpreter: FrameInterpreter, fault: str
) -> None:
    job = self_test.SelfTestJob(fault, "LiftCube", 0)
    row = self_test.play_planted(sim, job, interpreter.reader, interpreter.paths, precise=False)
    assert (row.d1, row.d2, row.d3) == (FAULTS[fault],) * 3
    assert row.video + row.action + row.unattributed == pytest.approx(1.0 - row.own_own, abs=1e-9)
    assert row.placebo == 0.0 and row.placebo_action == 0.0
    assert row.no_return >= 0 and row.behaviour


def test_a_policy_without_extract_gets_what_can_be_known(
    sim: TabletopEnv, interpreter: FrameInterpreter, spec: EpisodeSpec
) -> None:
    class Remote:
        def __init__(self) -> None:
            self._inner = FaultyPolicy(sim, "other_object")
            self.convention, self.reset, self.act = self._inner.convention, self._inner.reset, self._inner.act

    assert can_extract(FaultyPolicy(sim, "none")) and not can_extract(Remote())
    episode = rollout(sim, Remote(), spec)
    row = AttributionRow("remote", "seen", "LiftCube-v0", "seen", "none", 0, 0, "", episode.progress)
    found = attribute_episode(interpreter, Remote(), episode, row)
    assert found.d3 == "video" and found.d2 == "" and np.isnan(found.video)
    assert found.own_oracle == 0.0 and "extract" in found.missing
