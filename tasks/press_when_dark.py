"""Press when the lamp has been off for two seconds: neither earlier nor when it is lit again."""

from __future__ import annotations

import numpy as np

from wambench.envs.factors import DELAYS
from wambench.envs.script import HIDDEN_Z, Memory, Moment, Motions, steps
from wambench.envs.task import Placement, Script, Stage, Task, View
from wambench.interface import EpisodeSpec
from wambench.tasks import memory, skills

LAMP_AT = (0.13, 0.0)
LIT_S = 0.8  # at least, before it goes off
# For how long the lamp has been off when the robot may move: longer than it must be, or almost not at all. The press
# must come within `WINDOW_S`, so that no time of pressing is right for both.
LONG_S, SHORT_S, WINDOW_S = 0.2, -1.8, 2.0
DOWN = 0.009
WORDS = {"delay-4": "four", "delay-8": "eight"}


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns button and lamp; the light's `joint` is 1 if the lamp goes off early."""
    return {
        "button": Placement(float(rng.uniform(-0.10, -0.04)), float(rng.uniform(-0.06, 0.06))),
        "lamp": Placement(*LAMP_AT),
        "lamp_light": Placement(*LAMP_AT, z=HIDDEN_Z, joint=int(rng.integers(2))),
    }


def release(episode: EpisodeSpec) -> int:
    """Returns the step from which the robot may move."""
    return memory.release_after(episode, LIT_S + LONG_S)


def off_at(episode: EpisodeSpec) -> int:
    """Returns the step at which the lamp goes off."""
    early = round(episode.poses["lamp_light"]["joint"])
    return release(episode) - steps(memory.delay_s(episode) + (LONG_S if early else SHORT_S), episode.control_hz)


def on_again(episode: EpisodeSpec) -> int:
    """Returns the step at which the lamp is lit again, when it is too late."""
    return off_at(episode) + steps(memory.delay_s(episode) + WINDOW_S, episode.control_hz)


def motions(moment: Moment) -> Motions:
    """Lets the lamp be lit, off for a while, and lit again."""
    lit = not off_at(moment.episode) <= moment.step < on_again(moment.episode)
    return {"lamp_light": memory.light(LAMP_AT, lit)}


def alternatives(episode: EpisodeSpec) -> tuple[EpisodeSpec, ...]:
    """Returns the episode with the lamp going off late and early."""
    return memory.each(episode, "lamp_light", (0, 1))


def _is_time(view: View) -> bool:
    moment = view.moment
    dark = (moment.step - off_at(moment.episode)) / moment.episode.control_hz
    return dark >= memory.delay_s(moment.episode) and moment.step <= on_again(moment.episode)


def notice(view: View) -> Memory:
    """Remembers whether the first press came in time."""
    before, pressed = view.moment.memory, view.joint("button") > DOWN
    if not pressed or before["pressed"] > 0:
        return before
    return {"pressed": 1.0, "spoiled": float(not _is_time(view))}


def done(view: View) -> bool:
    """The first press of the button came when the lamp had been off for long enough, and was not lit again."""
    return view.moment.memory["pressed"] > 0 and not memory.is_spoiled(view)


def expert(view: View) -> np.ndarray:
    """Waits above the button until it is time, then presses."""
    if view.moment.memory["pressed"] > 0:
        return skills.servo(view, np.array([*view.eef()[:2], view.table_z + skills.REST]), skills.CLOSE)
    moment = view.moment
    left = off_at(moment.episode) / moment.episode.control_hz + memory.delay_s(moment.episode) - moment.seconds
    high = 0.03 if left > 0.1 else -0.03
    aim = view.pos("button/top") + [0, 0, 0.04 if view.width() > 0.03 else high]
    return skills.funnel(view, aim, skills.CLOSE, radius=0.022, travel=0.12, slope=3.0)


def _is_close_above(view: View) -> bool:
    off = view.eef() - view.pos("button/top")
    return bool(np.linalg.norm(off[:2]) < 0.03 and off[2] < 0.06) and not memory.is_spoiled(view)


def wording(text: str, factor: str) -> str:
    """Returns an instruction with the time that the level asks for."""
    return text.replace("two seconds", f"{WORDS.get(factor, 'two')} seconds")


TASK = Task(
    name="PressWhenDark",
    version=0,
    verb="wait",
    novelty="memory",
    instruction="press the button when the lamp has been off for two seconds",
    motion="keep the closed fingers above the red button until the yellow lamp has been dark for two seconds, then "
    "push straight down before it is lit again",
    about="A dark lamp looks the same after a moment and after two seconds, and the first press counts.",
    nearest="PressButton",
    objects=("button", "lamp", "lamp_light"),
    hidden=("lamp", "lamp_light"),  # the light covers the dark bulb, or is out
    place=place,
    stages=(
        Stage("reach", 0.3, _is_close_above),
        Stage("press", 0.7, done, after="reach"),
    ),
    success=done,
    expert=expert,
    horizon=240,
    script=Script(
        motions=motions,
        start={"pressed": 0.0, "spoiled": 0.0},
        notice=notice,
        release=release,
        levels=DELAYS,
        level=DELAYS[0],
        wording=wording,
        longer=memory.LONGER,
        alternatives=alternatives,
    ),
)
