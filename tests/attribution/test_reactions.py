"""Videos that react as the simulator does, half as much, not at all, or the wrong way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from wambench import registration, tasks
from wambench.attribution import reactions
from wambench.conventions import DROID
from wambench.envs.episodes import episode_spec
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import Chunk, ControlConvention, Episode, Observation, Outcome, Plan, canvas

pytestmark = pytest.mark.slow
OFFSETS = (8, 16)
OTHER = "BinThenLift"


@dataclass(frozen=True)
class Moment:
    """A simulator at the start of an episode, and that episode with one query, whose video is true."""

    env: TabletopEnv
    episode: Episode

    @property
    def chunk(self) -> Chunk:
        return self.episode.chunks[0]


@pytest.fixture(scope="module")
def moment() -> Iterator[Moment]:
    env = registration.make("PlaceInBin")
    spec = episode_spec(env.task, "seen", "none", 0, 0)
    now = env.begin(spec).observations[-1]
    state = env.snapshot()
    actions = []
    for _ in range(16):
        actions.append(env.expert_action())
        env.advance(actions[-1])
    frames = reactions.true_future(env, state, lambda step: actions[step], OFFSETS)
    plan = Plan(np.array(actions), 4, frames, np.array(OFFSETS))
    chunk = Chunk(0, state, plan, np.array(actions[:4]), 0.0)
    yield Moment(env, Episode(spec, "ok", "", 0.0, False, False, (), 16, 0.0, (chunk,), (now,)))
    env.close()


class Imagining:
    """Imagines true futures, of which only a share of the change is shown."""

    convention = ControlConvention()

    def __init__(self, moment: Moment, share: float) -> None:
        self.moment, self.share = moment, share

    def reset(self, instruction: str, seed: int) -> None:
        task = next(t for t in (self.moment.env.task, tasks.find(OTHER)) if t.instruction == instruction)
        self.act_by = lambda step: task.expert(self.moment.env.view)

    def act(self, history: Sequence[Observation]) -> Plan:
        return self.moment.chunk.plan

    def imagine(self, history: Sequence[Observation], actions: np.ndarray | None = None) -> np.ndarray:
        act = self.act_by if actions is None else (lambda step: actions[step])
        true = reactions.true_future(self.moment.env, self.moment.chunk.state, act, OFFSETS).astype(float)
        now = canvas(history[-1], self.convention.cameras)
        return np.clip(now + self.share * (true - now), 0, 255).astype(np.uint8)


def reaction(score: reactions.ReactionScore) -> float:
    return 1.0 - score.error / score.size


def test_the_simulator_is_left_as_it_was(moment: Moment) -> None:
    before = moment.env.snapshot()
    reactions.true_future(moment.env, moment.chunk.state, lambda step: np.zeros(7), OFFSETS)
    moment.env.restore(before)
    assert moment.env.snapshot() == before


@pytest.mark.parametrize(("share", "least", "most"), [(1.0, 0.99, 1.0), (0.5, 0.7, 0.8), (0.0, -0.01, 0.01)])
def test_reactions_to_actions_and_words(moment: Moment, share: float, least: float, most: float) -> None:
    policy = Imagining(moment, share)
    acted = reactions.by_action(policy, moment.env, moment.episode, moment.chunk, OFFSETS)
    assert least <= reaction(acted) <= most and acted.kind == "action"
    other = tasks.find(OTHER)
    told = reactions.by_words(policy, moment.env, moment.episode, moment.chunk, other, OFFSETS)
    assert least <= reaction(told) <= most and told.other == other.instruction


def test_a_video_that_reacts_the_wrong_way_is_worse_than_one_that_does_not(moment: Moment) -> None:
    class Swapped(Imagining):
        def imagine(self, history: Sequence[Observation], actions: np.ndarray | None = None) -> np.ndarray:
            return super().imagine(history, None if actions is None else actions * reactions.MIRRORED)

    acted = reactions.by_action(Swapped(moment, 1.0), moment.env, moment.episode, moment.chunk, OFFSETS)
    assert reaction(acted) < -1.0


def test_consistency_has_a_control_for_collapsed_videos(moment: Moment) -> None:
    assert reaction(reactions.consistency(moment.env, moment.episode, moment.chunk)) > 0.99
    now = canvas(moment.episode.observations[0], moment.env.convention.cameras)
    still = replace(moment.chunk, plan=replace(moment.chunk.plan, frames=np.stack([now, now])))
    assert reaction(reactions.consistency(moment.env, moment.episode, still)) == pytest.approx(0.0)
    idle = replace(moment.chunk, plan=replace(moment.chunk.plan, actions=np.zeros((16, 7))))
    assert (
        reaction(reactions.consistency(moment.env, moment.episode, idle)) < 0.0
    )  # its video leads, its actions do not


def test_moments_are_drawn_from_episodes_that_imagine(moment: Moment) -> None:
    silent = replace(moment.chunk, plan=replace(moment.chunk.plan, frames=None, frame_steps=None))
    nothing = replace(moment.episode, chunks=(silent,))
    with pytest.raises(ValueError, match="no recorded episode has imagined frames"):
        reactions.ask(Imagining(moment, 1.0), [nothing], 1, np.random.default_rng(0))
    rows = [reactions.consistency(moment.env, moment.episode, moment.chunk)] * 3
    found = reactions.summarise(pd.DataFrame([vars(row) for row in rows]))
    (row,) = found.to_dict("records")
    assert row["kind"] == "consistency" and row["n"] == 3 and row["low"] <= row["mean"] <= row["high"]
    assert "(n = 3)" in reactions.to_text(found)


def test_other_instructions_are_for_the_same_scene() -> None:
    assert [t.name for t in reactions.others(tasks.find("OpenDrawer"))].count("PressButton") == 1
    assert all(not t.script for t in reactions.others(tasks.find("LiftCube")))


def test_true_futures_are_cut_at_the_limits_of_the_robot() -> None:
    """A joint may stand beyond 1 rad, and no target lies beyond a joint's own limit."""
    told: list[np.ndarray] = []

    class Robot:
        convention = DROID

        def restore(self, state: bytes) -> None: ...

        def advance(self, action: np.ndarray) -> Outcome:
            told.append(action)
            return Outcome((), len(told), 0.0, (), False, False, False, False)

        def observe(self) -> Observation:
            return Observation(0, {name: np.zeros((4, 4, 3), np.uint8) for name in DROID.cameras}, np.zeros(14))

    wanted = np.array([0.0, 0.5, 0.0, -2.0, 0.0, 9.0, 0.0, 0.5])
    reactions.true_future(Robot(), b"", lambda step: wanted, (1,))  # type: ignore[arg-type]
    assert told[0][3] == -2.0 and told[0][5] == DROID.limits()[1][5]
