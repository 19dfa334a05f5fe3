"""Reading of imagined frames and the way that a servo takes along them, in a real simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wambench.attribution.frame_reading import FrameInterpreter, _Alignment, put_halfway
from wambench.attribution.pose_alignment import blur
from wambench.attribution.pose_servo import Pose, Servo
from wambench.attribution.tracker import Readings
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import EpisodeSpec


def readings(count: int = 3) -> Readings:
    """Returns readings of frames in which nothing has moved yet."""
    return Readings(
        positions=np.zeros((count, 3)),
        rotations=np.tile(np.eye(3), (count, 1, 1)),
        widths=np.full(count, 0.08),
        objects=np.zeros((count, 2, 3), np.float32),
        scale_m=np.ones(count, np.float32),
        object_scale_m=np.ones((count, 2), np.float32),
        sure=np.zeros(count, bool),
    )


@pytest.mark.slow
def test_frames_are_read_to_millimetres_and_leave_no_trace(
    sim: TabletopEnv, interpreter: FrameInterpreter, spec: EpisodeSpec
) -> None:
    precise = replace(interpreter, precise=True, known={})
    now = sim.begin(spec).observations[-1]
    for _ in range(12):
        now = sim.step_chunk(sim.expert_action()[None]).observations[-1]
    before = sim.snapshot()
    frames = precise.oracle.video((8, 16))
    noise = np.random.default_rng(0).integers(0, 256, frames[:1].shape, dtype=np.uint8)
    found = precise.read(now, np.concatenate([frames, noise]), (8, 16, 24))
    assert sim.snapshot() == before
    for i in range(2):
        for _ in range(8):
            sim.advance(sim.expert_action())
        assert np.linalg.norm(found.positions[i] - sim.view.eef()) < 0.004
        assert abs(found.widths[i] - sim.view.width()) < 0.003
        cube = precise.reader.objects.index("red_cube")
        assert np.linalg.norm(found.objects[i, cube] - sim.view.pos("red_cube")) < 0.006
    assert found.sure.tolist() == [True, True, False]
    assert sorted(precise.known) == [20, 28, 36]  # env steps of the frames, for rollouts that come by there


@pytest.mark.slow
def test_a_declared_hand_is_believed_where_the_frame_shows_it(
    sim: TabletopEnv, interpreter: FrameInterpreter, spec: EpisodeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = sim.begin(spec).observations[-1]
    for _ in range(12):
        now = sim.step_chunk(sim.expert_action()[None]).observations[-1]
    future = interpreter.oracle.future((8, 16))
    here = interpreter.oracle.frame(now)
    before = sim.snapshot()
    precise = replace(interpreter, precise=True, known={})
    monkeypatch.setattr(_Alignment, "refine_all", lambda _, learned, __: replace(learned, sure=np.zeros(2, bool)))
    declared = np.stack([np.append(place.hand, place.width) for place in future.places])
    assert np.linalg.norm(declared[:, :3] - now.state[:3], axis=1).min() > 0.02
    soft = np.stack([_soft(frame) for frame in future.frames])
    for frames, aside, shown in ((future.frames, 0.0, True), (soft, 0.0, True), (future.frames, 0.04, False)):
        hands = declared + np.array([0.0, aside, 0.0, 0.0])
        found = precise.read(now, frames, (8, 16), hands=hands)
        assert found.sure.tolist() == [shown, shown]
        if shown:
            assert np.abs(found.positions - declared[:, :3]).max() < 0.002
    still = precise.read(now, np.stack([here, here]), (8, 16), hands=declared)
    assert not still.sure[1]  # the frame shows a hand that stayed
    silent = precise.read(now, future.frames, (8, 16))
    assert not silent.sure.any()
    assert sim.snapshot() == before


def _soft(frame: np.ndarray) -> np.ndarray:
    views = [blur(view.astype(np.float32), 2.0) for view in np.split(frame, 2, axis=1)]
    return np.concatenate(views, axis=1).clip(0, 255).astype(np.uint8)


def test_a_later_frame_leads_the_servo_where_the_first_cannot_be_read(
    sim: TabletopEnv, interpreter: FrameInterpreter, spec: EpisodeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = sim.begin(spec).observations[-1]
    frames = interpreter.oracle.video((8, 16))
    found = interpreter.read(now, frames, (8, 16))
    for sure, unread, leads in (((False, True), 1, True), ((True, False), 1, True), ((False, False), 2, False)):
        shown = replace(found, sure=np.array(sure))
        monkeypatch.setattr(FrameInterpreter, "read", lambda *_, shown=shown, **__: shown)
        servo = Servo()
        assert interpreter.aim(servo, now, frames, (8, 16)) == unread
        assert (np.ptp(servo.way, axis=0).max() > 0.005) == leads


def test_where_the_last_frame_cannot_be_read_the_hand_stays_at_the_first_that_the_paths_know(
    sim: TabletopEnv, interpreter: FrameInterpreter, spec: EpisodeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With frames 4 steps apart the paths' first is the second frame, not the first one."""
    now = sim.begin(spec).observations[-1]
    offsets = (4, 8, 12, 16)
    frames = interpreter.oracle.video(offsets)
    places = now.state[:3] + np.array([0.0, 0.0, -0.01]) * np.array([[1], [2], [3], [4]])
    shown = replace(readings(4), positions=places, sure=np.array([True, True, True, False]))
    monkeypatch.setattr(FrameInterpreter, "read", lambda *_, **__: shown)
    given: list[np.ndarray] = []
    complete = type(interpreter.paths).complete

    def listen(self: object, before: np.ndarray, at: np.ndarray, grip: float, *poses: np.ndarray) -> object:
        given.append(poses[0])
        return complete(interpreter.paths, before, at, grip, *poses)

    monkeypatch.setattr(type(interpreter.paths), "complete", listen)
    assert interpreter.aim(Servo(), now, frames, offsets) == 1
    assert np.array_equal(given[0], places[[1, 1]])


def test_readings_change_in_copies_only() -> None:
    first = readings()
    second = first.with_frame(1, positions=np.ones(3), sure=True)
    assert not first.positions.any() and not first.sure.any()
    assert second.positions[:, 0].tolist() == [0.0, 1.0, 0.0] and second.sure.tolist() == [False, True, False]
    assert second.with_frame(0, objects=np.ones((2, 3))).objects.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        second.positions[0] = 1.0


def test_a_frame_before_one_that_could_be_read_lies_halfway() -> None:
    here = Pose(np.array([0.0, 0.0, 1.0]), np.eye(3), 0.08)
    later = readings(2).with_frame(1, positions=np.array([0.2, 0.0, 1.0]), widths=0.04, sure=True)
    found = put_halfway(here, later, (8, 16), 0)
    assert found.positions[0] == pytest.approx([0.1, 0.0, 1.0])
    assert found.widths[0] == pytest.approx(0.06)
    assert np.allclose(found.rotations[0], np.eye(3))
    assert not found.sure[0]  # it is a guess from where to look once more
