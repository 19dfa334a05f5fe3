"""D1, the cheap read-out definition: what was imagined against what came and what an expert would have done.

At each query three futures of the same state are compared: the imagined one, which the tracker reads out of frames,
the realised one, and the expert's in a branch of the simulator, which knows all of these two. With G where the expert's
future ends and d a distance between places, a future x has advanced by d(now, G) - d(x, G), so that of the expert's
advance

    lost to video  = 1 - imagined / expert's,    lost to action = (imagined - realised) / expert's,

each summed over the queries, add up to what was lost in all. Many futures are valid: what counts is not whether one
looks like the expert's, but whether it comes closer to where the expert's arrives. A picture that stands still where
the expert moves advances by nothing: a frozen video with a frozen robot is blamed on the video, although the two agree.
A right plan rightly carried out that fails by contact (a slip) counts as action here; D2 and D3 tell the two apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOVING_M = 0.03  # an expert's advance below this is rest, or the tracker's noise
READABLE = 0.5  # share of the moving queries that must have been read
LAG_STEPS = tuple(range(-12, 21, 4))


@dataclass(frozen=True)
class Track:
    """What the tracker read out of frames.

    Attributes:
        steps: (T,) env step of each frame.
        hand: (T, 3) position of the grip site in m.
        width: (T,) distance between the fingers in m.
        objects: (T, N, 3) positions in m, NaN where unread; N may be 0.
        sure: (T,) bool: the tracker does not abstain.
    """

    steps: np.ndarray
    hand: np.ndarray
    width: np.ndarray
    objects: np.ndarray
    sure: np.ndarray

    def places(self) -> np.ndarray:
        """Returns (T, 2 + N, 3): hand, opening (as a length along one axis) and objects."""
        opening = np.zeros((len(self.steps), 1, 3))
        opening[:, 0, 0] = self.width
        return np.concatenate([self.hand[:, None], opening, self.objects], axis=1)


@dataclass(frozen=True)
class Query:
    """Three futures of one state; the first frame of each is now, and the same for all."""

    imagined: Track
    realised: Track
    oracle: Track


@dataclass(frozen=True)
class Limits:
    """What a policy without fault loses at most by the tracker's noise: shares of the expert's advance.

    The defaults are what `calibrate` finds (docs/instrument.md).
    """

    video: float = 0.23
    action: float = 0.1


@dataclass(frozen=True)
class Reading:
    """What D1 says of an episode.

    Attributes:
        verdict: "video", "action", "both", "timing", "none" or "abstain".
        confidence: In [0, 1]: how far the less certain of both shares is from its limit.
        video, action: Shares of the expert's advance that were lost; NaN if nothing could be read.
        abstained: Share of the imagined frames that the tracker would not read.
        video_error_m, action_error_m: Medians over queries of the distance between the hand imagined and the
            expert's, and between realised and imagined, at the end of the future.
        motion_m: Median of the imagined motion of the hand.
        lag_s: Best time lag of the realised hand behind the imagined one; NaN if nothing moved.
    """

    verdict: str
    confidence: float
    video: float
    action: float
    abstained: float
    video_error_m: float
    action_error_m: float
    motion_m: float
    lag_s: float


def d1(queries: Sequence[Query], limits: Limits, control_hz: float, delayed: Sequence[Query] | None = None) -> Reading:
    """Returns the verdict of the read-out definition.

    Args:
        queries: The chunks of an episode.
        limits: From `calibrate`.
        control_hz: Env steps per second.
        delayed: If inference took time: the same with realised frames as much later. What is right only then was
            right but late.
    """
    losses = [lost for query in queries if (lost := _lost(query)) is not None]
    moving = sum(_moves(query) for query in queries)
    video, action = _shares(losses)
    errors = np.array([_errors(query) for query in queries if _readable(query)]).reshape(-1, 3)
    far, off, moved = np.median(errors, axis=0).tolist() if len(errors) else [math.nan] * 3
    verdict, confidence = "abstain", 0.0
    if losses and len(losses) >= READABLE * moving:
        verdict, confidence = decide(video, action, limits)
        if delayed is not None and verdict in ("action", "both"):
            late = d1(delayed, limits, control_hz)
            verdict = {"none": "timing", "video": "video"}.get(late.verdict, verdict)
    sure = np.concatenate([query.imagined.sure[1:] for query in queries]) if queries else np.zeros(0, bool)
    abstained = 1.0 - float(sure.mean()) if len(sure) else math.nan
    return Reading(verdict, confidence, video, action, abstained, far, off, moved, best_lag(queries) / control_hz)


def decide(video: float, action: float, limits: Limits) -> tuple[str, float]:
    """Returns the verdict on two shares, and how far the less certain one is from its limit, in [0, 1]."""
    bad = {"video": video > limits.video, "action": action > limits.action}
    margins = [abs(video - limits.video) / max(limits.video, 1e-9), abs(action - limits.action) / limits.action]
    blamed = [name for name, is_bad in bad.items() if is_bad]
    return ("both" if len(blamed) == 2 else blamed[0] if blamed else "none"), min(1.0, *margins)


def calibrate(readings: Sequence[Reading], quantile: float = 0.99, least: float = 0.1) -> Limits:
    """Returns the limits from episodes of a policy that has no fault: the quantile of what the read-out makes it lose.

    Args:
        readings: Of the episodes; only their shares are used.
        quantile: Share of faultless episodes that shall stay unblamed.
        least: Smallest limit, for want of episodes.
    """
    shares = np.array([(r.video, r.action) for r in readings if math.isfinite(r.video + r.action)])
    if not len(shares):
        raise ValueError("no episode could be read: the limits of D1 cannot be calibrated")
    video, action = np.maximum(np.quantile(shares, quantile, axis=0), least)
    return Limits(float(video), float(action))


def best_lag(queries: Sequence[Query], lags: Sequence[int] = LAG_STEPS) -> float:
    """Returns by how many env steps the realised hand is best taken later than the imagined one; NaN if unread.

    Only imagined frames whose whole range of lags was realised are compared, so that every lag is judged on the same
    frames; in a hand that hardly moves there is nothing to align. Between two readings the hand moves straight.
    """
    seen: dict[int, np.ndarray] = {}
    for query in queries:
        track = query.realised
        seen.update({int(s): h for s, h, ok in zip(track.steps, track.hand, track.sure, strict=True) if ok})
    known = np.array(sorted(seen))
    distances = []
    for query in queries:
        track = query.imagined
        for step, hand, ok in zip(track.steps[1:], track.hand[1:], track.sure[1:], strict=True):
            at = int(step) + np.array(lags)
            if not ok or not len(known) or at[0] < known[0] or at[-1] > known[-1]:
                continue
            way = np.stack([np.interp(at, known, [seen[s][axis] for s in known]) for axis in range(3)], axis=1)
            if np.ptp(way, axis=0).max() > MOVING_M:
                distances.append(np.linalg.norm(way - hand, axis=1))
    return float(lags[int(np.argmin(np.mean(distances, axis=0)))]) if distances else math.nan


def _shares(losses: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Returns the shares lost to video and to action of (expert's, imagined, realised) advances."""
    if not losses:
        return math.nan, math.nan
    expert, imagined, realised = np.sum(losses, axis=0)
    return float(1.0 - imagined / expert), float((imagined - realised) / expert)


