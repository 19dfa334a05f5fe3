"""What choosing costs: `python -m wambench.speed.candidates [ROUNDS]` prints the milliseconds of a query of DreamZero.

They are those of the processor (`time.process_time`, one thread), not of the clock on the wall: waiting for a core that
others use is not counted. Every round asks each variant once, so that whatever else the machine does to caches and
clock rates meets all of them, and ratios are taken round by round. Queries are those of the default play: one frame, an
empty cache.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from wambench.interface import ControlConvention, Observation
from wambench.policies.dreamzero.policy import DreamZero, DreamZeroOptions

CANDIDATES = (1, 4, 8)
LOOKAHEADS = (1, 2)
ROUNDS = 30
Variant = tuple[int, int]  # candidates, lookahead


def observation(convention: ControlConvention, step: int) -> Observation:
    """Returns a noisy picture and a hand over the table."""
    rng = np.random.default_rng(step)
    shape = (*convention.image_size, 3)
    images = {camera: rng.integers(0, 255, shape, dtype=np.uint8) for camera in convention.cameras}
    return Observation(step, images, np.array([-0.1, 0.0, 1.0, np.pi, 0.0, 0.0, 0.04, -0.04]))


def measure(variants: Mapping[Variant, DreamZero], rounds: int) -> dict[Variant, list[float]]:
    """Returns the milliseconds of the processor for each query of each variant, after one that warms up."""
    for policy in variants.values():
        policy.reset("push the red cube to the yellow zone", 0)
    took: dict[Variant, list[float]] = {variant: [] for variant in variants}
    for number in range(rounds + 1):
        for variant, policy in variants.items():
            history = [observation(policy.convention, number * policy.options.execute)]
            asked = time.process_time()
            policy.act(history)
            took[variant].append(1000.0 * (time.process_time() - asked))
    return {variant: times[1:] for variant, times in took.items()}


def table(took: Mapping[Variant, Sequence[float]]) -> str:
    """Returns the table: median, quartiles, and the median over rounds of the ratio to the first variant."""
    base = np.array(next(iter(took.values())))
    lines = ["| candidates | lookahead | ms a query, median [quartiles] | times the first line |", "|---|---|---|---|"]
    for (count, lookahead), times in took.items():
        low, middle, high = np.percentile(times, (25, 50, 75))
        ratio = float(np.median(np.array(times) / base))
        lines.append(f"| {count} | {lookahead} | {middle:.0f} [{low:.0f}, {high:.0f}] | {ratio:.1f} |")
    return "\n".join(lines)


def main(rounds: int) -> None:
    """Measures the shipped model on one core and prints the table."""
    torch.set_num_threads(1)
    # one candidate is not looked ahead with: nothing is compared
    pairs = [(count, ahead) for count in CANDIDATES for ahead in LOOKAHEADS if count > 1 or ahead == 1]
    variants = {pair: DreamZero(DreamZeroOptions(candidates=pair[0], lookahead=pair[1])) for pair in pairs}
    print(f"{rounds} rounds, {torch.get_num_threads()} thread")
    print(table(measure(variants, rounds)))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
