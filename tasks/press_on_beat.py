"""Press on the beat: press the button three times, each time while the pendulum is over its mark."""

from __future__ import annotations

import numpy as np

from wambench.envs.factors import SPEEDS
from wambench.envs.objects.movers import ROD
from wambench.envs.script import Drive, Memory, Moment, Motions, steps
from wambench.envs.task import Placement, Script, Stage, Task, View
from wambench.tasks import dynamic, predicates, skills

SWING = 0.65  # rad to either side
PERIOD = dynamic.Speeds(4.0, 3.0, 2.2)  # s
BEATS = 3  # presses
ON_MARK = 0.65  # of the swing: from here to its end the bob is over the mark, 27 % of the time
DOWN, UP = 0.009, 0.004  # of the cap, m: pressed; let go
PRESS_S = 0.25  # from the start of a press to the cap being down
HOVER = 0.018  # of the closed fingers above the cap, m
PENDULUM_X = 0.20
TRAVEL = 0.13


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns button, pendulum and the mark at one end of the swing (its `joint`: 1 for the end at +y)."""
    button = Placement(float(rng.uniform(-0.12, -0.04)), float(rng.uniform(-0.08, 0.08)))
    side, phase = float(rng.choice((-1.0, 1.0))), float(rng.uniform(-np.pi, np.pi))
    y = side * ROD * 0.5 * (np.sin(SWING) + np.sin(SWING * ON_MARK))
    pendulum = Placement(PENDULUM_X, 0.0, joint=SWING * np.sin(phase))
    return {"button": button, "pendulum": pendulum, "beat_mark": Placement(PENDULUM_X, float(y), joint=side)}


def _phase(moment: Moment, seconds: float) -> float:
    start = float(np.arcsin(np.clip(moment.episode.poses["pendulum"]["joint"] / SWING, -1.0, 1.0)))
    return start + 2 * np.pi * seconds / PERIOD.of(moment.episode)


def is_on_mark(moment: Moment, later: float = 0.0) -> bool:
    """Returns whether the bob is over the mark, so many seconds after the moment."""
    side = moment.episode.poses["beat_mark"]["joint"]
    return side * float(np.sin(_phase(moment, moment.seconds + later))) > ON_MARK


def _on_mark_s(moment: Moment) -> float:
    """Returns for how long, in s, the bob is over the mark each time."""
    return float(np.arccos(ON_MARK)) / np.pi * PERIOD.of(moment.episode)


def motions(moment: Moment) -> Motions:
    """Swings the pendulum; a positive angle takes the bob to +y."""
    phase, rate = _phase(moment, moment.seconds), 2 * np.pi / PERIOD.of(moment.episode)
    return {"pendulum": Drive(SWING * float(np.sin(phase)), SWING * float(np.cos(phase)) * rate)}


def notice(view: View) -> Memory:
    """Counts presses on the beat; one off the beat spoils the episode."""
    before, cap = view.moment.memory, view.joint("button")
    down = float(cap > DOWN or (before["down"] > 0 and cap > UP))
    if down <= before["down"]:
        return {**before, "down": down}
    hit = is_on_mark(view.moment)
    spoiled = max(before["spoiled"], float(not hit))
    return {"down": down, "beats": before["beats"] + hit, "last": float(view.moment.step), "spoiled": spoiled}


def _beats(view: View) -> float:
    memory = view.moment.memory
    return memory["beats"] if memory["spoiled"] == 0 else 0.0


def done(view: View) -> bool:
    """The button was pressed on the beat often enough, and never off it."""
    return _beats(view) >= BEATS


def expert(view: View) -> np.ndarray:
    """Waits closely above the cap, presses as the bob comes over the mark, and lets go."""
    top, moment = view.pos("button/top"), view.moment
    if done(view):
        return skills.servo(view, np.array([*view.eef()[:2], view.table_z + skills.REST]), skills.CLOSE)
    over = float(np.linalg.norm((view.eef() - top)[:2])) < 0.015 and view.eef()[2] < top[2] + 0.05
    quarter = 0.25 * _on_mark_s(moment)
    in_time = is_on_mark(moment, PRESS_S - quarter) and is_on_mark(moment, PRESS_S + quarter)
    once = moment.step - moment.memory["last"] > steps(_on_mark_s(moment), moment.episode.control_hz)
    if over and in_time and once and view.width() < 0.02:
        return skills.servo(view, top + [0, 0, -0.03], skills.CLOSE)
    wide = float(np.clip((view.width() - 0.01) / 0.02, 0.0, 1.0))
    return skills.funnel(view, top + [0, 0, HOVER + 0.04 * wide], skills.CLOSE, radius=0.022, travel=TRAVEL, slope=3.0)


TASK = Task(
    name="PressOnBeat",
    version=0,
    verb="time",
    novelty="dynamic",
    instruction="press the button three times, each time while the pendulum is over the yellow mark",
    motion="keep the closed fingers above the red button, push straight down each time the orange bob is over the "
    "yellow mark, and let go in between, three times in all",
    about="Each press has a window of about a quarter of the swing, and one outside of it is final.",
    nearest="PressButton",
    objects=("button", "pendulum", "beat_mark"),
    place=place,
    stages=(
        Stage("reach", 0.1, lambda v: predicates.near(v, "button/top", 0.05)),
        Stage("first", 0.2, lambda v: _beats(v) >= 1, after="reach"),
        Stage("second", 0.2, lambda v: _beats(v) >= 2, after="first"),
        Stage("third", 0.5, done, after="second"),
    ),
    success=done,
    expert=expert,
    horizon=460,
    script=Script(
        motions=motions,
        start={"down": 0.0, "beats": 0.0, "last": -1000.0, "spoiled": 0.0},
        notice=notice,
        levels=SPEEDS,
        level=dynamic.MEDIUM,
    ),
)
