"""What there is to choose from, as tables for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from wambench.policies import POLICIES
from wambench.tasks import SPLITS, TASKS

Table = list[dict[str, Any]]


def listing(kind: str | None = None, as_json: bool = False) -> str:
    """Returns one table, or all of them."""
    tables = {name: TABLES[name]() for name in ([kind] if kind else TABLES)}
    if as_json:
        return json.dumps(tables[kind] if kind else tables, indent=2)
    if kind:
        return _text(tables[kind])
    return "\n\n".join(f"{name}\n{_text(table)}" for name, table in tables.items())


def _tasks() -> Table:
    return [
        {
            "id": task.id,
            "verb": task.verb,
            "novelty": task.novelty,
            "splits": [split.name for split in SPLITS.values() if task.name in split.tasks],
            "instruction": task.instruction,
        }
        for task in TASKS.values()
    ]


def _splits() -> Table:
    return [
        {"split": s.name, "environments": s.environments, "tasks": list(s.tasks), "description": s.description}
        for s in SPLITS.values()
    ]


def _policies() -> Table:
    return [{"policy": name, "class": target} for name, target in POLICIES.items()]


TABLES: Mapping[str, Callable[[], Table]] = MappingProxyType(
    {"tasks": _tasks, "splits": _splits, "policies": _policies}
)


def _text(table: Table) -> str:
    cells = [list(table[0]) if table else []]
    cells += [[", ".join(v) if isinstance(v, list) else str(v) for v in line.values()] for line in table]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells)
