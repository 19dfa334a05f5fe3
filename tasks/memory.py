"""What tasks that need memory share: something is shown, a delay passes, the signal turns green, the robot may move.

Until the signal is green the robot keeps still whatever it is told (`Script.release`). What was shown is gone by then,
so the frames and the state are the same for every answer, and no posture can stand in for a memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from wambench.envs.factors import DELAYS
from wambench.envs.objects.puppets import LAMP_HEIGHT
from wambench.envs.script import HIDDEN_Z, Moment, Pose, steps
from wambench.envs.task import Placement, View
from wambench.interface import EpisodeSpec

SIGNAL = ("signal", "signal_light")
SIGNAL_AT = (0.15, -0.20)

LONGER = {"delay-4": steps(2.0), "delay-8": steps(6.0)}  # every delay leaves the robot the same time


def place_signal() -> dict[str, Placement]:
    """Returns the placements of the signal, dark."""
    return {"signal": Placement(*SIGNAL_AT), "signal_light": Placement(*SIGNAL_AT, z=HIDDEN_Z)}


def light(at: tuple[float, float], lit: bool) -> Pose:
    """Returns where the light of a lamp at x, y (m) is: on its bulb, or out of sight."""
    return Pose(*at, LAMP_HEIGHT if lit else HIDDEN_Z)


def delay_s(episode: EpisodeSpec) -> float:
    """Returns how long, in s, what was shown has been gone when the signal turns green."""
    return float((episode.factor if episode.factor in DELAYS else DELAYS[0]).removeprefix("delay-"))


def signal(moment: Moment, release: int) -> dict[str, Pose]:
    """Returns the light of the signal, green from the release on."""
    return {"signal_light": light(SIGNAL_AT, moment.step >= release)}


def release_after(episode: EpisodeSpec, shown_s: float) -> int:
    """Returns the step at which the signal turns green if something was shown until `shown_s` (s)."""
    return steps(shown_s + delay_s(episode), episode.control_hz)


def with_pose(episode: EpisodeSpec, name: str, **values: float) -> EpisodeSpec:
    """Returns an episode with other numbers in the placement of one object."""
    poses: Mapping[str, Mapping[str, float]] = {**episode.poses, name: {**episode.poses[name], **values}}
    return dataclasses.replace(episode, poses=poses)


def each(episode: EpisodeSpec, name: str, values: Iterable[float]) -> tuple[EpisodeSpec, ...]:
    """Returns the episode once for each value of what hides the answer (`Placement.joint` of an object)."""
    return tuple(with_pose(episode, name, joint=float(value)) for value in values)


def answer(view: View, name: str) -> int:
    """Returns the answer that is hidden in `Placement.joint` of an object."""
    return round(view.moment.episode.poses[name]["joint"])


def stream(episode: EpisodeSpec) -> np.random.Generator:
    """Returns a random stream of the episode for what is shown beside the answer."""
    return np.random.default_rng([episode.seed, 0x5C219])


def may_spoil(view: View, wrong: bool) -> dict[str, float]:
    """Returns the memory of a choice: spoiled once something wrong is done."""
    return {"spoiled": max(view.moment.memory["spoiled"], float(wrong))}


def is_spoiled(view: View) -> bool:
    """Returns whether a wrong choice was made: it cannot be taken back."""
    return view.moment.memory["spoiled"] > 0
