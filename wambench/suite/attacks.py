"""Attacks on the predicates: what earns progress without doing what the words ask for.

An attack is a way of acting that is not the task's own: blind flailing, shoving, sweeping objects off the table,
letting them fall from above, pushing what should be picked, picking what should be pushed, doing what another task asks
for, and leaving the moment it looks done. None may end with more than half of the progress or succeed, unless the task
says why (`Task.allowed_attacks`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.envs.objects import OBJECTS
from wambench.envs.privileged_view import SceneView
from wambench.envs.tabletop import TabletopEnv
from wambench.envs.task import Task
from wambench.interface import Outcome
from wambench.suite.cells import Cell, Found, measure_all
from wambench.tasks import predicates, skills

EPISODES = 10  # per task and attack, unless asked otherwise
MOST = 0.5  # progress that an attack may earn
AFTER_S = 1.5  # without motion, once an attack is over: longer than success has to hold
HIGH = 0.28  # m above the table from which things are let fall
SHOVE, OFF = 0.25, 0.50  # m: how far a shove goes, and where the hand is once it has swept something off

HEAD = """# Do the predicates hold? Attacks on every task

`wambench experts --attack --episodes {n}`: {n} scenes of the task's own split per attack; `docs/tasks.md` says what
each attack does. The largest progress at the end over all scenes; in brackets in how many of them the attack
succeeded, if in any. An asterisk marks what the task allows. The last column is the best of the other tasks'
experts.
"""
Actions = Iterator[np.ndarray]
Attack = Callable[[TabletopEnv, int, np.random.Generator], Actions]  # of a scene, given its number


def _grip(view: SceneView, target: np.ndarray, gripper: float, yaw: float = 0.0, steps: int = 45) -> Actions:
    """Moves the hand straight to a place, or as near as it comes in that many steps."""
    for _ in range(steps):
        if np.linalg.norm(view.eef() - target) < 0.015:
            return
        yield skills.servo(view, target, gripper, yaw)


def _wait(view: SceneView, gripper: float, steps: int = 8) -> Actions:
    for _ in range(steps):
        yield np.array([0.0] * 6 + [gripper])


def _movable(task: Task) -> list[str]:
    """Returns what can be moved: free objects, and the named sites of mechanisms."""
    sites = {"drawer": "drawer/handle", "button": "button/top", "dial": "dial/peg", "lever": "lever/knob"}
    sites |= {"hatch": "hatch/handle", "switch": "switch/on", "chest": "chest/bar"}
    return [
        sites.get(name, name) for name in task.objects if OBJECTS[name].free or OBJECTS[name].joint_range is not None
    ]


def _pairs(task: Task) -> list[tuple[str, str]]:
    """Returns what could be brought where: every free object and every other object."""
    free = [name for name in task.objects if OBJECTS[name].free]
    return [(one, other) for one in free for other in task.objects if other != one]


def at_random(env: TabletopEnv, index: int, rng: np.random.Generator) -> Actions:
    """Uniform random actions to the horizon."""
    for _ in range(env.task.horizon):
        yield rng.uniform(-1, 1, 7)


def _sweep(view: SceneView, start: np.ndarray, end: np.ndarray) -> Actions:
    """Comes down at a place with closed fingers, goes straight to another one, and up."""
    yield from _grip(view, np.array([*start[:2], view.table_z + 0.22]), skills.CLOSE)
    yield from _grip(view, start, skills.CLOSE)
    yield from _grip(view, end, skills.CLOSE, steps=60)
    yield from _grip(view, view.eef() + [0, 0, 0.15], skills.CLOSE)


def shove(env: TabletopEnv, index: int, rng: np.random.Generator) -> Actions:
    """Closed fingers go straight through an object, low, in a random direction."""
    view, angle = env.view, rng.uniform(-np.pi, np.pi)
    target = view.pos(_movable(env.task)[index % len(_movable(env.task))])
    ahead = np.array([np.cos(angle), np.sin(angle), 0.0])
    yield from _sweep(view, target - 0.10 * ahead, target + SHOVE * ahead)


def sweep_off(env: TabletopEnv, index: int, rng: np.random.Generator) -> Actions:
    """Closed fingers sweep an object over the nearer side edge of the table."""
    view = env.view
    target = view.pos(_movable(env.task)[index % len(_movable(env.task))])
    side = 1.0 if target[1] >= 0 else -1.0
    yield from _sweep(view, target - [0, side * 0.10, 0], np.array([target[0], side * OFF, target[2]]))


def _pick(env: TabletopEnv, name: str, steps: int = 90) -> Actions:
    """Grasps a free object from above."""
    view, others = env.view, tuple(other for other in env.task.objects if other != name)
    for _ in range(steps):
        if predicates.held(view, name):
            break
        yield skills.grasp(view, name, _handle(view, name), skills.grip_yaw(view, name, others), 0.20)
    yield from _wait(view, skills.CLOSE, 4)


def _handle(view: SceneView, name: str) -> np.ndarray:
    """Returns where to grasp an object: near its top if it stands, so that the palm stays clear."""
    place, half = view.pos(name), view.size(name)
    tall = predicates.upright(view, name) and half[2] > 0.04
    return place + [0.0, 0.0, 0.78 * half[2]] if tall else place


def _bring(env: TabletopEnv, name: str, goal: np.ndarray, steps: int = 60) -> Actions:
    """Carries a held object until its origin is at a place: up, across and down."""
    for _ in range(steps):
        if np.linalg.norm(env.view.pos(name) - goal) < 0.012:
            return
        yield skills.carry(env.view, name, goal, travel=0.20)


def drop(env: TabletopEnv, index: int, rng: np.random.Generator) -> Actions:
    """Lets an object fall onto another one, or onto the free table beside it, from 28 cm above the table."""
    pairs = _pairs(env.task)
    if not pairs:
        return
    name, onto = pairs[index % len(pairs)]
    view = env.view
    yield from _pick(env, name)
    place = view.pos(onto) + [0.0, 0.0, 0.0 if rng.random() < 0.7 else 0.10]
    yield from _bring(env, name, np.array([place[0], place[1] + (place[2] > 0.09), view.table_z + HIGH]))
    yield from _wait(view, skills.OPEN)


def push(env: TabletopEnv, index: int, rng: np.random.Generator) -> Actions:
    """Pushes an object over the table to another one, instead of picking it up."""
    pairs = _pairs(env.task)
    if not pairs:
        return
    name, onto = pairs[index % len(pairs)]
    view, half = env.view, env.view.size(name)
    for _ in range(round(0.8 * env.task.horizon)):
        if predicates.distance(view, name, onto) < 0.02:
            break
        yield skills.push(view, name, view.pos(onto), float(half[0]) + 0.012, min(0.028, float(half[2])), 0.20)
    yield from _grip(view, view.eef() + [0, 0, 0.15], skills.CLOSE)


def pick(env: TabletopEnv, index: int, rng: np.random.Generator) -> Actions:
    """Picks an object up and lets it down on another one, instead of pushing it there."""
    pairs = _pairs(env.task)
    if not pairs:
        return
    name, onto = pairs[index % len(pairs)]
    view = env.view
    yield from _pick(env, name)
    flat = view.size(onto)[2] < 0.01
    top = view.table_z if flat else view.pos(onto)[2] + view.size(onto)[2]
    goal = np.array([*view.pos(onto)[:2], top + view.size(name)[2] + 0.006])
    yield from _bring(env, name, goal)
    yield from _leave(view)


def drag(env: TabletopEnv, index: int, rng: np.random.Generator) -> Actions:
    """Grasps an object and drags it to another one without lifting it."""
    pairs = _pairs(env.task)
    if not pairs:
        return
    name, onto = pairs[index % len(pairs)]
    view = env.view
    yield from _pick(env, name)
    place = view.eef()[2]
    for _ in range(70):
        if predicates.distance(view, name, onto) < 0.015:
            break
        held = (view.pos(name) - view.eef())[:2]
        aim = np.array([*(view.pos(onto)[:2] - held), place])
        yield skills.servo(view, aim, skills.CLOSE, skills.hand_yaw(view), speed=0.5)
    yield from _leave(view)


def _leave(view: SceneView) -> Actions:
    """Opens the fingers and goes up."""
    yield from _wait(view, skills.OPEN)
    yield from _grip(view, view.eef() + [0, 0, 0.15], skills.OPEN, skills.hand_yaw(view))


def touch_and_go(env: TabletopEnv, index: int, rng: np.random.Generator) -> Actions:
    """Does what the task asks for and leaves at the first step at which its success predicate holds.

    Where that remains true without the hand it is success; where it does not (a button springs back), it must not be.
    """
    for _ in range(env.task.horizon):
        if env.task.success(env.view):
            break
        yield env.expert_action()
    yield from _grip(env.view, env.view.eef() + [0, 0, 0.15], skills.OPEN, skills.hand_yaw(env.view))


ATTACKS: Mapping[str, Attack] = MappingProxyType(
    {
        "random": at_random,
        "shove": shove,
        "sweep off": sweep_off,
        "drop": drop,
        "push": push,
        "pick": pick,
        "drag": drag,
        "touch and go": touch_and_go,
    }
)


def others(task: Task) -> list[str]:
    """Returns the other tasks whose experts find what they look at: their objects, and a script if they need one."""
    return [
        other.name
        for other in tasks.TASKS.values()
        if other is not task and set(other.objects) <= set(task.objects) and other.script in (None, task.script)
    ]


def why_allowed(task: Task, attack: str) -> str | None:
    """Returns why an attack may succeed, None if it may not."""
    if attack in tasks.TASKS and tasks.TASKS[attack].expert is task.expert:
        return "the two tasks have one expert"
    return task.allowed_attacks.get(attack)


def is_breach(task: Task, attack: str, progress: float, ever: bool) -> bool:
    """Returns whether an attack earned what it must not: more than `MOST`, or a success, that is not allowed.

    Args:
        task: The attacked task.
        attack: As in `attack_once`.
        progress: At the end; 1 if the attack has succeeded then.
        ever: Success held for half a second at some time.
    """
    if why_allowed(task, attack) is not None or (attack == "touch and go" and progress == 1.0):
        return False
    return progress > MOST or ever


def attack_once(env: TabletopEnv, attack: str, index: int, seed: int = 0) -> Outcome:
    """Plays an attack in one episode of the environment's task; returns how the episode ends.

    Args:
        env: Of the attacked task.
        attack: A name of `ATTACKS`, or of another task whose expert acts.
        index: Number of the episode.
        seed: Of the run whose episodes they are.
    """
    split, rng = tasks.default_split(env.task.name), np.random.default_rng([seed, index])
    outcome = env.begin(episode_spec(env.task, split, tasks.default_factor(split), index, seed), render=False)
    for _ in range(_held(env)):
        env.advance(np.array([0.0] * 6 + [skills.OPEN]))
    acting = ATTACKS[attack](env, index, rng) if attack in ATTACKS else _as_expert(env, tasks.TASKS[attack])
    for action in acting:
        outcome = env.advance(np.clip(action, -1.0, 1.0))
        if outcome.terminated or outcome.truncated:
            return outcome
    for _ in range(round(AFTER_S * env.convention.control_hz)):
        outcome = env.advance(np.array([0.0] * 6 + [skills.OPEN if env.view.width() > 0.02 else skills.CLOSE]))
        if outcome.terminated or outcome.truncated:
            break
    return outcome


def _held(env: TabletopEnv) -> int:
    """Returns for how many steps the robot is kept still before an attack can begin (`Script.release`)."""
    script, episode = env.task.script, env.episode
    return script.release(episode) if script and episode else 0


def _as_expert(env: TabletopEnv, task: Task) -> Actions:
    for _ in range(env.task.horizon):
        yield task.expert(env.view)


def _measure(cell: Cell) -> Found:
    """Returns the progress at the end of every episode, and whether success had ever held for half a second."""
    env = registration.make(cell.task, split=tasks.default_split(tasks.find(cell.task).name))
    ends = [attack_once(env, cell.condition, index, cell.seed) for index in range(cell.episodes)]
    env.close()
    progress = " ".join(f"{outcome.progress:g}" for outcome in ends)
    return {"progress": progress, "ever": " ".join(str(int(outcome.success_ever)) for outcome in ends)}


def table(
    names: tuple[str, ...], episodes: int, seed: int = 0, workers: int = 1, out: Path | None = None
) -> pd.DataFrame:
    """Returns one row per task and attack: what it earned.

    Args:
        names: Task names.
        episodes: Scenes per task and attack, of the task's default split.
        seed: Seed of the run whose scenes they are.
        workers: Processes.
        out: The table's file; what is known is written beside it, and measured once (`cells`).

    Columns: `progress` (mean) and `most` (largest) at the end, `successes` (at the end, or held for half a second
    before), `breaches` (episodes in which it earned what it must not: `is_breach`) and `allowed` (why it may, or "").
    """
    cells = [
        Cell(task.id, attack, episodes, seed)
        for task in (tasks.find(name) for name in names)
        for attack in (*ATTACKS, *others(task))
    ]
    found = measure_all(cells, _measure, workers, out, "attacks")
    return pd.DataFrame([_row(cell, values) for cell, values in found.items()])


def _row(cell: Cell, found: Found) -> dict[str, Any]:
    """Returns the row of a cell; what a task allows is asked here, so that a cell need not be measured again."""
    task, progress = tasks.find(cell.task), [float(one) for one in str(found["progress"]).split()]
    ever = [one == "1" for one in str(found["ever"]).split()]
    breaches = sum(is_breach(task, cell.condition, *one) for one in zip(progress, ever, strict=True))
    successes = sum(one == 1.0 or held for one, held in zip(progress, ever, strict=True))
    allowed = why_allowed(task, cell.condition) or ""
    if cell.condition == "touch and go" and successes and not breaches:
        allowed = "what is done stays done when the hand leaves"
    row = {"task": cell.task, "attack": cell.condition, "n": cell.episodes, "progress": float(np.mean(progress))}
    return {**row, "most": max(progress), "successes": successes, "breaches": breaches, "allowed": allowed}


def markdown(frame: pd.DataFrame) -> str:
    """Returns the tables for people: what each attack earned, and why some may succeed."""
    columns = list(ATTACKS)
    lines = [
        HEAD.format(n=frame["n"].max()),
        f"| task | {' | '.join(columns)} | another expert |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for task, group in frame.groupby("task", sort=False):
        by_attack = {row["attack"]: row for row in group.to_dict("records")}
        cells = [_entry(by_attack[name]) for name in columns]
        experts = [row for name, row in by_attack.items() if name not in ATTACKS]
        worst = max(experts, key=lambda row: (row["breaches"], not row["allowed"], row["most"]), default=None)
        cells.append("none fits" if worst is None else f"{worst['attack']} {_entry(worst)}")
        lines.append(f"| {task} | {' | '.join(cells)} |")
    lines += ["", "Why an attack may succeed:", ""]
    reasons: dict[str, list[str]] = {}
    for row in frame[frame["allowed"] != ""].to_dict("records"):
        if row["successes"] or row["most"] > MOST:
            reasons.setdefault(str(row["allowed"]), []).append(f"{row['task']} ({row['attack']})")
    lines += [f"- {reason}: {', '.join(where)}" for reason, where in reasons.items()]
    short = shortfalls(frame)
    lines += ["", "What earned more than it may:" if short else "Nothing earned more than it may.", ""]
    return "\n".join(lines + [f"- {line}" for line in short]).rstrip()


def _entry(row: Mapping[Hashable, Any]) -> str:
    count = f" ({row['successes']})" if row["successes"] else ""
    return f"{row['most']:.2f}{count}{'*' if row['allowed'] and (count or row['most'] > MOST) else ''}"


def shortfalls(frame: pd.DataFrame) -> list[str]:
    """Returns one line for every attack that earned what it must not."""
    return [
        f"{row['task']}: {row['attack']} earned up to {row['most']:.2f}, succeeded in {row['successes']} of {row['n']}"
        for row in frame[frame["breaches"] > 0].to_dict("records")
    ]
