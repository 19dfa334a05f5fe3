"""Press as often as the lamp blinked: count presses of the red button, then press the blue one to say so."""

from __future__ import annotations

import numpy as np

from wambench.envs.factors import DELAYS
from wambench.envs.script import HIDDEN_Z, Memory, Moment, Motions
from wambench.envs.task import Placement, Script, Stage, Task, View
from wambench.interface import EpisodeSpec
from wambench.tasks import memory, skills

MOST = 3  # blinks
FROM_S, LIT_S, PERIOD_S = 0.4, 0.4, 0.8  # of the blinks; every state is seen in two frames at 5 Hz
UNTIL_S = FROM_S + MOST * PERIOD_S - LIT_S  # the same however many there are
LAMP_AT = (0.15, 0.0)
DOWN, UP = 0.009, 0.004  # of a cap, m: pressed; let go
TRAVEL = 0.13


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns button, bell and lamp; the number of blinks is the `joint` of the lamp's light."""
    x, y = rng.uniform(-0.10, 0.0, 2), rng.uniform(0.07, 0.12, 2)
    side = float(rng.choice((-1.0, 1.0)))
    blinks = int(rng.integers(1, MOST + 1))
    return {
        "button": Placement(float(x[0]), side * float(y[0])),
        "bell": Placement(float(x[1]), -side * float(y[1])),
        "lamp": Placement(*LAMP_AT),
        "lamp_light": Placement(*LAMP_AT, z=HIDDEN_Z, joint=blinks),
        **memory.place_signal(),
    }


def release(episode: EpisodeSpec) -> int:
    """Returns the step at which the signal turns green."""
    return memory.release_after(episode, UNTIL_S)


def motions(moment: Moment) -> Motions:
    """Lets the lamp blink."""
    blinks = round(moment.episode.poses["lamp_light"]["joint"])
    since = moment.seconds - FROM_S
    lit = 0.0 <= since < blinks * PERIOD_S and since % PERIOD_S < LIT_S
    return {"lamp_light": memory.light(LAMP_AT, lit), **memory.signal(moment, release(moment.episode))}


def alternatives(episode: EpisodeSpec) -> tuple[EpisodeSpec, ...]:
    """Returns the episode with every number of blinks."""
    return memory.each(episode, "lamp_light", range(1, MOST + 1))


def notice(view: View) -> Memory:
    """Counts the presses of the button until the bell is pressed; the count at that moment is the answer."""
    before = view.moment.memory
    cap, bell = view.joint("button"), view.joint("bell")
    down = float(cap > DOWN or (before["down"] > 0 and cap > UP))
    pressed = before["presses"] + (down > before["down"])
    said = pressed if before["said"] < 0 and bell > DOWN else before["said"]
    return {"presses": float(pressed if before["said"] < 0 else before["presses"]), "down": down, "said": float(said)}


def _blinks(view: View) -> int:
    return memory.answer(view, "lamp_light")


def done(view: View) -> bool:
    """The bell was pressed after as many presses of the button as the lamp had blinks."""
    return view.moment.memory["said"] == _blinks(view)


def expert(view: View) -> np.ndarray:
    """Presses and lets go until it has counted enough, then presses the bell."""
    said, down = view.moment.memory["said"] >= 0, view.moment.memory["down"] > 0
    enough = view.moment.memory["presses"] >= _blinks(view)
    if said:
        return skills.servo(view, np.array([*view.eef()[:2], view.table_z + skills.REST]), skills.CLOSE)
    if down and view.eef()[2] < view.table_z + TRAVEL and view.joint("button") > UP:
        return skills.servo(view, view.pos("button/top") + [0, 0, 0.08], skills.CLOSE)
    target = "bell" if enough else "button"
    wide = float(np.clip((view.width() - 0.01) / 0.02, 0.0, 1.0))  # open fingers would straddle the cap
    aim = view.pos(f"{target}/top") + [0, 0, -0.03 + 0.07 * wide]
    return skills.funnel(view, aim, skills.CLOSE, radius=0.022, travel=TRAVEL, slope=3.0)


TASK = Task(
    name="PressCount",
    version=0,
    verb="count",
    novelty="memory",
    instruction="when the light is green, press the red button as often as the lamp blinked, then the blue button",
    motion="keep still until the lamp is green, then push the red cap down and let it go once for every blink of the "
    "yellow lamp, and after that push the blue cap down",
    about="Blinks must be counted and remembered, and so must the presses; the blue button makes the answer final.",
    nearest="PressButton",
    objects=("button", "bell", "lamp", "lamp_light", *memory.SIGNAL),
    hidden=("lamp_light", *memory.SIGNAL[1:]),
    place=place,
    stages=(
        Stage("press", 0.2, lambda v: v.moment.memory["presses"] > 0),
        Stage("count", 0.2, lambda v: v.moment.memory["presses"] == _blinks(v), after="press"),
        Stage("say", 0.6, done, after="count"),
    ),
    success=done,
    expert=expert,
    horizon=400,
    script=Script(
        motions=motions,
        start={"presses": 0.0, "down": 0.0, "said": -1.0},
        notice=notice,
        release=release,
        levels=DELAYS,
        level=DELAYS[0],
        longer=memory.LONGER,
        alternatives=alternatives,
    ),
)
