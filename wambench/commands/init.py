"""`wambench init`: a policy or a task to begin with."""

from __future__ import annotations

import argparse
from pathlib import Path

from wambench.commands.arguments import Commands, add_command
from wambench.templates import KINDS

NEXT = {
    "policy": "wambench run --policy {file}:{cls} --split seen --tasks PressButton --episodes 2",
    "task": "wambench run --policy expert --task-module {file} --split {module} --episodes 2",
}


def add(commands: Commands) -> None:
    """Adds `wambench init`."""
    example = "wambench init policy reach_cup"
    it = add_command(commands, "init", init, "write a policy or a task that works, and its test", example)
    it.add_argument("kind", choices=KINDS, help="policy: one file that plays; task: one file for --task-module")
    it.add_argument(
        "name", metavar="NAME", help="reach_cup and ReachCup are the same: reach_cup.py with ReachCup in it"
    )
    it.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where to (default: here)")


def init(arguments: argparse.Namespace) -> None:
    """Writes both files and says what to do with them."""
    from wambench import templates

    file, test = templates.write(arguments.kind, arguments.name, arguments.out)
    module, cls = templates.spellings(arguments.name)
    print(file, test, sep="\n")
    print(f"next: python -m pytest {test}")
    print(f"then: {NEXT[arguments.kind].format(file=file, module=module, cls=cls)}")
