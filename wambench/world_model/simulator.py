"""A world action model as a `Simulator`: what it imagines for the actions of a policy is what the policy sees next.

Real is the first observation of an episode, and nothing after it. Frames are as imagined. Of the robot's state the
place of the hand and the opening of the fingers are read from imagined key points, moved by what the first ones were
off; the rotation, which no key point tells, is integrated from the commanded actions, limited as the simulator limits
them and lagging as its arm does (`TURNED`). Without key points of the fingers the opening is integrated too, and stops
at the width of a cube where the hand is around something.
Progress is what `key_point_goals` reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wambench import conventions, policies
from wambench.envs.arm import ROT_SCALE_RAD
from wambench.evaluation.worker import tabletop
from wambench.interface import ControlConvention, EpisodeSpec, Observation, Outcome, canvas, unknown_name
from wambench.rotations import rotation_matrix
from wambench.world_model.key_point_goals import (
    AROUND_M,
    CUBE_M,
    FINGERS,
    GOALS,
    HAND,
    OPEN_M,
    KeyPointProgress,
    check_readable,
)

if TYPE_CHECKING:
    from wambench.envs.tabletop import TabletopEnv
    from wambench.evaluation.config import RunConfig

# Share of the commanded rotation that the arm turns in the step: 0.14 to 0.18 of the experts of LiftCube, PlaceInBin,
# PressButton and OpenDrawer, one episode each (least squares).
TURNED = 0.15
FINGERS_M = 0.011  # that an opening changes in a step: PressButton's expert closes 0.075 m in 7
ROTATIONS = ("axis_angle", "rotation_6d")


@runtime_checkable
class ActionConditioned(Protocol):
    """A world model that imagines what given actions lead to."""

    @property
    def convention(self) -> ControlConvention:
        """Of its observations and actions."""

    @property
    def key_points(self) -> Sequence[str]:
        """Names of the key points that it imagines, the hand's among them."""

    @property
    def frame_offsets(self) -> Sequence[int]:
        """Control steps from a query to each imagined frame; the last one is the chunk's end."""

    @property
    def chunk_steps(self) -> int:
        """Actions of a chunk."""

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode."""

    def read(self, observations: Sequence[Observation]) -> NDArray[np.float64]:
        """Returns the (N, C, 3) places in m of the key points in real observations."""

    def imagine_actions(
        self, history: Sequence[Observation], actions: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Returns frames (K, h, w, 3) and places (K, C, 3) in m at the frame offsets, for a chunk of actions.

        The history is what was seen since the last call, its last entry is now.
        """


