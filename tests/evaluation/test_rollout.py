from __future__ import annotations

import dataclasses
import errno
import time

import numpy as np
import pytest

from tests.stubs import HORIZON, SMALL, LineSim, Steady
from wambench import tasks
from wambench.envs.episodes import episode_spec
from wambench.evaluation.plan_validation import validate_plan
from wambench.evaluation.rollout import rollout
from wambench.interface import ControlConvention, EpisodeSpec, InvalidPlan, Outcome, Plan
from wambench.policies.expert import ScriptedExpert


@pytest.fixture
def spec() -> EpisodeSpec:
    return episode_spec(tasks.find("LiftCube"), "seen", "none", 0, 0)


def test_policy_gets_everything_since_its_last_call(spec: EpisodeSpec) -> None:
    policy = Steady(speed=0.1)
    rollout(LineSim(SMALL), policy, spec)
    assert policy.histories == [[0], [4, 8], [12, 16], [20, 24], [28, 32]]


def test_only_the_first_actions_of_a_plan_are_executed(spec: EpisodeSpec) -> None:
    class Cautious(Steady):
        def act(self, history):  # type: ignore[no-untyped-def]
            return dataclasses.replace(super().act(history), execute=3)

    policy = Cautious(speed=0.1)
    episode = rollout(LineSim(SMALL), policy, spec)
    assert policy.histories[:4] == [[0], [3], [4, 6], [8, 9]]
    assert {len(chunk.executed) for chunk in episode.chunks[:-1]} == {3}
    assert sum(len(chunk.executed) for chunk in episode.chunks) == episode.steps == HORIZON


def test_episode_holds_what_happened(spec: EpisodeSpec) -> None:
    episode = rollout(LineSim(SMALL), Steady(), spec)
    assert (episode.status, episode.error, episode.progress, episode.stages) == ("ok", "", 1.0, ("half", "whole"))
    assert episode.success_end and episode.success_ever
    assert episode.steps == 34  # 1 / (0.05 * 0.6), rounded up: the last chunk was cut short
    assert [chunk.step for chunk in episode.chunks] == [0, 8, 16, 24, 32]
    assert len(episode.chunks[-1].executed) == 2
    assert [observation.step for observation in episode.observations] == [*range(0, 33, 4), 34]
    assert all(chunk.latency_s >= 0 for chunk in episode.chunks)


def test_chunk_states_continue_the_episode(spec: EpisodeSpec) -> None:
    sim = LineSim(SMALL)
    episode = rollout(sim, Steady(), spec)
    sim.restore(episode.chunks[2].state)
    for chunk in episode.chunks[2:]:
        outcome = sim.step_chunk(chunk.executed)
    assert outcome.steps == episode.steps and outcome.success


def test_observers_see_the_start_and_every_chunk(spec: EpisodeSpec) -> None:
    seen: list[tuple[int | None, int]] = []
    episode = rollout(LineSim(SMALL), Steady(), spec, [lambda c, o: seen.append((c.step if c else None, o.steps))])
    assert seen == [(None, 0), (0, 8), (8, 16), (16, 24), (24, 32), (32, episode.steps)]


def test_error_of_the_policy_keeps_what_came_before(spec: EpisodeSpec) -> None:
    class Stumbles(Steady):
        def act(self, history):  # type: ignore[no-untyped-def]
            if history[-1].step >= 24:
                raise SystemExit("enough")
            return super().act(history)

    episode = rollout(LineSim(SMALL), Stumbles(), spec)
    assert episode.status == "policy_error" and episode.error.startswith("SystemExit: enough (test_rollout.py:")
    assert (episode.progress, episode.stages, episode.steps, len(episode.chunks)) == (0.5, ("half",), 24, 3)


