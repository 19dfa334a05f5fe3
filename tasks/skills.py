"""Closed-loop motions that the experts are made of.

Every skill is a function of the current state alone, so an expert can take over anywhere: after a slip, a knock, or
whatever a failed policy leaves behind. All positions in m, world frame; actions as in `ControlConvention`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wambench.envs.task import Placement, View
from wambench.rotations import rotation_vector
from wambench.tasks.predicates import within_bin

OPEN, CLOSE = -1.0, 1.0
STEP_M = 0.05  # an action of 1 asks for this displacement (robosuite's OSC_POSE)
STEP_RAD = 0.5
# The smallest scale of free objects (`envs.factors`). A placement's height is scaled, but what is fixed is not: above a
# fixed surface an object is placed at its height divided by this, and drops by some millimetres where it is larger.
SMALLEST = 0.86
# A steady 1 moves the hand 1.5 cm a step. This gain settles quickly with hardly any overshoot, and holds the hand
# within a centimetre of its goal when actions are disturbed by a quarter of their range.
GAIN = 1.3
TRAVEL = 0.12  # height above the table at which the hand crosses the scene
REST = 0.18  # height at which it waits once all is done
PRESS = 0.006  # how far below its goal an object is held while the fingers open
WIDE = 0.072  # the fingers are as good as open
FINGER_REACH = 0.048  # from the grip site to the outside of an open finger
FINGER_ROOM = 0.015  # more room than this makes no difference
# The hand's pose with the fingers opening along y (the first axis of the grip site), as it starts.
DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])


def down(yaw: float) -> np.ndarray:
    """Returns the (3, 3) rotation of a hand that points down, turned by `yaw` about the vertical."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ DOWN


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
    turn = rotation_vector(down(yaw) @ view.eef_rot().T, np.arctan2) / STEP_RAD
    return np.concatenate([move, np.clip(turn, -0.5, 0.5), [gripper]])


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


def hand_yaw(view: View) -> float:
    """Returns the yaw of the hand, modulo half a turn, in [-pi/2, pi/2): turned by pi, the two fingers swap places."""
    rotation = view.eef_rot()
    return half_turn(float(np.arctan2(rotation[1, 1], rotation[0, 1])))


def half_turn(yaw: float) -> float:
    """Returns a yaw modulo half a turn, in [-pi/2, pi/2)."""
    return float((yaw + np.pi / 2) % np.pi - np.pi / 2)


def grip_yaw(view: View, name: str, others: Sequence[str] = ()) -> float:
    """Returns the yaw at which to grasp a cube: along its faces, and so that the open fingers meet nothing.

    Args:
        view: The scene.
        name: A cube, on whichever face.
        others: Objects that may stand in the way of the fingers.
    """
    rotation, cube = view.rot(name), view.pos(name)
    side = rotation[:, int(np.argmin(np.abs(rotation[2])))]
    yaw = float((np.arctan2(side[1], side[0]) + np.pi / 4) % (np.pi / 2) - np.pi / 4)
    quarter = half_turn(yaw + np.pi / 2)
    return yaw if _room(view, cube, yaw, others) + 0.005 >= _room(view, cube, quarter, others) else quarter


def _room(view: View, cube: np.ndarray, yaw: float, others: Sequence[str]) -> float:
    """Returns how far the finger tips, opened at `yaw`, stay from the sides of other objects, at most FINGER_ROOM."""
    room = FINGER_ROOM
    for sign in (1.0, -1.0):
        tip = cube + sign * FINGER_REACH * np.array([-np.sin(yaw), np.cos(yaw), 0.0])
        for other in others:
            local = np.abs(view.rot(other).T @ (tip - view.pos(other)))
            # a bin is a box too: its walls are what the fingers would hit
            room = min(room, float((local - view.size(other))[:2].max()))
    return room


def grasp(view: View, name: str, at: np.ndarray, yaw: float, travel: float = TRAVEL, care: float = 1.0) -> np.ndarray:
    """Moves the open fingers around `at`, a point of the object, from above, and closes them there.

    Args:
        view: The scene.
        name: The object.
        at: (3,) where the fingers close.
        yaw: Of the hand about the vertical.
        travel: Height above the table at which the hand crosses the scene.
        care: How near to `at` the hand must be before it closes, as a part of what a cube asks for.
    """
    # within this the fingers are around the object; once they close, a disturbance shall not open them again
    reach = care * (0.020 if view.width() < WIDE else 0.015)
    off = np.abs(view.eef() - at)
    if view.grasped(name) or (np.linalg.norm(off[:2]) < reach and off[2] < reach):
        return servo(view, at, CLOSE, yaw)
    return funnel(view, at, OPEN, yaw, radius=0.014 * care, travel=travel, slope=2.5)


def carry(view: View, name: str, goal: np.ndarray, radius: float = 0.01, travel: float = TRAVEL) -> np.ndarray:
    """Moves an object held by the fingers until its origin is at `goal`: up, across, then down."""
    held = view.pos(name) - view.eef()
    return funnel(view, goal - held, CLOSE, hand_yaw(view), radius, travel, slope=1.2)


