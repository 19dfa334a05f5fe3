"""What an environment must be given to run a task: objects, placements, stages, success and an expert.

A task file fills one `Task`. Predicates and experts read a `View`, the privileged state of the scene; policies never
see it.
"""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from wambench.envs.script import Memory, Moment, Motions
from wambench.interface import EpisodeSpec

NOVELTIES = ("seen", "word", "pairing", "motion", "composition")
SCRIPTED = ("memory", "dynamic")  # tasks of the splits of these names, in which things happen by themselves


@dataclass(frozen=True)
class Placement:
    """Where an object starts: x, y (m, world), yaw (rad), height of its base above the table (m), joint (m or rad).

    The height `z` of a free object is multiplied by the scale of the episode, so that stacks of free objects stand
    without a gap; `surface` is not, because what stands fixed keeps its size. For an object without a joint `joint` is
    any number that the task's script wants to know.
    """

    x: float
    y: float
    yaw: float = 0.0
    z: float = 0.0
    joint: float = 0.0
    surface: float = 0.0


class View(Protocol):
    """The privileged state of a scene, in world coordinates (m, rad)."""

    table_z: float
    moment: Moment  # the episode, the step and what its script remembers; for scripted tasks only

    def pos(self, name: str) -> np.ndarray:
        """Returns the (3,) position of an object's origin, or of one of its named sites ("drawer/handle")."""

    def start(self, name: str) -> np.ndarray:
        """Returns the (2,) horizontal position at which an object stood when the episode began."""

    def rot(self, name: str) -> np.ndarray:
        """Returns the (3, 3) rotation of an object."""

    def vel(self, name: str) -> np.ndarray:
        """Returns the (3,) linear velocity of an object in m/s."""

    def joint(self, name: str) -> float:
        """Returns the position of the joint of an articulated object (m or rad)."""

    def size(self, name: str) -> np.ndarray:
        """Returns the (3,) half extents of an object's bounding box in its own frame in m, as scaled in this
        episode."""

    def eef(self) -> np.ndarray:
        """Returns the (3,) position of the grip site, midway between the finger tips."""

    def eef_rot(self) -> np.ndarray:
        """Returns the (3, 3) rotation of the grip site; its z axis points out of the gripper."""

    def eef_vel(self) -> np.ndarray:
        """Returns the (3,) linear velocity of the grip site in m/s."""

    def width(self) -> float:
        """Returns the distance between the fingers in m: 0 closed, 0.08 open."""

    def touching(self, a: str, b: str) -> bool:
        """Returns whether two things touch; "fingers", "left_finger", "right_finger" and "table" are names too."""

    def grasped(self, name: str) -> bool:
        """Returns whether both fingers touch the object."""


@dataclass(frozen=True)
class Stage:
    """A milestone on the way to success.

    A stage counts once it has held for `progress.HOLD_S`. All but the last are latched: once reached they stay reached.
    The last stage is success itself and counts only while it holds, so that progress is 1 exactly when it succeeds.

    Attributes:
        name: One or two words.
        weight: Share of the progress, above 0.
        reached: Whether it holds now.
        after: Name of the stage that must be reached before this one can be.
        meanwhile: Must hold on the way from `after` to this stage; where it fails for `progress.HOLD_S`, `after` is
            undone. This is how a verb that names a motion tests the motion: a cube that was lifted was not pushed.
    """

    name: str
    weight: float
    reached: Callable[[View], bool]
    after: str | None = None
    meanwhile: Callable[[View], bool] | None = None


def nothing_moves(moment: Moment) -> Motions:
    """Returns the motions of a world that stands still."""
    return {}


def itself(episode: EpisodeSpec) -> tuple[EpisodeSpec, ...]:
    """Returns the alternatives of an episode that hides nothing."""
    return (episode,)


@dataclass(frozen=True)
class Script:
    """What happens by itself in the episodes of a task.

    Attributes:
        motions: Moment before a control step -> name of an object or joint -> where it is put.
        start: The memory at reset.
        notice: View after a control step -> the memory from then on. None: the memory never changes.
        release: Episode -> the control step from which actions are carried out. Before it the robot keeps still
            whatever the policy says, so that no posture can stand in for a memory of what was shown.
        levels: Names of factors that set the speed, or the delay, of this task's episodes.
        level: The one of them that holds for the factors "none" and "all".
        wording: (text, factor) -> the instruction at that level, where it says how fast or how long.
        longer: Level -> control steps by which its episodes are longer than those of `level`.
        alternatives: Episode -> all episodes, itself among them, whose observations at the release are equal to its own
            and which demand different actions; 1 / their number is the chance level of a policy without memory.
    """

    motions: Callable[[Moment], Motions] = nothing_moves
    start: Memory = field(default_factory=dict)
    notice: Callable[[View], Memory] | None = None
    release: Callable[[EpisodeSpec], int] = lambda _: 0
    levels: tuple[str, ...] = ()
    level: str = ""
    wording: Callable[[str, str], str] = lambda text, _: text
    longer: Mapping[str, int] = field(default_factory=dict)
    alternatives: Callable[[EpisodeSpec], tuple[EpisodeSpec, ...]] = itself

    def __post_init__(self) -> None:
        if bool(self.levels) != (self.level in self.levels):
            raise ValueError(f"the level {self.level!r} is not one of {self.levels}")

    def level_of(self, episode: EpisodeSpec) -> str:
        """Returns the level of an episode."""
        return episode.factor if episode.factor in self.levels else self.level


