"""Definition 1, the read-out: what was imagined against what came and what an expert would have done.

It is the cheap definition: nothing is played differently. At each query three futures of the same state are compared:
the imagined one, which is read out of frames, the realised one, and the expert's in a branch of the simulator, which
knows all of these two. With G where the expert's future ends and d a distance between places, a future x has advanced
by d(now, G) - d(x, G), so that of the expert's advance

    lost to video  = 1 - imagined / expert's,    lost to action = (imagined - realised) / expert's,

each summed over the queries, add up to what was lost in all. Many futures are valid: what counts is not whether one
looks like the expert's, but whether it comes closer to where the expert's arrives. A picture that stands still where
the expert moves advances by nothing: a frozen video with a frozen robot is blamed on the video, although the two agree.
A right plan rightly carried out that fails by contact (a slip) counts as action here; the other two definitions tell
the two apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wambench.interface import Episode, Observation, Plan

if TYPE_CHECKING:
    from wambench.attribution.counterfactuals import ChunkTiming
    from wambench.attribution.frame_reading import FrameInterpreter
    from wambench.attribution.oracle import Place

EVERY = 16  # control steps between the queries that are compared; the shipped models imagine as far ahead
MOVING_M = 0.03  # an expert's advance below this is rest, or the tracker's noise
READABLE = 0.5  # share of the moving queries that must have been read
LAG_STEPS = tuple(range(-12, 21, 4))  # of which the best one is looked for


@dataclass(frozen=True)
class Track:
    """Where everything is along one future: what was read out of frames, or what the simulator knows.

    Attributes:
        steps: (T,) env step of each frame.
        hand: (T, 3) position of the grip site in m.
        width: (T,) distance between the fingers in m.
        objects: (T, N, 3) positions in m, NaN where unread; N may be 0.
        sure: (T,) bool: it is known, or could be read.
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
class Readout:
    """What the read-out says of an episode.

    Attributes:
        verdict: "video", "action", "both", "timing", "none" or "abstain".
        confidence: In [0, 1], how far the less certain of both shares is from its limit.
        video, action: Shares of the expert's advance that were lost; NaN if nothing could be read.
        abstained: Share of the imagined frames that could not be read.
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


def read_out(
    queries: Sequence[Query], limits: Limits, control_hz: float, delayed: Sequence[Query] | None = None
) -> Readout:
    """Returns the verdict of the read-out on an episode.

    Args:
        queries: Of the episode.
        limits: From `calibrate`.
        control_hz: Env steps per second.
        delayed: If inference took time, the same with realised places as much later. What is right only then was
            right but late.
    """
    losses = [lost for query in queries if (lost := _advances(query)) is not None]
    moving = sum(_moves(query) for query in queries)
    video, action = _shares(losses)
    errors = np.array([_errors(query) for query in queries if _readable(query)]).reshape(-1, 3)
    far, off, moved = np.median(errors, axis=0).tolist() if len(errors) else [math.nan] * 3
    verdict = "abstain"
    confidence = 0.0
    if losses and len(losses) >= READABLE * moving:
        verdict, confidence = decide(video, action, limits)
        if delayed is not None and verdict in ("action", "both"):
            late = read_out(delayed, limits, control_hz)
            verdict = {"none": "timing", "video": "video"}.get(late.verdict, verdict)
    sure = np.concatenate([query.imagined.sure[1:] for query in queries]) if queries else np.zeros(0, bool)
    abstained = 1.0 - float(sure.mean()) if len(sure) else math.nan
    return Readout(
        verdict=verdict,
        confidence=confidence,
        video=video,
        action=action,
        abstained=abstained,
        video_error_m=far,
        action_error_m=off,
        motion_m=moved,
        lag_s=best_lag(queries) / control_hz,
    )


def decide(video: float, action: float, limits: Limits) -> tuple[str, float]:
    """Returns the verdict on two shares, and how far the less certain one is from its limit, in [0, 1]."""
    bad = {"video": video > limits.video, "action": action > limits.action}
    margins = [abs(video - limits.video) / max(limits.video, 1e-9), abs(action - limits.action) / limits.action]
    blamed = [name for name, is_bad in bad.items() if is_bad]
    return ("both" if len(blamed) == 2 else blamed[0] if blamed else "none"), min(1.0, *margins)


def calibrate(readings: Sequence[Readout], quantile: float = 0.99, least: float = 0.1) -> Limits:
    """Returns the limits from episodes of a policy that has no fault: the quantile of what the read-out makes it lose.

    Args:
        readings: Of the episodes; only their shares are used.
        quantile: Share of faultless episodes that shall stay unblamed.
        least: Smallest limit, for want of episodes.
    """
    shares = np.array([(r.video, r.action) for r in readings if math.isfinite(r.video + r.action)])
    if not len(shares):
        raise ValueError("no episode could be read: the limits of the read-out cannot be calibrated")
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


def _advances(query: Query) -> tuple[float, float, float] | None:
    """Returns the expert's, imagined and realised advance in m; None if unread, or if the expert rests."""
    if not (_readable(query) and _moves(query)):
        return None
    goal = query.oracle.places()[-1]
    now = query.realised.places()[0]
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


