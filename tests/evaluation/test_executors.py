"""Which chunk plays when, and the figures of time, on chunks whose every number says where it comes from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wambench.evaluation import executors
from wambench.evaluation.executors import Answer, Timeline, ensembled, newest, timing
from wambench.interface import Chunk, ControlConvention, Plan

SPEC = ControlConvention()


def chunk_of(number: int, length: int = 8) -> np.ndarray:
    """Returns (length, 7) actions: number, index, zeros, and a gripper that closes."""
    actions = np.zeros((length, 7))
    actions[:, 0], actions[:, 1], actions[:, 6] = number, np.arange(length), 1.0
    return actions


def played(timeline: Timeline, start: int, stop: int) -> list[tuple[int, int]]:
    return [(int(action[0]), int(action[1])) for action in timeline.actions(start, stop)]


def test_the_newest_chunk_plays_from_its_own_time_index() -> None:
    timeline = Timeline(newest, SPEC)
    timeline.add(Answer(0, 0, chunk_of(1)))
    timeline.add(Answer(4, 6, chunk_of(2)))
    assert played(timeline, 4, 8) == [(1, 4), (1, 5), (2, 2), (2, 3)]


def test_a_dry_chunk_holds_still_with_the_last_gripper_command() -> None:
    timeline = Timeline(newest, SPEC)
    np.testing.assert_array_equal(timeline.action(0), [0, 0, 0, 0, 0, 0, -1])  # open before the first command
    timeline.add(Answer(0, 1, chunk_of(1, 3)))
    assert played(timeline, 1, 3) == [(1, 1), (1, 2)]
    np.testing.assert_array_equal(timeline.actions(3, 5), [[0, 0, 0, 0, 0, 0, 1]] * 2)


def test_a_chunk_later_than_its_own_end_never_plays() -> None:
    timeline = Timeline(newest, SPEC)
    timeline.add(Answer(0, 9, chunk_of(1)))
    assert not timeline.actions(0, 12)[:, :6].any()


def test_only_declared_embodiments_hold() -> None:
    with pytest.raises(ValueError, match="no hold action is declared for 'joint_torque'"):
        ControlConvention(action="joint_torque").hold_action(None)
    assert ControlConvention(gripper="open_positive").hold_action(None)[-1] == 1.0


def test_the_ensemble_weighs_the_oldest_most() -> None:
    answers = [
        Answer(0, 0, chunk_of(1)),
        Answer(1, 1, chunk_of(2)),
        Answer(2, 5, chunk_of(3)),
        Answer(9, 9, chunk_of(4)),
    ]
    weights = np.exp(-0.01 * np.arange(2))
    got = ensembled(answers, 4)
    assert got is not None
    assert got[0] == pytest.approx((weights @ [1, 2]) / weights.sum()) and got[0] < 1.5
    assert ensembled(answers, 5)[0] == pytest.approx(2.0, abs=0.02)  # type: ignore[index]
    assert ensembled(answers[:1], 8) is None and ensembled([], 0) is None


def test_what_comes_is_what_will_be_carried_out() -> None:
    timeline = Timeline(newest, SPEC)
    timeline.add(Answer(0, 0, chunk_of(1)))
    ahead = timeline.ahead(5, 2)
    np.testing.assert_array_equal(ahead, timeline.actions(5, 8))
    longer = timeline.ahead(5, 6)
    np.testing.assert_array_equal(longer, timeline.actions(5, 11))  # holds included
    assert Timeline(newest, SPEC).ahead(0, 0).shape == (0, 7)


def chunks(delay: int, every: int = 4, count: int = 5, executor: str = "async", length: int = 8) -> list[Chunk]:
    """Returns what a run with a fixed delay records."""
    how, timeline = executors.find(executor), Timeline(executors.find(executor).blend, SPEC)
    made = []
    for i in range(count):
        step = i * every
        plan = Plan(chunk_of(i + 1, length), every)
        timeline.add(Answer(step, step if how.waits else step + delay, plan.actions))
        made.append(Chunk(step, b"", plan, timeline.actions(step, step + every), 0.0, delay, (i + 1) / count))
    return made


def test_figures_of_a_delay() -> None:
    got = timing(chunks(2), "async", SPEC, 20, 1.0)
    assert got.holds == 2  # before the first answer
    assert got.stale_ratio == pytest.approx(4 * 2 / 20)
    assert got.effective_hz == pytest.approx(20 * 18 / 20)
    assert got.boundary_jump == pytest.approx(math.hypot(1, 4))  # next number, four indices earlier
    assert got.progress_wall == 1.0


def test_a_switch_between_two_turns_counts() -> None:
    got = timing(chunks(4), "async", SPEC, 20, 1.0)
    assert (got.holds, got.stale_ratio) == (4, pytest.approx(16 / 20))
    assert math.isnan(got.boundary_jump)  # the old chunk had run dry
    got = timing(chunks(4, length=12), "async", SPEC, 20, 1.0)
    assert got.boundary_jump == pytest.approx(math.hypot(1, 4))


def test_figures_without_a_delay() -> None:
    for executor in ("sync", "async"):
        got = timing(chunks(0, executor=executor), executor, SPEC, 20, 0.7)
        assert (got.holds, got.stale_ratio, got.effective_hz, got.progress_wall) == (0, 0.0, 20.0, 0.7)
        assert got.boundary_jump == pytest.approx(math.hypot(1, 4))


def test_a_world_that_waits_pays_in_time() -> None:
    made = chunks(4, executor="sync")
    got = timing(made, "sync", SPEC, 20, 1.0)
    assert (got.holds, got.stale_ratio) == (0, 0.0)
    assert got.effective_hz == pytest.approx(20 * 20 / 40)
    assert got.progress_wall == pytest.approx(2 / 5)  # 8 steps a turn: two of them within 20
    assert executors.progress_within(made, 20, 1.0, 0) == 1.0
    assert executors.progress_within(made, 20, 1.0, 100) == 0.0


def test_whole_chunks_have_no_boundary() -> None:
    assert math.isnan(timing(chunks(0, every=8), "sync", SPEC, 40, 1.0).boundary_jump)


def test_an_episode_without_a_query() -> None:
    assert timing([], "async", SPEC, 20, 0.5).progress_wall == 0.5


def test_jerk_of_known_paths() -> None:
    t = np.arange(10)[:, None]
    steady, quadratic = np.tile(t, (1, 7)).astype(float), np.concatenate([t**2, np.zeros((10, 5)), (-1.0) ** t], axis=1)
    assert executors.jerk(steady, 20.0) == 0.0
    assert executors.jerk(quadratic, 20.0) == pytest.approx(2 * 400)  # the gripper's chatter does not count
    assert math.isnan(executors.jerk(steady[:2], 20.0))


def test_unknown_executors_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'async'"):
        executors.find("asinc")
