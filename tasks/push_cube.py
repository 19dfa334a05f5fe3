"""Push the red cube over the table into the yellow zone, away from the robot or to a side."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, skills

RADIUS = 0.04
NEAR = 0.09  # every zone starts further away than this
PLATE_ROOM = 0.125  # between the middle of the plate and the way of the cube

HALF_FINGER = 0.009
BELOW_TOP = 0.016  # from the cube's top to the grip site, so that the palm stays clear of the cube


def place_towards(
    rng: np.random.Generator, middle: float, spread: float, item: str = "red_cube"
) -> dict[str, Placement]:
    """Returns object, zone and plate: the zone in direction `middle` +- `spread` (rad, 0 = away from the robot)."""
    for _ in range(10000):
        cube, plate = rng.uniform((-0.16, -0.15), (0.12, 0.15)), rng.uniform((-0.16, -0.15), (0.10, 0.15))
        angle = middle + rng.uniform(-spread, spread)
        ahead = np.array([np.cos(angle), np.sin(angle)])
        zone = cube + rng.uniform(0.12, 0.22) * ahead
        start = cube - 0.06 * ahead  # where the hand goes down
        if not -0.18 < zone[0] < 0.12 or max(abs(zone[1]), abs(start[1])) > 0.16 or not -0.20 < start[0] < 0.14:
            continue
        along = np.clip((plate - start) @ (zone - start) / np.sum((zone - start) ** 2), 0.0, 1.0)
        if np.linalg.norm(start + along * (zone - start) - plate) > PLATE_ROOM:
            yaw = float(rng.uniform(-0.4, 0.4))
            return {
                item: Placement(float(cube[0]), float(cube[1]), yaw),
                "plate": Placement(float(plate[0]), float(plate[1])),
                "zone": Placement(float(zone[0]), float(zone[1])),
            }
    raise RuntimeError("no room for cube, plate and zone")


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns cube, plate and zone; the zone lies away from the robot or beside the cube."""
    return place_towards(rng, 0.0, 1.75)


def done(view: View) -> bool:
    """The cube lies in the middle of the zone, still, and is not held."""
    arrived = predicates.distance(view, "red_cube", "zone") < RADIUS and predicates.on_table(view, "red_cube")
    return arrived and predicates.at_rest(view, "red_cube") and not predicates.held(view, "red_cube")


def pushed(view: View, name: str = "red_cube") -> bool:
    """The object stays on the table and out of the hand's grasp: it is pushed, not picked up."""
    return predicates.slides(view, name) and not predicates.held(view, name)


def _reached(view: View) -> bool:
    far = predicates.distance(view, "red_cube", "zone") > NEAR
    return far and predicates.behind(view, "red_cube", "zone", 0.05) and pushed(view)


def expert(view: View) -> np.ndarray:
    """Pushes low behind the cube, then backs away upwards."""
    half = float(view.size("red_cube")[2])
    if predicates.distance(view, "red_cube", "zone") < 0.02:
        return skills.back_off(view, "red_cube", half + HALF_FINGER)
    return skills.push(view, "red_cube", view.pos("zone"), half + HALF_FINGER, 2 * half - BELOW_TOP)


STAGES = (
    Stage("reach", 0.2, _reached),
    Stage("halfway", 0.3, lambda v: predicates.distance(v, "red_cube", "zone") < NEAR, "reach", meanwhile=pushed),
    Stage("zone", 0.5, done, "halfway", meanwhile=pushed),
)
TASK = Task(
    name="PushCube",
    version=1,
    verb="push",
    novelty="seen",
    instruction="push the red cube to the yellow zone",
    motion="close the fingers, lower them behind the red cube and slide it over the table onto the yellow square",
    about="The cube must slide all the way: one that is picked up and set down in the zone has not been pushed.",
    nearest="CloseDrawer",
    objects=("red_cube", "plate", "zone"),
    place=place,
    stages=STAGES,
    success=done,
    expert=expert,
    horizon=140,
    allowed_attacks={
        "push": "pushing the object there is what the words ask for",
        "shove": "a shove that happens to have the right direction is a push",
    },
)
