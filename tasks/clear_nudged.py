"""Put the cube in the bin although a hand reaches over and shoves it away once."""

from __future__ import annotations

import numpy as np

from wambench.envs.factors import SPEEDS
from wambench.envs.script import Drive, Moment, Motions
from wambench.envs.task import Placement, Script, Stage, Task, View
from wambench.tasks import dynamic, predicates, skills

CUBE = "red_cube"
SPEED = dynamic.Speeds(0.12, 0.20, 0.32)  # m/s, of the hand that shoves
PUSHER_X = 0.24  # where its knuckles rest
SHOVE = 0.07  # how far the cube goes
CLEAR = 0.066  # height of the cube's underside above the table at which the hand lets go: 2 cm over the wall


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns cube, bin and the pusher behind the cube; the bin's `joint` is the second at which the hand comes."""
    side = float(rng.choice((-1.0, 1.0)))
    y = -side * float(rng.uniform(0.0, 0.09))
    cube = Placement(float(rng.uniform(0.00, 0.06)), y, float(rng.uniform(-0.3, 0.3)))
    when = float(rng.uniform(0.4, 1.2))
    bin_at = Placement(float(rng.uniform(-0.10, 0.02)), side * float(rng.uniform(0.135, 0.155)), joint=when)
    return {CUBE: cube, "bin": bin_at, "pusher": Placement(PUSHER_X, y)}


def _reach(moment: Moment) -> float:
    half = 0.022 * (1.0 + moment.episode.look["object"]["scale"])
    return PUSHER_X - moment.episode.poses[CUBE]["x"] - half + SHOVE


def _until(moment: Moment) -> float:
    """Returns the second at which the hand is back."""
    return moment.episode.poses["bin"]["joint"] + 2 * _reach(moment) / SPEED.of(moment.episode)


def motions(moment: Moment) -> Motions:
    """Reaches over the table, and draws back."""
    speed, reach = SPEED.of(moment.episode), _reach(moment)
    gone = speed * (moment.seconds - moment.episode.poses["bin"]["joint"])
    if 0.0 <= gone < reach:
        return {"pusher": Drive(gone, speed)}
    if reach <= gone < 2 * reach:
        return {"pusher": Drive(2 * reach - gone, -speed)}
    return {"pusher": Drive(0.0)}


def done(view: View) -> bool:
    """The cube lies in the bin and no finger touches it."""
    return predicates.within_bin(view, CUBE) and predicates.clear_of_fingers(view, CUBE)


def expert(view: View) -> np.ndarray:
    """Waits above the cube until the other hand has drawn back from it, then clears it away."""
    knuckles, cube = view.pos("pusher/knuckles"), view.pos(CUBE)
    here = view.moment.seconds < _until(view.moment) and knuckles[0] - cube[0] < 0.09
    coming = view.moment.episode.poses["bin"]["joint"] + _reach(view.moment) / SPEED.of(view.moment.episode)
    if not view.grasped(CUBE) and (here or view.moment.seconds < coming):
        return skills.servo(view, np.array([cube[0] - 0.03, cube[1], view.table_z + 0.16]), skills.OPEN)
    goal = view.pos("bin") + [0, 0, CLEAR + view.size(CUBE)[2]]
    return skills.drop(view, CUBE, goal, ("bin",))


TASK = Task(
    name="ClearNudged",
    version=0,
    verb="clear away",
    novelty="dynamic",
    instruction="clear the red cube away into the bin",
    motion="close the fingers around the red cube wherever it was shoved to, raise it, move it above the grey bin and "
    "open the fingers",
    about="Another hand shoves the cube aside while the robot reaches for it.",
    nearest="PlaceInBin",
    objects=(CUBE, "bin", "pusher"),
    place=place,
    stages=(
        Stage("grasp", 0.25, lambda v: predicates.held(v, CUBE)),
        Stage("carry", 0.25, lambda v: predicates.held(v, CUBE) and predicates.over_bin(v, CUBE), after="grasp"),
        Stage("place", 0.5, done, after="carry"),
    ),
    success=done,
    expert=expert,
    horizon=240,
    script=Script(motions=motions, levels=SPEEDS, level=dynamic.MEDIUM),
    allowed_attacks={"pick": "picking the object up and letting it down there is what the words ask for"},
)
