"""What makes a policy's answer a valid plan."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from wambench.interface import ControlConvention, InvalidPlan, Plan, read_only

TOLERANCE = 1e-6  # float32 rounding of an action at its limit


def validate_plan(plan: Plan, convention: ControlConvention) -> Plan:
    """Returns a copy of the plan that nobody can change any more, actions (H, A) float64 within the limits.

    Raises InvalidPlan, saying what is wrong, if it is no plan under `convention`.
    """
    plan = without_tensors(plan)
    actions = np.array(plan.actions, dtype=np.float64)
    if actions.ndim != 2 or len(actions) == 0 or actions.shape[1] != convention.action_dim:
        raise InvalidPlan(f"actions have shape {actions.shape}, expected (H, {convention.action_dim}) with H > 0")
    if not math.isfinite(np.abs(actions).max()):
        raise InvalidPlan("actions hold NaN or infinity")
    actions = _within_limits(actions, convention)
    execute = len(actions) if plan.execute is None else int(plan.execute)
    if not 0 < execute <= len(actions):
        raise InvalidPlan(f"execute is {execute}, expected 1 to {len(actions)}")
    frames, frame_steps = _checked_frames(plan, convention)
    timings = {name: float(s) for name, s in plan.timings.items()}
    return Plan(read_only(actions), execute, frames, frame_steps, timings, _checked_hands(plan, frames))


def _within_limits(actions: np.ndarray, convention: ControlConvention) -> np.ndarray:
    """Returns the actions without what rounding put outside the convention's limits; more than that is refused."""
    low, high = convention.limits()
    beyond = np.maximum(low - actions, actions - high)
    row, column = np.unravel_index(int(beyond.argmax()), beyond.shape)
    if beyond[row, column] > TOLERANCE:
        limits = f"[{low[column]:g}, {high[column]:g}], the limits of its number {column}"
        raise InvalidPlan(f"an action of {actions[row, column]:.6g} is out of range {limits}")
    return actions.clip(low, high) if beyond[row, column] > 0 else actions


def without_tensors(plan: Plan) -> Plan:
    """Returns the plan with arrays in place of tensors, whatever their device, type (bfloat16 too) and gradients.

    Raises InvalidPlan if it is no plan.
    """
    if not isinstance(plan, Plan):
        raise InvalidPlan(f"act returned {type(plan).__name__}, not a Plan")
    values = {name: getattr(plan, name) for name in ("actions", "frames", "frame_steps", "frame_hands")}
    return dataclasses.replace(plan, **{name: _array(value) for name, value in values.items()})


def _array(value: object) -> Any:
    """Returns a tensor as an array; anything else as it is. torch is not imported for it."""
    if not hasattr(value, "detach"):
        return value
    tensor = value.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()  # NumPy knows no bfloat16


def _checked_hands(plan: Plan, frames: np.ndarray | None) -> np.ndarray | None:
    """Returns a copy of where the policy places the hand in its frames."""
    if plan.frame_hands is None:
        return None
    if frames is None:
        raise InvalidPlan("frame_hands are given without frames")
    hands = np.array(plan.frame_hands, np.float64)
    if hands.shape != (len(frames), 4) or not np.isfinite(hands).all():
        raise InvalidPlan(f"frame_hands are {hands.shape}, expected ({len(frames)}, 4) finite numbers")
    return read_only(hands)


def _checked_frames(plan: Plan, convention: ControlConvention) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Returns copies of the imagined frames and their steps."""
    if plan.frames is None and plan.frame_steps is None:
        return None, None
    if plan.frames is None or plan.frame_steps is None:
        raise InvalidPlan("frames and frame_steps must be given together")
    frames, steps = np.array(plan.frames), np.array(plan.frame_steps)
    canvas = (convention.image_size[0], convention.image_size[1] * len(convention.cameras), 3)
    if frames.dtype != np.uint8 or frames.shape[1:] != canvas:
        raise InvalidPlan(
            f"frames are {frames.dtype} {frames.shape}, expected uint8 (T, {', '.join(map(str, canvas))})"
        )
    if steps.shape != frames.shape[:1] or steps.dtype.kind not in "iu":
        raise InvalidPlan(f"frame_steps are {steps.dtype} {steps.shape}, expected integers ({len(frames)},)")
    if (np.diff(steps) <= 0).any() or (steps < 0).any():
        raise InvalidPlan(f"frame_steps must rise from 0 or later, not {steps.tolist()}")
    return read_only(frames), read_only(steps.astype(np.int64))
