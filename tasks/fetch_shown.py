"""Fetch what was shown: lift the cube whose colour a ball had that was shown and hidden."""

from __future__ import annotations

import numpy as np

from wambench.envs.factors import DELAYS
from wambench.envs.script import HIDDEN_Z, Memory, Moment, Motions, Pose
from wambench.envs.task import Placement, Script, Stage, Task, View
from wambench.interface import EpisodeSpec
from wambench.tasks import memory, predicates, skills

CUBES = ("red_cube", "blue_cube", "green_cube")
SAMPLES = ("sample_0", "sample_1", "sample_2")
SHOWN_AT, SHOWN_Z = (0.16, 0.0), 0.05  # where the sample is shown: behind the cubes, clear of the hand
FROM_S, UNTIL_S = 0.2, 1.2
HEIGHT, MOVED = 0.08, 0.02  # m: lifted; as good as chosen


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns three cubes; the number of the colour that will be shown is the first sample's `joint`."""
    cubes = skills.scatter(rng, {name: 0.06 for name in CUBES}, x=(-0.14, 0.06))
    shown = int(rng.integers(len(SAMPLES)))
    samples = {name: Placement(*SHOWN_AT, z=HIDDEN_Z, joint=shown) for name in SAMPLES}
    return {**cubes, **samples, **memory.place_signal()}


def release(episode: EpisodeSpec) -> int:
    """Returns the step at which the signal turns green."""
    return memory.release_after(episode, UNTIL_S)


def motions(moment: Moment) -> Motions:
    """Shows the ball of one colour for a second."""
    shown = SAMPLES[round(moment.episode.poses[SAMPLES[0]]["joint"])]
    visible = FROM_S <= moment.seconds < UNTIL_S
    balls = {name: Pose(*SHOWN_AT, SHOWN_Z if visible and name == shown else HIDDEN_Z) for name in SAMPLES}
    return {**balls, **memory.signal(moment, release(moment.episode))}


def alternatives(episode: EpisodeSpec) -> tuple[EpisodeSpec, ...]:
    """Returns the episode with each of the colours shown."""
    return memory.each(episode, SAMPLES[0], range(len(SAMPLES)))


def _cube(view: View) -> str:
    return CUBES[memory.answer(view, SAMPLES[0])]


def notice(view: View) -> Memory:
    """Remembers whether a cube of another colour was lifted."""
    return memory.may_spoil(view, any(predicates.raised(view, name, MOVED) for name in CUBES if name != _cube(view)))


def done(view: View) -> bool:
    """The hand holds the cube of the colour shown, still, high above the table, and held no other one."""
    high = predicates.height(view, _cube(view)) > HEIGHT and predicates.over_table(view, _cube(view))
    still = high and predicates.held(view, _cube(view)) and predicates.at_rest(view, _cube(view))
    return still and not memory.is_spoiled(view)


def expert(view: View) -> np.ndarray:
    """Grasps the cube of the colour it believes in and raises it."""
    cube = _cube(view)
    if view.grasped(cube):
        goal = np.array([*view.eef()[:2], view.table_z + HEIGHT + 0.06])
        return skills.servo(view, goal, skills.CLOSE, skills.hand_yaw(view))
    others = tuple(name for name in CUBES if name != cube)
    return skills.grasp(view, cube, view.pos(cube), skills.grip_yaw(view, cube, others))


def _is_near(view: View) -> bool:
    return not memory.is_spoiled(view) and (predicates.near(view, _cube(view)) or predicates.held(view, _cube(view)))


TASK = Task(
    name="FetchShown",
    version=0,
    verb="fetch",
    novelty="memory",
    instruction="when the light is green, fetch the cube of the colour that was shown",
    motion="keep still until the lamp is green, then close the fingers around the cube that has the colour of the ball "
    "which was shown and raise it",
    about="Three cubes look alike but for their colour, and the one that counts was shown for a second, a delay ago.",
    nearest="LiftCube",
    objects=(*CUBES, *SAMPLES, *memory.SIGNAL),
    hidden=(*SAMPLES, *memory.SIGNAL[1:]),
    place=place,
    stages=(
        Stage("reach", 0.2, _is_near),
        Stage("grasp", 0.3, lambda v: predicates.held(v, _cube(v)) and not memory.is_spoiled(v), after="reach"),
        Stage("lift", 0.5, done, after="grasp"),
    ),
    success=done,
    expert=expert,
    horizon=240,
    script=Script(
        motions=motions,
        start={"spoiled": 0.0},
        notice=notice,
        release=release,
        levels=DELAYS,
        level=DELAYS[0],
        longer=memory.LONGER,
        alternatives=alternatives,
    ),
)
