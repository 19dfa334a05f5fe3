"""Pick the cube from the turntable: the disc on which it stands turns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wambench.envs.factors import SPEEDS
from wambench.envs.objects.movers import DISC_TOP
from wambench.envs.script import Drive, Memory, Moment, Motions, Pose
from wambench.envs.task import Placement, Script, Stage, Task, View
from wambench.tasks import dynamic, predicates, skills

CUBE, HALF = "red_cube", 0.022
SPEED = dynamic.Speeds(0.4, 0.9, 1.6)  # rad/s


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns turntable and cube; the cube's `joint` is the sense in which the disc turns."""
    x, y = float(rng.uniform(-0.08, 0.0)), float(rng.uniform(-0.06, 0.06))
    angle, radius = float(rng.uniform(-np.pi, np.pi)), float(rng.uniform(0.055, 0.075))
    sense = float(rng.choice((-1.0, 1.0)))
    at, height = (x + radius * np.cos(angle), y + radius * np.sin(angle)), DISC_TOP / skills.SMALLEST
    cube = Placement(*at, float(rng.uniform(-0.7, 0.7)), height, sense)
    return {CUBE: cube, "turntable": Placement(x, y)}


def _turn(moment: Moment) -> float:
    return moment.episode.poses[CUBE]["joint"] * SPEED.of(moment.episode)


def motions(moment: Moment) -> Motions:
    """Turns the disc and puts the cube on it, again when it fell from the table."""
    turn, start = _turn(moment), moment.episode.poses[CUBE]
    disc = {"turntable": Drive((turn * moment.seconds + np.pi) % (2 * np.pi) - np.pi, turn)}
    if moment.step > 0 and not dynamic.comes_again(moment):
        return disc
    z = DISC_TOP + HALF * (1.0 + moment.episode.look["object"]["scale"])
    return {**disc, CUBE: Pose(start["x"], start["y"], z, start["yaw"])}


def notice(view: View) -> Memory:
    """Remembers when a cube that fell from the table is due to stand on the disc again."""
    return {"again": float(view.moment.step)} if dynamic.on_the_floor(view, CUBE) else view.moment.memory


def done(view: View) -> bool:
    """The hand holds the cube still, high above the disc."""
    return dynamic.lifted(view, CUBE)


def _turning(view: View) -> Callable[[float], np.ndarray]:
    """Returns where the cube will be while it turns with the disc, or lies beside it."""
    middle, cube = view.pos("turntable"), view.pos(CUBE)
    riding = predicates.bottom(view, CUBE) > DISC_TOP / 2 and np.linalg.norm(view.vel(CUBE)[:2]) > 0.01
    arm, turn = (cube - middle)[:2], _turn(view.moment) if riding else 0.0

    def ahead(seconds: float) -> np.ndarray:
        c, s = np.cos(turn * seconds), np.sin(turn * seconds)
        return np.array([*(middle[:2] + np.array([[c, -s], [s, c]]) @ arm), cube[2]])

    return ahead


def expert(view: View) -> np.ndarray:
    """Turns along with the cube, grasps it and raises it."""
    if view.grasped(CUBE):
        return dynamic.raise_it(view)
    return dynamic.chase(view, CUBE, _turning(view), skills.grip_yaw(view, CUBE), 0.13)


TASK = Task(
    name="PickFromTurntable",
    version=0,
    verb="take",
    novelty="dynamic",
    instruction="take the red cube off the turntable",
    motion="move along with the red cube as the disc turns, close the fingers around it and raise it",
    about="Place and angle of the cube change together while the hand comes down.",
    nearest="LiftCube",
    objects=(CUBE, "turntable"),
    place=place,
    stages=(
        Stage("reach", 0.2, lambda v: dynamic.is_near(v, CUBE)),
        Stage("grasp", 0.3, lambda v: predicates.held(v, CUBE), after="reach"),
        Stage("lift", 0.5, done, after="grasp"),
    ),
    success=done,
    expert=expert,
    horizon=120,
    script=Script(motions=motions, start={"again": -1.0}, notice=notice, levels=SPEEDS, level=dynamic.MEDIUM),
)
