"""How far the imagined frames of an episode are from what came: the columns of its row that say so.

Only sums are kept, so that a leaderboard can form the skill 1 - sum of errors / sum of errors of the kept frame over
any group of episodes. `analysis.imagination` has the other measures, from the recordings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wambench.interface import ControlConvention, Episode, canvas
from wambench.pictures import block_means

AHEAD_S = 0.4  # the horizon that is counted: every world action model here imagines a frame that near
MOVES_M = 0.02  # motion of the hand from which a frame counts as one in which something happens


@dataclass(frozen=True)
class VideoErrors:
    """Sums over the frames imagined for `AHEAD_S` later, up to which the hand really moves `MOVES_M` or more.

    Attributes:
        video_frames: How many there are.
        video_error: Mean squares of the differences of 8x8 block means from the real frame, summed, in squared grey
            levels; NaN for a policy without video.
        kept_error: The same of the frame at the query, kept.
    """

    video_frames: int = 0
    video_error: float = math.nan
    kept_error: float = math.nan


def video_errors(episode: Episode, convention: ControlConvention) -> VideoErrors:
    """Returns the sums of an episode; its frames and states are as `convention` says."""
    plans = [(chunk.step, chunk.plan) for chunk in episode.chunks if chunk.plan.frames is not None]
    if not plans:
        return VideoErrors()
    ahead = round(AHEAD_S * convention.control_hz)
    hand = convention.part_of_state("eef_pos")
    seen = {o.step: o for o in episode.observations}
    errors = []
    for step, plan in plans:
        assert plan.frames is not None and plan.frame_steps is not None
        now, then = seen.get(step), seen.get(step + ahead)
        at = np.flatnonzero(plan.frame_steps == step + ahead)
        if now is None or then is None or not len(at):
            continue
        if np.linalg.norm(then.state[hand] - now.state[hand]) < MOVES_M:
            continue
        real = block_means(canvas(then, convention.cameras))
        shown = (plan.frames[at[0]], canvas(now, convention.cameras))
        errors.append([float(((block_means(frame) - real) ** 2).mean()) for frame in shown])
    imagined, kept = np.array(errors).reshape(-1, 2).sum(axis=0)
    return VideoErrors(len(errors), float(imagined), float(kept))
