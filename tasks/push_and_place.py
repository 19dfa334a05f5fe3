"""Push the red cube to the yellow zone and place the blue one on the plate: two commands in a row."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, push_cube, skills

RADIUS, RIM = 0.04, 0.008  # on the plate, and its height


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the scene of PushCube with a blue cube that stands in no way."""
    for _ in range(1000):
        placed = push_cube.place_towards(rng, 0.0, 1.75)
        blue = rng.uniform((-0.16, -0.16), (0.10, 0.16))
        red, zone, plate = (np.array([placed[n].x, placed[n].y]) for n in ("red_cube", "zone", "plate"))
        along = np.clip((blue - red) @ (zone - red) / np.sum((zone - red) ** 2), -0.4, 1.2)
        if np.linalg.norm(red + along * (zone - red) - blue) > 0.085 and np.linalg.norm(blue - plate) > 0.12:
            return {**placed, "blue_cube": Placement(float(blue[0]), float(blue[1]), float(rng.uniform(-0.4, 0.4)))}
    raise RuntimeError("no room for a second cube")


def on_plate(view: View) -> bool:
    """The blue cube rests on the plate."""
    level = abs(predicates.bottom(view, "blue_cube") - RIM) < predicates.TOUCH
    return level and predicates.distance(view, "blue_cube", "plate") < RADIUS and view.touching("blue_cube", "plate")


def done(view: View) -> bool:
    """The red cube lies in the zone and the blue one on the plate, still, and no finger touches the blue one."""
    alone = predicates.clear_of_fingers(view, "blue_cube") and predicates.at_rest(view, "blue_cube")
    return push_cube.done(view) and on_plate(view) and alone


def expert(view: View) -> np.ndarray:
    """Pushes the red cube into the zone, then grasps the blue one and sets it down on the plate."""
    if view.grasped("red_cube") and view.width() > 0.02:
        return skills.release(view, "red_cube")
    inside = predicates.distance(view, "red_cube", "zone") < 0.7 * push_cube.RADIUS
    low = view.eef()[2] < view.table_z + 0.10
    if not inside and not view.grasped("blue_cube"):
        return push_cube.expert(view)
    if low and predicates.distance_of_hand(view, "red_cube") < 0.07 and not view.grasped("blue_cube"):
        return skills.back_off(view, "red_cube", float(view.size("red_cube")[2]) + push_cube.HALF_FINGER)
    if on_plate(view):
        return skills.release(view, "blue_cube")
    if view.grasped("blue_cube"):
        return skills.put(view, "blue_cube", view.pos("plate") + [0, 0, RIM + view.size("blue_cube")[2]], 0.025)
    return skills.grasp(view, "blue_cube", view.pos("blue_cube"), skills.grip_yaw(view, "blue_cube", ("red_cube",)))


TASK = Task(
    name="PushAndPlace",
    version=0,
    verb="push, place on",
    novelty="composition",
    instruction="push the red cube to the yellow zone, then place the blue cube on the plate",
    motion="slide the red cube over the table onto the yellow square with closed fingers, then close them around the "
    "blue cube, raise it, lower it onto the white plate and open",
    about="The red cube must be pushed and the blue one must not: the same scene, two verbs, in this order.",
    nearest="PushCube",
    objects=("red_cube", "blue_cube", "plate", "zone"),
    place=place,
    stages=(
        Stage(
            "halfway",
            0.1,
            lambda v: predicates.distance(v, "red_cube", "zone") < push_cube.NEAR and push_cube.pushed(v),
        ),
        Stage("zone", 0.2, push_cube.done, after="halfway", meanwhile=push_cube.pushed),
        Stage("grasp blue", 0.1, lambda v: predicates.held(v, "blue_cube"), after="zone"),
        Stage("placed", 0.6, done, after="grasp blue"),
    ),
    success=done,
    expert=expert,
    horizon=360,
)
