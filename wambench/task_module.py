"""Tasks and splits of one's own, in a file outside the tree (`--task-module my_tasks.py`).

The file has `TASKS`, a sequence of `wambench.envs.task.Task`, and perhaps `SPLITS`, a sequence of
`wambench.tasks.Split` whose tasks are its own or shipped ones. Without `SPLITS` there is one split in training
environments, named after the file. The shipped splits stay as they are, and so do their hashes.

    WAMBENCH_TASK_MODULE=my_tasks.py python ...   the same for any program that imports wambench
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from wambench import registration, tasks
from wambench.envs.task import Task
from wambench.own_modules import module_of_file, module_of_name
from wambench.tasks import Split

VARIABLE = "WAMBENCH_TASK_MODULE"  # set for the worker processes, which import the module, too
T = TypeVar("T")
ENVIRONMENTS = ("train", "unseen")


def load(name: str) -> None:
    """Adds the tasks and splits of a file ("my_tasks.py") or module ("mine.tasks"), here and in processes to come.

    Raises:
        ValueError: There is no such module, it lacks `TASKS`, or a name in it exists already.
    """
    name = str(Path(name).resolve()) if name.endswith(".py") else name
    if os.environ.get(VARIABLE) == name and _is_loaded():
        return
    module = _module(name)
    own = _checked(module, "TASKS", Task, name)
    splits = _checked(module, "SPLITS", Split, name) if hasattr(module, "SPLITS") else [_only_split(name, own)]
    _check_splits(splits, own, name)
    tasks.extend(own, splits)
    registration.register_all()
    os.environ[VARIABLE] = name


def load_from_environment() -> None:
    """Loads what `VARIABLE` names, if anything."""
    if name := os.environ.get(VARIABLE):
        load(name)


def source_hash(split: str) -> str | None:
    """Returns the SHA-256 of the file that a split comes from; None for a shipped split."""
    name = os.environ.get(VARIABLE)
    if split in tasks.SHIPPED_SPLITS or not name:
        return None
    path = Path(str(_module(name).__file__))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_loaded() -> bool:
    return len(tasks.SPLITS) > len(tasks.SHIPPED_SPLITS)


def _module(name: str) -> ModuleType:
    if not name.endswith(".py"):
        return module_of_name(name, "task")
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    try:
        return module_of_file(path, "tasks")
    except Exception as error:
        raise ValueError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error


def _checked(module: ModuleType, attribute: str, kind: type[T], name: str) -> list[T]:
    """Returns a sequence that a module must have; raises ValueError if it holds anything else."""
    values = getattr(module, attribute, None)
    if not isinstance(values, Sequence) or not values:
        raise ValueError(f"{name} needs {attribute}, a sequence of {kind.__module__}.{kind.__name__}")
    for value in values:
        if not isinstance(value, kind):
            raise ValueError(f"{name}: {attribute} holds {value!r}, which is no {kind.__module__}.{kind.__name__}")
    return list(values)


def _only_split(name: str, own: Sequence[Task]) -> Split:
    stem = Path(name).stem if name.endswith(".py") else name.rpartition(".")[2]
    return Split(stem, tuple(task.name for task in own), "train", f"all tasks of {stem}, training environments")


def _check_splits(splits: Sequence[Split], own: Sequence[Task], name: str) -> None:
    """Raises ValueError for a split that cannot be played, or a task that no split has."""
    known = {*tasks.TASKS, *(task.name for task in own)}
    for split in splits:
        missing = [task for task in split.tasks if task not in known]
        place = f"{name}: split {split.name!r}"
        if missing or not split.tasks:
            raise ValueError(f"{place} has no task, or unknown ones: {', '.join(missing) or 'none'}")
        if split.environments not in ENVIRONMENTS:
            raise ValueError(f"{place} is in environments {split.environments!r}, not in 'train' or 'unseen'")
    for task in own:
        if not any(task.name in split.tasks for split in splits):
            raise ValueError(f"{name}: task {task.name!r} is in no split")
