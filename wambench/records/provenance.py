"""Where numbers come from: versions, commit, machine, and the hash of what was played."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wambench
from wambench import tasks

PACKAGES = ("mujoco", "robosuite", "gymnasium", "numpy", "torch", "pandas", "imageio", "imageio-ffmpeg")


def of_run(split: str) -> dict[str, Any]:
    """Returns everything about a run that its configuration, policy and simulators do not tell, as JSON values."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "split_hash": split_hash(split),
        "versions": versions(),
        "commit": commit(Path(wambench.__file__).parent),
        "machine": {"system": platform.platform(), "cpu": cpu(), "cores": os.cpu_count()},
    }


def split_hash(name: str) -> str:
    """Returns the SHA-256 of a split's definition, versions of its tasks included.

    A frozen split is hashed under the name it was published with, so that its hash is that of the published rows as
    long as its tasks have the versions that were played (`tasks.PUBLISHED`).
    """
    split = tasks.SPLITS[name]
    published = {entry.frozen: entry.name for entry in tasks.PUBLISHED.values()}
    return definition_hash(split, published.get(name, name), [tasks.TASKS[task].id for task in split.tasks])


def definition_hash(split: tasks.Split, name: str, ids: Sequence[str]) -> str:
    """Returns the SHA-256 of a split's definition under a name, with the versioned ids of its tasks given."""
    definition = {**dataclasses.asdict(split), "name": name, "tasks": list(ids)}
    return hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Returns the versions of everything that has an influence on results."""
    found = {"wambench": wambench.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def commit(package: Path) -> str | None:
    """Returns the git commit of a checkout, with "-dirty" if files differ from it; None outside of one."""
    try:
        tracked = _git(package, "ls-files", "__init__.py")
        head = _git(package, "rev-parse", "HEAD") if tracked else None
        return head and head + ("-dirty" if _git(package, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def cpu() -> str:
    """Returns the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
