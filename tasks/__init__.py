"""The tasks and the splits: plain tables, readable without a simulator.

Adding a task takes its own file and one row of `_ROWS`; `tests/tasks/test_splits.py` says what else a new row means.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from wambench.envs.factors import LEVELS, LOOKALIKE, unseen_factors
from wambench.envs.lookalikes import lookalike_of
from wambench.envs.task import SCRIPTED, Task
from wambench.interface import unknown_name

# One row a task: the name of its file, which defines `TASK`. The order is that of the splits and of every table.
_ROWS = (
    "lift_cube",
    "place_in_bin",
    "place_on_plate",
    "stack_cubes",
    "push_cube",
    "open_drawer",
    "close_drawer",
    "press_button",
    "bus_table",
    "hoist_cube",
    "depress_button",
    "withdraw_drawer",
    "push_bottle",
    "place_bottle",
    "pull_block",
    "turn_dial",
    "flip_lever",
    "wipe_spot",
    "topple_tower",
    "unstack",
    "lift_left_cube",
    "lift_right_cube",
    "place_nearest_in_bin",
    "slide_hatch_left",
    "slide_hatch_right",
    "switch_on",
    "switch_off",
    "insert_peg",
    "hang_mug",
    "cover_pan",
    "sweep_dice",
    "set_table",
    "sort_cubes",
    "shut_drawer",
    "deposit_cube",
    "open_chest",
    "close_chest",
    "place_tomato_on_shelf",
    "lift_taller_bottle",
    "uncover_pan",
    "cook_tomato",
    "open_then_press",
    "close_then_press",
    "bin_then_lift",
    "push_and_place",
    "fill_and_cover",
    "shell_game",
    "put_back",
    "press_count",
    "fetch_shown",
    "undo_slide",
    "press_when_dark",
    "pick_from_belt",
    "catch_ball",
    "pick_from_turntable",
    "place_on_tray",
    "press_on_beat",
    "clear_nudged",
)

_ALL: tuple[Task, ...] = tuple(importlib.import_module(f"{__name__}.{row}").TASK for row in _ROWS)
_tasks = {task.name: task for task in _ALL}
TASKS: Mapping[str, Task] = MappingProxyType(_tasks)


@dataclass(frozen=True)
class Split:
    """Which tasks are played where.

    Attributes:
        name: Name on the command line.
        tasks: Task names.
        environments: "train" or "unseen": where the values of the environment factors come from.
        description: One line for people.
    """

    name: str
    tasks: tuple[str, ...]
    environments: str
    description: str


SEEN = tuple(task.name for task in _ALL if task.novelty == "seen")
UNSEEN = tuple(task.name for task in _ALL if task.novelty not in ("seen", *SCRIPTED))
MEMORY = tuple(task.name for task in _ALL if task.novelty == "memory")
DYNAMIC = tuple(task.name for task in _ALL if task.novelty == "dynamic")

_SEEN = "seen tasks, training environments, held-out seeds: the control"
_UNSEEN_ENVS = "seen tasks in environments that differ in the named factors"
_UNSEEN_TASKS = "verbs with no action demonstration, in unseen environments"

# The task lists of the first leaderboard, frozen: whatever is added later, they stay.
SEEN_V1 = (
    "LiftCube", "PlaceInBin", "PlaceOnPlate", "StackCubes", "PushCube", "OpenDrawer", "CloseDrawer", "PressButton",
    "BusTable",
)  # fmt: skip
UNSEEN_V1 = (
    "HoistCube", "DepressButton", "WithdrawDrawer", "PushBottle", "PlaceBottleInBin", "PullBlock", "TurnDial",
    "FlipLever", "WipeSpot", "ToppleTower", "Unstack",
)  # fmt: skip

SHIPPED_SPLITS: Mapping[str, Split] = MappingProxyType(
    {
        split.name: split
        for split in (
            Split("seen", SEEN, "train", _SEEN),
            Split("unseen-envs", SEEN, "unseen", _UNSEEN_ENVS),
            Split("unseen-tasks", UNSEEN, "unseen", _UNSEEN_TASKS),
            Split("seen-v1", SEEN_V1, "train", _SEEN),
            Split("unseen-envs-v1", SEEN_V1, "unseen", _UNSEEN_ENVS),
            Split("unseen-tasks-v1", UNSEEN_V1, "unseen", _UNSEEN_TASKS),
            Split("memory", MEMORY, "train", "the right action cannot be told from the present frame; factors: delays"),
            Split("dynamic", DYNAMIC, "train", "something moves by itself, so that waiting costs; factors: speeds"),
        )
    }
)
_splits = dict(SHIPPED_SPLITS)
SPLITS: Mapping[str, Split] = MappingProxyType(_splits)


def extend(own: Sequence[Task], splits: Sequence[Split]) -> None:
    """Adds tasks and splits of one's own (`wambench.task_module`); a name that exists raises ValueError."""
    kinds = (("task", [task.name for task in own], TASKS), ("split", [split.name for split in splits], SPLITS))
    for kind, names, there in kinds:
        clash = [name for name in names if name in there or names.count(name) > 1]
        if clash:
            raise ValueError(f"a {kind} named {clash[0]!r} exists already: give yours another name")
    _tasks.update({task.name: task for task in own})
    _splits.update({split.name: split for split in splits})


