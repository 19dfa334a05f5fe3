"""What happens by itself in an episode: lamps that blink, cups that move, belts that run.

A script (`envs.task.Script`) is three pure functions. `motions` says, from the episode, the step and the hidden memory,
where the things that it moves are put before a control step; `notice` says, after the step, what the memory becomes;
`release` says from which step on the robot may move. Nothing else is remembered, so a snapshot holds a scripted episode
by keeping the memory beside the physics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wambench.interface import EpisodeSpec

CONTROL_HZ = 20.0  # the usual rate; scripts are written in seconds, and an episode's own rate counts (`EpisodeSpec`)
HIDDEN_Z = -0.2  # height above the table of a puppet that nobody shall see: under the table's top

Memory = Mapping[str, float]


@dataclass(frozen=True)
class Moment:
    """A moment of an episode.

    Attributes:
        episode: What was drawn for the episode.
        step: Control steps since reset.
        memory: What the script remembers, by name.
    """

    episode: EpisodeSpec
    step: int
    memory: Memory = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Time since reset in s."""
        return self.step / self.episode.control_hz


@dataclass(frozen=True)
class Pose:
    """Where a puppet or a free object is put: x, y (m, world), z of its origin above the table (m), yaw (rad).

    A free object also gets a velocity (m/s, world) and a spin (rad/s, in its own frame).
    """

    x: float
    y: float
    z: float = 0.0
    yaw: float = 0.0
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spin: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Drive:
    """Position (m or rad) and speed (m/s or rad/s) that a joint is set to before a control step."""

    position: float
    speed: float = 0.0


Motions = Mapping[str, Pose | Drive]


def steps(seconds: float, control_hz: float = CONTROL_HZ) -> int:
    """Returns the control steps nearest to a time in s."""
    return round(seconds * control_hz)


def smooth(share: float) -> float:
    """Returns 3 s^2 - 2 s^3 of a share of a motion's time, clipped to [0, 1]: it starts and ends at rest."""
    s = min(1.0, max(0.0, share))
    return s * s * (3.0 - 2.0 * s)