def find_queries(
    interpreter: FrameInterpreter, episode: Episode, timing: ChunkTiming, late: int = 0
) -> list[tuple[Query, Query]]:
    """Returns what is compared at the queries of an episode, and the same with realised places `late` steps later.

    Only what was imagined is read out of frames; what came and what an expert does, the simulator knows.

    Args:
        interpreter: Of a simulator of the episode's task.
        episode: As recorded.
        timing: When its policy answered.
        late: Control steps that an answer took.
    """
    oracle = interpreter.oracle
    came = _replay_places(interpreter, episode)
    seen = {observation.step: observation for observation in episode.observations}
    found: list[tuple[Query, Query]] = []
    next_step = 0
    for chunk in episode.chunks:
        if chunk.step < next_step or chunk.plan.frames is None or chunk.step not in seen:
            continue
        next_step = chunk.step + EVERY
        oracle.sim.restore(chunk.state)
        here = oracle.place()
        future = oracle.future(timing.offsets)
        steps = [chunk.step + ahead for ahead in timing.offsets]
        expert = _track(chunk.step, here, steps, future.places)
        imagined = _imagined_track(interpreter, here, seen[chunk.step], chunk.plan, steps, future.postures)
        prompt, delayed = (_realised_track(chunk.step, here, steps, came, delay) for delay in (0, late))
        found.append((Query(imagined, prompt, expert), Query(imagined, delayed, expert)))
    return found


def _replay_places(interpreter: FrameInterpreter, episode: Episode) -> dict[int, Place]:
    """Returns where everything was at each env step, by playing what was carried out again, chunk by chunk."""
    sim = interpreter.sim
    found: dict[int, Place] = {}
    sim.begin(episode.spec, render=False)
    for chunk in episode.chunks:
        sim.restore(chunk.state)
        for step, action in enumerate(chunk.executed, start=chunk.step + 1):
            sim.advance(action)
            found[step] = interpreter.oracle.place()
    return found


def _realised_track(now: int, here: Place, steps: Sequence[int], came: dict[int, Place], delay: int) -> Track:
    """Returns the track through the places that came `delay` steps later, up to the end of the episode."""
    known = list(itertools.takewhile(lambda step: step + delay in came, steps))
    return _track(now, here, known, [came[step + delay] for step in known])


def _track(now: int, here: Place, steps: Sequence[int], places: Sequence[Place]) -> Track:
    """Returns the track through places that are known."""
    every = [here, *places]
    return Track(
        steps=np.array([now, *steps]),
        hand=np.stack([place.hand for place in every]),
        width=np.array([place.width for place in every]),
        objects=np.stack([place.objects for place in every]),
        sure=np.ones(len(every), bool),
    )


def _imagined_track(
    interpreter: FrameInterpreter,
    here: Place,
    now: Observation,
    plan: Plan,
    steps: Sequence[int],
    guesses: Sequence[np.ndarray],
) -> Track:
    """Returns what is read out of the frames that a plan imagines, behind what is known now."""
    assert plan.frames is not None
    present = interpreter.oracle.objects_present()
    read = interpreter.read(now, plan.frames, [step - now.step for step in steps], guesses, plan.frame_hands)
    return Track(
        steps=np.array([now.step, *steps]),
        hand=np.concatenate([here.hand[None], read.positions]),
        width=np.concatenate([[here.width], read.widths]),
        objects=np.concatenate([here.objects[None], read.objects[:, present]]),
        sure=np.concatenate([[True], read.sure]),
    )
