"""What tasks share in which something moves by itself: its speed, and how a hand keeps up with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wambench.envs.factors import SPEEDS
from wambench.envs.script import Moment
from wambench.envs.task import View
from wambench.interface import EpisodeSpec
from wambench.tasks import predicates, skills

MEDIUM = SPEEDS[1]  # the level of the factors "none" and "all"
# The hand follows its goal with a first-order lag: a displacement of 1.3 times what is left, of which a control step
# carries out 0.3 (measured), so 0.05 s / (1.3 x 0.3).
LAG_S = 0.13
HAND_SPEED = 0.25  # m/s: how fast the hand crosses the scene
HEIGHT = 0.10  # m above the table: lifted, higher than anything that carries a cube


@dataclass(frozen=True)
class Speeds:
    """What a speed is at every level."""

    slow: float
    medium: float
    fast: float

    def of(self, episode: EpisodeSpec) -> float:
        """Returns the value of an episode: of the medium level unless the factor says otherwise."""
        return {"slow": self.slow, "fast": self.fast}.get(episode.factor, self.medium)


def chase(view: View, name: str, ahead: Callable[[float], np.ndarray], yaw: float, travel: float) -> np.ndarray:
    """Grasps an object that moves: keeps the open fingers where it will be, lowers them around it and closes.

    Args:
        view: The scene.
        name: The object.
        ahead: Seconds -> (3,) where the object's origin will be then if nobody touches it.
        yaw: At which to grasp it.
        travel: Height above the table at which the hand crosses the scene.
    """
    eef, item = view.eef(), view.pos(name)
    off = np.abs(eef - item)
    reach = 0.024 if view.width() < skills.WIDE else 0.014
    if view.grasped(name) or (np.linalg.norm(off[:2]) < reach and off[2] < reach):
        return skills.servo(view, ahead(LAG_S), skills.CLOSE, yaw)
    far = float(np.linalg.norm((eef - item)[:2]))
    goal = ahead(LAG_S + max(0.0, far - 0.03) / HAND_SPEED)
    lead = float(np.linalg.norm((ahead(LAG_S) - item)[:2]))  # which the hand, when it keeps up, lags behind its goal
    return skills.funnel(view, goal, skills.OPEN, yaw, radius=0.014 + lead, travel=travel, slope=2.5)


def raise_it(view: View) -> np.ndarray:
    """Raises what the hand holds."""
    goal = np.array([*view.eef()[:2], view.table_z + HEIGHT + 0.08])
    return skills.servo(view, goal, skills.CLOSE, skills.hand_yaw(view))


def straight(view: View, name: str) -> Callable[[float], np.ndarray]:
    """Returns where an object will be that goes straight on."""
    item, velocity = view.pos(name), view.vel(name)
    return lambda seconds: item + seconds * np.array([velocity[0], velocity[1], 0.0])


def lifted(view: View, name: str) -> bool:
    """Returns whether the hand holds an object still, high above the table."""
    high = predicates.height(view, name) > HEIGHT and predicates.over_table(view, name)
    return high and predicates.held(view, name) and predicates.at_rest(view, name)


def is_near(view: View, name: str) -> bool:
    """Returns whether the hand is around an object, or holds it."""
    return predicates.near(view, name) or predicates.held(view, name)


def on_the_floor(view: View, name: str) -> bool:
    """Returns whether an object has fallen from the table."""
    return bool(view.pos(name)[2] < view.table_z - 0.05)


def comes_again(moment: Moment) -> bool:
    """Returns whether the object that went out of reach enters again at this step."""
    return moment.step == moment.memory["again"]
