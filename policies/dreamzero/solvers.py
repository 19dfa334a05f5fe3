"""Flow sampling: noise levels, UniPC and Euler steps, and the joint loop over video and actions with velocity caching.

sigma = 1 is noise and 0 is clean; the velocity is noise - clean. UniPC (arXiv 2302.04867) here is order 2, "bh2", in
data prediction m = x - sigma v, with alpha = 1 - sigma and lambda = log(alpha / sigma). All its coefficients depend on
the schedule alone, so a step is a linear combination of tensors: nothing is read back from the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as functional
from torch import Tensor

from wambench.interface import unknown_name

SIGMA_MAX = float(torch.tensor(0.999, dtype=torch.float32))  # before the shift, as the release rounds it
STATIC_STEPS: dict[int, tuple[int, ...]] = {
    5: (0, 1, 2, 7, 12),
    6: (0, 1, 5, 10, 14, 15),
    7: (0, 1, 2, 6, 10, 14, 15),
    8: (0, 1, 2, 6, 10, 13, 14, 15),
}
# cosine of the last two velocities above which so many steps reuse the last one
DYNAMIC_SKIPS = ((0.95, 4), (0.93, 2))


@dataclass(frozen=True)
class SamplerConfig:
    """How a chunk is denoised.

    Attributes:
        steps: Solver steps.
        solver: "unipc" or "euler".
        shift: s of sigma = s u / (1 + (s - 1) u).
        video_final: Noise level at which the video's schedule ends, while actions go to 0 (Flash: 0.8).
        caching: "none", "static" (a fixed list of evaluated steps, for 16 steps) or "dynamic" (cosine rule).
        evaluations: Evaluated steps of the static list: 5, 6, 7 or 8.
    """

    steps: int = 16
    solver: str = "unipc"
    shift: float = 5.0
    video_final: float = 0.0
    caching: str = "static"
    evaluations: int = 8

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a sampler needs at least 1 step, got {self.steps}")
        if self.solver not in ("unipc", "euler"):
            raise unknown_name("solver", self.solver, ("unipc", "euler"))
        if self.caching not in ("none", "static", "dynamic"):
            raise unknown_name("caching", self.caching, ("none", "static", "dynamic"))
        if self.caching == "static" and self.steps != 16:
            raise ValueError(
                f"the static lists of evaluated steps are for 16 steps, not {self.steps}; use caching=none"
            )
        if self.caching == "static" and self.evaluations not in STATIC_STEPS:
            raise ValueError(f"no static list with {self.evaluations} evaluations; there are 5, 6, 7, 8")


# ------------------------------------------------------------------------------------------------- schedules


@dataclass(frozen=True)
class Schedule:
    """Noise levels: sigmas, n + 1 of them, and the integer timesteps that the model is told, n."""

    sigmas: tuple[float, ...]
    timesteps: tuple[int, ...]


def schedule(steps: int, shift: float = 5.0) -> Schedule:
    """Returns the release's levels: evenly spaced from 0.999 to 0, then shifted; timesteps are floor(1000 sigma)."""
    u = torch.linspace(SIGMA_MAX, 0.0, steps + 1, dtype=torch.float64)[:-1]
    sigma = shift * u / (1.0 + (shift - 1.0) * u)
    sigmas = torch.cat([sigma, torch.zeros(1, dtype=torch.float64)]).float()
    return Schedule(tuple(sigmas.tolist()), tuple((sigma * 1000.0).floor().long().tolist()))


def ending_at(levels: Schedule, final: float) -> Schedule:
    """Returns a schedule compressed so that it starts where it did and ends at `final`."""
    if final == 0.0:
        return levels
    sigmas = torch.tensor(levels.sigmas, dtype=torch.float32)
    sigmas = sigmas * ((sigmas[0] - final) / sigmas[0]) + final
    return Schedule(tuple(sigmas.tolist()), tuple((sigmas[:-1] * 1000.0).floor().long().tolist()))


# ------------------------------------------------------------------------------------------------- solvers


@dataclass(frozen=True)
class SolverState:
    """What a solver remembers: the corrected sample before (None at first) and the last clean predictions."""

    x: Tensor | None = None
    clean: tuple[Tensor, ...] = ()


def _lambda(sigma: float) -> float:
    return math.inf if sigma == 0.0 else math.log(1.0 - sigma) - math.log(sigma)


def correct(levels: Schedule, i: int, order: int, state: SolverState, m: Tensor) -> Tensor:
    """Returns the corrected sample of step i from the one before and the new clean prediction m."""
    s = levels.sigmas
    assert state.x is not None
    h = _lambda(s[i]) - _lambda(s[i - 1])
    g = -h
    e = math.expm1(-h)
    last = state.clean[-1]
    if order == 1:
        change = 0.5 * (m - last)
    else:
        r = (_lambda(s[i - 2]) - _lambda(s[i - 1])) / h
        f1 = e / g - 1.0
        b1, b2 = f1 / e, 2.0 * (f1 / g - 0.5) / e
        rho1 = (b2 - b1) / (r - 1.0)
        change = (rho1 / r) * (state.clean[-2] - last) + (b1 - rho1) * (m - last)
    return (s[i] / s[i - 1]) * state.x - ((1.0 - s[i]) * e) * (last + change)


