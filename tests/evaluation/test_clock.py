"""Episodes on the virtual and on the wall clock, in a simulator of arithmetic."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.test_run import recorded, timeless
from tests.stubs import HORIZON, SMALL, LineSim, Steady, line_sim
from wambench import tasks
from wambench.envs.episodes import episode_spec
from wambench.evaluation.clock import Virtual
from wambench.evaluation.config import RunConfig
from wambench.evaluation.executors import EXECUTORS, timing
from wambench.evaluation.process_pool import WorkerFailed
from wambench.evaluation.rollout import rollout
from wambench.evaluation.run import run
from wambench.evaluation.wall_clock import Inference, Wall
from wambench.interface import Chunk, Episode, EpisodeSpec, Observation, Plan
from wambench.records import load_episode, read_rows

Maker = Callable[..., RunConfig]


class Telling(Steady):
    """Says in every action when it was asked for and which action of its chunk it is."""

    def __init__(self, execute: int = 4, pause_s: float = 0.0) -> None:
        super().__init__(pause_s=pause_s)
        self.execute = execute

    def act(self, history: Sequence[Observation]) -> Plan:
        super().act(history)
        actions = np.zeros((8, 7))
        actions[:, 1], actions[:, 2] = history[-1].step / 100, np.arange(8) / 10
        actions[:, 3] = 0.5  # a hold has none
        return Plan(actions, self.execute)


class Continuing(Telling):
    """Remembers what it was told about the actions to come."""

    def reset(self, instruction: str, seed: int) -> None:
        super().reset(instruction, seed)
        self.told: list[tuple[int, np.ndarray, int]] = []

    def act_guided(self, history: Sequence[Observation], previous: np.ndarray, delay: int) -> Plan:
        self.told.append((history[-1].step, previous, delay))
        return self.act(history)


@pytest.fixture
def spec() -> EpisodeSpec:
    return episode_spec(tasks.find("LiftCube"), "seen", "none", 0, 0)


def virtual(executor: str, delay: int, replan: int | None = None) -> Virtual:
    return Virtual(EXECUTORS[executor], lambda _, __: delay / 20, replan)


def origins(episode: Episode) -> list[tuple[int, int]]:
    """Returns for every control step the step its action was asked for and its index; holds are (-1, -1)."""
    actions = np.concatenate([chunk.executed for chunk in episode.chunks])
    assert len(actions) == episode.steps
    return [(-1, -1) if a[3] == 0.0 else (round(a[1] * 100), round(a[2] * 10)) for a in actions]


@pytest.mark.parametrize("executor", ["async", "rtc"])
@pytest.mark.parametrize("delay", [0, 1, 3, 4, 6])
def test_old_then_new(spec: EpisodeSpec, executor: str, delay: int) -> None:
    episode = rollout(LineSim(SMALL), Continuing(), spec, clock=virtual(executor, delay))
    every = max(4, delay) if delay <= 4 else delay
    for step, (asked, index) in enumerate(origins(episode)):
        newest = (step - delay) // every * every
        expected = (newest, step - newest) if newest >= 0 and step - newest < 8 else (-1, -1)
        assert (asked, index) == expected
    assert [chunk.step for chunk in episode.chunks] == list(range(0, HORIZON, every))
    assert {chunk.delay for chunk in episode.chunks} == {delay}


def test_without_latency_async_is_sync(spec: EpisodeSpec) -> None:
    episodes = [rollout(LineSim(SMALL), Telling(), spec, clock=virtual(name, 0)) for name in ("sync", "async")]
    assert origins(episodes[0]) == origins(episodes[1])
    plain = rollout(LineSim(SMALL), Telling(), spec)
    assert origins(plain) == origins(episodes[0])


def test_sync_plays_the_same_whatever_the_latency(spec: EpisodeSpec) -> None:
    episodes = [rollout(LineSim(SMALL), Telling(), spec, clock=virtual("sync", delay)) for delay in (0, 30)]
    assert origins(episodes[0]) == origins(episodes[1])
    walls = [timing(e.chunks, "sync", SMALL, HORIZON, 1.0).progress_wall for e in episodes]
    assert walls == [1.0, 0.0]


def test_an_answer_later_than_its_chunk_only_holds(spec: EpisodeSpec) -> None:
    episode = rollout(LineSim(SMALL), Telling(), spec, clock=virtual("async", 9))
    assert set(origins(episode)) == {(-1, -1)}
    assert timing(episode.chunks, "async", SMALL, HORIZON, 0.0).holds == HORIZON


def test_the_next_answer_is_asked_for_before_the_chunk_runs_dry(spec: EpisodeSpec) -> None:
    episode = rollout(LineSim(SMALL), Telling(execute=8), spec, clock=virtual("async", 3))
    assert [chunk.step for chunk in episode.chunks[:4]] == [0, 5, 10, 15]
    assert timing(episode.chunks, "async", SMALL, HORIZON, 0.0).holds == 3  # before the first answer only
    asked = rollout(LineSim(SMALL), Telling(), spec, clock=virtual("async", 3, replan=8))
    assert timing(asked.chunks, "async", SMALL, HORIZON, 0.0).holds == 3 * 5  # as it was asked for


@pytest.mark.parametrize("delay", [0, 1, 9])
def test_observations_are_what_was_seen_with_its_step(spec: EpisodeSpec, delay: int) -> None:
    policy = Telling()
    episode = rollout(LineSim(SMALL), policy, spec, clock=virtual("async", delay))
    every = max(4, delay)
    expected = [[0]]
    for now in range(every, HORIZON, every):
        expected.append(sorted({step for step in range(now - every + 1, now) if step % 4 == 0} | {now}))
    assert policy.histories == expected
    again = LineSim(SMALL)
    outcomes = [again.begin(spec), *(again.step_chunk(chunk.executed) for chunk in episode.chunks)]
    seen = [observation for outcome in outcomes for observation in outcome.observations]
    assert [(o.step, o.state[0]) for o in seen] == [(o.step, o.state[0]) for o in episode.observations]


@pytest.mark.parametrize("delay", [0, 1, 3, 9])
def test_a_guided_policy_is_told_what_will_be_carried_out(spec: EpisodeSpec, delay: int) -> None:
    policy = Continuing()
    episode = rollout(LineSim(SMALL), policy, spec, clock=virtual("rtc", delay))
    carried_out = np.concatenate([chunk.executed for chunk in episode.chunks])
    assert len(policy.told) == len(episode.chunks) - 1  # there is nothing to continue at first
    for step, previous, expected in policy.told:
        assert expected == delay and len(previous) == max(delay, 4 if delay <= 4 else 0)
        until = min(delay, len(carried_out) - step)
        np.testing.assert_array_equal(previous[:until], carried_out[step : step + until])


def test_the_largest_recent_delay_is_expected(spec: EpisodeSpec) -> None:
    policy, delays = Continuing(), [1, 3, 2, *[1] * 40]
    rollout(LineSim(SMALL), policy, spec, clock=Virtual(EXECUTORS["rtc"], lambda query, _: delays[query] / 20))
    assert [delay for _, _, delay in policy.told[:4]] == [1, 3, 3, 3]


def test_an_ensemble_asks_at_every_step(spec: EpisodeSpec) -> None:
    policy = Telling()
    episode = rollout(LineSim(SMALL), policy, spec, clock=virtual("ensemble", 0))
    assert [chunk.step for chunk in episode.chunks] == list(range(HORIZON))
    weights = np.exp(-0.01 * np.arange(8))
    assert episode.chunks[20].executed[0, 1] == pytest.approx(weights @ (np.arange(13, 21) / 100) / weights.sum())


# -- the wall clock --------------------------------------------------------------------------------------------------


def on_the_wall(policy: Any, spec: EpisodeSpec, executor: str, make: Any = None, **values: Any) -> Episode:
    inference = Inference(make or policy)
    try:
        clock = Wall(inference, EXECUTORS[executor], values.pop("seconds", lambda _, __: 0.0), **values)
        return rollout(LineSim(SMALL), policy, spec, clock=clock)
    finally:
        inference.close()


def replayed(episode: Episode, policy: Any, executor: str, spec: EpisodeSpec) -> Episode:
    delays = [chunk.delay for chunk in episode.chunks] + [0] * HORIZON
    return rollout(LineSim(SMALL), policy, spec, clock=Virtual(EXECUTORS[executor], lambda i, _: delays[i] / 20))


def same_play(one: Episode, other: Episode) -> None:
    assert origins(one) == origins(other)
    assert [o.step for o in one.observations] == [o.step for o in other.observations]
    assert [c.step for c in one.chunks] == [c.step for c in other.chunks]


@pytest.mark.parametrize("executor", ["async", "rtc"])
def test_wall_and_virtual_clock_agree_when_the_latency_is_known(spec: EpisodeSpec, executor: str) -> None:
    wall = on_the_wall(Continuing(pause_s=0.07), spec, executor)
    same_play(wall, replayed(wall, Continuing(), executor, spec))
    delays = [chunk.delay for chunk in wall.chunks[:-1]]
    assert np.median(delays) == 2  # 0.07 s at 20 Hz, if the machine keeps up
    assert wall.status == "ok" and wall.steps == HORIZON and wall.wall_s > (HORIZON - 1) / 20


def test_the_world_really_waits_for_sync(spec: EpisodeSpec) -> None:
    wall = on_the_wall(Telling(execute=8, pause_s=0.07), spec, "sync", pace=4.0)
    same_play(wall, rollout(LineSim(SMALL), Telling(execute=8), spec))
    assert all(chunk.delay >= 5 for chunk in wall.chunks)  # 0.07 s at 80 Hz


def test_a_latency_can_be_given_to_the_wall_clock_in_a_process(spec: EpisodeSpec) -> None:
    wall = on_the_wall(Telling(), spec, "async", make=partial(Telling), seconds=lambda _, __: 0.13)
    same_play(wall, replayed(wall, Telling(), "async", spec))
    assert np.median([chunk.delay for chunk in wall.chunks[:-1]]) == 3


def test_an_answer_that_comes_too_late_is_dropped(spec: EpisodeSpec) -> None:
    began = time.perf_counter()
    episode = on_the_wall(Telling(pause_s=0.6), spec, "async", pace=8.0)
    assert episode.status == "ok" and len(episode.chunks) == 1 and len(episode.chunks[0].plan.actions) == 0
    assert time.perf_counter() - began < 2.0  # and the worker ended with its call
    assert timing(episode.chunks, "async", SMALL, HORIZON, 0.0).holds == HORIZON


def test_an_error_in_the_worker_is_the_policys(spec: EpisodeSpec) -> None:
    class Stumbles(Telling):
        def act(self, history: Sequence[Observation]) -> Plan:
            raise KeyError("no such object")

    episode = on_the_wall(Stumbles(), spec, "async", pace=8.0)
    assert episode.status == "policy_error" and "no such object" in episode.error


# -- runs ------------------------------------------------------------------------------------------------------------


def test_rows_hold_what_time_did(config: Maker) -> None:
    rows = run(config(execution="async", latency="0.1"), line_sim)
    assert {(row.policy, row.execution, row.latency) for row in rows} == {
        ("tests.stubs:Steady@execution=async,latency=0.1", "async", "0.1")
    }
    assert all(row.holds == 2 and 0 < row.stale_ratio < 1 and row.effective_hz < 20 for row in rows)
    assert run(config(execution="async", latency="0.1"), line_sim) == read_rows(config().folder / "episodes.csv")


def test_a_measured_run_is_repeated_from_its_trace(config: Maker) -> None:
    measured = config(execution="async", latency="measured", policy_args={"pause_s": 0.02}, out="measured")
    run(measured, line_sim)
    trace = measured.folder / "latency.csv"
    assert trace.read_text().startswith("task,factor,episode,query,latency_s\nLiftCube-v1,none,0,0,0.02")
    again = config(execution="async", latency=str(trace), policy_args={"pause_s": 0.0}, out="again")
    run(again, line_sim)

    def bare(folder: Path) -> Any:
        rows = timeless(read_rows(folder / "episodes.csv"))
        return [dataclasses.replace(row, policy="", latency="") for row in rows]

    assert bare(again.folder) == bare(measured.folder)
    assert recorded(again.folder)[1] == recorded(measured.folder)[1]
    trace.unlink()
    run(measured, line_sim)  # finished, but its trace was lost
    assert trace.exists()


def test_a_trace_that_is_too_short_begins_again_and_says_so(
    config: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "short.csv").write_text("latency_s\n0.05\n0.1\n")
    it = config(execution="async", latency=str(tmp_path / "short.csv"))
    rows = run(it, line_sim)
    assert f"short.csv began again in {len(rows)} of {len(rows)} episodes" in capsys.readouterr().err
    episode = load_episode(it.folder / "episodes" / "LiftCube-v1.none.0.npz")
    assert [chunk.delay for chunk in episode.chunks[:4]] == [1, 2, 1, 2]


def test_a_trace_without_an_episode_stops_the_run(config: Maker, tmp_path: Path) -> None:
    path = tmp_path / "latency.csv"
    path.write_text("task,factor,episode,query,latency_s\nLiftCube-v1,none,0,0,0.1\n")
    with pytest.raises(ValueError, match="no latencies for 7 episodes"):
        run(config(latency=str(path)), line_sim)
    assert not config().folder.exists()


def test_an_executor_that_a_policy_cannot_support_stops_the_run(config: Maker) -> None:
    it = config(execution="rtc")
    with pytest.raises(WorkerFailed, match="cannot be played by rtc: it has no act_guided"):
        run(it, line_sim)
    assert not it.folder.exists()


@pytest.mark.slow
def test_chunks_too_short_to_be_smoothed_stop_the_run(config: Maker) -> None:
    for policy, arguments, length in (("noop", {"chunk": 10}, 10), ("expert", {}, 4)):
        it = config(policy=policy, policy_args=arguments, smooth=True)
        with pytest.raises(WorkerFailed, match=f"smoothing needs chunks of at least 11 actions, got {length}"):
            run(it, line_sim)
        assert not it.folder.exists()
    assert all(
        row.status == "ok" for row in run(config(policy="noop", policy_args={"chunk": 11}, smooth=True), line_sim)
    )


@pytest.mark.slow
def test_a_run_on_the_wall_clock(config: Maker) -> None:
    it = config(execution="async", clock="wall", latency="measured", episodes=1, tasks=("LiftCube",))
    (row,) = run(it, line_sim)
    assert row.status == "ok" and row.holds >= 1 and row.policy.endswith("@execution=async,latency=measured,clock=wall")
    (episode,) = [load_episode(path) for path in (it.folder / "episodes").iterdir()]
    again = config(
        execution="async", latency=str(it.folder / "latency.csv"), episodes=1, tasks=("LiftCube",), out="again"
    )
    (repeated,) = run(again, line_sim)
    assert (repeated.steps, repeated.holds, repeated.stale_ratio) == (row.steps, row.holds, row.stale_ratio)
    assert isinstance(episode.chunks[0], Chunk)
