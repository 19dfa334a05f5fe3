"""Place the cube on the tray: the tray slides to and fro."""

from __future__ import annotations

import numpy as np

from wambench.envs.factors import SPEEDS
from wambench.envs.objects.movers import TRAY_TOP
from wambench.envs.script import Drive, Moment, Motions
from wambench.envs.task import Placement, Script, Stage, Task, View
from wambench.tasks import dynamic, predicates, skills

CUBE = "red_cube"
SWING = 0.10  # m to either side
PERIOD = dynamic.Speeds(14.0, 8.0, 5.0)  # s: at most 0.045, 0.08 and 0.13 m/s
RADIUS = 0.045  # m between the middles of cube and tray


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns tray and cube; the tray's initial place on its rail says where in its swing it starts."""
    phase = float(rng.uniform(-np.pi, np.pi))
    tray = Placement(float(rng.uniform(0.04, 0.09)), float(rng.uniform(-0.03, 0.03)), joint=SWING * np.sin(phase))
    cube = Placement(float(rng.uniform(-0.14, -0.10)), float(rng.uniform(-0.12, 0.12)), float(rng.uniform(-0.4, 0.4)))
    return {CUBE: cube, "tray": tray}


def _phase(moment: Moment, seconds: float) -> float:
    start = float(np.arcsin(np.clip(moment.episode.poses["tray"]["joint"] / SWING, -1.0, 1.0)))
    return start + 2 * np.pi * seconds / PERIOD.of(moment.episode)


def offset(moment: Moment, seconds: float) -> float:
    """Returns where the tray is on its rail, in m, so many seconds after the moment."""
    return SWING * float(np.sin(_phase(moment, moment.seconds + seconds)))


def speed(moment: Moment) -> float:
    """Returns the velocity of the tray along y in m/s."""
    return SWING * float(np.cos(_phase(moment, moment.seconds))) * 2 * np.pi / PERIOD.of(moment.episode)


def motions(moment: Moment) -> Motions:
    """Slides the tray to and fro."""
    return {"tray": Drive(offset(moment, 0.0), speed(moment))}


def _apart(view: View) -> np.ndarray:
    return (view.pos(CUBE) - view.pos("tray/top"))[:2]


def _over_tray(view: View) -> bool:
    return bool(np.linalg.norm(_apart(view)) < RADIUS)


def _resting(view: View) -> bool:
    level = abs(predicates.bottom(view, CUBE) - TRAY_TOP) < predicates.TOUCH
    return _over_tray(view) and level and view.touching(CUBE, "tray")


def done(view: View) -> bool:
    """The cube rides on the tray, and no finger touches it."""
    along = view.vel(CUBE) - [0.0, speed(view.moment), 0.0]
    return _resting(view) and predicates.clear_of_fingers(view, CUBE) and bool(np.linalg.norm(along) < predicates.REST)


def expert(view: View) -> np.ndarray:
    """Grasps the cube, keeps it over the tray, lets it down and opens the fingers while both move on."""
    lead = np.array([0.0, offset(view.moment, dynamic.LAG_S) - offset(view.moment, 0.0), 0.0])
    goal = view.pos("tray/top") + [0, 0, view.size(CUBE)[2]]
    error = view.pos(CUBE) - goal
    if _resting(view) and (view.width() > skills.WIDE or not view.touching("fingers", CUBE)):
        return skills.servo(view, np.array([*view.eef()[:2], view.table_z + skills.REST]) + lead, skills.OPEN)
    if view.grasped(CUBE) or (_resting(view) and predicates.near(view, CUBE)):
        if np.linalg.norm(error[:2]) < 0.018 and error[2] < 0.014:
            let_down = view.eef() - [0.0, 0.0, error[2] + skills.PRESS] + lead
            return skills.servo(view, let_down, skills.OPEN, skills.hand_yaw(view))
        far = float(np.linalg.norm(error[:2]))
        ahead = dynamic.LAG_S + max(0.0, far - 0.02) / dynamic.HAND_SPEED
        soon = np.array([0.0, offset(view.moment, ahead) - offset(view.moment, 0.0), 0.0])
        aim = goal + soon - (view.pos(CUBE) - view.eef())
        radius = 0.012 + abs(float(lead[1]))
        return skills.funnel(view, aim, skills.CLOSE, skills.hand_yaw(view), radius, slope=1.5)
    return dynamic.chase(view, CUBE, dynamic.straight(view, CUBE), skills.grip_yaw(view, CUBE), skills.TRAVEL)


TASK = Task(
    name="PlaceOnTray",
    version=0,
    verb="load",
    novelty="dynamic",
    instruction="load the red cube onto the moving tray",
    motion="close the fingers around the red cube, raise it, move along with the yellow tray, lower the cube onto it "
    "and open the fingers",
    about="The goal slides to and fro while the hand lets down what it carries.",
    nearest="PlaceOnPlate",
    objects=(CUBE, "tray"),
    place=place,
    stages=(
        Stage("grasp", 0.2, lambda v: predicates.held(v, CUBE)),
        Stage("carry", 0.15, lambda v: predicates.held(v, CUBE) and _over_tray(v), after="grasp"),
        Stage("lower", 0.15, lambda v: _over_tray(v) and predicates.lowered(v, CUBE, TRAY_TOP), after="carry"),
        Stage("place", 0.5, done, after="lower"),
    ),
    success=done,
    expert=expert,
    horizon=170,
    script=Script(motions=motions, levels=SPEEDS, level=dynamic.MEDIUM),
    allowed_attacks={"pick": "picking the object up and letting it down there is what the words ask for"},
)
