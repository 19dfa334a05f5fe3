"""For how many steps can a world model be trusted? The actions of real episodes, carried out in it.

The model sees the first frame, and then the actions that were really carried out. What it imagines is compared with
what they really led to, at the end of every chunk: how far the hand and what decides the task have moved since the
start, and progress. Beside it stand two that cost nothing: everything kept where it was, and key points read from the
real frame, which nothing that is imagined can be expected to beat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wambench.analysis.intervals import Estimate, bounded_mean, share_of, text
from wambench.envs.tabletop import TabletopEnv
from wambench.interface import Episode
from wambench.world_model.key_point_goals import GOALS, HAND
from wambench.world_model.simulator import ActionConditioned, WorldModelSimulator, named

FEWEST = 5  # episodes that a horizon must have
RESTS_M = 0.005  # mean displacement below which nothing moved


@dataclass(frozen=True)
class HorizonScore:
    """One moment of one episode.

    Attributes:
        policy, task, episode_seed: Whose actions, where.
        steps, seconds: Since the first observation.
        hand_m, hand_kept_m, hand_read_m: How far the hand's displacement since the start is from the real one: as
            imagined, none at all, and as read from the real frame.
        object_m, object_kept_m, object_read_m: Likewise, the mean of the key points that decide the task.
        progress, true_progress: As imagined and as it really was.
    """

    policy: str
    task: str
    episode_seed: int
    steps: int
    seconds: float
    hand_m: float
    hand_kept_m: float
    hand_read_m: float
    object_m: float
    object_kept_m: float
    object_read_m: float
    progress: float
    true_progress: float


def score_episode(
    model: ActionConditioned, sim: TabletopEnv, episode: Episode, policy: str = ""
) -> Iterator[HorizonScore]:
    """Yields the scores at the ends of all chunks but the last, of which no state was recorded.

    Args:
        model: The world model.
        sim: The simulator of the episode's task; it is left somewhere in the episode.
        episode: A recorded one, played in chunks that the model knows (`--replan`).
        policy: Who played it.
    """
    groups = (HAND,), GOALS[sim.task.name].points
    names = [name for group in groups for name in group]
    world = WorldModelSimulator(model, sim, "", ends=False)
    seen = {o.step: o for o in episode.observations}
    world.begin(episode.spec)
    start, first = {name: sim.view.point(name) for name in names}, world.points
    for chunk, following in zip(episode.chunks, episode.chunks[1:], strict=False):
        outcome = world.step_chunk(chunk.executed)
        sim.restore(following.state)
        true = {name: sim.view.point(name) for name in names}
        moved = {name: true[name] - start[name] for name in names}
        read = named(model, model.read([seen[following.step]])[0])
        (hand, hand_kept, hand_read), (thing, thing_kept, thing_read) = (
            [
                float(np.mean([np.linalg.norm(places[name] - first[name] - moved[name]) for name in group]))
                for places in (world.points, first, read)
            ]
            for group in groups
        )
        seconds = following.step / episode.spec.control_hz
        about = policy, episode.spec.task, episode.spec.seed, following.step, seconds
        off = hand, hand_kept, hand_read, thing, thing_kept, thing_read
        yield HorizonScore(*about, *off, outcome.progress, chunk.progress)


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each horizon that at least `FEWEST` episodes have.

    Columns: `steps`, `seconds`, `n`; for "hand" and "object" the mean errors `X_mm`, `X_kept_mm`, `X_read_mm` and the
    error as a share of the kept one's, `X_share`, with `X_low` and `X_high`; `progress_error`, the mean of the absolute
    difference, with `progress_low` and `progress_high`.
    """
    rows = []
    for steps, now in scores.groupby("steps"):
        if len(now) < FEWEST:
            continue
        row = {"steps": steps, "seconds": now["seconds"].iloc[0], "n": len(now)}
        tasks = [group for _, group in now.groupby("task")]
        for what in ("hand", "object"):
            for kind in ("", "_kept", "_read"):
                row[f"{what}{kind}_mm"] = 1000.0 * now[f"{what}{kind}_m"].mean()
            parts, wholes = ([g[f"{what}{kind}_m"].to_numpy(float) for g in tasks] for kind in ("", "_kept"))
            row |= zip((f"{what}_share", f"{what}_low", f"{what}_high"), share_of(parts, wholes), strict=True)
        off = bounded_mean([(g["progress"] - g["true_progress"]).abs().to_numpy(float) for g in tasks])
        row |= zip(("progress_error", "progress_low", "progress_high"), off, strict=True)
        rows.append(row)
    return pd.DataFrame(rows)


def trusted(table: pd.DataFrame, what: str) -> float:
    """Returns the seconds up to which "hand" or "object" are nearer to the truth than kept ones, 0.0 if never.

    Nearer: the upper end of the interval of the share is below 1, there and at every horizon before. Horizons at which
    less than `RESTS_M` was moved are passed over: nobody can be nearer there.
    """
    known = 0.0
    for row in table.to_dict("records"):
        if row[f"{what}_kept_mm"] < 1000.0 * RESTS_M:
            continue
        if row[f"{what}_high"] >= 1.0:
            break
        known = float(row["seconds"])
    return known


def to_text(table: pd.DataFrame) -> str:
    """Returns the table for people: errors in mm as imagined, kept and read, and the first as a share of the second."""
    lines = []
    for row in table.to_dict("records"):
        parts = [f"{row['seconds']:4.1f} s (n = {row['n']})"]
        for what in ("hand", "object"):
            of = Estimate(row[f"{what}_share"], row[f"{what}_low"], row[f"{what}_high"])
            sizes = " / ".join(f"{row[f'{what}{kind}_mm']:.0f}" for kind in ("", "_kept", "_read"))
            parts.append(f"{what} {sizes} mm, share {text(of, 2)}")
        off = row["progress_error"], row["progress_low"], row["progress_high"]
        parts.append(f"progress off by {text(off, 2)}")
        lines.append("; ".join(parts))
    return "\n".join(lines)


def frame_of(scores: Sequence[HorizonScore]) -> pd.DataFrame:
    """Returns scores as a table, with its columns even where there is none."""
    return pd.DataFrame([vars(score) for score in scores], columns=list(HorizonScore.__dataclass_fields__))
