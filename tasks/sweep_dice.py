"""Sweep the dice onto the green mat: four dice, pushed with closed fingers."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, skills

DICE = tuple(f"die_{i}" for i in range(1, 5))
RADIUS = 0.062  # around the middle of the mat, which reaches 7 cm to each side
STANDOFF = 0.026  # between the hand and the middle of a die when they touch
HEIGHT = 0.015  # of the grip site above the table: the finger tips 5 mm above it


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the mat, four dice in a loose heap at some distance, and a plate further away."""
    corners = np.array([(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)])
    for _ in range(10000):
        mat, heap = rng.uniform((-0.10, -0.10), (0.06, 0.10)), rng.uniform((-0.12, -0.12), (0.08, 0.12))
        plate = rng.uniform((-0.14, -0.16), (0.10, 0.16))
        away = float(np.linalg.norm(heap - mat))
        if not 0.15 < away < 0.19 or min(np.linalg.norm(plate - mat), np.linalg.norm(plate - heap)) < 0.18:
            continue
        turn = float(rng.uniform(-np.pi, np.pi))
        c, s = np.cos(turn), np.sin(turn)
        dice = heap + (0.027 * corners + rng.uniform(-0.005, 0.005, (4, 2))) @ np.array([[c, s], [-s, c]])
        if np.linalg.norm(dice - mat, axis=1).min() < 0.105 or np.abs(dice[:, 1]).max() > 0.15:
            continue
        places = {**dict(zip(DICE, dice, strict=True)), "mat": mat, "plate": plate}
        yaws = {name: turn + float(rng.uniform(-0.3, 0.3)) for name in DICE}
        return {name: Placement(float(at[0]), float(at[1]), yaws.get(name, 0.0)) for name, at in places.items()}
    raise RuntimeError("no room for the dice, the mat and the plate")


def is_in(view: View, die: str) -> bool:
    """The die lies on the mat."""
    return predicates.distance(view, die, "mat") < RADIUS and predicates.on_table(view, die)


def swept(view: View) -> bool:
    """All dice stay on the table and out of the hand's grasp: they are swept, not picked up."""
    return all(predicates.slides(view, die) and not predicates.held(view, die) for die in DICE)


def done(view: View) -> bool:
    """All dice lie on the mat, still."""
    return all(is_in(view, die) and predicates.at_rest(view, die) for die in DICE)


def expert(view: View) -> np.ndarray:
    """Pushes the die that is nearest to the hand's way, of those still outside, and backs away upwards at the end."""
    out = [die for die in DICE if predicates.distance(view, die, "mat") > 0.8 * RADIUS]
    if not out:
        return skills.back_off(view, DICE[0], STANDOFF)
    return skills.push(view, min(out, key=lambda die: _cost(view, die)), view.pos("mat"), STANDOFF, HEIGHT, gap=0.012)


def _cost(view: View, die: str) -> float:
    """Returns how far the hand is from where it would begin to push a die, in m."""
    item, mat = view.pos(die), view.pos("mat")
    ahead = (mat - item)[:2] / max(1e-6, float(np.linalg.norm((mat - item)[:2])))
    return float(np.linalg.norm(view.eef()[:2] - (item[:2] - STANDOFF * ahead)))


def _stage(count: int) -> Stage:
    name = f"{count} swept"
    after = f"{count - 1} swept" if count > 1 else None

    def reached(view: View) -> bool:
        return swept(view) and sum(is_in(view, die) for die in DICE) >= count

    return Stage(name, 0.15, reached, after, meanwhile=swept if after else None)


TASK = Task(
    name="SweepDice",
    version=0,
    verb="sweep",
    novelty="seen",
    instruction="sweep the dice onto the green mat",
    motion="close the fingers, lower them to the table behind the orange dice and push them onto the green square",
    about="Four small things slide at once, and one that is already in place is easily pushed out again.",
    nearest="PushCube",
    objects=(*DICE, "mat", "plate"),
    place=place,
    stages=(*(_stage(count) for count in range(1, 4)), Stage("all swept", 0.55, done, "3 swept", meanwhile=swept)),
    success=done,
    expert=expert,
    horizon=480,
)
