"""Sort the cubes by colour: two red ones into the red tray, two blue ones into the blue tray."""

from __future__ import annotations

import numpy as np

from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, skills
from wambench.tasks.place_in_bin import CLEAR

# The tray of each cube, and its own place in it (m, from the middle), so that they do not pile up.
GOALS = {
    "red_cube": ("red_tray", 0.026),
    "blue_cube": ("blue_tray", 0.026),
    "red_cube_2": ("red_tray", -0.026),
    "blue_cube_2": ("blue_tray", -0.026),
}
INNER = 0.054  # half the width of a tray between its walls


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the trays side by side at the far side, in either order, and the cubes in a row before them, in any."""
    side = float(rng.choice((-1.0, 1.0)))
    placed = {}
    for tray, y in (("red_tray", 0.10 * side), ("blue_tray", -0.10 * side)):
        dx, dy = rng.uniform(-0.015, 0.015, 2)
        placed[tray] = Placement(0.07 + float(dx), y + float(dy), float(rng.uniform(-0.1, 0.1)))
    for cube, y in zip(GOALS, rng.permutation([-0.165, -0.055, 0.055, 0.165]), strict=True):
        dx, dy = rng.uniform((-0.03, -0.012), (0.03, 0.012))
        placed[cube] = Placement(-0.11 + float(dx), float(y) + float(dy), float(rng.uniform(-0.4, 0.4)))
    return placed


def in_tray(view: View, cube: str, tray: str) -> bool:
    """The cube lies on the tray's floor, or between its walls on a cube there."""
    local = np.abs(view.rot(tray).T @ (view.pos(cube) - view.pos(tray)))[:2]
    low = predicates.bottom(view, cube)
    floor = low < predicates.BIN_FLOOR + predicates.TOUCH
    reach = local + np.abs((view.rot(tray).T @ view.rot(cube))[:2]) @ view.size(cube)
    between = reach.max() < INNER + 0.006 and low < predicates.BIN_WALL + 0.012
    return bool(low > -predicates.SINK and local.max() < INNER and (floor or between))


def is_sorted(view: View, cube: str) -> bool:
    """The cube lies in the tray of its colour, still, and no finger touches it."""
    alone = predicates.clear_of_fingers(view, cube) and predicates.at_rest(view, cube)
    return alone and in_tray(view, cube, GOALS[cube][0])


def done(view: View) -> bool:
    """Every cube lies in the tray of its colour."""
    return all(is_sorted(view, cube) for cube in GOALS)


def bring(view: View, cube: str) -> np.ndarray:
    """Grasps the cube, carries it over its tray and lets it fall; once it is inside, the hand goes up."""
    tray, along = GOALS[cube]
    goal = view.pos(tray) + view.rot(tray) @ [0.0, along, CLEAR + view.size(cube)[2]]
    off = view.pos(cube) - goal
    falling = np.linalg.norm(off[:2]) < 0.03 and view.vel(cube)[2] < -0.05 and not view.grasped(cube)
    if falling or in_tray(view, cube, tray):
        return skills.release(view, cube)
    if view.grasped(cube):
        return skills.put(view, cube, goal, 0.02, 0.02)
    others = tuple(name for name in (*GOALS, "red_tray", "blue_tray") if name != cube)
    return skills.grasp(view, cube, view.pos(cube), skills.grip_yaw(view, cube, others))


def expert(view: View) -> np.ndarray:
    """Brings a cube that it holds to its tray, else goes for the first that is not yet there."""
    left = [cube for cube in GOALS if not is_sorted(view, cube)]
    if not left:
        return skills.release(view, "blue_cube_2")
    return bring(view, next((c for c in left if view.grasped(c) or in_tray(view, c, GOALS[c][0])), left[0]))


def _stages(cube: str) -> tuple[Stage, Stage]:
    grasp = f"grasp {cube}"
    return (
        Stage(grasp, 0.03, lambda v: predicates.held(v, cube)),
        Stage(f"sort {cube}", 0.07, lambda v: is_sorted(v, cube), after=grasp),
    )


TASK = Task(
    name="SortCubes",
    version=0,
    verb="sort",
    novelty="seen",
    instruction="sort the cubes by colour into the trays",
    motion="close the fingers around each cube, one after the other, raise it, move it above the tray of its "
    "own colour and open the fingers",
    about="Four cubes have two goals, told apart by colour alone, and the trays change places.",
    nearest="BusTable",
    objects=("red_cube", "blue_cube", "red_cube_2", "blue_cube_2", "red_tray", "blue_tray"),
    place=place,
    stages=(*(stage for cube in GOALS for stage in _stages(cube)), Stage("sorted", 0.6, done)),
    success=done,
    expert=expert,
    horizon=820,
)