@dataclass(frozen=True)
class Task:
    """A task: one file of `tasks/` each.

    Attributes:
        name: CamelCase id without version.
        version: Raised by any change of predicate, horizon, scene or asset.
        verb: The verb a person would use.
        novelty: "seen", or what is new about it: one of `NOVELTIES`; one of `SCRIPTED` for the tasks of those splits.
        instruction: Short command.
        motion: The same, spelled out as motion.
        about: What makes the task hard: one sentence.
        nearest: Name of the seen task that comes nearest to it, other than itself.
        objects: Names of what stands on the table (`envs.objects.OBJECTS`); equal tuples share a compiled scene.
        place: rng -> placements of all objects; only uses draws of `rng`.
        stages: Milestones; weights add up to 1, and the last one is success itself.
        success: Success predicate on the current state; the task has succeeded while it holds and every other stage
            has been reached.
        expert: Closed-loop controller: view -> (7,) action in [-1, 1]; must work from any state.
        horizon: Control steps at 20 Hz.
        hidden: Names of objects that may be out of sight at the start, because finding them is the task.
        allowed_attacks: Name of an attack (`wambench.suite.attacks`) -> why it may succeed.
        script: What happens by itself; None: nothing does.
    """

    name: str
    version: int
    verb: str
    novelty: str
    instruction: str
    motion: str
    about: str
    nearest: str
    objects: tuple[str, ...]
    place: Callable[[np.random.Generator], Mapping[str, Placement]]
    stages: tuple[Stage, ...]
    success: Callable[[View], bool]
    expert: Callable[[View], np.ndarray]
    horizon: int
    hidden: tuple[str, ...] = ()
    allowed_attacks: Mapping[str, str] = field(default_factory=dict, hash=False)
    script: Script | None = None

    def __post_init__(self) -> None:
        if self.novelty not in NOVELTIES + SCRIPTED:
            raise ValueError(f"{self.name}: novelty {self.novelty!r} is not one of {NOVELTIES + SCRIPTED}")
        if abs(sum(stage.weight for stage in self.stages) - 1.0) > 1e-9 or min(s.weight for s in self.stages) <= 0.0:
            raise ValueError(f"{self.name}: stage weights must be above 0 and add up to 1")
        if self.stages[-1].reached is not self.success:
            raise ValueError(f"{self.name}: the last stage must be success itself, so that the two cannot disagree")
        names = [stage.name for stage in self.stages]
        for i, stage in enumerate(self.stages):
            if stage.after is not None and stage.after not in names[:i]:
                raise ValueError(
                    f"{self.name}: stage {stage.name!r} depends on {stage.after!r}, which is not before it"
                )
            if stage.meanwhile is not None and stage.after is None:
                raise ValueError(f"{self.name}: stage {stage.name!r} has a meanwhile and nothing that it is after")

    @property
    def id(self) -> str:
        """Versioned id, e.g. "PressButton-v1"."""
        return f"{self.name}-v{self.version}"

    def __reduce__(self) -> tuple[Callable[[str, str], Task], tuple[str, str]]:
        """Pickles a task as the module variable that holds it: predicates and experts are functions without names."""
        for module in dict.fromkeys(self._modules()):
            for name, value in vars(sys.modules[module]).items() if module in sys.modules else ():
                if value is self:
                    return task_at, (module, name)
        raise pickle.PicklingError(f"{self.id} cannot be pickled: no module variable beside its functions holds it")

    def _modules(self) -> Iterator[str]:
        """Yields the names of the modules that define the functions of the task."""
        for function in (self.success, self.expert, self.place, *(stage.reached for stage in self.stages)):
            yield getattr(function, "__module__", "")


def task_at(module: str, name: str) -> Task:
    """Returns the task that a variable of a module holds; what a pickled task calls."""
    task: Task = getattr(importlib.import_module(module), name)
    return task
