"""A world model played as a simulator: one that knows how a hand lifts a cube, one that keeps still, and misuse."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.envs.tabletop import TabletopEnv
from wambench.evaluation.clock import Virtual
from wambench.evaluation.rollout import rollout
from wambench.interface import ControlConvention, Episode, EpisodeSpec, Observation, Plan, Simulator, canvas
from wambench.world_model import simulator
from wambench.world_model.simulator import FINGERS_M, TURNED, Still, WorldModelSimulator

STEP_M = 0.01  # the toy hand moves so far by an action of 1


class Toy:
    """A world model by hand: key points move as told, a closed hand takes the cube along, frames are grey."""

    convention = ControlConvention()
    frame_offsets: Sequence[int] = (8, 16)
    chunk_steps = 16
    key_points: Sequence[str] = ("red_cube", "hand")

    def __init__(self, real: TabletopEnv | None = None) -> None:
        self.real = real
        self.asked: list[list[int]] = []

    def reset(self, instruction: str, seed: int) -> None:
        self.closed = False

    def read(self, observations: Sequence[Observation]) -> np.ndarray:
        assert self.real is not None
        self.now = np.stack([self.real.view.point(name) for name in self.key_points]) + 0.001
        return np.repeat(self.now[None], len(observations), axis=0)

    def imagine_actions(self, history: Sequence[Observation], actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append([o.step for o in history])
        assert actions.shape == (16, 7)
        places = []
        for step, action in enumerate(actions, 1):
            taken = action[6] > 0 and np.linalg.norm(self.now[0] - self.now[1]) < 0.03
            self.now = self.now + STEP_M * np.clip(action[:3], -1, 1) * np.array([[float(taken)], [1.0]])
            if step in self.frame_offsets:
                places.append(self.now)
        return np.full((2, 96, 192, 3), 90, np.uint8), np.stack(places)


class Lifting:
    """Goes to the cube of the first frame, of which it is told, closes and rises; it reads the state alone."""

    convention = ControlConvention()

    def __init__(self, cube: np.ndarray) -> None:
        self.cube = cube

    def reset(self, instruction: str, seed: int) -> None:
        self.states: list[np.ndarray] = []

    def act(self, history: Sequence[Observation]) -> Plan:
        state = history[-1].state
        self.states.append(state)
        away = self.cube - state[:3]
        if np.linalg.norm(away) > 0.005 and state[6] - state[7] > 0.07:
            move, grip = away / (16 * STEP_M), -1.0
        else:
            move, grip = np.array([0.0, 0.0, 1.0]) * float(state[6] - state[7] < 0.05), 1.0
        action = np.concatenate([np.clip(move, -1, 1), [0.0, 0.0, 0.5], [grip]])
        return Plan(np.tile(action, (16, 1)))


class Stopping(Toy):
    """A toy whose fingers are key points, and stay so far apart when they close around something."""

    key_points: Sequence[str] = ("red_cube", "hand", "finger_left", "finger_right")

    def imagine_actions(self, history: Sequence[Observation], actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        frames, _ = np.full((2, 96, 192, 3), 90, np.uint8), None
        half = 0.022 + 0.0035 if actions[0, 6] > 0 else 0.04 + 0.0035
        self.now[2:] = self.now[1] + np.array([[0.0, half, 0.0], [0.0, -half, 0.0]])
        return frames, np.repeat(self.now[None], 2, axis=0)


@pytest.fixture(scope="module")
def real() -> Iterator[TabletopEnv]:
    with contextlib.closing(registration.make("LiftCube", split="seen-v1")) as sim:
        yield sim


@pytest.fixture(scope="module")
def spec() -> EpisodeSpec:
    return episode_spec(tasks.find("LiftCube"), "seen-v1", "none", 0, 0, "fast")


def lifted(real: TabletopEnv, spec: EpisodeSpec, replan: int, **given: Any) -> tuple[Episode, Toy, Lifting]:
    real.begin(spec, render=False)
    toy, policy = Toy(real), Lifting(real.view.pos("red_cube"))
    world = WorldModelSimulator(toy, real, "toy", **given)
    assert isinstance(world.convention, ControlConvention)
    sim: Simulator = world
    return rollout(sim, policy, spec, clock=Virtual(replan=replan)), toy, policy


@pytest.mark.parametrize("replan", [8, 16])
def test_an_imagined_lift_is_an_episode_like_any_other(real: TabletopEnv, spec: EpisodeSpec, replan: int) -> None:
    episode, toy, policy = lifted(real, spec, replan)
    assert (episode.status, episode.progress, episode.stages) == ("ok", 1.0, ("reach", "grasp", "lift"))
    assert episode.steps < spec.horizon and episode.steps % 8 == 0
    steps = [o.step for o in episode.observations]
    assert steps == list(range(0, episode.steps + 1, 8))
    assert toy.asked[:2] == ([[0], [8]] if replan == 8 else [[0], [8, 16]])
    assert canvas(episode.observations[0], ("agentview", "wrist")).std() > 10.0  # the only real frame
    assert all(canvas(o, ("agentview", "wrist")).std() == 0.0 for o in episode.observations[1:])
    assert policy.states[0].tolist() == real.begin(spec).observations[0].state.tolist()


def test_the_state_is_what_is_imagined_and_commanded(real: TabletopEnv, spec: EpisodeSpec) -> None:
    episode, _, _ = lifted(real, spec, 8)
    first, second = episode.observations[:2]
    moved = STEP_M * 8 * episode.chunks[0].executed[0, :3]
    np.testing.assert_allclose(second.state[:3] - first.state[:3], moved, atol=1e-9)  # what is misread stays out
    closing = next(chunk for chunk in episode.chunks if chunk.executed[0, 6] > 0)
    then = {o.step: o.state for o in episode.observations}
    narrower = np.diff(then[closing.step][6:8] - then[closing.step + 8][6:8])[0]
    assert -narrower == pytest.approx(0.08 - 0.044, abs=2e-3)  # in 8 steps it would close, were there nothing
    assert 8 * FINGERS_M > 0.08
    from wambench.rotations import rotation_matrix, rotation_vector

    turned = rotation_vector(rotation_matrix(second.state[3:6]) @ rotation_matrix(first.state[3:6]).T)
    np.testing.assert_allclose(turned, [0.0, 0.0, 8 * TURNED * 0.5 * 0.5], atol=1e-6)


def test_fingers_that_are_imagined_tell_the_opening(real: TabletopEnv, spec: EpisodeSpec) -> None:
    real.begin(spec, render=False)
    world = WorldModelSimulator(Stopping(real), real, "toy")
    world.begin(spec)
    seen = world.step_chunk(np.tile([0, 0, 0, 0, 0, 0, 1.0], (16, 1))).observations[-1]
    assert seen.state[6] - seen.state[7] == pytest.approx(0.044, abs=2e-3)


def test_an_imagined_success_need_not_end_it(real: TabletopEnv, spec: EpisodeSpec) -> None:
    episode, _, _ = lifted(real, spec, 16, ends=False)
    assert episode.steps == spec.horizon and episode.success_ever
    assert len(episode.chunks[-1].executed) == spec.horizon % 16  # the horizon cuts the last chunk


def test_where_nothing_moves_nothing_is_reached(real: TabletopEnv, spec: EpisodeSpec) -> None:
    real.begin(spec, render=False)
    policy = Lifting(real.view.pos("red_cube"))
    episode = rollout(WorldModelSimulator(Still(Toy(real)), real, "still"), policy, spec, clock=Virtual(replan=16))
    assert (episode.status, episode.progress, episode.stages, episode.steps) == ("ok", 0.0, (), spec.horizon)
    frames = [canvas(o, ("agentview", "wrist")) for o in episode.observations]
    assert all(np.array_equal(frame, frames[0]) for frame in frames)


def test_misuse_is_told(real: TabletopEnv, spec: EpisodeSpec) -> None:
    world = WorldModelSimulator(Toy(real), real, "toy")
    world.begin(spec)
    with pytest.raises(ValueError, match="imagines what 8 or 16 actions lead to, not 4: give --replan"):
        world.step_chunk(np.zeros((4, 7)))
    assert b'"world_model": "toy"' in world.snapshot()
    with pytest.raises(ValueError, match="cannot be set back"):
        world.restore(world.snapshot())
    with pytest.raises(ValueError, match="unknown world model 'dreamzer'; did you mean 'dreamzero'"):
        simulator.load("dreamzer", {})
    toy = Toy(real)
    toy.key_points = ("hand",)
    with pytest.raises(ValueError, match="LiftCube is read from red_cube, which this world model does not imagine"):
        WorldModelSimulator(toy, real, "toy")
    toy = Toy(real)
    toy.convention = ControlConvention(image_size=(48, 48))
    with pytest.raises(ValueError, match=r"imagines .* of \(48, 48\), and the policy looks at .* of \(96, 96\)"):
        WorldModelSimulator(toy, real, "toy")
