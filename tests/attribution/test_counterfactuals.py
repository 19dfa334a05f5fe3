"""The instrument in a real simulator: restores, planted faults, and the answers of the three definitions."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from wambench import registration
from wambench.attribution import paths, self_test, tracker
from wambench.attribution.attribute import one_episode
from wambench.attribution.counterfactuals import Instrument, layout_of
from wambench.attribution.planted_faults import FAULTS, OFFSETS, FaultyPolicy, fits
from wambench.attribution.pose_servo import Servo
from wambench.attribution.table import AttributionRow
from wambench.attribution.verdicts import d3_verdict
from wambench.envs.episodes import episode_spec
from wambench.envs.tabletop import TabletopEnv
from wambench.evaluation.rollout import rollout


@pytest.fixture(scope="module")
def sim() -> Iterator[TabletopEnv]:
    torch.set_num_threads(1)
    made = registration.make("LiftCube")
    yield made
    made.close()


@pytest.fixture(scope="module")
def instrument(sim: TabletopEnv) -> Instrument:
    """Not precise, for the sake of time; what is learned does for this task."""
    return Instrument(sim, tracker.FrameReader(), paths.load(tracker.weights(paths.WEIGHTS))[0], precise=False)


def spec(sim: TabletopEnv, index: int = 0):  # type: ignore[no-untyped-def]
    return episode_spec(sim.task, "seen", "none", index, self_test.SEED)


def test_oracle_video_shows_what_the_expert_then_does_and_leaves_no_trace(instrument: Instrument) -> None:
    sim = instrument.sim
    sim.begin(spec(sim))  # type: ignore[arg-type]
    before = sim.snapshot()
    frames = instrument.oracle_video((8, 16))
    assert sim.snapshot() == before
    for _ in range(8):
        sim.advance(sim.expert_action())
    assert np.array_equal(instrument.canvas(sim.observe()), frames[0])


def test_the_instrument_reads_to_millimetres_and_leaves_no_trace(instrument: Instrument) -> None:
    instrument, sim = replace(instrument, precise=True), instrument.sim
    now = sim.begin(spec(sim)).observations[-1]  # type: ignore[arg-type]
    for _ in range(12):
        now = sim.step_chunk(sim.expert_action()[None]).observations[-1]
    before, frames = sim.snapshot(), instrument.oracle_video((8, 16))
    noise = np.random.default_rng(0).integers(0, 256, frames[:1].shape, dtype=np.uint8)
    readings = instrument.read(now, np.concatenate([frames, noise]), (8, 16, 24))
    assert sim.snapshot() == before
    for i in range(2):
        for _ in range(8):
            sim.advance(sim.expert_action())
        assert np.linalg.norm(readings.positions[i] - sim.view.eef()) < 0.004
        assert abs(readings.widths[i] - sim.view.width()) < 0.003
        cube = instrument.reader.objects.index("red_cube")
        assert np.linalg.norm(readings.objects[i, cube] - sim.view.pos("red_cube")) < 0.006
    assert readings.sure.tolist() == [True, True, False]


def test_the_instrument_solves_what_the_expert_solves(instrument: Instrument) -> None:
    sim = instrument.sim
    layout = layout_of(rollout(sim, FaultyPolicy(sim, "frozen"), spec(sim)))  # type: ignore[arg-type]
    assert layout is not None and layout.offsets == OFFSETS
    assert instrument.play(spec(sim), None, layout, "oracle", "oracle").value == 1.0  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fits(fault, "LiftCube")])
def test_a_planted_policy_answers_alike_whoever_asks(sim: TabletopEnv, fault: str) -> None:
    policy = FaultyPolicy(sim, fault, latency_steps=0)
    history = sim.begin(spec(sim)).observations
    policy.reset("", 5)
    before = sim.snapshot()
    plan = policy.act(history)
    assert plan.frames is not None
    assert np.array_equal(policy.extract(history, plan.frames), plan.actions)
    assert np.array_equal(policy.imagine(history), plan.frames)
    assert sim.snapshot() == before
    right = FaultyPolicy(sim, "none")
    right.reset("", 5)
    same = np.array_equal(right.act(history).frames, plan.frames)  # type: ignore[arg-type]
    assert same == (FAULTS[fault] in ("action", "timing")) or fault == "stops_short" or fault == "both"


@pytest.mark.parametrize("fault", ["gripper_sign", "other_object"])
def test_one_episode_is_attributed_to_what_was_planted(sim: TabletopEnv, instrument: Instrument, fault: str) -> None:
    job = self_test.SelfTestJob(fault, "LiftCube", 0)
    row = self_test.planted(sim, job, instrument.reader, instrument.paths, precise=False)
    assert (row.d1, row.d2, row.d3) == (FAULTS[fault],) * 3
    assert row.video + row.action + row.unattributed == pytest.approx(1.0 - row.own_own, abs=1e-9)
    assert row.placebo == 0.0 and row.placebo_action == 0.0
    assert row.no_return >= 0 and row.behaviour


def test_a_policy_without_extract_gets_what_can_be_known(sim: TabletopEnv, instrument: Instrument) -> None:
    class Remote:
        def __init__(self) -> None:
            self._inner = FaultyPolicy(sim, "other_object")
            self.convention, self.reset, self.act = self._inner.convention, self._inner.reset, self._inner.act

    episode = rollout(sim, Remote(), spec(sim))
    row = AttributionRow("remote", "seen", "LiftCube-v0", "seen", "none", 0, 0, "", episode.progress)
    found = one_episode(instrument, Remote(), episode, row)
    assert found.d3 == "video" and found.d2 == "" and np.isnan(found.video)
    assert found.own_oracle == 0.0 and "extract" in found.missing


def test_every_fault_has_eight_tasks_or_all_it_can_have() -> None:
    for fault in FAULTS:
        able = {job.task for job in self_test.jobs((fault,), 30)}
        assert able == {task for task in self_test.TASKS if fits(fault, task)}
    assert sum(len({job.task for job in self_test.jobs((fault,), 30)}) >= 8 for fault in FAULTS) >= 9


def test_a_later_frame_leads_the_servo_where_the_first_cannot_be_read(
    instrument: Instrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = instrument.sim
    now = sim.begin(spec(sim)).observations[-1]  # type: ignore[arg-type]
    frames = instrument.oracle_video((8, 16))
    readings = instrument.read(now, frames, (8, 16))
    monkeypatch.setattr(Instrument, "read", lambda *_: readings)
    for sure, unread, leads in (((False, True), 1, True), ((True, False), 1, True), ((False, False), 2, False)):
        readings.sure[:] = sure
        servo = Servo()
        assert instrument.aim(servo, now, frames, (8, 16)) == unread
        assert (np.ptp(servo.way, axis=0).max() > 0.005) == leads


def test_the_experts_own_video_is_never_blamed(
    sim: TabletopEnv, instrument: Instrument, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = FaultyPolicy(sim, "gripper_sign")
    episode = rollout(sim, policy, spec(sim))
    layout = layout_of(episode)
    assert layout is not None
    monkeypatch.setattr(Instrument, "aim", lambda *_: 2)  # nothing can be read
    fatal, _ = instrument.fatal(episode, policy, layout)
    assert fatal.readable and not fatal.by_video and d3_verdict(fatal)[0] == "action"
