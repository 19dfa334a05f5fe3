"""Which poses do imagined frames show? The instrument reads recorded ones, and says how far they are from what came.

A frame that the instrument will not believe is unread: it counts as such and gives no distance. Objects count where
they really moved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from wambench.analysis import imagination
from wambench.analysis.intervals import text, wilson
from wambench.attribution import paths, tracker
from wambench.attribution.frame_reading import FrameInterpreter
from wambench.attribution.reactions import simulator_at
from wambench.conventions import ROBOT
from wambench.interface import Chunk, Episode
from wambench.policies import weight_files

MOVED_M = 0.01  # motion from which an object counts


@dataclass(frozen=True)
class ShownPose:
    """One imagined frame.

    Attributes:
        task, episode_seed, step: The query.
        ahead: Control steps from the query to the frame.
        read: Whether the instrument believes what it reads.
        hand_m: Distance of the hand that is shown from the real one then; NaN if unread.
        moved_m: How far the hand really moved until then.
        object_m: The same distance for the object that really moved furthest; NaN if none moved `MOVED_M`, or unread.
    """

    task: str
    episode_seed: int
    step: int
    ahead: int
    read: bool
    hand_m: float
    moved_m: float
    object_m: float


def read_query(interpreter: FrameInterpreter, episode: Episode, chunk: Chunk) -> list[ShownPose]:
    """Returns what the imagined frames of a query show, those whose real poses are known from a later query.

    Args:
        interpreter: Of a simulator at this episode.
        episode: As recorded.
        chunk: One of its queries, with imagined frames.
    """
    assert chunk.plan.frames is not None and chunk.plan.frame_steps is not None
    sim = interpreter.sim
    later = {one.step: one.state for one in episode.chunks}
    seen = {one.step: one for one in episode.observations}
    known = [i for i, step in enumerate(chunk.plan.frame_steps.tolist()) if step in later and step in seen]
    if not known or chunk.step not in seen:
        return []
    steps = [int(chunk.plan.frame_steps[i]) for i in known]
    truths = []
    for step in steps:
        sim.restore(later[step])
        truths.append(interpreter.oracle.object_positions())
    sim.restore(chunk.state)
    here = interpreter.oracle.object_positions()
    now = seen[chunk.step]
    hands = None if chunk.plan.frame_hands is None else chunk.plan.frame_hands[known]
    frames = np.asarray(chunk.plan.frames)[known]
    readings = interpreter.read(now, frames, [step - chunk.step for step in steps], hands=hands)
    found = []
    for i, step in enumerate(steps):
        sure = bool(readings.sure[i])
        hand = seen[step].state[:3]
        away = np.linalg.norm(truths[i] - here, axis=1)
        most = int(np.nanargmax(np.append(away, 0.0)))
        counts = sure and most < len(away) and away[most] >= MOVED_M
        found.append(
            ShownPose(
                task=episode.spec.task,
                episode_seed=episode.spec.seed,
                step=chunk.step,
                ahead=step - chunk.step,
                read=sure,
                hand_m=float(np.linalg.norm(readings.positions[i] - hand)) if sure else math.nan,
                moved_m=float(np.linalg.norm(hand - now.state[:3])),
                object_m=float(np.linalg.norm(readings.objects[i][most] - truths[i][most])) if counts else math.nan,
            )
        )
    return found


def read_episodes(episodes: Sequence[Episode], count: int, rng: np.random.Generator) -> list[ShownPose]:
    """Returns what the frames of `count` queries show, drawn from recorded episodes with imagined frames.

    Raises:
        ValueError: There are none, or they are of a robot whose frames nobody can read.
    """
    others = sorted({episode.spec.robot for episode in episodes} - {ROBOT})
    if others:
        raise ValueError(f"poses are read out of frames of {ROBOT} only: no reader has learned those of {others[0]}")
    reader = tracker.FrameReader()
    ways, _ = paths.load(weight_files.packaged(paths.WEIGHTS))
    found: list[ShownPose] = []
    for episode, chunk in imagination.draw_queries(episodes, count, rng):
        with simulator_at(episode) as sim:
            found += read_query(FrameInterpreter.of(sim, reader, ways), episode, chunk)
    return found


def read_runs(runs: Sequence[Path], count: int, seed: int = 0) -> pd.DataFrame:
    """Returns what the frames of `count` queries of each run show, a row a frame, as `ShownPose` has them."""
    rows: list[ShownPose] = []
    for run in runs:
        rows += read_episodes(list(imagination.recorded(run)), count, np.random.default_rng([seed, 5]))
    return pd.DataFrame([vars(row) for row in rows])


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per horizon.

    Columns: `ahead` control steps, `n` frames, `read`, `read_low`, `read_high`: the share that the instrument believes;
    over these `hand_mm` and `hand_mm_p90`, the median and 90 % point of the hand's distance, `object_mm`, the median of
    the moved objects', and `objects`, their number.
    """
    found = []
    for ahead, group in rows.groupby("ahead"):
        read = group[group["read"]]
        share = wilson(len(read), len(group))
        hand, things = 1e3 * read["hand_m"], 1e3 * read["object_m"].dropna()
        found.append(
            {
                "ahead": int(str(ahead)),
                "n": len(group),
                "read": share.mean,
                "read_low": share.low,
                "read_high": share.high,
                "hand_mm": hand.median(),
                "hand_mm_p90": hand.quantile(0.9),
                "object_mm": things.median(),
                "objects": len(things),
            }
        )
    return pd.DataFrame(found)


def to_text(table: pd.DataFrame) -> str:
    """Returns the table of `summarise` for people."""
    lines = []
    for row in table.to_dict("records"):
        share = text((row["read"], row["read_low"], row["read_high"]), 2)
        line = f"{row['ahead']} steps ahead the instrument reads {share} of {row['n']} frames"
        if math.isfinite(row["hand_mm"]):
            line += f", hand off by {row['hand_mm']:.0f} mm ({row['hand_mm_p90']:.0f} at 90 %)"
        if row["objects"]:
            line += f", moved objects by {row['object_mm']:.0f} mm (n = {row['objects']})"
        lines.append(line)
    return "\n".join(lines)
