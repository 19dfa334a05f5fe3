from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from tests.attribution import planted
from wambench.attribution import failure_types, replay
from wambench.attribution.failure_types import TYPES, Measures, Trace, classify, measure

HZ = 20.0
# A hand that came to the target, closed around it and carried it somewhere else.
USUAL = Measures(
    success=False, undone=False, last_stage_s=4.0, still_s=0.2, near_m=0.01, near_other_m=0.2, visits_goal=False,
    travelled=1.0, touched_s=2.0, touched_other_s=0.0, held_s=1.5, held_other_s=0.0, other_moved_m=0.0, holds=True,
    lifted_m=0.1, along=0.5, pushed_m=0.0, slipped=False, closes="at", left_out=0,
)  # fmt: skip
UNTOUCHED = {"touched_s": 0.0, "held_s": 0.0, "lifted_m": 0.0, "along": 0.0}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"success": True}, ""),
        ({}, "position"),
        ({"undone": True}, "timing"),
        ({"last_stage_s": 0.5}, "timing"),
        ({**UNTOUCHED, "near_m": 0.3, "travelled": 0.4, "closes": "away"}, "timing"),  # still on its way
        ({**UNTOUCHED, "near_m": 0.3, "travelled": 0.4, "still_s": 4.0, "closes": "never"}, "stall"),
        ({"still_s": 4.0}, "position"),  # it went all the way, and waits in the wrong place
        ({**UNTOUCHED, "touched_other_s": 1.0, "held_other_s": 1.0}, "wrong object"),
        ({**UNTOUCHED, "near_m": 0.2, "near_other_m": 0.02}, "wrong object"),
        ({**UNTOUCHED, "near_m": 0.03, "near_other_m": 0.02, "closes": "at"}, "missed grasp"),  # too close to call
        ({**UNTOUCHED, "near_m": 0.03, "closes": "at"}, "missed grasp"),
        ({**UNTOUCHED, "near_m": 0.03, "closes": "late"}, "timing"),
        ({**UNTOUCHED, "near_m": 0.2, "closes": "away", "visits_goal": True}, "step omitted"),
        ({"left_out": 1}, "step omitted"),
        ({"slipped": True}, "slip"),
        ({"along": -0.8}, "wrong verb"),
        ({"holds": False}, "wrong verb"),  # taken, where the expert pushes
        ({"held_s": 0.0, "lifted_m": 0.0, "pushed_m": 0.08, "closes": "away"}, "wrong verb"),  # pushed, not taken
    ],
)
def test_rules_on_constructed_measures(changes: dict[str, object], expected: str) -> None:
    assert classify(dataclasses.replace(USUAL, **changes)) == expected  # type: ignore[arg-type]


def still_life(steps: int = 60) -> Trace:
    """Returns a hand at rest, 20 cm from a cube and 30 cm from a bin."""
    places = np.tile(np.array([[0.2, 0.0, 0.0], [0.0, 0.3, 0.0]]), (steps, 1, 1))
    never = np.zeros((steps, 2), bool)
    zeros, hand = np.zeros(steps), np.zeros((steps, 3))
    return Trace(
        ("cube", "bin"), HZ, hand, zeros + 0.08, never[:, 0], places, places[..., 0] * np.nan, never, never, zeros,
        never[:, 0], False,
    )  # fmt: skip


def expert() -> Trace:
    """Returns one who goes to the cube, holds it, and carries it to the bin."""
    still, steps = still_life(), 60
    part = np.linspace(0.0, 1.0, steps // 2)[:, None]
    cube, basin = still.places[0]
    way = np.concatenate([part * cube, cube + part * (basin - cube)])
    places, held = still.places.copy(), still.held.copy()
    places[steps // 2 :, 0], held[steps // 2 :, 0] = way[steps // 2 :], True
    closing, success = held[:, 0].copy(), held[:, 0].copy()
    success[:-1] = False
    return dataclasses.replace(
        still, hand=way, places=places, held=held, touched=held, closing=closing, success=success
    )


def test_measures_of_the_expert_itself_are_those_of_a_success() -> None:
    found = measure(expert(), expert())
    assert found.success and classify(found) == ""
    assert found.holds and found.held_s == pytest.approx(1.5) and found.closes == "at"
    assert found.along == pytest.approx(1.0) and found.travelled == pytest.approx(1.0)
    assert found.near_m == pytest.approx(0.0, abs=1e-9) and not found.visits_goal  # the cube was in the hand


def test_measures_of_who_does_nothing() -> None:
    found = measure(still_life(), expert())
    assert found.still_s == pytest.approx(3.0) and found.travelled == 0.0
    assert found.near_m == pytest.approx(0.2) and math.isinf(found.near_other_m)  # the bin is the goal
    assert classify(found) == "stall"


def test_losing_a_thing_is_a_slip_only_if_the_fingers_kept_closing() -> None:
    own = expert()
    held = own.held.copy()
    held[42:] = False
    lost = dataclasses.replace(own, held=held, success=np.zeros(60, bool))
    assert measure(lost, expert()).slipped
    opened = own.closing.copy()
    opened[40:] = False
    assert not measure(dataclasses.replace(lost, closing=opened), expert()).slipped


def test_an_expert_that_touches_nothing_tells_nothing() -> None:
    with pytest.raises(ValueError, match="touches nothing"):
        measure(expert(), still_life())


CASES = [(name, *cases[0]) for name, cases in planted.PLANTED.items()]


@pytest.mark.slow
@pytest.mark.parametrize(("truth", "task", "act"), CASES, ids=[f"{truth}-{task}" for truth, task, _ in CASES])
def test_planted_failures_are_told_from_recorded_states(truth: str, task: str, act: planted.Act) -> None:
    sim, episode = planted.play(task, act)
    assert not episode.success_end
    assert replay.behaviour(sim, episode) == truth


def test_success_has_no_type_and_every_type_is_planted() -> None:
    sim, episode = planted.play("PressButton", planted.expert("PressButton"))
    assert episode.success_end and replay.behaviour(sim, episode) == ""
    assert set(planted.PLANTED) == set(TYPES) and len(failure_types.TYPES) == 8


def test_replay_ends_as_the_episode_did() -> None:
    sim, episode = planted.play("PushCube", planted.slowed(0.3))
    own = replay.trace(sim, episode)
    assert len(own.hand) == episode.steps + 1
    assert own.progress[-1] == episode.progress and own.success[-1] == episode.success_end


def test_episode_without_queries_is_refused() -> None:
    sim, episode = planted.play("PressButton", planted.expert("PressButton"))
    with pytest.raises(ValueError, match="no query was recorded"):
        replay.behaviour(sim, dataclasses.replace(episode, chunks=()))
