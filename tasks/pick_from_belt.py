"""Pick the cube from the belt: a conveyor carries it past the robot."""

from __future__ import annotations

import numpy as np

from wambench.envs.factors import SPEEDS
from wambench.envs.objects.movers import BELT_PERIOD, BELT_TOP, TUNNEL
from wambench.envs.script import Drive, Memory, Moment, Motions, Pose
from wambench.envs.task import Placement, Script, Stage, Task, View
from wambench.tasks import dynamic, predicates, skills

CUBE, HALF = "red_cube", 0.022
SPEED = dynamic.Speeds(0.03, 0.07, 0.14)  # m/s
END = TUNNEL + 0.005  # m along the belt: inside the hood, where the cube goes and the next one comes from


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns belt and cube; a belt that is turned round runs towards -y."""
    x, back = float(rng.uniform(-0.06, 0.04)), bool(rng.integers(2))
    y = float(rng.uniform(-0.16, -0.06)) * (-1 if back else 1)
    cube = Placement(
        x + float(rng.uniform(-0.01, 0.01)), y, float(rng.uniform(-0.4, 0.4)), z=BELT_TOP / skills.SMALLEST
    )
    return {CUBE: cube, "belt": Placement(x, 0.0, np.pi if back else 0.0)}


def _sign(moment: Moment) -> float:
    return -1.0 if moment.episode.poses["belt"]["yaw"] > 1.0 else 1.0


def motions(moment: Moment) -> Motions:
    """Runs the belt, puts the cube on it, and lets it enter again when it has passed."""
    speed = SPEED.of(moment.episode)
    run = {"belt": Drive((speed * moment.seconds) % BELT_PERIOD - BELT_PERIOD / 2, speed)}
    if moment.step > 0 and not dynamic.comes_again(moment):
        return run
    z = BELT_TOP + HALF * (1.0 + moment.episode.look["object"]["scale"])
    sign, start = _sign(moment), moment.episode.poses[CUBE]
    y = -sign * END if moment.step > 0 else start["y"]
    return {**run, CUBE: Pose(start["x"], y, z, start["yaw"], (0.0, sign * speed, 0.0))}


def notice(view: View) -> Memory:
    """Remembers when the cube is due to enter again: after the end of the belt, or fallen from the table."""
    along = float(view.pos(CUBE)[1]) * _sign(view.moment)
    gone = (along > END and not view.touching("fingers", CUBE)) or dynamic.on_the_floor(view, CUBE)
    return {"again": float(view.moment.step)} if gone else view.moment.memory


def done(view: View) -> bool:
    """The hand holds the cube still, high above the belt."""
    return dynamic.lifted(view, CUBE)


def expert(view: View) -> np.ndarray:
    """Keeps up with the cube, grasps it and raises it."""
    if view.grasped(CUBE):
        return dynamic.raise_it(view)
    return dynamic.chase(view, CUBE, dynamic.straight(view, CUBE), skills.grip_yaw(view, CUBE), 0.14)


TASK = Task(
    name="PickFromBelt",
    version=0,
    verb="pick up",
    novelty="dynamic",
    instruction="pick up the red cube from the belt",
    motion="move along with the red cube on the conveyor belt, close the fingers around it and raise it",
    about="The belt carries the cube past the robot, so where it was seen is not where it can be grasped.",
    nearest="LiftCube",
    objects=(CUBE, "belt"),
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
