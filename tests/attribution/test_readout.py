from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from wambench.attribution.readout import Limits, Query, Readout, Track, best_lag, calibrate, decide, read_out

HZ = 20.0
EAST, NORTH, STILL = np.array([0.01, 0.0, 0.0]), np.array([0.0, 0.01, 0.0]), np.zeros(3)
Futures = tuple[np.ndarray, np.ndarray, np.ndarray]  # velocities in m per step: imagined, realised, expert's


def track(now: int, start: np.ndarray, speed: np.ndarray, width: float = 0.08, closing: float = 0.0) -> Track:
    steps = now + np.array([0, 8, 16])
    ahead = (steps - now)[:, None]
    return Track(
        steps, start + ahead * speed, width - closing * ahead[:, 0] / 16, np.zeros((3, 0, 3)), np.ones(3, bool)
    )


def episode(futures: Futures, count: int = 6, noise: float = 0.0, seed: int = 0) -> list[Query]:
    """Returns queries 4 steps apart, the state following what is realised."""
    rng, queries = np.random.default_rng(seed), []
    for k in range(count):
        start = 4 * k * futures[1]
        tracks = [track(4 * k, start, speed) for speed in futures]
        queries.append(Query(*(noisy(t, noise, rng) for t in tracks)))
    return queries


def noisy(it: Track, noise: float, rng: np.random.Generator) -> Track:
    return dataclasses.replace(it, hand=it.hand + noise * rng.standard_normal(it.hand.shape))


@pytest.mark.parametrize(
    ("futures", "verdict"),
    [
        ((EAST, EAST, EAST), "none"),
        ((EAST, NORTH, EAST), "action"),
        ((EAST, STILL, EAST), "action"),
        ((NORTH, NORTH, EAST), "video"),
        ((STILL, STILL, EAST), "video"),  # frozen both: they agree, and are wrong together
        ((0.5 * EAST, STILL, EAST), "both"),
        ((NORTH, EAST, EAST), "video"),  # wrong picture, right actions
        ((STILL, STILL, STILL), "abstain"),  # the expert rests: nothing to be lost
    ],
)
def test_verdicts_on_planted_futures(futures: Futures, verdict: str) -> None:
    for noise in (0.0, 0.005):
        reading = read_out(episode(futures, noise=noise), Limits(), HZ)
        assert reading.verdict == verdict, (noise, reading)


def test_shares_add_up_to_what_was_lost() -> None:
    reading = read_out(episode((0.5 * EAST, 0.2 * EAST, EAST)), Limits(), HZ)
    assert (reading.video, reading.action) == (pytest.approx(0.5), pytest.approx(0.3))
    assert reading.video_error_m == pytest.approx(0.08) and reading.action_error_m == pytest.approx(0.048)
    assert reading.motion_m == pytest.approx(0.08)


def test_another_way_to_the_same_place_is_no_fault() -> None:
    """The hand swings out on its way, and ends where the expert does."""
    queries = episode((EAST, EAST, EAST))
    bent = [dataclasses.replace(q, imagined=swing(q.imagined), realised=swing(q.realised)) for q in queries]
    assert read_out(bent, Limits(), HZ).verdict == "none"


def swing(it: Track) -> Track:
    return dataclasses.replace(it, hand=it.hand + np.array([[0, 0, 0], [0, 0.05, 0], [0, 0, 0]]))


def test_gripper_alone_can_be_at_fault() -> None:
    closes = lambda amount: track(0, STILL, STILL, closing=amount)  # noqa: E731
    assert read_out([Query(closes(0.04), closes(0.0), closes(0.04))], Limits(), HZ).verdict == "action"
    assert read_out([Query(closes(0.0), closes(0.0), closes(0.04))], Limits(), HZ).verdict == "video"


def test_unread_things_do_not_count_and_unread_frames_lead_to_abstention() -> None:
    queries = episode((EAST, NORTH, EAST))
    blind = [dataclasses.replace(q, **{name: unread(getattr(q, name)) for name in vars(q)}) for q in queries]
    assert read_out(blind, Limits(), HZ).verdict == "action"
    unsure = [dataclasses.replace(q, imagined=dataclasses.replace(q.imagined, sure=NEVER)) for q in queries]
    reading = read_out(unsure, Limits(), HZ)
    assert reading.verdict == "abstain" and reading.confidence == 0.0
    assert reading.abstained == pytest.approx(1.0)
    assert read_out(unsure[:2] + queries[:4], Limits(), HZ).abstained == pytest.approx(1 / 3)  # of the imagined frames
    assert read_out(unsure[:2] + queries[:4], Limits(), HZ).verdict == "action"
    assert read_out([], Limits(), HZ).verdict == "abstain"


NEVER = np.zeros(3, bool)


def unread(it: Track) -> Track:
    return dataclasses.replace(it, objects=np.full((3, 2, 3), np.nan))


def test_end_of_an_episode_has_fewer_frames() -> None:
    def cut(it: Track, count: int) -> Track:
        return Track(**{name: value[:count] for name, value in vars(it).items()})

    queries = episode((EAST, NORTH, EAST))
    ended = [
        dataclasses.replace(q, realised=cut(q.realised, n)) for q, n in zip(queries, (3, 3, 3, 3, 2, 1), strict=True)
    ]
    assert read_out(ended, Limits(), HZ).verdict == "action"


def test_right_but_late_is_timing() -> None:
    slow, prompt = episode((EAST, 0.2 * EAST, EAST)), episode((EAST, EAST, EAST))
    assert read_out(slow, Limits(), HZ).verdict == "action"
    assert read_out(slow, Limits(), HZ, delayed=prompt).verdict == "timing"
    assert read_out(slow, Limits(), HZ, delayed=slow).verdict == "action"


@pytest.mark.parametrize("every", [4, 8])
@pytest.mark.parametrize("lag", [-4, 0, 8])
def test_best_lag_is_found(lag: int, every: int) -> None:
    path: Callable[[np.ndarray], np.ndarray] = lambda s: np.stack([0.1 * np.sin(s / 20), s * 0, s * 0], axis=1)  # noqa: E731
    queries = []
    for now in range(40, 160, every):
        steps = now + np.array([0, 8, 16])
        make = lambda at, steps=steps: Track(steps, path(at), at * 0.0, np.zeros((3, 0, 3)), np.ones(3, bool))  # noqa: E731
        queries.append(Query(make(steps), make(steps - lag), make(steps)))
    assert best_lag(queries) == lag
    assert math.isnan(best_lag(episode((STILL, STILL, EAST))))


def test_limits_come_from_faultless_episodes() -> None:
    faultless: Sequence[Readout] = [
        read_out(episode((EAST, EAST, EAST), noise=0.03, seed=seed), Limits(), HZ) for seed in range(30)
    ]
    limits = calibrate(faultless)
    assert 0.1 <= limits.video < 0.6 and 0.1 <= limits.action < 0.6
    assert sum(decide(r.video, r.action, limits)[0] != "none" for r in faultless) <= 2  # one by each share
    with pytest.raises(ValueError, match="cannot be calibrated"):
        calibrate([])


def test_confidence_grows_with_the_distance_from_the_limits() -> None:
    limits = Limits(0.2, 0.2)
    sure, unsure = decide(0.9, 0.0, limits), decide(0.25, 0.0, limits)
    assert sure[0] == unsure[0] == "video" and sure[1] == 1.0 > unsure[1] > 0.0