def test_a_policy_cannot_write_into_its_own_record(spec: EpisodeSpec) -> None:
    mine: list[Plan] = []

    class Scribbler(Steady):
        def act(self, history):  # type: ignore[no-untyped-def]
            plan, tried = super().act(history), 0
            for array in (history[-1].state, *history[-1].images.values()):
                try:
                    array -= 5
                except ValueError:
                    tried += 1
            assert tried == 3
            mine.append(plan)
            return plan

    policy, honest = Scribbler(), rollout(LineSim(SMALL), Steady(), spec)
    episode = rollout(LineSim(SMALL), policy, spec)
    for plan in mine:  # what it answered stays its own
        plan.actions[:] = 0
        plan.frames[:] = 0  # type: ignore[index]
    assert episode.status == "ok"
    for one, other in zip(episode.observations, honest.observations, strict=True):
        assert np.array_equal(one.state, other.state) and np.array_equal(one.images["wrist"], other.images["wrist"])
    for chunk, same in zip(episode.chunks, honest.chunks, strict=True):
        assert np.array_equal(chunk.plan.actions, same.plan.actions)
        assert np.array_equal(chunk.plan.frames, same.plan.frames)  # type: ignore[arg-type]
        assert not chunk.plan.actions.flags.writeable and not chunk.plan.frames.flags.writeable  # type: ignore[union-attr]


@pytest.mark.parametrize("broken", ["begin", "snapshot", "step_chunk"])
def test_error_of_the_world_is_its_own(spec: EpisodeSpec, broken: str) -> None:
    def fail(*_: object) -> None:
        raise ValueError("broken simulator")

    sim = LineSim(SMALL)
    setattr(sim, broken, fail)
    episode = rollout(sim, Steady(), spec)
    assert episode.status == "env_error" and "broken simulator" in episode.error


def test_divergence_is_an_error_of_the_world(spec: EpisodeSpec) -> None:
    episode = rollout(LineSim(SMALL), Steady(speed=-1.0), spec)
    assert episode.status == "env_error" and episode.error.startswith("SimulationDiverged: fell off the line")


def test_divergence_while_the_expert_looks_ahead_is_an_error_of_the_world(spec: EpisodeSpec) -> None:
    class Mad(LineSim):
        def expert_action(self) -> np.ndarray:
            return -super().expert_action()

    sim = Mad(SMALL)
    assert rollout(sim, ScriptedExpert(sim), spec).status == "env_error"


def test_compiling_a_scene_takes_nothing_of_the_time_limit(spec: EpisodeSpec) -> None:
    class Slow(LineSim):
        def begin(self, episode: EpisodeSpec) -> Outcome:
            time.sleep(0.3)
            return super().begin(episode)

    episode = rollout(Slow(SMALL), Steady(), spec, time_limit_s=0.25)
    assert episode.status == "ok" and episode.wall_s > 0.3


def test_a_full_disk_is_the_machines_error_whoever_meets_it(spec: EpisodeSpec) -> None:
    class Caching(Steady):
        def act(self, history):  # type: ignore[no-untyped-def]
            raise OSError(errno.ENOSPC, "No space left on device", "/cache")

    episode = rollout(LineSim(SMALL), Caching(), spec)
    assert episode.status == "env_error" and episode.error.startswith("machine: OSError: [Errno 28] No space left")
    assert "Traceback" in episode.traceback and "in act" in episode.traceback


def test_time_limit_ends_the_episode(spec: EpisodeSpec) -> None:
    episode = rollout(LineSim(SMALL), Steady(pause_s=0.4), spec, time_limit_s=0.6)
    assert (episode.status, len(episode.chunks)) == ("timeout", 2)


def test_a_policy_cannot_change_its_plan_afterwards(spec: EpisodeSpec) -> None:
    buffer = np.zeros((4, 7))

    class Reuses(Steady):
        def act(self, history):  # type: ignore[no-untyped-def]
            buffer[:] = history[-1].step / 100
            return Plan(buffer)

    episode = rollout(LineSim(SMALL), Reuses(), spec)
    assert [chunk.executed[0, 0] for chunk in episode.chunks[:3]] == [0, 0.04, 0.08]
    assert [chunk.plan.actions[0, 0] for chunk in episode.chunks[:3]] == [0, 0.04, 0.08]