class Still:
    """The control: whatever is done, nothing moves. It reads real frames as another world model does."""

    def __init__(self, other: ActionConditioned) -> None:
        self._other = other
        self.convention, self.key_points = other.convention, other.key_points
        self.frame_offsets, self.chunk_steps = other.frame_offsets, other.chunk_steps

    def reset(self, instruction: str, seed: int) -> None:
        self._points: NDArray[np.float64] | None = None

    def read(self, observations: Sequence[Observation]) -> NDArray[np.float64]:
        return self._other.read(observations)

    def imagine_actions(
        self, history: Sequence[Observation], actions: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        if self._points is None:
            self._points = self.read(history[-1:])[0]
        count = len(self.frame_offsets)
        frame = canvas(history[-1], self.convention.cameras)
        return np.repeat(frame[None], count, axis=0), np.repeat(self._points[None], count, axis=0)


def _dreamzero(**arguments: Any) -> ActionConditioned:
    from wambench.policies.dreamzero.world_model import world_model

    return world_model(**arguments)


def _still(**arguments: Any) -> ActionConditioned:
    return Still(_dreamzero(**arguments))


WORLD_MODELS = {"dreamzero": _dreamzero, "still": _still}


def load(name: str, arguments: Mapping[str, Any]) -> ActionConditioned:
    """Returns a world model; a name or argument that does not exist raises ValueError."""
    if name not in WORLD_MODELS:
        raise unknown_name("world model", name, WORLD_MODELS)
    return WORLD_MODELS[name](**arguments)


def named(model: ActionConditioned, places: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Returns the key points (C, 3) of one moment by name."""
    return dict(zip(model.key_points, places, strict=True))


def finger_gap(points: Mapping[str, NDArray[np.float64]]) -> float | None:
    """Returns the distance of the fingers' key points in m, which is more than their opening; None without them."""
    if not all(name in points for name in FINGERS):
        return None
    return float(np.linalg.norm(points[FINGERS[0]] - points[FINGERS[1]]))


def opening_of(state: NDArray[np.float64], convention: ControlConvention) -> float:
    """Returns the opening in m that a robot's state tells."""
    fingers = state[convention.part_of_state("gripper_qpos")]
    return float(abs(fingers[0] - fingers[1]))


class WorldModelSimulator:
    """Plays episodes in a world model (`interface.Simulator`).

    Chunks end where the model imagines a frame. One that is shorter than the model's is completed by actions that keep
    the robot where it is, and what they lead to is not looked at.

    Args:
        model: The world model.
        real: Shows the first observation.
        name: How the world model is called, in `run.json`.
        ends: An imagined success ends the episode, as a true one does in the simulator.

    Raises:
        ValueError: Conventions differ, or the task cannot be read from the model's key points.
    """

    def __init__(self, model: ActionConditioned, real: TabletopEnv, name: str, ends: bool = True) -> None:
        self._task = real.task.name
        check_readable([self._task], model.key_points)
        self.convention = convention = real.convention
        if convention.action != "osc_pose_delta" or convention.rotation not in ROTATIONS:
            raise ValueError(f"a world model is acted in by osc_pose_delta, not {convention.action}")
        if (convention.cameras, convention.image_size) != (model.convention.cameras, model.convention.image_size):
            theirs, ours = (f"{c.cameras} of {c.image_size}" for c in (model.convention, convention))
            raise ValueError(f"the world model {name} imagines {theirs}, and the policy looks at {ours}")
        self._model, self._real, self.world_model, self._ends = model, real, name, ends

    def begin(self, episode: EpisodeSpec) -> Outcome:
        """Resets to the episode and returns its first observation, the only real one."""
        first = self._real.begin(episode).observations[-1]
        self._episode, self._steps = episode, 0
        self._state, self._rotation = first.state, self._real.view.eef_rot()
        self._model.reset(episode.instruction, episode.seed)
        self._points = named(self._model, self._model.read([first])[0])
        opening = opening_of(first.state, self.convention)
        place = first.state[self.convention.part_of_state("eef_pos")]
        gap = finger_gap(self._points)
        self._off = place - self._points[HAND], 0.0 if gap is None else opening - gap
        self._progress = KeyPointProgress(episode, self._points, opening)
        self._history: list[Observation] = [first]
        return self._outcome((first,))

    def step_chunk(self, actions: NDArray[np.floating[Any]]) -> Outcome:
        """Carries out (n, A) actions; n is one of the model's frame offsets, unless the horizon cuts it.

        Raises:
            ValueError: No frame is imagined after so many actions.
        """
        count, offsets = len(actions), list(self._model.frame_offsets)
        left = self._episode.horizon - self._steps
        if count not in offsets and count != left:
            known = " or ".join(map(str, offsets))
            raise ValueError(f"this world model imagines what {known} actions lead to, not {count}: give --replan")
        given = np.clip(np.asarray(actions, np.float64), *self.convention.limits())
        filled = self._filled(given)
        frames, places = self._model.imagine_actions(self._history, filled)
        seen: list[Observation] = []
        before = 0
        for i, offset in enumerate(offsets):
            ahead = min(offset, left)
            if before >= count or self._over:
                break
            seen.append(self._arrive(filled[before:ahead], frames[i], named(self._model, places[i])))
            before = ahead
        self._history = seen
        return self._outcome(tuple(seen))

    def snapshot(self) -> bytes:
        """Returns what is imagined now, as JSON: enough to look at, not to go on from."""
        points = {name: place.tolist() for name, place in self._points.items()}
        about = {"world_model": self.world_model, "steps": self._steps, "key_points": points}
        return json.dumps(about | self._progress.tracker.get_state()).encode()

    def restore(self, state: bytes) -> None:
        """Raises ValueError: what a world model remembers is not in a snapshot."""
        raise ValueError("an episode in a world model cannot be set back")

    def close(self) -> None:
        """Closes the simulator that shows first observations."""
        self._real.close()

    @property
    def points(self) -> dict[str, NDArray[np.float64]]:
        """The key points that are imagined now, by name, (3,) in m each."""
        return dict(self._points)

    @property
    def _over(self) -> bool:
        return self._ends and self._progress.tracker.settled

    def _filled(self, actions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns a whole chunk of actions."""
        missing = self._model.chunk_steps - len(actions)
        hold = self.convention.hold_action(actions[-1])
        return np.concatenate([actions, np.repeat(hold[None], missing, axis=0)])

    def _arrive(
        self, actions: NDArray[np.float64], frame: NDArray[np.uint8], points: dict[str, NDArray[np.float64]]
    ) -> Observation:
        """Returns the observation after some actions, and notes what it tells of progress."""
        self._steps += len(actions)
        self._points = points
        for action in actions:
            self._rotation = rotation_matrix(TURNED * ROT_SCALE_RAD * action[3:6]) @ self._rotation
        opening = self._opening(actions, points)
        self._state = self._state_of(points[HAND] + self._off[0], opening)
        self._progress.advance(points, opening, len(actions))
        views = np.split(frame, len(self.convention.cameras), axis=1)
        return Observation(self._steps, dict(zip(self.convention.cameras, views, strict=True)), self._state)

    def _opening(self, actions: NDArray[np.float64], points: Mapping[str, NDArray[np.float64]]) -> float:
        gap = finger_gap(points)
        if gap is not None:
            return float(np.clip(gap + self._off[1], 0.0, OPEN_M))
        opening = opening_of(self._state, self.convention)
        between = any(np.linalg.norm(points[HAND] - points[name]) < AROUND_M for name in GOALS[self._task].points)
        for action in actions:
            opening -= FINGERS_M * float(np.sign(action[-1]))
        return float(np.clip(opening, CUBE_M if between else 0.0, OPEN_M))

    def _state_of(self, place: NDArray[np.float64], opening: float) -> NDArray[np.float64]:
        from wambench.envs.tabletop import ROTATIONS as formats

        state = self._state.copy()
        state[self.convention.part_of_state("eef_pos")] = place
        turned = self.convention.rotation
        state[self.convention.part_of_state(f"eef_{turned}")] = formats[turned](self._rotation)
        state[self.convention.part_of_state("gripper_qpos")] = opening / 2 * np.array([1.0, -1.0])
        return state

    def _outcome(self, observations: tuple[Observation, ...]) -> Outcome:
        tracker = self._progress.tracker
        return Outcome(
            observations=observations,
            steps=self._steps,
            progress=tracker.progress,
            stages=tracker.stages,
            success=tracker.success,
            success_ever=tracker.success_ever,
            terminated=self._over,
            truncated=self._steps >= self._episode.horizon,
        )


@dataclass(frozen=True)
class InWorldModel:
    """Makes the world of a run (`evaluation.worker.MakeSim`): a world model in the place of the simulator.

    Attributes:
        name: A name of `WORLD_MODELS`.
        arguments: Keyword arguments of it, JSON values.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, task: str, config: RunConfig, convention: ControlConvention) -> WorldModelSimulator:
        if config.policy == policies.EXPERT:
            raise ValueError("the expert reads the simulator, and there is none in a world model")
        if conventions.robot_of(convention) != conventions.ROBOT:
            raise ValueError(f"a world model is played by the robot {conventions.ROBOT}")
        return WorldModelSimulator(load(self.name, self.arguments), tabletop(task, config, convention), self.label)

    @property
    def label(self) -> str:
        """Its name and arguments."""
        inside = ",".join(f"{key}={value}" for key, value in sorted(self.arguments.items()))
        return f"{self.name}({inside})" if inside else self.name
