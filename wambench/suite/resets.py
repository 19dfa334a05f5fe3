"""Whether episodes start as they should: nothing overlaps, nothing moves, nothing is done, everything can be seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from wambench import registration, tasks
from wambench.envs.episodes import TRAINING, episode_spec
from wambench.envs.objects import DISTRACTORS, OBJECTS
from wambench.envs.scene import CAMERAS
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import EpisodeSpec
from wambench.suite.cells import Cell, Found, measure_all

EPISODES = 500  # starts per task and environments, unless asked otherwise
ENVIRONMENTS = ("train", "unseen")
OVERLAP = 0.001  # m
SETTLE_STEPS = 20  # a second
SPEED, SPIN = 0.01, 0.1  # m/s, rad/s
SIDE, PIXELS = 128, 20  # of the square views, and of an object in the view that shows most of it
FAULTS = ("overlaps", "moves", "is begun", "is hidden", "has a rival")
HEAD = """# Do episodes start as they should?

`wambench experts --resets --episodes {n}`: {n} starts per task in training environments and in unseen ones (all
factors). "Overlaps": two bodies interpenetrate by more than 1 mm. "Moves": after a second in which the robot keeps
still an object moves faster than 1 cm/s or 0.1 rad/s. "Is begun": there is progress. "Is hidden": an object of the
task, unless it is to be found, has fewer than 20 pixels in both views at 128x128. "Has a rival": a distractor
answers to a word of the instruction. Counts are of starts.
"""


def faults(env: TabletopEnv, episode: EpisodeSpec) -> dict[str, str]:
    """Returns what is wrong with the start of an episode: fault -> what exactly.

    "overlaps": two bodies interpenetrate by more than a millimetre. "moves": an object is not at rest after a second in
    which the robot keeps still; not asked of a task whose script moves objects. "is begun": there is progress at the
    start or after that second, or a first stage holds at the start. "is hidden": an object of the task, unless it is to
    be hidden (`Task.hidden`), has fewer than 20 pixels in each view. "has a rival": a distractor answers to a word of
    the instruction.
    """
    found = {}
    outcome = env.begin(episode, render=False)
    first = [stage.name for stage in env.task.stages if stage.after is None and stage.reached(env.view)]
    if outcome.progress > 0 or first:
        found["is begun"] = f"{first} at the start"
    hidden = [f"{name} ({count} px)" for name, count in _pixels(env).items() if count < PIXELS]
    if hidden:
        found["is hidden"] = ", ".join(hidden)
    rivals = _rivals(episode)
    if rivals:
        found["has a rival"] = ", ".join(rivals)
    overlap = _overlap(env)
    if overlap:
        found["overlaps"] = overlap
    for _ in range(SETTLE_STEPS):
        outcome = env.advance(np.array([0.0] * 6 + [-1.0]))
    if outcome.progress > 0:
        found.setdefault("is begun", f"{outcome.stages} after a second")
    moving = (
        ""
        if env.task.script
        else _moving(env, {DISTRACTORS[one["kind"]].name for one in episode.look["distractors"]["placed"]})
    )
    if moving:
        found["moves"] = moving
    return found


def _overlap(env: TabletopEnv) -> str:
    model, data = env.scene.model, env.scene.data
    if data.ncon == 0:
        return ""
    deepest = int(np.argmin(data.contact.dist[: data.ncon]))
    depth = -float(data.contact.dist[deepest])
    names = " and ".join(model.geom(geom).name for geom in data.contact.geom[deepest])
    return f"{names} by {1000 * depth:.1f} mm" if depth > OVERLAP else ""


def _moving(env: TabletopEnv, distractors: set[str]) -> str:
    model, data, view = env.scene.model, env.scene.data, env.view
    if env.task.novelty == "dynamic":
        return ""  # something shall move
    driven = env.task.script.motions(view.moment) if env.task.script else {}
    for name in set(env.task.objects) - set(driven):
        if OBJECTS[name].free and np.linalg.norm(view.vel(name)) > SPEED:
            return f"{name} at {100 * np.linalg.norm(view.vel(name)):.1f} cm/s"
    own = {*env.task.objects, *distractors} - set(driven)
    for joint in range(model.njnt):
        name = model.joint(joint).name
        if name.split("/")[0].removesuffix("_free") in own:
            speed = float(np.abs(data.qvel[model.jnt_dofadr[joint] :][: 6 if name.endswith("_free") else 1]).max())
            if speed > SPIN:
                return f"{name} at {speed:.2f} m/s or rad/s"
    return ""


def _pixels(env: TabletopEnv) -> dict[str, int]:
    """Returns for every object that shall be seen its pixels in the view that shows most of it."""
    seen = [name for name in env.task.objects if name not in env.task.hidden]
    views = [env.renderer.survey(env.scene.data, CAMERAS[camera], (SIDE, SIDE))[1] for camera in CAMERAS]
    return {name: max(int(np.isin(view, env.scene.geoms(name)).sum()) for view in views) for name in seen}


def _rivals(episode: EpisodeSpec) -> list[str]:
    words = set(episode.instruction.split())
    placed = [DISTRACTORS[one["kind"]] for one in episode.look["distractors"]["placed"]]
    return [item.name for item in placed if words & set(item.answers_to)]


def table(
    names: tuple[str, ...], episodes: int, seed: int = 0, workers: int = 1, out: Path | None = None
) -> pd.DataFrame:
    """Returns one row per task and environments ("train", "unseen"): how many starts have which fault, and an example.

    Args:
        names: Task names.
        episodes: Starts per task and environments.
        seed: Seed of the run whose starts they are.
        workers: Processes.
        out: The table's file; what is known is written beside it, and measured once (`cells`).
    """
    cells = [Cell(tasks.find(name).id, where, episodes, seed) for name in names for where in ENVIRONMENTS]
    found = measure_all(cells, _measure, workers, out, "resets")
    return pd.DataFrame(
        [{"task": cell.task, "environments": cell.condition, "n": cell.episodes, **found[cell]} for cell in cells]
    )


def _measure(cell: Cell) -> Found:
    name = tasks.find(cell.task).name
    env = registration.make(cell.task, split=tasks.default_split(name))
    counts: Found = dict.fromkeys(FAULTS, 0)
    counts["example"] = ""
    for index in range(cell.episodes):
        split, factor = (TRAINING, "none") if cell.condition == "train" else (env.split, "all")
        for fault, what in faults(env, episode_spec(env.task, split, factor, index, cell.seed)).items():
            counts[fault] = int(counts[fault]) + 1
            counts["example"] = counts["example"] or f"{index}: {fault}, {what}"
    env.close()
    return counts


def shortfalls(frame: pd.DataFrame) -> list[str]:
    """Returns one line for every row with a fault."""
    return [
        f"{row['task']} in {row['environments']} environments: "
        + ", ".join(f"{row[fault]} of {row['n']} {fault}" for fault in FAULTS if row[fault])
        + f"; e.g. {row['example']}"
        for row in frame.to_dict("records")
        if any(row[fault] for fault in FAULTS)
    ]


def markdown(frame: pd.DataFrame) -> str:
    """Returns the table for people."""
    lines = [
        HEAD.format(n=frame["n"].max()),
    ]
    lines += [f"| task | environments | n | {' | '.join(FAULTS)} |", "|---" * (3 + len(FAULTS)) + "|"]
    for row in frame.to_dict("records"):
        counts = " | ".join(str(row[fault]) for fault in FAULTS)
        lines.append(f"| {row['task']} | {row['environments']} | {row['n']} | {counts} |")
    short = shortfalls(frame)
    lines += ["", "What falls short:" if short else "Nothing falls short.", ""]
    return "\n".join(lines + [f"- {line}" for line in short]).rstrip()
