"""Verdicts of the intervention and of the first divergence, from what their rollouts came to.

The intervention replaces one part of the policy in rollouts of the whole episode (`counterfactuals`); the first
divergence lets the expert take over at every recorded state (`first_divergence`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from wambench.attribution.shapley import CounterfactualProgress, shapley

# What a definition can answer. "timing": lost to latency alone; "stall": still solvable at the end; "instrument": the
# oracle itself failed; "contact": what is blamed cannot be reproduced; "abstain": frames that the tracker cannot read.
VERDICTS = ("video", "action", "both", "timing", "stall", "instrument", "contact", "abstain", "none")
# Both were chosen by hand; the self-test (docs/instrument.md) measures what they do.
SHARE = 0.25  # a part that carries less than this share of what was lost is not blamed
NOTICEABLE = 0.05  # progress: less lost than this is no failure


def intervention_verdict(progress: CounterfactualProgress, timing: float = 0.0) -> tuple[str, float]:
    """Returns the verdict of the intervention and its confidence in [0, 1].

    Every part is blamed that carries at least `SHARE` of what the instrument could recover; negative shares count as
    none. The confidence is the distance of the smaller share from that line, relative to the side it lies on.

    Args:
        progress: Of the four rollouts, at zero latency.
        timing: f(own, own) - recorded progress.
    """
    if timing >= max(NOTICEABLE, (1.0 - progress.own_own)):
        return "timing", min(1.0, timing / max(1e-9, timing + 1.0 - progress.own_own))
    shares = shapley(progress)
    if not math.isfinite(shares.video + shares.action):
        return "abstain", 0.0
    video = max(0.0, shares.video)
    action = max(0.0, shares.action)
    if video + action < NOTICEABLE:
        return ("instrument", 1.0) if shares.unattributed >= NOTICEABLE else ("none", 1.0)
    part = video / (video + action)
    minor = min(part, 1.0 - part)
    if minor >= SHARE:
        return "both", (minor - SHARE) / (0.5 - SHARE)
    return ("video" if part > 0.5 else "action"), (SHARE - minor) / SHARE


@dataclass(frozen=True)
class Fatal:
    """What came of playing the chunk that lost an episode again, with the expert taking over after it.

    Attributes:
        solvable_start: The expert succeeds from the first chunk.
        solvable_end: It still succeeds after the last one.
        readable: The tracker read some of the chunk's own frames.
        by_video: It fails after the chunk's own video was followed by the tracker.
        by_action: It fails after the chunk's own actions.
        by_action_prompt: It fails after the actions that the policy gives at zero latency; equal to `by_action` where
            there is no latency.
        oracle_video: It fails after the expert's own video was followed by the tracker (then nothing can be said).
        action_alone: It fails after the policy's actions for the expert's video (None: no `extract`).
    """

    solvable_start: bool
    solvable_end: bool
    readable: bool = True
    by_video: bool = False
    by_action: bool = False
    by_action_prompt: bool = False
    oracle_video: bool = False
    action_alone: bool | None = None


def first_divergence_verdict(fatal: Fatal) -> tuple[str, float]:
    """Returns the verdict of the first divergence, and its confidence: half where the oracle's way is slow, too."""
    confidence = 0.5 if fatal.oracle_video else 1.0
    if not fatal.solvable_start:
        return "instrument", 1.0
    if fatal.solvable_end:
        return "stall", 1.0
    if fatal.by_action and not fatal.by_action_prompt:
        return "timing", confidence
    if not fatal.readable:
        return "abstain", 0.0
    if fatal.by_video:
        return ("both" if fatal.action_alone else "video"), confidence
    return ("action" if fatal.by_action else "contact"), confidence
