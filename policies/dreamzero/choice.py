"""Which of several imagined futures is carried out: scores of key points, as pure functions.

Letters: N candidates, C key points. A key point is (x, y, z, presence): world coordinates in m, and presence in [0, 1].

Three ways (`CHOICES`). "agreement" takes the candidate that is most like the others. "goal" takes the one in which the
instruction comes nearest to success, as far as key points show it: a formula and a table of verbs, nothing is learned.
"random" is a control that computes what the others compute and then draws lots.

What the goal cannot see: the fingers, so a grasp and a letting go look alike; which way a drawer or a dial moves; where
an object stands above another; the second half of an instruction ("then press the button"); objects that the encoder
has no key point for. The table says what verbs mean that no demonstration acted out, which no trained policy is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from wambench.policies.perception import word_embedding
from wambench.policies.perception.encoder import HAND as HAND_POINTS

CHOICES = ("agreement", "goal", "random")
HAND = "hand"
# What becomes of the first named object: nothing but the hand at it, up, to the last named object, away from its place.
EFFECTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "touch": ("press", "depress", "reach", "touch", "wipe"),
        "lift": ("lift", "hoist", "raise", "pick", "take", "fetch", "catch"),
        "bring": (
            "place", "put", "deposit", "stack", "push", "pull", "slide", "sweep", "insert", "hang", "cover", "set",
            "sort", "load", "clear",
        ),
        "move": ("open", "close", "shut", "withdraw", "turn", "flip", "topple", "unstack", "switch", "uncover", "cook"),
    }
)  # fmt: skip
EFFECT_OF: Mapping[str, str] = MappingProxyType({verb: name for name, verbs in EFFECTS.items() for verb in verbs})
NAMED = 0.5  # total weight of present key points from which on an object counts as named
PRESENT = 0.5  # presence from which on a key point counts as being in the scene
# A hand as near as this is there. The shipped model's imagined hand is off by 41 mm on held-out demonstrations (its
# `val_hand_mm`), so that differences below it are mostly error.
REACHED_M = 0.05


BLIND = ("no_video_loss", "no_key_points")  # ablations whose imagined key points were never learned


def check_imagines(mode: str, ablation: str) -> None:
    """Raises ValueError if a policy imagines no key points, so that its futures cannot be told apart by them."""
    what = f"mode {mode}" if mode == "no_video" else f"ablation {ablation}" if ablation in BLIND else ""
    if what:
        raise ValueError(f"{what}: no key points are imagined to choose by; there are candidates=1 and choose=random")


@dataclass(frozen=True)
class Goal:
    """What an instruction asks for, as far as key points can show it.

    Attributes:
        effect: A name of `EFFECTS`.
        first, last: (C,) how much each key point is the first and the last named object; adds up to at most 1. The
            robot's own are none: "left" in "the left cube" is no finger.
        hand: Which key point is the hand.
    """

    effect: str
    first: Tensor
    last: Tensor
    hand: int


def goal_of(instruction: str, points: Sequence[str], slots: Tensor) -> Goal:
    """Returns the goal of an instruction: its first word that is in the table says the effect, "touch" if none is.

    "bring" with one object alone, as in "push the button", is "move".

    Args:
        instruction: What the policy was told.
        points: Names of the C key points.
        slots: (2, C) first and last named object (`scene.Words.slots`).

    Raises:
        ValueError: There is no key point of the hand.
    """
    if HAND not in points:
        raise ValueError(f"a goal needs the key point {HAND!r}; there are: {', '.join(points)}")
    first, last = slots * torch.tensor([float(name not in HAND_POINTS) for name in points])
    verbs = [EFFECT_OF[word] for word in word_embedding.words_of(instruction) if word in EFFECT_OF]
    effect = verbs[0] if verbs else "touch"
    if effect == "bring" and int(first.argmax()) == int(last.argmax()):
        effect = "move"
    return Goal(effect, first, last, list(points).index(HAND))


def is_readable(goal: Goal, now: Tensor) -> bool:
    """Returns whether what the goal needs is named and in the scene of `now`, (C, 4)."""
    needed = (goal.first, goal.last) if goal.effect == "bring" else (goal.first,)
    return all(float(weights @ now[:, 3]) >= NAMED for weights in needed)


def goal_scores(ends: Tensor, now: Tensor, goal: Goal) -> Tensor:
    """Returns (N,) how near each future comes to the goal, in m, more is nearer; all 0 if the goal cannot be read.

    score = effect - max(|hand - first|, REACHED_M), where the effect is the first object's rise ("lift"), its distance
    from where it is now ("move"), minus its horizontal distance to the last object ("bring"), or 0 ("touch").

    Args:
        ends: (N, C, 4) key points at the end of each future.
        now: (C, 4) key points now; their presence says what is in the scene.
        goal: Of the instruction.
    """
    if not is_readable(goal, now):
        return torch.zeros(len(ends))
    present = now[:, 3]
    first, last = _place(ends, goal.first * present), _place(ends, goal.last * present)
    before = _place(now, goal.first * present)
    reach = (ends[:, goal.hand, :3] - first).norm(dim=-1).clamp_min(REACHED_M)
    if goal.effect == "lift":
        effect = (first - before)[:, 2]
    elif goal.effect == "move":
        effect = (first - before).norm(dim=-1)
    elif goal.effect == "bring":
        effect = -(first - last)[:, :2].norm(dim=-1)
    else:
        effect = torch.zeros_like(reach)
    return effect - reach


def _place(points: Tensor, weights: Tensor) -> Tensor:
    """Returns (..., 3) the mean place of (..., C, 4) key points under (C,) weights."""
    return torch.einsum("c,...cx->...x", weights / weights.sum().clamp_min(1e-6), points[..., :3])


def agreement_scores(ends: Tensor, now: Tensor) -> Tensor:
    """Returns (N,) minus the sum of distances to the other futures, in m; two futures are always equal.

    A future is one vector of the coordinates of all key points that are in the scene now: where the model puts absent
    ones means nothing, and differs between futures as much as the rest.

    Args:
        ends, now: As of `goal_scores`.
    """
    places = ends[:, now[:, 3] > PRESENT, :3].flatten(1)
    return -torch.cdist(places, places).sum(dim=1)


def choose(how: str, ends: Tensor, now: Tensor, goal: Goal | None, generator: torch.Generator) -> int:
    """Returns the number of the future to carry out, the first of equal ones.

    Args:
        how: A name of `CHOICES`.
        ends, now: As of `goal_scores`.
        goal: Of the instruction; None for "agreement".
        generator: Draws lots for "random".
    """
    if how == "random":
        return int(torch.randint(len(ends), (1,), generator=generator))
    scores = agreement_scores(ends, now) if goal is None else goal_scores(ends, now, goal)
    return int(scores.argmax())