def predict(levels: Schedule, i: int, order: int, x: Tensor, m: Tensor, before: Tensor | None) -> Tensor:
    """Returns the sample of step i + 1 from the corrected one of step i and the clean predictions m and `before`."""
    s = levels.sigmas
    h = _lambda(s[i + 1]) - _lambda(s[i])
    e = math.expm1(-h)
    if order == 2:
        assert before is not None
        r = (_lambda(s[i - 1]) - _lambda(s[i])) / h
        m = m + (0.5 / r) * (before - m)
    return (s[i + 1] / s[i]) * x - ((1.0 - s[i + 1]) * e) * m


def unipc_step(levels: Schedule, i: int, state: SolverState, x: Tensor, v: Tensor) -> tuple[Tensor, SolverState]:
    """Returns the sample of step i + 1 and the new state, from sample x and velocity v at step i.

    The clean prediction comes from the uncorrected x; from the second step on x is then corrected, with the order the
    predictor had before. The last step has order 1 and returns the clean prediction when it ends at sigma 0.
    """
    n = len(levels.timesteps)
    m = x - levels.sigmas[i] * v
    if i > 0:
        x = correct(levels, i, min(2, n - i + 1, i), state, m)
    order = min(2, n - i, i + 1)
    before = state.clean[-1] if state.clean else None
    return predict(levels, i, order, x, m, before), SolverState(x, (*state.clean[-1:], m))


def euler_step(levels: Schedule, i: int, state: SolverState, x: Tensor, v: Tensor) -> tuple[Tensor, SolverState]:
    """Returns the sample of step i + 1 along the velocity, and the state unchanged."""
    return x + (levels.sigmas[i + 1] - levels.sigmas[i]) * v, state


SOLVERS = {"unipc": unipc_step, "euler": euler_step}


# ------------------------------------------------------------------------------------------------- velocity caching


def static_mask(evaluations: int, steps: int = 16) -> tuple[bool, ...]:
    """Returns which steps are evaluated; every one for a number that has no list (the release's behaviour)."""
    chosen = STATIC_STEPS.get(evaluations, tuple(range(steps)))
    return tuple(i in chosen for i in range(steps))


def cosine(a: Tensor, b: Tensor) -> float:
    """Returns the cosine of two velocities (B, ...), flattened per sample, averaged over the batch."""
    return float(functional.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).mean())


@dataclass(frozen=True)
class DynamicRule:
    """Where the dynamic rule stands: steps still to skip, and whether the next one must be evaluated."""

    skip: int = 0
    forced: bool = False

    def decide(self, step: int, evaluated: list[Tensor]) -> tuple[bool, DynamicRule]:
        """Returns whether to evaluate this step, and the rule after it.

        Args:
            step: Index of the step.
            evaluated: The evaluated video velocities so far; the last two are compared.
        """
        if self.skip:
            return False, replace(self, skip=self.skip - 1)
        if step < 2 or self.forced:
            return True, DynamicRule()
        similarity = cosine(evaluated[-2], evaluated[-1])
        for threshold, steps in DYNAMIC_SKIPS:
            if similarity > threshold:
                return False, DynamicRule(skip=steps - 1, forced=True)
        return True, DynamicRule()


# ------------------------------------------------------------------------------------------------- joint loop


@dataclass(frozen=True)
class Step:
    """One step of the joint loop, for tests and attribution: samples before and after, and the velocities used."""

    index: int
    evaluated: bool
    video_in: Tensor
    action_in: Tensor
    video_velocity: Tensor
    action_velocity: Tensor
    video_out: Tensor
    action_out: Tensor


Velocity = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]


def levels_of(config: SamplerConfig) -> tuple[Schedule, Schedule]:
    """Returns the schedules of video and actions."""
    levels = schedule(config.steps, config.shift)
    return ending_at(levels, config.video_final), levels


def sample(
    velocity: Velocity,
    video: Tensor,
    action: Tensor,
    config: SamplerConfig,
    move_video: bool = True,
    move_action: bool = True,
    watch: Callable[[Step], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns video and action samples after denoising both, each with its own solver state and the same step index.

    Args:
        velocity: (step, video, action) -> (video velocity after guidance, action velocity).
        video: (B, ...) noise.
        action: (B, ...) noise; may be empty.
        config: Steps, solver, caching.
        move_video, move_action: False leaves that sample as it is.
        watch: Called after every step.
    """
    levels = levels_of(config)
    step = SOLVERS[config.solver]
    states = [SolverState(), SolverState()]
    mask = static_mask(config.evaluations if config.caching == "static" else 0, config.steps)
    rule = DynamicRule()
    evaluated: list[Tensor] = []
    v_video, v_action = torch.zeros_like(video), torch.zeros_like(action)
    for i in range(config.steps):
        run = mask[i]
        if config.caching == "dynamic":
            run, rule = rule.decide(i, evaluated)
        if run:
            v_video, v_action = velocity(i, video, action)
            evaluated = [*evaluated[-1:], v_video]
        before = video, action
        if move_video:
            video, states[0] = step(levels[0], i, states[0], video, v_video)
        if move_action:
            action, states[1] = step(levels[1], i, states[1], action, v_action)
        if watch is not None:
            watch(Step(i, run, *before, v_video, v_action, video, action))
    return video, action
