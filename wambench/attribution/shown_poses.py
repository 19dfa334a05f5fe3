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

from wambench import registration, tasks
from wambench.analysis.intervals import Estimate, text, wilson
from wambench.attribution import paths, tracker
from wambench.attribution.frame_reading import FrameInterpreter
from wambench.interface import Chunk, Episode
from wambench.policies import weight_files
from wambench.records import load_episode

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
    readings = interpreter.read(now, np.asarray(chunk.plan.frames)[known], [step - chunk.step for step in steps])
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
        ValueError: There are none.
    """
    usable = [episode for episode in episodes if any(chunk.plan.frames is not None for chunk in episode.chunks)]
    if not usable:
        raise ValueError("no recorded episode has imagined frames")
    reader = tracker.FrameReader()
    ways, _ = paths.load(weight_files.packaged(paths.WEIGHTS))
    found: list[ShownPose] = []
    for episode in [usable[int(i)] for i in np.sort(rng.integers(len(usable), size=count))]:
        chunks = [chunk for chunk in episode.chunks if chunk.plan.frames is not None]
        sim = registration.make(tasks.find(episode.spec.task).id)
        sim.begin(episode.spec, render=False)
        interpreter = FrameInterpreter.of(sim, reader, ways)
        found += read_query(interpreter, episode, chunks[int(rng.integers(len(chunks)))])
        sim.close()
    return found


def read_runs(runs: Sequence[Path], count: int, seed: int = 0) -> pd.DataFrame:
    """Returns what the frames of `count` queries of each run show, a row a frame, as `ShownPose` has them."""
    rows: list[ShownPose] = []
    for run in runs:
        episodes = [load_episode(path) for path in sorted((run / "episodes").glob("*.npz"))]
        rows += read_episodes(episodes, count, np.random.default_rng([seed, 5]))
    return pd.DataFrame([vars(row) for row in rows])


@dataclass(frozen=True)
class PoseSummary:
    """What the frames of one horizon show.

    Attributes:
        ahead: Control steps.
        n: Frames.
        read: Share that the instrument believes, with its interval.
        hand_mm: Median and 90 % point of the hand's distance, in believed frames.
        object_mm: Median over those in which an object moved.
        objects: Their number.
    """

    ahead: int
    n: int
    read: Estimate
    hand_mm: tuple[float, float]
    object_mm: float
    objects: int

    def __str__(self) -> str:
        parts = [f"{self.ahead} steps ahead the instrument reads {text(self.read, 2)} of {self.n} frames"]
        if math.isfinite(self.hand_mm[0]):
            parts.append(f"hand off by {self.hand_mm[0]:.0f} mm ({self.hand_mm[1]:.0f} at 90 %)")
        if self.objects:
            parts.append(f"moved objects by {self.object_mm:.0f} mm (n = {self.objects})")
        return ", ".join(parts)


def summarise(rows: pd.DataFrame) -> list[PoseSummary]:
    """Returns a summary for each horizon."""
    found = []
    for ahead, group in rows.groupby("ahead"):
        read = group[group["read"]]
        hand = 1e3 * read["hand_m"].to_numpy(float)
        things = 1e3 * read["object_m"].dropna().to_numpy(float)
        quantiles = (float(np.median(hand)), float(np.quantile(hand, 0.9))) if len(hand) else (math.nan, math.nan)
        middle = float(np.median(things)) if len(things) else math.nan
        share = wilson(len(read), len(group))
        found.append(PoseSummary(int(str(ahead)), len(group), share, quantiles, middle, len(things)))
    return found
