"""The choice by the simulator: it takes what leads furthest, and leaves the simulator and everything else alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.policies.conftest import observe
from wambench import policies, registration
from wambench.envs.episodes import episode_spec
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import ControlConvention, Observation, Outcome, SimulationDiverged
from wambench.policies.dreamzero.dit import Frames
from wambench.policies.dreamzero.oracle_choice import OracleChoice
from wambench.policies.dreamzero.policy import DreamZero, DreamZeroOptions

pytestmark = pytest.mark.slow

CUBES = np.array([[0.1, -0.1, 0.0], [-0.1, 0.15, 0.0]])


class ToySim:
    """A hand over two cubes that goes where actions push it; progress 0.5 beyond x = `half`, diverging below -0.1."""

    def __init__(self, half: float = 10.0, horizon: int = 1000) -> None:
        self.convention = ControlConvention()
        self.objects = ("red_cube", "blue_cube")
        self.half, self.horizon = half, horizon
        self.hand = np.zeros(3)
        self.steps = self.observed = 0

    @property
    def task(self) -> ToySim:
        return self

    @property
    def view(self) -> ToySim:
        return self

    def point(self, name: str) -> np.ndarray:
        return self.hand if name == "hand" else CUBES[self.objects.index(name)]

    def advance(self, action: np.ndarray) -> Outcome:
        self.hand = self.hand + 0.01 * action[:3]
        self.steps += 1
        if self.hand[0] < -0.1:
            raise SimulationDiverged("fell off the table")
        progress = 0.5 if self.hand[0] > self.half else 0.0
        return Outcome((), self.steps, progress, (), False, False, False, self.steps >= self.horizon)

    def observe(self) -> Observation:
        self.observed += 1
        return observe(self.steps, CUBES, self.hand)

    def snapshot(self) -> bytes:
        return np.array([*self.hand, self.steps]).tobytes()

    def restore(self, state: bytes) -> None:
        *hand, steps = np.frombuffer(state)
        self.hand, self.steps = np.array(hand), int(steps)


def chosen(policy: OracleChoice, *pushes: tuple[float, ...]) -> int:
    """Returns which of several candidates is taken, each a chunk of one displacement."""
    model = policy.model
    futures = []
    for push in pushes:
        raw = torch.zeros(model.config.chunk_steps, 7)
        raw[:, :3] = torch.tensor(push)
        futures.append((Frames(torch.zeros(1)), (raw - model.action_mean) / model.action_std))
    session = policy.session("reach the red cube", 0)
    policy._look([session], [[observe(0, CUBES, np.zeros(3))]])
    before = policy.sim.snapshot()
    number = policy._number(session, 0, futures)
    assert policy.sim.snapshot() == before
    return number


def toy(
    dreamzero_file: Path, encoder_file: Path, sim: ToySim, judge: str = "progress", **options: object
) -> OracleChoice:
    given = {"weights": str(dreamzero_file), "encoder": str(encoder_file), "judge": judge, **options}
    made = policies.load("oracle-choice", given, sim=sim)
    assert isinstance(made, OracleChoice)
    return made


def test_it_takes_what_leads_furthest(dreamzero_file: Path, encoder_file: Path) -> None:
    ahead, aside, still = (1.0, 0.0, 0.0), (0.6, -0.6, 0.0), (0.0, 0.0, 0.0)  # the red cube is at (0.1, -0.1)
    far = toy(dreamzero_file, encoder_file, ToySim(half=0.12))
    assert far.options.candidates == 4
    assert chosen(far, still, aside, ahead) == 2  # progress
    goal = toy(dreamzero_file, encoder_file, ToySim(half=0.12), judge="goal")
    assert chosen(goal, still, ahead, aside) == 2  # the hand at the cube
    never = toy(dreamzero_file, encoder_file, ToySim())
    assert chosen(never, still, ahead, aside) == 2  # equal progress: the goal decides
    assert chosen(never, aside, aside) == 0
    fallen = (-1.0, 0.0, 0.0)
    assert chosen(never, fallen, still) == 1 and chosen(goal, fallen, still) == 1  # diverges


def test_looking_further_ahead_goes_on_with_the_policy(dreamzero_file: Path, encoder_file: Path) -> None:
    for lookahead, looks in ((1, 0), (3, 4)):
        sim = ToySim()
        policy = toy(dreamzero_file, encoder_file, sim, lookahead=lookahead)
        chosen(policy, (0.1, 0.0, 0.0), (0.2, 0.0, 0.0))
        assert sim.observed == looks
    sim = ToySim(horizon=8)
    chosen(toy(dreamzero_file, encoder_file, sim, lookahead=3), (0.1, 0.0, 0.0), (0.2, 0.0, 0.0))
    assert sim.observed == 0  # the episode is over before


def test_misuse_is_named() -> None:
    for given, said in (
        ({"judge": "progres"}, "unknown judge 'progres'; did you mean 'progress'"),
        ({"choose": "goal"}, "judge says how, and there is no choose"),
        ({"candidats": 3}, "'candidats'; did you mean 'candidates'"),
    ):
        with pytest.raises(ValueError, match=said):
            policies.load("oracle-choice", given, sim=ToySim())


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    env = registration.make("HoistCube", split="unseen-tasks-v1")
    yield env
    env.close()


def test_one_candidate_is_dreamzero_and_more_leave_the_simulator_bitwise_alone(env: TabletopEnv) -> None:
    spec = episode_spec(env.task, "unseen-tasks-v1", "all", 0, 0)
    outcome = env.begin(spec)
    alone, plain = policies.load("oracle-choice", {"candidates": 1}, sim=env), DreamZero()
    many = policies.load("oracle-choice", {"candidates": 3, "lookahead": 2}, sim=env)
    drawn = DreamZero(DreamZeroOptions(candidates=3))
    for policy in (alone, plain, many, drawn):
        policy.reset(spec.instruction, spec.seed)
    for _ in range(2):
        before = env.snapshot()
        plans = [policy.act(outcome.observations) for policy in (alone, plain, many)]
        assert env.snapshot() == before
        np.testing.assert_array_equal(plans[0].actions, plans[1].actions)
        session = drawn._ready(outcome.observations)
        futures = [drawn._candidate(session, outcome.steps, n, drawn.sampling)[1] for n in range(3)]
        assert any(np.array_equal(plans[2].actions, drawn._commands(actions)) for actions in futures)
        outcome = env.step_chunk(plans[2].actions[:4])


def test_a_branch_ends_where_the_episode_then_goes(env: TabletopEnv) -> None:
    spec = episode_spec(env.task, "unseen-tasks-v1", "all", 1, 0)
    outcome = env.begin(spec)
    policy = policies.load("oracle-choice", {"candidates": 2}, sim=env)
    assert isinstance(policy, OracleChoice)
    policy.reset(spec.instruction, spec.seed)
    state = env.snapshot()
    actions = policy.act(outcome.observations).actions
    policy._play(actions)
    branch = env.snapshot()
    env.restore(state)
    env.step_chunk(actions)
    assert env.snapshot() == branch
