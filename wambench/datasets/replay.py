"""Playing recorded actions again: what was stored every few steps comes back at every control step, and at any size.

Simulation and rendering are deterministic on one machine, so that the frames that were stored come out the same.
Elsewhere they may differ in the last bits. A replay that leaves the recorded states is an error, never a silent change
of the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wambench import registration, tasks
from wambench.conventions import CONVENTIONS
from wambench.interface import ControlConvention, EpisodeSpec, Observation, Outcome, unknown_name

if TYPE_CHECKING:
    from wambench.envs.tabletop import TabletopEnv

COMPARED = 3  # first numbers of a state that are compared: the hand's place in m, or three joints in rad
TOLERANCE = 1e-3  # m or rad
USUAL = "libero"  # the robot that `registration.make` makes unless it is told otherwise


class Simulators:
    """The environments of one process: one is kept, because episodes come sorted by task.

    Args:
        convention: As the episodes were recorded.
        size: (height, width) of the frames that are rendered now.
    """

    def __init__(self, convention: ControlConvention, size: tuple[int, int]) -> None:
        self._convention, self._size = convention, size
        self._env: TabletopEnv | None = None

    def of(self, task: str) -> TabletopEnv:
        """Returns the environment of a task, by name or versioned id."""
        found = tasks.find(task)
        if self._env is None or self._env.task is not found:
            self.close()
            self._env = registration.make(found.name, **options(self._convention, self._size))
        return self._env

    def close(self) -> None:
        """Frees what is kept."""
        if self._env is not None:
            self._env.close()
            self._env = None


def options(convention: ControlConvention, size: tuple[int, int]) -> dict[str, Any]:
    """Returns the arguments of `registration.make` for a convention."""
    robot = next((name for name, own in CONVENTIONS.items() if own.action == convention.action), "")
    if not robot:
        raise unknown_name("kind of action", convention.action, [own.action for own in CONVENTIONS.values()])
    asked: dict[str, Any] = {"image_size": size, "cameras": convention.cameras}
    if robot == USUAL:
        return {**asked, "rotation": convention.rotation}
    return {**asked, "robot": robot}


def task_of_today(recorded: str) -> str:
    """Returns the name of a recorded task; raises ValueError if this wambench has another version of it."""
    name, _, version = recorded.rpartition("-v")
    task = tasks.find(name)
    if task.id != recorded:
        raise ValueError(
            f"recorded with {name} version {version}, and this wambench has {task.id}: only the version that recorded "
            "it can play it again"
        )
    return task.name


def replay(
    env: TabletopEnv, spec: EpisodeSpec, actions: NDArray[np.floating], states: Mapping[int, NDArray[np.floating]]
) -> Iterator[tuple[Observation, Outcome]]:
    """Yields what is seen before each of (T, A) actions and after the last one.

    Args:
        env: Of the episode's task.
        spec: The episode.
        actions: As they were carried out, from its beginning.
        states: Control step -> recorded state, for the steps that are checked.

    Raises:
        ValueError: A recorded state was left by more than `TOLERANCE`.
    """
    outcome = env.begin(spec, render=False)
    for step in range(len(actions) + 1):
        if step:
            outcome = env.advance(actions[step - 1])
        seen = env.observe()
        if step in states:
            check(step, seen.state, states[step])
        yield seen, outcome


def check(step: int, state: NDArray[np.floating], recorded: NDArray[np.floating]) -> None:
    """Raises ValueError if a state is not the recorded one."""
    off = float(np.abs(np.asarray(state)[:COMPARED] - recorded[:COMPARED]).max())
    if not off <= TOLERANCE:
        raise ValueError(
            f"played again, it is {off:.3g} off at step {step}: this wambench simulates it otherwise than the one that "
            "recorded it"
        )
