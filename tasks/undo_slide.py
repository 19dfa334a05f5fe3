"""Undo: one of three posts was slid along its rail to where the others stand; slide it back."""

from __future__ import annotations

import numpy as np

from wambench.envs.factors import DELAYS
from wambench.envs.objects.puppets import RAIL_LENGTH
from wambench.envs.script import Drive, Memory, Moment, Motions, smooth
from wambench.envs.task import Placement, Script, Stage, Task, View
from wambench.interface import EpisodeSpec
from wambench.tasks import memory, skills

JOINTS = ("rails", "rails/1", "rails/2")
STANDS_S, MOVED_S = 0.6, 1.2  # the post stands at the far end, and has arrived at the near one
BACK, MOVED = 0.07, 0.03  # m along the rail: slid back; as good as chosen
HEIGHT = 0.055  # of the hand above the table while it pushes
BEHIND, CONTACT = 0.050, 0.028  # between the hand and the middle of a post: where it comes down, where it touches
TRAVEL = 0.14


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the rails; the number of the post that is slid before is the signal's `joint`."""
    signal = memory.place_signal()
    moved = Placement(*memory.SIGNAL_AT, joint=int(rng.integers(len(JOINTS))))
    rails = Placement(float(rng.uniform(-0.10, -0.06)), float(rng.uniform(-0.03, 0.03)))
    return {"rails": rails, **signal, "signal": moved}


def release(episode: EpisodeSpec) -> int:
    """Returns the step at which the signal turns green."""
    return memory.release_after(episode, MOVED_S)


def motions(moment: Moment) -> Motions:
    """Slides one post from the far end of its rail to the near one; the others stand there already."""
    start = release(moment.episode)
    lit = memory.signal(moment, start)
    if moment.step > start:
        return lit
    moved = JOINTS[round(moment.episode.poses["signal"]["joint"])]
    far = RAIL_LENGTH * (1.0 - smooth((moment.seconds - STANDS_S) / (MOVED_S - STANDS_S)))
    return {**lit, **{name: Drive(far if name == moved else 0.0) for name in JOINTS}}


def alternatives(episode: EpisodeSpec) -> tuple[EpisodeSpec, ...]:
    """Returns the episode with each of the posts moved."""
    return memory.each(episode, "signal", range(len(JOINTS)))


def _post(view: View) -> int:
    return memory.answer(view, "signal")


def _is_released(view: View) -> bool:
    return view.moment.step > release(view.moment.episode)


def notice(view: View) -> Memory:
    """Remembers whether a post was slid that had not been moved."""
    wrong = any(view.joint(name) > MOVED for i, name in enumerate(JOINTS) if i != _post(view))
    return memory.may_spoil(view, wrong and _is_released(view))


def done(view: View) -> bool:
    """The post is back at the far end, and no other one was slid."""
    return _is_released(view) and view.joint(JOINTS[_post(view)]) > BACK and not memory.is_spoiled(view)


def expert(view: View) -> np.ndarray:
    """Comes down before the post and pushes it away along its rail."""
    name, eef = JOINTS[_post(view)], view.eef()
    post = view.pos(f"rails/post_{_post(view)}")
    off = eef - post
    level = np.array([post[0], post[1], view.table_z + HEIGHT])
    if abs(off[1]) < 0.012 and -0.07 < off[0] < -0.02 and abs(eef[2] - level[2]) < 0.02 and view.width() < 0.02:
        push = float(np.clip((RAIL_LENGTH - view.joint(name)) / 0.03, 0.0, 1.0))
        return skills.servo(view, level + [0.06 * push - CONTACT, 0.0, 0.0], skills.CLOSE, speed=0.6)
    return skills.funnel(view, level - [BEHIND, 0.0, 0.0], skills.CLOSE, radius=0.010, travel=TRAVEL, slope=3.0)


def _is_behind(view: View) -> bool:
    off = view.eef() - view.pos(f"rails/post_{_post(view)}")
    low = bool(abs(off[1]) < 0.02 and -0.08 < off[0] < 0.0 and view.eef()[2] < view.table_z + 0.09)
    return low and _is_released(view) and not memory.is_spoiled(view)


def _is_sliding(view: View) -> bool:
    return _is_released(view) and view.joint(JOINTS[_post(view)]) > 0.01 and not memory.is_spoiled(view)


TASK = Task(
    name="UndoSlide",
    version=0,
    verb="undo",
    novelty="memory",
    instruction="when the light is green, undo what was done to the posts",
    motion="keep still until the lamp is green, then lower the closed fingers before the post that was moved and push "
    "it away along its rail to where it was",
    about="The posts stand in a row again when the robot may move, and sliding a post that was not moved is final.",
    nearest="PushCube",
    objects=("rails", *memory.SIGNAL),
    hidden=memory.SIGNAL[1:],
    place=place,
    stages=(
        Stage("reach", 0.2, _is_behind),
        Stage("push", 0.3, _is_sliding, after="reach"),
        Stage("back", 0.5, done, after="push"),
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
