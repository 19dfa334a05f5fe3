"""How an episode failed, as an onlooker would see it: the type exists for every policy, with video or without.

The types are those of the failure taxonomies of manipulation (AHA's and RoboFAC's: wrong object, wrong sequence, grasp,
slip, position, timing, omission), decided here on privileged state. What the task is about is not written down
anywhere: it is read off the expert, who plays the same scene. The objects it touches or moves are the targets, those it
brings them to are the goals, and how it moves them is the verb.

There are two steps, both pure: `measure` compares the trace of an episode with the expert's, and `classify` decides on
the numbers, by the first rule that holds. All lengths are in m, times in s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

TYPES = (
    "wrong object", "wrong verb", "slip", "missed grasp", "timing", "step omitted", "stall", "position",
)  # fmt: skip

# Tuned on planted failures (tests/attribution/planted.py); docs/attribution.md reports other episodes of them.
CONTACT_S = 0.15  # a shorter touch is a brush
HOLD_S = 0.25  # a shorter grasp is no hold
SUSTAINED_S = 0.5  # an object held as long is taken
NEAR_M = 0.06  # a hand so close to an object is at it
MOVED_M = 0.02  # an object that moved less has rested
LIFTED_M = 0.03  # an object held so high is lifted
PUSHED_M = 0.03  # an object that closed fingers moved so far is pushed
CLOSED_M = 0.03  # fingers with less between them are closed
STILL_M = 0.01  # a hand that moves less stands still,
STILL_S = 2.0  # and if it does so for as long, it has stalled
LATE_S = 2.0  # a stage reached so shortly before the end: the episode ended on the way
SHIFT_S = 1.0  # fingers that close so much too early or too late are a matter of timing
OPPOSITE = -0.4  # of the expert's motion
WHOLE = 0.8  # of the expert's way: who has come so far has not stopped, but arrived somewhere else


@dataclass(frozen=True)
class Trace:
    """Privileged state at every control step of an episode, T steps, N objects.

    Attributes:
        objects: Names of the objects.
        control_hz: Steps per second.
        hand: (T, 3) grip site.
        width: (T,) distance between the fingers.
        closing: (T,) bool: the last action closes the fingers.
        places: (T, N, 3) key point of each object: its handle or knob if it has one, else its origin.
        joints: (T, N) position of its joint as a share of the range, NaN without a joint.
        touched, held: (T, N) bool: a finger touches it; it is between both.
        progress: (T,) in [0, 1].
        success: (T,) bool: the predicate holds.
        success_ever: It held for half a second at some time.
    """

    objects: tuple[str, ...]
    control_hz: float
    hand: np.ndarray
    width: np.ndarray
    closing: np.ndarray
    places: np.ndarray
    joints: np.ndarray
    touched: np.ndarray
    held: np.ndarray
    progress: np.ndarray
    success: np.ndarray
    success_ever: bool

    def displacements(self) -> np.ndarray:
        """Returns (N,) the largest distance of each object from where it started."""
        return np.asarray(np.linalg.norm(self.places - self.places[0], axis=2).max(axis=0))

    def hand_distances(self) -> np.ndarray:
        """Returns (T, N) distances of the hand from the objects."""
        return np.asarray(np.linalg.norm(self.places - self.hand[:, None], axis=2))


@dataclass(frozen=True)
class Measures:
    """What the type of a failure is decided on; a target is an object that the expert handles, the rest are others.

    Attributes:
        success: At the end.
        undone: It had succeeded for half a second, and not at the end.
        last_stage_s: From the last stage reached to the end; infinite if none was.
        still_s: How long the hand has stood still at the end.
        near_m, near_other_m: Closest approach of the hand to a target; to an other object that is no goal.
        visits_goal: The hand came to a goal although no target was touched before.
        travelled: Length of the hand's way, as a share of the expert's.
        touched_s, touched_other_s: Time in contact.
        held_s, held_other_s: Time held by both fingers.
        other_moved_m: Largest displacement of an other object.
        holds: The expert holds a target.
        lifted_m: How far a target was raised while held.
        along: Motion of the target moved most, along the expert's motion of it and as a share of it, at the end.
        pushed_m: Displacement of a target with closed fingers against it.
        slipped: A target held by closing fingers was lost and not taken again.
        closes: Where the fingers closed first: "at" a target, "early" or "late" on the way to or from it, "away" from
            all targets, or "never".
        left_out: Targets never touched although another one was brought where it belongs.
    """

    success: bool
    undone: bool
    last_stage_s: float
    still_s: float
    near_m: float
    near_other_m: float
    visits_goal: bool
    travelled: float
    touched_s: float
    touched_other_s: float
    held_s: float
    held_other_s: float
    other_moved_m: float
    holds: bool
    lifted_m: float
    along: float
    pushed_m: float
    slipped: bool
    closes: str
    left_out: int


def classify(m: Measures) -> str:
    """Returns the type of a failure, one of `TYPES`, or "" of a success: the first rule that holds, causes first."""
    if m.success:
        return ""
    rules = (
        ("timing", m.undone),
        ("wrong object", _wrong_object(m)),
        ("slip", m.holds and m.slipped),
        ("wrong verb", _wrong_verb(m)),
        ("timing", m.holds and m.held_s < CONTACT_S and m.closes in ("early", "late")),
        ("missed grasp", m.holds and m.held_s < CONTACT_S and m.closes == "at"),
        ("timing", (m.last_stage_s < LATE_S or m.travelled < WHOLE) and m.still_s < STILL_S / 2),
        ("step omitted", m.visits_goal),
        ("stall", m.still_s >= STILL_S and m.travelled < WHOLE),
        ("step omitted", m.left_out > 0),
    )
    return next((name for name, holds in rules if holds), "position")


def _wrong_object(m: Measures) -> bool:
    """Returns whether another object was handled and no target, or the hand went to another one and touched nothing."""
    if m.touched_s >= CONTACT_S:
        return m.held_other_s >= HOLD_S > m.held_s and m.holds
    handled = m.held_other_s >= CONTACT_S or (m.touched_other_s >= CONTACT_S and m.other_moved_m > MOVED_M / 2)
    return handled or m.near_other_m < min(NEAR_M, m.near_m - MOVED_M)


def _wrong_verb(m: Measures) -> bool:
    """Returns whether a target moved the other way, or was taken instead of pushed, or pushed instead of taken."""
    takes = not m.holds and m.held_s >= SUSTAINED_S and (m.lifted_m > LIFTED_M or m.held_s > 2 * SUSTAINED_S)
    pushes = m.holds and m.held_s < CONTACT_S and m.pushed_m > PUSHED_M and m.closes not in ("early", "late")
    return (m.touched_s >= HOLD_S and m.along < OPPOSITE) or takes or pushes


def measure(own: Trace, expert: Trace) -> Measures:
    """Returns what an episode did, compared with what the expert does in the same scene.

    Raises:
        ValueError: The expert touches nothing: there is no telling what the task is about.
    """
    hz = own.control_hz
    target = (expert.touched.sum(axis=0) >= CONTACT_S * hz) | (expert.displacements() > MOVED_M)
    if not target.any():
        raise ValueError("the expert touches nothing in this scene: no telling what the task is about")
    goal = _find_goals(expert, target)
    other = ~target
    near = own.hand_distances()

    def seconds(what: np.ndarray, which: np.ndarray) -> float:
        return float(what[:, which].any(axis=1).sum() / hz) if which.any() else 0.0

    def closest(which: np.ndarray) -> float:
        return float(near[:, which].min()) if which.any() else math.inf

    stages = np.flatnonzero(np.diff(own.progress) > 0)
    begun = int(np.argmax(own.touched[:, target].any(axis=1))) if own.touched[:, target].any() else len(own.hand)
    along = [_share_along(own, expert, i) for i in np.flatnonzero(target)]
    done = target & (own.displacements() > MOVED_M)
    return Measures(
        success=bool(own.success[-1]),
        undone=own.success_ever and not own.success[-1],
        last_stage_s=(len(own.progress) - 1 - int(stages[-1])) / hz if len(stages) else math.inf,
        still_s=_count_still(own) / hz,
        near_m=closest(target),
        near_other_m=closest(other & ~goal),
        visits_goal=bool(goal.any() and (near[:begun, goal] < NEAR_M).any()),
        travelled=_way_length(own) / max(_way_length(expert), 1e-9),
        touched_s=seconds(own.touched, target),
        touched_other_s=seconds(own.touched, other),
        held_s=seconds(own.held, target),
        held_other_s=seconds(own.held, other),
        other_moved_m=float(own.displacements()[other].max()) if other.any() else 0.0,
        holds=bool((expert.held[:, target].sum(axis=0) >= HOLD_S * hz).any()),
        lifted_m=_height_lifted(own, target),
        along=max(along, key=abs),
        pushed_m=_way_pushed(own, target),
        slipped=any(_has_slipped(own, i) for i in np.flatnonzero(target)),
        closes=_find_closing(own, target),
        left_out=int((target & ~own.touched.any(axis=0)).sum()) if done.any() else 0,
    )


def _find_goals(expert: Trace, target: np.ndarray) -> np.ndarray:
    """Returns (N,) bool: objects that are no targets, and that a target was brought to from further away."""
    apart = np.linalg.norm(expert.places[:, :, None, :2] - expert.places[:, None, :, :2], axis=3)  # (T, N, N)
    brought = (apart[-1] < NEAR_M) & (apart[0] > NEAR_M)
    return np.asarray(brought[:, target].any(axis=1) & ~target)


def _count_still(own: Trace) -> int:
    """Returns for how many steps hand and fingers have stood where they stand at the end."""
    away = np.linalg.norm(own.hand - own.hand[-1], axis=1) + np.abs(own.width - own.width[-1])
    moving = np.flatnonzero(away > STILL_M)
    return len(away) - 1 - int(moving[-1]) if len(moving) else len(away)


def _way_length(trace: Trace) -> float:
    return float(np.linalg.norm(np.diff(trace.hand, axis=0), axis=1).sum())


def _share_along(own: Trace, expert: Trace, item: int) -> float:
    """Returns how far an object has come on the expert's way, as a share of it; 0 if the expert does not move it."""
    if math.isfinite(own.joints[0, item]):
        whole = expert.joints[-1, item] - expert.joints[0, item]
        part = own.joints[-1, item] - own.joints[0, item]
        return float(part / whole) if abs(whole) > 0.1 else 0.0
    way, moved = (trace.places[-1, item] - trace.places[0, item] for trace in (expert, own))
    length = float(np.linalg.norm(way))
    return float(moved @ way / length**2) if length > MOVED_M else 0.0


