"""The oracle: what the simulator knows now, and what an expert would do from here.

The oracle's video is the expert's future. The expert plays it in a branch of the simulator that starts in the state at
hand, the cameras of the policy render it at the env steps that the policy imagines, and the branch is undone. No policy
may ask the oracle; only attribution does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeGuard

import numpy as np

from wambench.envs.task import Task, View
from wambench.interface import EpisodeSpec, Observation, Outcome, Simulator, canvas
from wambench.policies.expert import ExpertSim

if TYPE_CHECKING:
    from wambench.attribution.pose_alignment import PosableScene


class PrivilegedView(View, Protocol):
    """What a simulator knows of its scene, see `envs.privileged_view.SceneView`."""

    def point(self, name: str) -> np.ndarray:
        """Returns the (3,) position of a key point in m."""

    def project(self, camera: str, points: np.ndarray) -> np.ndarray:
        """Returns where (n, 3) points appear in a view: (n, 2) right and down in [-1, 1], NaN outside."""


class ArmController(Protocol):
    """What the controller of the arm remembers, see `envs.arm`."""

    fingers: np.ndarray


class ControlledScene(Protocol):
    """A scene with an arm, see `envs.scene.Scene`."""

    @property
    def arm(self) -> ArmController:
        """The controller of the arm."""


class OracleSim(ExpertSim, Protocol):
    """A simulator that can be branched, rendered and asked; `envs.tabletop.TabletopEnv` is one."""

    task: Task

    @property
    def view(self) -> PrivilegedView:
        """What the simulator knows."""

    @property
    def scene(self) -> ControlledScene:
        """The scene, set to the current episode."""

    def begin(self, episode: EpisodeSpec, render: bool = True) -> Outcome:
        """Resets to the episode; the first observation is in the outcome unless `render` is False."""

    def observe(self) -> Observation:
        """Renders all cameras now."""

    def proprioception(self) -> np.ndarray:
        """Returns the state vector."""

    def hand_action(self, wanted: np.ndarray) -> np.ndarray:
        """Returns the action that moves the hand as (7,) of OSC_POSE would."""

    def scene_poser(self) -> PosableScene:
        """Returns what shows postures of the current episode; the state is to be restored after using it."""


def has_oracle(sim: Simulator) -> TypeGuard[OracleSim]:
    """Returns whether a simulator can be branched, posed and asked for its expert."""
    return all(hasattr(sim, name) for name in ("advance", "expert_action", "proprioception", "scene_poser"))


@dataclass(frozen=True)
class Place:
    """Where everything is at one moment.

    Attributes:
        hand: (3,) position of the grip site in m.
        width: Distance of the fingers in m.
        objects: (N, 3) positions in m of the objects that are in the scene and known to the tracker.
    """

    hand: np.ndarray
    width: float
    objects: np.ndarray


@dataclass(frozen=True)
class Future:
    """What an expert does from a state on.

    Attributes:
        frames: (T, h, w, 3) uint8 canvases.
        places: The place that each frame shows.
        postures: The posture of robot and objects that each frame shows.
    """

    frames: np.ndarray
    places: tuple[Place, ...]
    postures: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class KeyPoints:
    """Where the key points of the tracker are.

    Attributes:
        positions: (P, 3) in m, zero for those that are not in the scene.
        present: (P,) bool: whether a key point is in the scene.
        pixels: (P, V, 2) where each appears in each view, NaN out of view.
    """

    positions: np.ndarray
    present: np.ndarray
    pixels: np.ndarray


@dataclass(frozen=True)
class Oracle:
    """Answers for one simulator in the vocabulary of one tracker.

    Args:
        sim: A simulator of the episode's task.
        points: Names of the tracker's key points, those of the objects first and those of the hand last.
        objects: Names of the objects among them.
    """

    sim: OracleSim
    points: tuple[str, ...]
    objects: tuple[str, ...]

    def key_points(self) -> KeyPoints:
        """Returns where all key points are now."""
        view = self.sim.view
        cameras = self.sim.convention.cameras
        positions, present = self._positions()
        pixels = np.full((len(self.points), len(cameras), 2), np.nan)
        for v, camera in enumerate(cameras):
            pixels[present, v] = view.project(camera, positions[present])
        return KeyPoints(positions, present, pixels)

    def object_positions(self) -> np.ndarray:
        """Returns the (C, 3) positions of all objects that the tracker knows, NaN for those not in the scene."""
        positions, present = self._positions()
        return np.where(present[:, None], positions, np.nan)[: len(self.objects)]

    def objects_present(self) -> np.ndarray:
        """Returns (C,) whether each object that the tracker knows is in the scene."""
        return self._present()[: len(self.objects)]

    def place(self) -> Place:
        """Returns where hand, fingers and objects are now."""
        view = self.sim.view
        return Place(view.eef(), float(view.width()), self.object_positions()[self.objects_present()])

    def frame(self, observation: Observation) -> np.ndarray:
        """Returns the (h, w, 3) canvas of an observation."""
        return canvas(observation, self.sim.convention.cameras)

    def grip(self) -> float:
        """Returns what the fingers are told now: +1 (close) if they are nearer to shut than to open, else -1."""
        fingers = self.sim.scene.arm.fingers
        return 1.0 if fingers[1] > fingers[0] else -1.0

    def future(self, offsets: Sequence[int]) -> Future:
        """Returns the expert's future at some env steps from now; the simulator is left as it was."""
        state = self.sim.snapshot()
        poser = self.sim.scene_poser()
        frames: list[np.ndarray] = []
        places: list[Place] = []
        postures: list[np.ndarray] = []
        for step in range(1, offsets[-1] + 1):
            self.sim.advance(self.sim.expert_action())
            if step in offsets:
                frames.append(self.frame(self.sim.observe()))
                places.append(self.place())
                postures.append(poser.posture())
        self.sim.restore(state)
        return Future(np.stack(frames), tuple(places), tuple(postures))

    def video(self, offsets: Sequence[int]) -> np.ndarray:
        """Returns the (T, h, w, 3) frames of the expert's future; the simulator is left as it was."""
        return self.future(offsets).frames

    def _present(self) -> np.ndarray:
        own = self.sim.task.objects
        return np.array([name not in self.objects or name.split("/")[0] in own for name in self.points])

    def _positions(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns (P, 3) positions in m, zero where not in the scene, and (P,) whether each is."""
        view = self.sim.view
        present = self._present()
        positions = np.zeros((len(self.points), 3))
        positions[present] = [view.point(name) for name, there in zip(self.points, present, strict=True) if there]
        return positions, present
