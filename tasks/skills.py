"""Closed-loop motions that the experts are made of.

Every skill is a function of the current state alone, so an expert can take over anywhere: after a slip, a knock, or
whatever a failed policy leaves behind. All positions in m, world frame; actions as in `Spec`.
"""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, View

OPEN, CLOSE = -1.0, 1.0
STEP_M = 0.05  # an action of 1 asks for this displacement (robosuite's OSC_POSE)
STEP_RAD = 0.5
# A goal 5 cm ahead moves the hand about 2 cm in a control step; this gain settles without overshoot.
GAIN = 0.9
TRAVEL = 0.12  # height above the table at which the hand crosses the scene
DOWN = np.diag([1.0, -1.0, -1.0])  # the hand's pose with the fingers opening along y


def down(yaw: float) -> np.ndarray:
    """Returns the (3, 3) rotation of a hand that points down, turned by `yaw` about the vertical."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ DOWN


def square_yaw(rotation: np.ndarray) -> float:
    """Returns the yaw of a square thing, modulo a quarter turn, in [-pi/4, pi/4]."""
    yaw = np.arctan2(rotation[1, 0], rotation[0, 0])
    return float((yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4)


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Returns the (3,) axis-angle of a (3, 3) rotation whose angle is well below pi."""
    axis = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    sine, cosine = np.linalg.norm(axis) / 2, (np.trace(rotation) - 1) / 2
    return axis * 0.5 if sine < 1e-9 else axis / (2 * sine) * np.arctan2(sine, cosine)


def servo(view: View, target: np.ndarray, gripper: float, yaw: float = 0.0, speed: float = 1.0) -> np.ndarray:
    """Returns the action that moves the grip site straight to `target`, hand pointing down at `yaw`.

    Args:
        target: (3,) position.
        gripper: OPEN or CLOSE.
        yaw: Of the hand about the vertical.
        speed: Largest component of the displacement, 1 = 5 cm a step.
    """
    move = GAIN * (target - view.eef()) / STEP_M
    move *= min(1.0, speed / max(1e-9, float(np.abs(move).max())))
    turn = rotation_vector(down(yaw) @ view.eef_rot().T) / STEP_RAD
    return np.concatenate([move, np.clip(turn, -0.5, 0.5), [gripper]])


def approach(view: View, target: np.ndarray, gripper: float, yaw: float = 0.0, radius: float = 0.015) -> np.ndarray:
    """Moves to `target` from above: up to the travel height, across, then down inside a column of `radius`."""
    eef = view.eef()
    away = float(np.linalg.norm(eef[:2] - target[:2]))
    safe = max(view.table_z + TRAVEL, target[2] + 0.05)
    if away < radius:
        return servo(view, target, gripper, yaw)
    if eef[2] < safe - 0.03 and away > 2 * radius:
        return servo(view, np.array([*eef[:2], safe + 0.02]), gripper, yaw)
    return servo(view, np.array([*target[:2], safe]), gripper, yaw)


def funnel(
    view: View,
    target: np.ndarray,
    gripper: float,
    yaw: float = 0.0,
    radius: float = 0.012,
    travel: float = TRAVEL,
    slope: float = 2.0,
    speed: float = 1.0,
) -> np.ndarray:
    """Moves to `target` from above along the surface of a funnel, so that the action is a continuous function of state.

    Args:
        target: (3,) position.
        gripper: OPEN or CLOSE.
        yaw: Of the hand about the vertical.
        radius: Inside this horizontal distance in m the hand goes straight to the target.
        travel: Height above the table, in m, at which the hand crosses the scene.
        slope: Of the funnel's wall: metres up per metre away.
        speed: As in `servo`.
    """
    eef = view.eef()
    away = float(np.linalg.norm(eef[:2] - target[:2]))
    ceiling = max(view.table_z + travel, target[2])
    height = min(ceiling, target[2] + slope * max(0.0, away - radius))
    across = float(np.clip(1.5 - (height - eef[2]) / 0.02, 0.0, 1.0))  # below the wall: up before across
    aim = np.array([*(eef[:2] + across * (target[:2] - eef[:2])), height])
    return servo(view, aim, gripper, yaw, speed)


def scatter(
    rng: np.random.Generator,
    radii: dict[str, float],
    x: tuple[float, float] = (-0.16, 0.10),
    y: tuple[float, float] = (-0.20, 0.20),
    yaw: float = 0.4,
) -> dict[str, Placement]:
    """Returns placements inside a rectangle at which discs of the given radii (m) do not overlap."""
    for _ in range(1000):
        placed = {
            name: Placement(float(rng.uniform(*x)), float(rng.uniform(*y)), float(rng.uniform(-yaw, yaw))) for name in radii
        }
        names = list(placed)
        gaps = [
            np.hypot(placed[a].x - placed[b].x, placed[a].y - placed[b].y) - radii[a] - radii[b]
            for i, a in enumerate(names)
            for b in names[:i]
        ]
        if not gaps or min(gaps) > 0:
            return placed
    raise RuntimeError(f"no room for {sorted(radii)} in {x} x {y}")
