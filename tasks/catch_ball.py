"""Catch the ball: it rolls over the table, again and again, until somebody lifts it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wambench.envs.factors import SPEEDS
from wambench.envs.objects.movers import BALL_RADIUS, TUNNEL
from wambench.envs.script import Memory, Moment, Motions, Pose
from wambench.envs.task import Placement, Script, Stage, Task, View
from wambench.tasks import dynamic, predicates

BALL = "ball"
SPEED = dynamic.Speeds(0.06, 0.12, 0.20)  # m/s
END, REACHABLE = TUNNEL + 0.005, 0.15  # m from the middle along its way: where it leaves; where it can be caught


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns ball and gates; the gates' `joint` is the way that the ball rolls along x, 1 away from the robot."""
    y, way = float(rng.uniform(-0.10, 0.10)), float(rng.choice((-1.0, 1.0)))
    x = -0.02 - way * float(rng.uniform(0.10, 0.15))
    return {BALL: Placement(x, y), "gates": Placement(-0.02, y, joint=way)}


def _enters(moment: Moment, x: float) -> Pose:
    gate, scale = moment.episode.poses["gates"], 1.0 + moment.episode.look["object"]["scale"]
    speed, radius = gate["joint"] * SPEED.of(moment.episode), BALL_RADIUS * scale
    return Pose(x, gate["y"], radius, velocity=(speed, 0.0, 0.0), spin=(0.0, speed / radius, 0.0))


def motions(moment: Moment) -> Motions:
    """Rolls the ball at the start, and again from the first gate when it has left through the other one."""
    gate = moment.episode.poses["gates"]
    if moment.step == 0:
        return {BALL: _enters(moment, moment.episode.poses[BALL]["x"])}
    if dynamic.comes_again(moment):
        return {BALL: _enters(moment, gate["x"] - gate["joint"] * END)}
    return {}


def notice(view: View) -> Memory:
    """Remembers when the ball is due to enter again."""
    away = float(np.abs((view.pos(BALL) - view.pos("gates"))[:2]).max())
    gone = (away > END and not view.touching("fingers", BALL)) or dynamic.on_the_floor(view, BALL)
    return {"again": float(view.moment.step)} if gone else view.moment.memory


def done(view: View) -> bool:
    """The hand holds the ball still, high above the table."""
    return dynamic.lifted(view, BALL)


def _within_reach(view: View) -> Callable[[float], np.ndarray]:
    """Returns where the ball will be, or where it will come back into reach."""
    straight, gate = dynamic.straight(view, BALL), view.pos("gates")

    def ahead(seconds: float) -> np.ndarray:
        place = straight(seconds)
        place[0] = np.clip(place[0], gate[0] - REACHABLE, gate[0] + REACHABLE)
        return place

    return ahead


def expert(view: View) -> np.ndarray:
    """Waits where the ball will pass or keeps up with it, grasps it and raises it."""
    if view.grasped(BALL):
        return dynamic.raise_it(view)
    return dynamic.chase(view, BALL, _within_reach(view), 0.0, 0.12)


TASK = Task(
    name="CatchBall",
    version=0,
    verb="catch",
    novelty="dynamic",
    instruction="catch the rolling ball",
    motion="lower the open fingers around the orange ball where it rolls along, close them and raise it",
    about="The ball is only ever where it is for a moment, and pushed from its line it rolls away.",
    nearest="LiftCube",
    objects=(BALL, "gates"),
    place=place,
    stages=(
        Stage("reach", 0.2, lambda v: dynamic.is_near(v, BALL)),
        Stage("grasp", 0.3, lambda v: predicates.held(v, BALL), after="reach"),
        Stage("lift", 0.5, done, after="grasp"),
    ),
    success=done,
    expert=expert,
    horizon=100,
    script=Script(motions=motions, start={"again": -1.0}, notice=notice, levels=SPEEDS, level=dynamic.MEDIUM),
)