def test_expert_acts_in_a_closed_loop_and_is_recorded_at_the_video_rate(spec: EpisodeSpec) -> None:
    class Alternating(LineSim):
        """Its expert goes fast on even steps, so an expert that does not look again would go wrong."""

        def expert_action(self) -> np.ndarray:
            return super().expert_action() * (1.0 if self.steps % 2 == 0 else 0.5)

    sim = Alternating(SMALL)
    episode = rollout(sim, ScriptedExpert(sim), spec)
    actions = np.concatenate([chunk.executed[:, 0] for chunk in episode.chunks])
    assert np.array_equal(actions, np.where(np.arange(len(actions)) % 2 == 0, 1.0, 0.5))
    assert [observation.step for observation in episode.observations] == [*range(0, 25, 4), 27]
    assert episode.progress == 1.0


ACTIONS = np.zeros((4, 7))
FRAMES = np.zeros((2, 8, 16, 3), np.uint8)
STEPS = np.array([4, 8])
HANDS = np.zeros((2, 4))  # where the hand is in the frames, and how far its fingers are open


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (Plan(np.zeros((4, 6))), "shape (4, 6)"),
        (Plan(np.zeros((0, 7))), "shape (0, 7)"),
        (Plan(np.zeros(7)), "shape (7,)"),
        (Plan(np.full((4, 7), np.nan)), "NaN"),
        (Plan(np.full((4, 7), np.inf)), "infinity"),
        (Plan(np.full((4, 7), 1.001)), "1.001 is out of range"),
        (Plan(ACTIONS, execute=0), "execute is 0"),
        (Plan(ACTIONS, execute=5), "execute is 5"),
        (Plan(ACTIONS, frames=FRAMES), "together"),
        (Plan(ACTIONS, frame_steps=STEPS), "together"),
        (Plan(ACTIONS, frames=FRAMES / 255, frame_steps=STEPS), "frames are float64"),  # type: ignore[arg-type]
        (Plan(ACTIONS, frames=FRAMES[:, :, :8], frame_steps=STEPS), "(2, 8, 8, 3)"),
        (Plan(ACTIONS, frames=FRAMES, frame_steps=STEPS[:1]), "frame_steps are"),
        (Plan(ACTIONS, frames=FRAMES, frame_steps=STEPS / 2), "frame_steps are float64"),  # type: ignore[arg-type]
        (Plan(ACTIONS, frames=FRAMES, frame_steps=STEPS[::-1]), "must rise"),
        (Plan(ACTIONS, frame_hands=HANDS), "without frames"),
        (Plan(ACTIONS, frames=FRAMES, frame_steps=STEPS, frame_hands=HANDS[:1]), "frame_hands are (1, 4)"),
        (Plan(ACTIONS, frames=FRAMES, frame_steps=STEPS, frame_hands=HANDS * np.nan), "finite"),
        (None, "NoneType, not a Plan"),
    ],
)
def test_invalid_plans_are_refused(plan: Plan, said: str) -> None:
    with pytest.raises(InvalidPlan) as refused:
        validate_plan(plan, SMALL)
    assert said in str(refused.value)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("gradients", [False, True])
def test_tensors_become_arrays(dtype: str, gradients: bool) -> None:
    torch = pytest.importorskip("torch")
    actions = torch.full((4, 7), 0.5, dtype=getattr(torch, dtype), requires_grad=gradients) * 1.0
    frames, steps = torch.zeros((2, 8, 16, 3), dtype=torch.uint8), torch.tensor([4, 8])
    plan = validate_plan(Plan(actions, frames=frames, frame_steps=steps), SMALL)
    assert plan.actions.dtype == np.float64 and np.array_equal(plan.actions, np.full((4, 7), 0.5))
    assert plan.frames is not None and plan.frames.dtype == np.uint8
    assert plan.frame_steps is not None and plan.frame_steps.tolist() == [4, 8]
    with pytest.raises(InvalidPlan, match="frames are float64"):
        validate_plan(Plan(actions, frames=frames.bfloat16(), frame_steps=steps), SMALL)


def test_rounding_beyond_the_limit_is_clipped() -> None:
    assert np.abs(validate_plan(Plan(np.full((4, 7), 1 + 5e-7)), ControlConvention()).actions).max() == 1
