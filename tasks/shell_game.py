"""Shell game: lift the cup that hides the ball, after the cups have changed places."""

from __future__ import annotations

import numpy as np

from wambench.envs.factors import DELAYS
from wambench.envs.script import Memory, Moment, Motions, Pose, smooth
from wambench.envs.task import Placement, Script, Stage, Task, View
from wambench.interface import EpisodeSpec
from wambench.tasks import memory, skills

CUPS = ("cup_0", "cup_1", "cup_2")
X, GAP = 0.04, 0.125  # of the row of cups, m
BULGE = 0.075  # how far cups swerve when they change places, so that they pass the third
RAISED = 0.085  # height of the cups while the ball is shown
SHOWN_S, HIDDEN_S = 0.8, 1.2  # the cups stand still above the ball, and are down
SWAP_S = 0.85
SWAPS = ((0, 1), (1, 2), (0, 2))
LIFTED, MOVED = 0.05, 0.008  # m: lifted; as good as looked under
PEA_RADIUS = 0.018


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns cups in a row, the ball under one of them (its number is the ball's `joint`)."""
    y = float(rng.uniform(-0.02, 0.02))
    cups = {name: Placement(X, y + GAP * (i - 1), z=RAISED) for i, name in enumerate(CUPS)}
    pea = int(rng.integers(len(CUPS)))
    return {**cups, "pea": Placement(X, cups[CUPS[pea]].y, z=PEA_RADIUS, joint=pea), **memory.place_signal()}


def release(episode: EpisodeSpec) -> int:
    """Returns the step at which the signal turns green."""
    return memory.release_after(episode, HIDDEN_S)


def swaps(episode: EpisodeSpec) -> tuple[tuple[int, int], ...]:
    """Returns the two pairs of places whose cups change places, one after the other."""
    first, second = memory.stream(episode).permutation(len(SWAPS))[:2]
    return SWAPS[first], SWAPS[second]


def cups_at(moment: Moment) -> list[np.ndarray]:
    """Returns where every cup is: (3,) x, y and height above the table."""
    places = [moment.episode.poses[name] for name in CUPS]
    rows = [np.array([place["x"], place["y"]]) for place in places]
    at, holder = [row.copy() for row in rows], [0, 1, 2]  # holder: the cup at every place
    for number, (one, other) in enumerate(swaps(moment.episode)):
        share = smooth((moment.seconds - HIDDEN_S) / SWAP_S - number)
        turn, middle, half = np.pi * share, (rows[one] + rows[other]) / 2, (rows[other] - rows[one]) / 2
        swerve = np.array([BULGE * np.sin(turn), 0.0])
        at[holder[one]] = middle - half * np.cos(turn) + swerve
        at[holder[other]] = middle + half * np.cos(turn) - swerve
        if share < 1.0:
            break
        holder[one], holder[other] = holder[other], holder[one]
    up = RAISED * (1.0 - smooth((moment.seconds - SHOWN_S) / (HIDDEN_S - SHOWN_S)))
    return [np.array([*xy, up]) for xy in at]


def motions(moment: Moment) -> Motions:
    """Moves the cups, and the ball with its cup."""
    at = cups_at(moment)
    pea = at[round(moment.episode.poses["pea"]["joint"])]
    moved = {name: Pose(*xyz) for name, xyz in zip(CUPS, at, strict=True)}
    return {**moved, "pea": Pose(pea[0], pea[1], PEA_RADIUS), **memory.signal(moment, release(moment.episode))}


def notice(view: View) -> Memory:
    """Remembers whether a cup was lifted that hides nothing."""
    wrong = any(view.joint(name) > MOVED for i, name in enumerate(CUPS) if i != memory.answer(view, "pea"))
    return memory.may_spoil(view, wrong)


def alternatives(episode: EpisodeSpec) -> tuple[EpisodeSpec, ...]:
    """Returns the episode with the ball under each of the cups."""
    cups = enumerate(episode.poses[name] for name in CUPS)
    return tuple(memory.with_pose(episode, "pea", joint=float(i), x=cup["x"], y=cup["y"]) for i, cup in cups)


def _knob(view: View) -> np.ndarray:
    return view.pos(f"{CUPS[memory.answer(view, 'pea')]}/knob")


def _is_near(view: View) -> bool:
    return bool(np.linalg.norm(view.eef() - _knob(view)) < 0.035) and not memory.is_spoiled(view)


def done(view: View) -> bool:
    """The cup with the ball is lifted, and no other one was."""
    return view.joint(CUPS[memory.answer(view, "pea")]) > LIFTED and not memory.is_spoiled(view)


def _is_held(view: View) -> bool:
    return view.grasped(CUPS[memory.answer(view, "pea")]) and not memory.is_spoiled(view)


def expert(view: View) -> np.ndarray:
    """Grasps the knob of the cup it believes in and lifts it."""
    cup = CUPS[memory.answer(view, "pea")]
    if view.grasped(cup):
        goal = np.array([*view.pos(cup)[:2], view.table_z + 0.096 + LIFTED + 0.04])
        return skills.servo(view, goal, skills.CLOSE, skills.hand_yaw(view))
    return skills.grasp(view, cup, view.pos(f"{cup}/knob"), 0.0, travel=0.17)


TASK = Task(
    name="ShellGame",
    version=0,
    verb="uncover",
    novelty="memory",
    instruction="when the light is green, lift the cup that hides the ball",
    motion="keep still until the lamp is green, then close the fingers around the knob of the cup under which the ball "
    "went and raise it",
    about="Where the ball is was shown two cups' moves and a delay ago; lifting a wrong cup is final.",
    nearest="LiftCube",
    objects=(*CUPS, "pea", *memory.SIGNAL),
    hidden=("pea", *memory.SIGNAL[1:]),
    place=place,
    stages=(
        Stage("reach", 0.2, _is_near),
        Stage("grasp", 0.3, _is_held, after="reach"),
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
        level="delay-2",
        longer=memory.LONGER,
        alternatives=alternatives,
    ),
)