def _height_lifted(own: Trace, target: np.ndarray) -> float:
    height = own.places[..., 2] - own.places[0, :, 2]
    return float(np.where(own.held & target, height, 0.0).max())


def _way_pushed(own: Trace, target: np.ndarray) -> float:
    """Returns the longest way of a target while closed fingers touched it and did not hold it."""
    steps = np.linalg.norm(np.diff(own.places, axis=0), axis=2)
    pushing = own.touched & ~own.held & target & (own.width < CLOSED_M)[:, None]
    return float((steps * pushing[1:]).sum(axis=0).max())


def _has_slipped(own: Trace, item: int) -> bool:
    """Returns whether the last hold of an object ended by itself, the fingers still closing."""
    held = own.held[:, item]
    hz = own.control_hz
    if held.sum() < HOLD_S * hz or own.success[-1]:
        return False
    last = int(np.flatnonzero(held)[-1])
    closing = own.closing[max(0, last - 2) : last + 1]
    return bool(closing.all() and len(held) - 1 - last >= SUSTAINED_S * hz)


def _find_closing(own: Trace, target: np.ndarray) -> str:
    """Returns where the open fingers closed for the first time that matters: at a target if they ever did."""
    began = np.flatnonzero(~own.closing[:-1] & own.closing[1:]) + 1
    if len(began) == 0:
        return "never"
    away = own.hand_distances()[:, target].min(axis=1)
    shift = round(SHIFT_S * own.control_hz)
    if (away[began] < NEAR_M).any():
        return "at"
    for step in began:
        if (away[step : step + shift] < NEAR_M / 2).any():
            return "early"
        if (away[max(0, step - shift) : step] < NEAR_M / 2).any():
            return "late"
    return "away"