def _lost(query: Query) -> tuple[float, float, float] | None:
    """Returns the expert's, imagined and realised advance in m; None if unread, or if the expert rests."""
    if not (_readable(query) and _moves(query)):
        return None
    goal, now = query.oracle.places()[-1], query.realised.places()[0]
    last = len(query.realised.steps) - 1
    futures = [track.places()[last] for track in (query.oracle, query.imagined, query.realised)]
    known = np.isfinite([goal, now, *futures]).all(axis=(0, 2))
    left = [float(np.linalg.norm((place - goal)[known], axis=1).sum()) for place in (now, *futures)]
    whole = left[0]
    # a future that leads away loses at most what the expert would have gained
    expert, imagined, realised = (max(-whole, whole - rest) for rest in left[1:])
    return (expert, imagined, realised) if expert > 0 else None


def _readable(query: Query) -> bool:
    """Returns whether the frames that are compared could be read; at the end of an episode fewer have come."""
    last = len(query.realised.steps) - 1
    return last > 0 and bool(
        query.oracle.sure[[0, last, -1]].all()
        and query.imagined.sure[[0, last]].all()
        and query.realised.sure[[0, last]].all()
    )


def _moves(query: Query) -> bool:
    """Returns whether the expert gets anywhere."""
    places = query.oracle.places()
    return (
        len(query.realised.steps) > 1 and float(np.linalg.norm((places[-1] - places[0])[:2], axis=1).sum()) > MOVING_M
    )


def _errors(query: Query) -> tuple[float, float, float]:
    """Returns distances of the hand in m: imagined from the expert's, realised from imagined, imagined from now."""
    last = len(query.realised.steps) - 1
    imagined, realised, oracle = (t.hand[last] for t in (query.imagined, query.realised, query.oracle))
    pairs = ((imagined, oracle), (realised, imagined), (imagined, query.imagined.hand[0]))
    video, action, motion = (float(np.linalg.norm(a - b)) for a, b in pairs)
    return video, action, motion
