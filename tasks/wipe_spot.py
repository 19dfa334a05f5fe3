"""Wipe the spot: sweep closed fingers over five low domes, which stay down where a finger has been."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wambench.envs.objects.mechanisms import SPOT_DOMES
from wambench.envs.task import Stage, Task, View
from wambench.tasks import predicates, skills

DOWN = 0.004  # m of travel: the brown dome is level with the table
TIP = 0.0105  # height of the grip site at which the finger tips are a millimetre above the table
LIFT = 8.0
SWEEP = 0.02  # m/s
CLOSED = 0.03  # m between the fingers: a cube that is dragged over the spot keeps them further apart
JOINTS = ("spot", *(f"spot/{i}" for i in range(1, len(SPOT_DOMES))))


def _standing(view: View) -> np.ndarray:
    """Returns the (n, 3) places of the domes that still stand out."""
    up = [view.joint(name) < DOWN for name in JOINTS]
    places = np.array([[x, y, 0.0] for (x, y), stands in zip(SPOT_DOMES, up, strict=True) if stands])
    return view.pos("spot") + places.reshape(-1, 3) @ view.rot("spot").T


def expert(view: View) -> np.ndarray:
    """Rubs with closed fingers over the nearest dome that stands out, and stays low between domes."""
    standing, eef = _standing(view), view.eef()
    if len(standing) == 0:
        return skills.servo(view, np.array([*eef[:2], view.table_z + 0.06]), skills.CLOSE, speed=0.5)
    nearest = standing[np.argmin(np.linalg.norm(standing[:, :2] - eef[:2], axis=1))]
    wide = float(np.clip((view.width() - 0.01) / 0.02, 0.0, 1.0))
    stuck = max(0.0, TIP - float(eef[2] - view.table_z))  # tips that press on the table do not slide
    aim = np.array([*nearest[:2], view.table_z + TIP + 0.05 * wide + LIFT * stuck])
    speed = 0.7 if eef[2] > view.table_z + 0.03 else 0.4
    return skills.funnel(view, aim, skills.CLOSE, radius=0.05, slope=1.5, speed=speed)


def _wiped(count: int) -> Callable[[View], bool]:
    return lambda view: len(JOINTS) - len(_standing(view)) >= count


def _swept(view: View) -> bool:
    """Closed fingers move over the spot, close above the table, and have wiped some of it; dabbing is not wiping."""
    if view.width() > CLOSED:
        return False
    over = predicates.distance_of_hand(view, "spot") < 0.06 and view.eef()[2] - view.table_z < TIP + 0.01
    return bool(over and np.linalg.norm(view.eef_vel()[:2]) > SWEEP and _wiped(1)(view))


is_clean = _wiped(len(JOINTS))

TASK = Task(
    name="WipeSpot",
    version=1,
    verb="wipe",
    novelty="motion",
    instruction="wipe the spot",
    motion="close the fingers, lower them onto the brown spot and sweep them back and forth over all of it",
    about="The fingers must glide a millimetre above the table: higher they miss the spot, lower they stick.",
    nearest="PushCube",
    objects=("spot", "blue_cube"),
    place=lambda rng: skills.scatter(rng, {"spot": 0.06, "blue_cube": 0.09}),
    stages=(
        Stage("sweep", 0.2, _swept),
        Stage("wiped 2", 0.1, _wiped(2), after="sweep"),
        Stage("wiped 3", 0.1, _wiped(3), after="wiped 2"),
        Stage("wiped 4", 0.1, _wiped(4), after="wiped 3"),
        Stage("clean", 0.5, is_clean, after="wiped 4"),
    ),
    success=is_clean,
    expert=expert,
    horizon=210,
)
