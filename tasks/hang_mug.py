"""Hang the mug on the hook: thread the hook's arm through the handle, lower the mug and let go."""

from __future__ import annotations

import numpy as np

from wambench.envs.objects.receptacles import HOOK_HEIGHT, HOOK_REACH
from wambench.envs.task import Placement, Stage, Task, View
from wambench.tasks import predicates, skills

GRIP_AT = 0.012  # height of the closing fingers above the mug's middle, m
BEFORE = HOOK_REACH + 0.026  # along the arm from the post: where the handle is lined up with the arm
ON_ARM = 0.040  # along the arm from the post: where the handle shall hang
SAG = 0.020  # how far below the arm the middle of the handle's opening is when it hangs
TRAVEL = 0.21


def place(rng: np.random.Generator) -> dict[str, Placement]:
    """Returns the hook at one side with its arm to the other, the mug there, and a coaster."""
    side = float(rng.choice((-1.0, 1.0)))
    hook = Placement(
        float(rng.uniform(-0.02, 0.08)), -side * float(rng.uniform(0.14, 0.18)),
        (0.0 if side > 0 else np.pi) + float(rng.uniform(-0.15, 0.15)),
    )  # fmt: skip
    mug = Placement(
        float(rng.uniform(-0.02, 0.05)), side * float(rng.uniform(0.04, 0.14)), float(rng.uniform(-0.3, 0.3))
    )
    coaster = Placement(float(rng.uniform(-0.17, -0.11)), side * float(rng.uniform(0.02, 0.12)))
    return {"mug": mug, "hook": hook, "coaster": coaster}


def loop(view: View) -> np.ndarray:
    """Returns the (3,) place of the handle's opening in the arm's frame: across it, along it from the post, above."""
    frame = view.rot("hook")
    arm = view.pos("hook") + [0, 0, HOOK_HEIGHT - 0.010]
    return frame.T @ (view.pos("mug/handle") - arm)


def is_threaded(view: View) -> bool:
    """The arm reaches through the handle."""
    across, along, above = loop(view)
    return bool(abs(across) < 0.026 and 0.0 < along < HOOK_REACH and abs(above) < 0.026)


def hangs(view: View) -> bool:
    """The mug hangs on the arm and touches nothing else."""
    return is_threaded(view) and view.touching("mug", "hook") and predicates.bottom(view, "mug") > 0.01


def done(view: View) -> bool:
    """The mug hangs on the arm, at rest, and no finger touches it."""
    return hangs(view) and predicates.clear_of_fingers(view, "mug") and predicates.at_rest(view, "mug", 0.10)


def expert(view: View) -> np.ndarray:
    """Grasps the mug across its body, lines the handle up before the arm, moves it over, lowers it, opens."""
    if not view.grasped("mug"):
        if hangs(view):
            return skills.servo(view, np.array([*view.eef()[:2], view.table_z + TRAVEL]), skills.OPEN, hook_yaw(view))
        at = view.pos("mug") + GRIP_AT * view.rot("mug")[:, 2]
        return skills.grasp(view, "mug", at, mug_yaw(view), TRAVEL)
    frame, (across, along, above) = view.rot("hook"), loop(view)
    turned = abs(skills.half_turn(mug_yaw(view) - hook_yaw(view)))
    on_line = abs(across) < 0.008 and abs(above) < 0.008 and turned < 0.12
    if is_threaded(view) and along < ON_ARM + 0.012:
        if above < 0.004 - SAG * 0.75:
            return skills.servo(view, view.eef() - [0, 0, 0.002], skills.OPEN, hook_yaw(view))
        return skills.servo(view, view.eef() + [0, 0, -0.02], skills.CLOSE, hook_yaw(view), speed=0.3)
    if along < BEFORE + 0.01 and (on_line or is_threaded(view)):
        step = frame @ np.array([-across, max(-0.03, ON_ARM - along), -above])
        return skills.servo(view, view.eef() + step, skills.CLOSE, hook_yaw(view), speed=0.35)
    before = view.pos("hook") + frame @ np.array([0.0, BEFORE, HOOK_HEIGHT - 0.010])
    held = view.pos("mug/handle") - view.eef()
    return skills.funnel(view, before - held, skills.CLOSE, hook_yaw(view), 0.004, TRAVEL, slope=1.2)


def mug_yaw(view: View) -> float:
    """Returns the yaw at which the fingers close across the mug, beside its handle, within the wrist's range."""
    axis = view.rot("mug")[:, 0]
    return skills.half_turn(float(np.arctan2(axis[1], axis[0])))


def hook_yaw(view: View) -> float:
    """Returns the yaw of the hand at which the handle's opening faces the arm."""
    axis = view.rot("hook")[:, 0]
    return skills.half_turn(float(np.arctan2(axis[1], axis[0])))


TASK = Task(
    name="HangMug",
    version=0,
    verb="hang",
    novelty="seen",
    instruction="hang the mug on the hook",
    motion="close the fingers around the mug, raise it, move its handle over the steel arm of the hook, lower it and "
    "open the fingers",
    about="An arm of 8 mm must go through an opening of 27 by 40 mm that the fingers hold from the side.",
    nearest="PlaceInBin",
    objects=("mug", "hook", "coaster"),
    place=place,
    stages=(
        Stage("grasp", 0.15, lambda v: predicates.held(v, "mug")),
        Stage("raise", 0.1, lambda v: predicates.raised(v, "mug", 0.06), after="grasp"),
        Stage("thread", 0.2, lambda v: is_threaded(v) and predicates.held(v, "mug"), after="raise"),
        Stage("hang", 0.55, done, after="thread"),
    ),
    success=done,
    expert=expert,
    horizon=320,
)