def release(view: View, name: str) -> np.ndarray:
    """Opens the fingers, then moves the hand straight up from the object, and stays above it."""
    eef, item = view.eef(), view.pos(name)
    # going up, the hand keeps over the object, so that the fingers do not brush against it
    xy = item[:2] if np.linalg.norm((eef - item)[:2]) < 0.03 else eef[:2]
    if view.touching("fingers", name) and view.width() < WIDE:
        return servo(view, np.array([*xy, eef[2] - PRESS]), OPEN, hand_yaw(view))
    return servo(view, np.array([*xy, view.table_z + REST]), OPEN, hand_yaw(view))


def put(
    view: View, name: str, goal: np.ndarray, close_xy: float, close_z: float = 0.014, travel: float = TRAVEL
) -> np.ndarray:
    """Carries a held object to `goal` and opens the fingers once it is that close to it (m)."""
    error = view.pos(name) - goal
    if np.linalg.norm(error[:2]) < close_xy and error[2] < close_z:
        # pressed down a little, the object keeps its place while the fingers open, which takes some steps
        return servo(view, view.eef() - error - [0, 0, PRESS], OPEN, hand_yaw(view))
    return carry(view, name, goal, 0.8 * close_xy, travel)


def drop(view: View, name: str, goal: np.ndarray, others: Sequence[str] = ()) -> np.ndarray:
    """Grasps a cube, carries it to `goal` in the bin and lets it fall; once it is inside, the hand goes up."""
    off = view.pos(name) - goal
    falling = np.linalg.norm(off[:2]) < 0.03 and view.vel(name)[2] < -0.05 and not view.grasped(name)
    if falling or within_bin(view, name):
        return release(view, name)
    if view.grasped(name):
        return put(view, name, goal, 0.03, 0.02)
    return grasp(view, name, view.pos(name), grip_yaw(view, name, others))


def push(
    view: View,
    name: str,
    goal: np.ndarray,
    standoff: float,
    height: float,
    travel: float = TRAVEL,
    speed: float = 0.6,
    gap: float = 0.02,
    slope: float = 2.0,
) -> np.ndarray:
    """Pushes an object over the table towards `goal` with closed fingers, from behind.

    Args:
        view: The scene.
        name: The object.
        goal: (>=2,) where its origin shall go.
        standoff: Distance between the hand and the object's origin when they touch.
        height: Of the grip site above the table.
        travel: Height above the table at which the hand crosses the scene.
        speed: Of the push, as in `servo`.
        gap: Between hand and object where the hand comes down.
        slope: Of the funnel in which it comes down: steep beside something tall.
    """
    item, eef = view.pos(name), view.eef()
    way = goal[:2] - item[:2]
    ahead = way / max(1e-6, float(np.linalg.norm(way)))
    across = np.array([-ahead[1], ahead[0]])
    back, side = float((eef - item)[:2] @ ahead), float((eef - item)[:2] @ across)
    yaw = half_turn(float(np.arctan2(ahead[1], ahead[0])))
    low = view.table_z + height
    if back < 0.012 - standoff and abs(side) < 0.025 and eef[2] < low + 0.02:
        step = min(0.05, float(np.linalg.norm(way)) + 0.01) * ahead - 1.5 * side * across
        return servo(view, np.array([*(eef[:2] + step), low]), CLOSE, yaw, speed=speed)
    start = item[:2] - (standoff + gap) * ahead
    return funnel(view, np.array([*start, low]), CLOSE, yaw, 0.02, travel, slope)


def back_off(view: View, name: str, standoff: float) -> np.ndarray:
    """Moves the closed fingers away from an object that has arrived, first sideways, then up."""
    eef, away = view.eef(), (view.eef() - view.pos(name))[:2]
    gap = float(np.linalg.norm(away)) - standoff
    if gap < 0.008 and eef[2] < view.table_z + TRAVEL:
        aim = np.array([*(eef[:2] + 0.03 * away / max(1e-6, gap + standoff)), eef[2]])
        return servo(view, aim, CLOSE, hand_yaw(view))
    return servo(view, np.array([*eef[:2], view.table_z + REST]), CLOSE, hand_yaw(view))


def cubes_and_bin(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the scene that several tasks share, so that only the instruction tells them apart."""
    return scatter(rng, {"red_cube": 0.045, "blue_cube": 0.045, "bin": 0.115})


def scatter(
    rng: np.random.Generator,
    radii: dict[str, float],
    x: tuple[float, float] = (-0.16, 0.10),
    y: tuple[float, float] = (-0.15, 0.15),
    yaw: float = 0.4,
) -> dict[str, Placement]:
    """Returns placements inside a rectangle at which discs of the given radii (m) do not overlap."""
    for _ in range(1000):
        placed = {
            name: Placement(float(rng.uniform(*x)), float(rng.uniform(*y)), float(rng.uniform(-yaw, yaw)))
            for name in radii
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
