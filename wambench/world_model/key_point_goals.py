"""Progress as key points tell it: the stages of tasks, read without a simulator.

A stage of a task asks for contacts, rotations and millimetres. Key points are off by 3 to 8 mm (median of what the
encoder reads from real frames), so a reading asks for less: "held" is a hand around the object with fingers that
neither meet nor stand open, "in the bin" is an object low within the bin and let go. Names, weights and order of the
stages are the task's, and so are latches and times (`envs.progress.ProgressTracker`). How far a reading is right is
measured on real frames, by `ranking`: this is the ceiling of everything that is read from imagined ones.

`GOALS` is the whole table. A task that is not in it cannot be read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import cast

import numpy as np
from numpy.typing import NDArray

from wambench import tasks
from wambench.envs.progress import ProgressTracker
from wambench.envs.task import Task, View
from wambench.interface import EpisodeSpec

Points = Mapping[str, NDArray[np.float64]]
HAND = "hand"
FINGERS = ("finger_left", "finger_right")
OPEN_M = 0.08  # between the fingers
HOLDS_M = (0.015, 0.066)  # opening of fingers with something between them
CUBE_M = 0.044  # side of a cube of usual scale
AROUND_M = 0.035  # from the hand to what it holds


@dataclass(frozen=True)
class Reading:
    """What is known of a scene at one control step, world coordinates in m.

    Attributes:
        points: Name of a key point -> (3,) place now.
        start: The same at the first observation.
        opening: Between the fingers.
        spec: The episode: how far a drawer was open, and which way it faces.
    """

    points: Points
    start: Points
    opening: float
    spec: EpisodeSpec

    def apart(self, a: str, b: str) -> float:
        """Returns the horizontal distance of two key points in m."""
        return float(np.linalg.norm((self.points[a] - self.points[b])[:2]))

    def near(self, name: str, radius: float) -> bool:
        """Returns whether the hand is within a radius in m of a key point."""
        return bool(np.linalg.norm(self.points[HAND] - self.points[name]) < radius)

    def above(self, a: str, b: str) -> float:
        """Returns how much higher one key point is than another, in m."""
        return float(self.points[a][2] - self.points[b][2])

    def raised(self, name: str) -> float:
        """Returns how much higher a key point is than at the start, in m."""
        return float(self.points[name][2] - self.start[name][2])

    def held(self, name: str) -> bool:
        """Returns whether the fingers are around a key point and hold something."""
        return self.near(name, AROUND_M) and HOLDS_M[0] < self.opening < HOLDS_M[1]

    def let_go(self, name: str) -> bool:
        """Returns whether the hand is open, or away from a key point."""
        return self.opening > HOLDS_M[1] or not self.near(name, 0.05)

    def drawer(self) -> float:
        """Returns how far the drawer is open, in m: where it was, and how far its handle moved out."""
        yaw, opened = (self.spec.poses["drawer"][name] for name in ("yaw", "joint"))
        moved = (self.points["drawer/handle"] - self.start["drawer/handle"])[:2]
        return float(opened - moved @ [np.cos(yaw), np.sin(yaw)])


Predicate = Callable[[Reading], bool]


@dataclass(frozen=True)
class Goal:
    """How the stages of a task are read.

    Attributes:
        points: Key points that decide, beside the hand.
        stages: Name of a stage -> whether it holds. All stages of the task are there.
    """

    points: tuple[str, ...]
    stages: Mapping[str, Predicate]


def _in_bin(it: Reading, name: str) -> bool:
    return it.apart(name, "bin") < 0.07 and it.raised(name) < 0.035 and it.let_go(name)


def _lift(cube: str) -> Goal:
    stages: dict[str, Predicate] = {
        "reach": lambda it: it.near(cube, 0.035) or it.held(cube),
        "grasp": lambda it: it.held(cube),
        "lift": lambda it: it.held(cube) and it.raised(cube) > 0.075,
    }
    return Goal((cube,), stages)


def _place_in_bin(cube: str) -> Goal:
    stages: dict[str, Predicate] = {
        "grasp": lambda it: it.held(cube),
        "carry": lambda it: it.apart(cube, "bin") < 0.07,
        "place": lambda it: _in_bin(it, cube),
    }
    return Goal((cube, "bin"), stages)


def _place_on_plate() -> Goal:
    def over(it: Reading) -> bool:
        return it.apart("red_cube", "plate") < 0.042

    stages: dict[str, Predicate] = {
        "grasp": lambda it: it.held("red_cube"),
        "carry": over,
        "lower": lambda it: over(it) and it.near("red_cube", AROUND_M) and it.raised("red_cube") < 0.045,
        "place": lambda it: over(it) and it.raised("red_cube") < 0.02 and it.let_go("red_cube"),
    }
    return Goal(("red_cube", "plate"), stages)


def _stack() -> Goal:
    def over(it: Reading) -> bool:
        return it.apart("red_cube", "blue_cube") < 0.032

    def level(it: Reading) -> float:
        return it.above("red_cube", "blue_cube") - CUBE_M

    stages: dict[str, Predicate] = {
        "grasp": lambda it: it.held("red_cube"),
        "align": lambda it: over(it) and it.held("red_cube"),
        "lower": lambda it: over(it) and it.near("red_cube", AROUND_M) and -0.015 < level(it) < 0.035,
        "stack": lambda it: over(it) and abs(level(it)) < 0.014 and it.let_go("red_cube"),
    }
    return Goal(("red_cube", "blue_cube"), stages)


def _push(item: str) -> Goal:
    def behind(it: Reading) -> bool:
        way, arm = ((it.points[name] - it.points[item])[:2] for name in ("zone", HAND))
        low = it.above(HAND, item) < 0.03
        return bool(low and np.linalg.norm(arm) < 0.055 and arm @ way < 0.0 and it.apart(item, "zone") > 0.09)

    def on_table(it: Reading) -> bool:
        return it.raised(item) < 0.02

    stages: dict[str, Predicate] = {
        "reach": lambda it: behind(it) and on_table(it),
        "halfway": lambda it: it.apart(item, "zone") < 0.09 and on_table(it),
        "zone": lambda it: it.apart(item, "zone") < 0.042 and on_table(it) and not it.held(item),
    }
    return Goal((item, "zone"), stages)


def _open_drawer() -> Goal:
    stages: dict[str, Predicate] = {
        "reach": lambda it: it.near("drawer/handle", 0.035),
        "grasp": lambda it: it.near("drawer/handle", 0.04) and it.opening < 0.05,
        "half open": lambda it: it.drawer() > 0.06,
        "open": lambda it: it.drawer() > 0.10,
    }
    return Goal(("drawer/handle",), stages)


def _close_drawer() -> Goal:
    def before(it: Reading) -> bool:
        return it.apart(HAND, "drawer/handle") < 0.07 and abs(it.above(HAND, "drawer/handle")) < 0.035

    stages: dict[str, Predicate] = {
        "reach": before,
        "push": lambda it: it.drawer() < 0.08,
        "half closed": lambda it: it.drawer() < 0.04,
        "closed": lambda it: it.drawer() < 0.014,
    }
    return Goal(("drawer/handle",), stages)


def _press() -> Goal:
    """The cap moves by less than it can be read: the hand tells, which cannot be so low without pressing it."""

    def above(it: Reading) -> float:
        off = it.points[HAND] - it.start["button/top"]
        return float(off[2]) if np.linalg.norm(off[:2]) < 0.03 else np.inf

    stages: dict[str, Predicate] = {
        "reach": lambda it: above(it) < 0.06,
        "touch": lambda it: above(it) < 0.01,
        "press": lambda it: above(it) < 0.0,
    }
    return Goal(("button/top",), stages)


def _clear() -> Goal:
    cubes = ("red_cube", "green_cube", "blue_cube")

    def held(it: Reading, cube: str) -> bool:
        return it.held(cube)

    stages: dict[str, Predicate] = {f"grasp {cube}": partial(held, cube=cube) for cube in cubes}
    stages |= {f"place {cube}": partial(_in_bin, name=cube) for cube in cubes}
    stages["clear"] = lambda it: all(_in_bin(it, cube) for cube in cubes)
    return Goal((*cubes, "bin"), stages)


GOALS: Mapping[str, Goal] = MappingProxyType(
    {
        "LiftCube": _lift("red_cube"),
        "PlaceInBin": _place_in_bin("red_cube"),
        "PlaceOnPlate": _place_on_plate(),
        "StackCubes": _stack(),
        "PushCube": _push("red_cube"),
        "OpenDrawer": _open_drawer(),
        "CloseDrawer": _close_drawer(),
        "PressButton": _press(),
        "BusTable": _clear(),
        "HoistCube": _lift("red_cube"),
        "DepressButton": _press(),
        "WithdrawDrawer": _open_drawer(),
        "PullBlock": _push("red_cube"),
        "ShutDrawer": _close_drawer(),
        "DepositCube": _place_in_bin("red_cube"),
    }
)


def check_readable(names: Sequence[str], points: Sequence[str]) -> None:
    """Raises ValueError, naming the tasks, unless the progress of all can be read from key points of these names."""
    untold = [name for name in names if name not in GOALS]
    if untold:
        asked = f"key points cannot tell the progress of {', '.join(untold)}"
        raise ValueError(f"{asked}; they can of: {', '.join(GOALS)}")
    for name in names:
        missing = [point for point in (HAND, *GOALS[name].points) if point not in points]
        if missing:
            raise ValueError(f"{name} is read from {', '.join(missing)}, which this world model does not imagine")


def as_read(task: Task) -> Task:
    """Returns a task whose stages are asked of a `Reading` instead of the simulator's view."""
    goal = GOALS[task.name]
    asked = {name: cast(Callable[[View], bool], predicate) for name, predicate in goal.stages.items()}
    stages = tuple(dataclasses.replace(stage, reached=asked[stage.name], meanwhile=None) for stage in task.stages)
    return dataclasses.replace(task, stages=stages, success=stages[-1].reached)


class KeyPointProgress:
    """Follows one episode by its key points; between two of them everything is taken to move in a straight line.

    Args:
        spec: The episode, of a task of `GOALS`.
        start: Key points at its first observation.
        opening: Between the fingers then, in m.
    """

    def __init__(self, spec: EpisodeSpec, start: Points, opening: float) -> None:
        self._spec, self._start = spec, start
        self._now, self._opening = start, opening
        self.tracker = ProgressTracker(as_read(tasks.find(spec.task)), spec.control_hz)
        self.tracker.update(self._reading(1.0, start, opening))

    def advance(self, points: Points, opening: float, steps: int) -> None:
        """Goes on by some control steps, at the last of which the key points and the opening are these."""
        for step in range(1, steps + 1):
            self.tracker.update(self._reading(step / steps, points, opening))
        self._now, self._opening = points, opening

    def _reading(self, share: float, points: Points, opening: float) -> View:
        between = {name: (1.0 - share) * self._now[name] + share * place for name, place in points.items()}
        reading = Reading(between, self._start, (1.0 - share) * self._opening + share * opening, self._spec)
        return cast(View, reading)  # stages of `as_read` ask nothing else of it
