"""What disturbs a demonstration, and when: numbers drawn before the episode begins, without a simulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# control steps, from and below: of a burst of disturbances, and of the pause between two
BURST, QUIET = (5, 25), (24, 56)
WANDER = (6, 28)  # control steps, from and below
LEARNER_TURN, EXPERT_TURN = (12, 44), (24, 48)  # control steps of a turn, from and below
# Largest part of the fastest motion that a wander takes: forwards, sideways, upwards, and about each axis. The hand
# turns about the vertical alone, as robots do that start with a turned base joint.
WANDERS = np.array([0.9, 0.9, 0.6, 0.03, 0.03, 0.2])


@dataclass(frozen=True)
class ActionNoise:
    """What disturbs a demonstration. How the expert answers a disturbance is what teaches a policy to recover.

    Disturbances come in bursts with quiet between them, because what noise does to the future cannot be foreseen: a
    model of the future learns from the quiet moments, among them those in which the expert makes up for a burst.

    Attributes:
        sigma: Standard deviation of an Ornstein-Uhlenbeck process on the six motion numbers (0: none).
        wander: Steps of smooth random motion at the start, so that the expert sets out from another place and angle.
        jolt: Probability that a burst begins with a shove of four steps.
        recovery: Probability that a burst is a recovery perturbation: the hand rises, as if the task were done, and the
            fingers may do the opposite of what they should; then the expert resumes.
    """

    sigma: float
    wander: int
    jolt: float
    recovery: float = 0.0


def draw_noise(rng: np.random.Generator) -> ActionNoise:
    """Returns the disturbance of one episode: a quarter of them has none beside the wander.

    Three quarters begin with a wander. Without it the hand always sets out from one place, all ways to an object lie in
    a narrow bundle, and a policy that is beside it descends where it is.
    """
    wander = int(rng.integers(*WANDER)) if rng.random() < 0.75 else 0
    if rng.random() < 0.25:
        return ActionNoise(0.0, wander, 0.0)
    return ActionNoise(float(rng.uniform(0.2, 0.6)), wander, 0.25, 0.4 if rng.random() < 0.6 else 0.0)


def draw_mild_noise(rng: np.random.Generator) -> ActionNoise:
    """Returns the disturbance of one video: half of them have none, and nobody shoves the arm."""
    if rng.random() < 0.5:
        return ActionNoise(0.0, 0, 0.0)
    wander = int(rng.integers(5, 20)) if rng.random() < 0.2 else 0
    return ActionNoise(float(rng.uniform(0.1, 0.3)), wander, 0.0)


def draw_wander(rng: np.random.Generator) -> np.ndarray:
    """Returns (6,) the motion of a wander, the same in each of its steps, in shares of the fastest motion."""
    return rng.uniform(-1.0, 1.0, 6) * WANDERS


def draw_bursts(steps: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Returns (first, past the last) step of every burst: `BURST` steps long, with `QUIET` steps between them."""
    bursts = []
    start = int(rng.integers(QUIET[1]))
    while start < steps:
        stop = start + int(rng.integers(*BURST))
        bursts.append((start, stop))
        start = stop + int(rng.integers(*QUIET))
    return bursts


def disturbances(
    noise: ActionNoise, steps: int, rng: np.random.Generator, bursts: list[tuple[int, int]] | None = None
) -> np.ndarray:
    """Returns (steps, 6) numbers to be added to the expert's motion in some bursts; None: without a pause."""
    out = np.zeros((steps, 6))
    for start, stop in [(0, steps)] if bursts is None else bursts:
        drift = np.zeros(6)
        shove = rng.uniform(-0.8, 0.8, 6) if rng.random() < noise.jolt else np.zeros(6)
        for i in range(start, min(stop, steps)):
            drift = 0.85 * drift + noise.sigma * np.sqrt(1 - 0.85**2) * rng.normal(size=6)
            out[i] = drift + (shove if i < start + 4 else 0)
    out[:, 3:] *= 0.3  # a turned hand is no use for learning to recover
    return out


def recovery_perturbations(
    noise: ActionNoise, steps: int, rng: np.random.Generator, bursts: list[tuple[int, int]]
) -> np.ndarray:
    """Returns (steps, 7): six numbers of motion that replace the expert's (NaN: none do), and a factor of its gripper.

    Policies stop too early, as if the task were done. Only demonstrations that go on from such a state cure that.
    """
    out = np.full((steps, 7), np.nan)
    out[:, 6] = 1.0
    for start, stop in bursts:
        if rng.random() < noise.recovery:
            out[start:stop, :6] = [*rng.uniform(-0.7, 0.7, 2), rng.uniform(0.2, 1.0), *rng.uniform(-0.1, 0.1, 3)]
            out[start:stop, 6] = -1.0 if rng.random() < 0.4 else 1.0
    return out


def draw_turns(steps: int, rng: np.random.Generator) -> np.ndarray:
    """Returns (steps,) bool, true where a learner drives: it begins, and then the expert and it take turns."""
    drives = np.zeros(steps, bool)
    start = 0
    while start < steps:
        stop = start + int(rng.integers(*LEARNER_TURN))
        drives[start:stop] = True
        start = stop + int(rng.integers(*EXPERT_TURN))
    return drives