@dataclass(frozen=True)
class Published:
    """A definition of a split under which rows were published.

    Attributes:
        name: The split's name in those rows.
        frozen: The split that has the same tasks today.
        version: Of all its tasks at that time.
    """

    name: str
    frozen: str
    version: int


# Split hash in the `run.json` of published rows -> what was played. The first leaderboard was played with version 0 of
# every task; `provenance.split_hash` of a frozen split is the hash of the versions that would be played now.
PUBLISHED: Mapping[str, Published] = MappingProxyType(
    {
        "37f4027350ac40e4b6180224613632cde57121e5b6e951990ae1a3e047764ff3": Published("seen", "seen-v1", 0),
        "f21376cee2c6588f4d0a6a1205ffa8b84f8228a16301eb886e88e4c22b265d43": Published(
            "unseen-envs", "unseen-envs-v1", 0
        ),
        "650c075ae3ea3a40d592abf69d0b448e691cce874f65d2a71bbbf186dce88763": Published(
            "unseen-tasks", "unseen-tasks-v1", 0
        ),
    }
)


def current_splits() -> tuple[Split, ...]:
    """Returns all splits but the frozen ones."""
    frozen = {entry.frozen for entry in PUBLISHED.values()}
    return tuple(split for split in SPLITS.values() if split.name not in frozen)


def find(name: str) -> Task:
    """Returns the task of a name or versioned id; raises ValueError with the nearest match."""
    for task in TASKS.values():
        if name in (task.name, task.id):
            return task
    raise unknown_name("task", name, TASKS)


def default_split(task: str) -> str:
    """Returns the first split that has the task."""
    return next(split.name for split in SPLITS.values() if task in split.tasks)


def default_factor(split: str) -> str:
    """Returns "none" for a split in training environments, "all" for one in unseen environments."""
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    return "none" if SPLITS[split].environments == "train" else "all"


def check(task: str, split: str, factor: str) -> None:
    """Raises ValueError unless the task is in the split and the factor can be varied there."""
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if task not in SPLITS[split].tasks:
        raise ValueError(f"task {task!r} is not in split {split!r}, which has: {', '.join(SPLITS[split].tasks)}")
    unseen = unseen_factors(factor)
    script = TASKS[task].script
    levels = script.levels if script else ()
    if factor in LEVELS and factor not in levels:
        raise ValueError(f"task {task!r} has no level {factor!r}; it has: {', '.join(levels) or 'none'}")
    if factor == LOOKALIKE and not lookalike_of(TASKS[task]):
        have = [name for name in SPLITS[split].tasks if lookalike_of(TASKS[name])]
        raise ValueError(f"task {task!r} has no look-alike; in {split!r} these have one: {', '.join(have) or 'none'}")
    if SPLITS[split].environments == "train" and unseen:
        raise ValueError(
            f"split {split!r} is played in training environments: factor {factor!r} cannot be varied there"
        )
    if SPLITS[split].environments == "unseen" and not unseen and factor != LOOKALIKE:
        raise ValueError(f"split {split!r} is played in unseen environments: factor 'none' would not be one")
