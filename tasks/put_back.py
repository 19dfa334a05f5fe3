"""Put it back: the cube stood on one of three marks before it was moved to the middle; put it on that mark again."""

from __future__ import annotations

import numpy as np

from wambench.envs.factors import DELAYS
from wambench.envs.script import HIDDEN_Z, Memory, Moment, Motions, Pose, smooth
from wambench.envs.task import Placement, Script, Stage, Task, View
from wambench.interface import EpisodeSpec
from wambench.tasks import memory, predicates, skills

CUBE, SHOWN = "red_cube", "shown_cube"  # what the hand can take, and its picture that is moved before
MARKS = ("mark_0", "mark_1", "mark_2")
STANDS_S, MOVED_S = 0.8, 1.4  # it stands on its mark, and has arrived in the middle
HALF = 0.022
AWAY_Z = -0.4  # where the cube waits, under the table
ON_MARK = 0.030  # m between the middles of cube and mark
WRONG_STEPS = 6  # control steps for which a cube lies on a wrong mark before that was a choice


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the marks around the middle and the number of the cube's own one as the picture's `joint`."""
    x, y = float(rng.uniform(-0.08, -0.02)), float(rng.uniform(-0.03, 0.03))
    turn = float(rng.uniform(-0.3, 0.3))
    angles = turn + np.array([-np.pi / 2, 0.0, np.pi / 2])
    spots = [(x + 0.12 * float(np.cos(angle)), y + 0.12 * float(np.sin(angle))) for angle in angles]
    marks = {name: Placement(*spot) for name, spot in zip(MARKS, spots, strict=True)}
    own = int(rng.integers(len(MARKS)))
    shown = Placement(x, y, z=HALF, joint=own)
    return {CUBE: Placement(x, y, z=AWAY_Z), SHOWN: shown, **marks, **memory.place_signal()}


def release(episode: EpisodeSpec) -> int:
    """Returns the step at which the signal turns green."""
    return memory.release_after(episode, MOVED_S)


def motions(moment: Moment) -> Motions:
    """Moves the picture of the cube from its mark to the middle, and puts the cube there when it turns green."""
    poses, start = moment.episode.poses, release(moment.episode)
    lit = memory.signal(moment, start)
    middle, mark = poses[SHOWN], poses[MARKS[round(poses[SHOWN]["joint"])]]
    if moment.step > start:
        return {**lit, SHOWN: Pose(middle["x"], middle["y"], HIDDEN_Z)}
    if moment.step == start:
        scale = 1.0 + moment.episode.look["object"]["scale"]
        cube = Pose(middle["x"], middle["y"], HALF * scale)
        return {**lit, SHOWN: Pose(middle["x"], middle["y"], HIDDEN_Z), CUBE: cube}
    share = smooth((moment.seconds - STANDS_S) / (MOVED_S - STANDS_S))
    x, y = (mark[key] + share * (middle[key] - mark[key]) for key in ("x", "y"))
    return {**lit, SHOWN: Pose(x, y, HALF), CUBE: Pose(middle["x"], middle["y"], AWAY_Z)}


def alternatives(episode: EpisodeSpec) -> tuple[EpisodeSpec, ...]:
    """Returns the episode with each of the marks as the cube's own."""
    return memory.each(episode, SHOWN, range(len(MARKS)))


def _mark(view: View) -> str:
    return MARKS[memory.answer(view, SHOWN)]


def _lies_on(view: View, mark: str) -> bool:
    there = predicates.distance(view, CUBE, mark) < ON_MARK and predicates.on_table(view, CUBE)
    return there and predicates.clear_of_fingers(view, CUBE)


def notice(view: View) -> Memory:
    """Remembers for how long the cube has lain on a wrong mark, and whether that was long enough to be a choice."""
    wrong = any(_lies_on(view, mark) for mark in MARKS if mark != _mark(view))
    lain = view.moment.memory["lain"] + 1 if wrong else 0.0
    return {**memory.may_spoil(view, lain >= WRONG_STEPS), "lain": float(lain)}


def done(view: View) -> bool:
    """The cube lies on its mark, still, no finger touches it, and it was put on no other one."""
    return _lies_on(view, _mark(view)) and predicates.at_rest(view, CUBE) and not memory.is_spoiled(view)


def expert(view: View) -> np.ndarray:
    """Grasps the cube, sets it down on the mark it believes in and leaves upwards."""
    goal = view.pos(_mark(view)) + [0, 0, view.size(CUBE)[2]]
    if predicates.distance(view, CUBE, _mark(view)) < 0.02 and predicates.on_table(view, CUBE):
        return skills.release(view, CUBE)
    if view.grasped(CUBE):
        return skills.put(view, CUBE, goal, 0.015)
    return skills.grasp(view, CUBE, view.pos(CUBE), skills.grip_yaw(view, CUBE))


def _is_carried(view: View) -> bool:
    return predicates.distance(view, CUBE, _mark(view)) < 0.05 and not memory.is_spoiled(view)


TASK = Task(
    name="PutBack",
    version=0,
    verb="put back",
    novelty="memory",
    instruction="when the light is green, put the red cube back where it was",
    motion="keep still until the lamp is green, then close the fingers around the red cube, raise it, lower it onto "
    "the mark on which it stood at first and open the fingers",
    about="The three marks look alike; the cube left its own before the delay, and a wrong mark is final.",
    nearest="PlaceOnPlate",
    objects=(CUBE, SHOWN, *MARKS, *memory.SIGNAL),
    hidden=(CUBE, *memory.SIGNAL[1:]),
    place=place,
    stages=(
        Stage("grasp", 0.2, lambda v: predicates.held(v, CUBE)),
        Stage("carry", 0.3, _is_carried, after="grasp"),
        Stage("put back", 0.5, done, after="carry"),
    ),
    success=done,
    expert=expert,
    horizon=280,
    script=Script(
        motions=motions,
        start={"spoiled": 0.0, "lain": 0.0},
        notice=notice,
        release=release,
        levels=DELAYS,
        level=DELAYS[0],
        longer=memory.LONGER,
        alternatives=alternatives,
    ),
)
