"""What the commands share: their parser, the types of their options, and the way from options to a configuration."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

USER_ERROR = 2
CORES = min(2, os.cpu_count() or 1)
Command = Callable[[argparse.Namespace], int | None]  # returns an exit code, None for 0
Commands = Any  # what `add_subparsers` returns; argparse keeps its type private


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"wambench: error: {message}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parses as argparse does, and keeps the words of the command as `words`: only they tell what was given."""
        found, rest = super().parse_known_args(args, namespace)
        if not hasattr(found, "words"):  # the command comes before the whole line, which leads to it
            found.words = list(args or ())
        return found, rest


def add_choice(it: argparse._ActionsContainer, option: str, known: Iterable[str], **given: Any) -> None:
    """Adds an option whose help and completion list the names that are known.

    Others are not refused here: whoever takes the value says the nearest match, and a task module may add names.
    """
    choices = tuple(known)
    action = it.add_argument(option, metavar=f"{{{','.join(choices)}}}", **given)
    complete_with(action, choices)


def complete_with(action: argparse.Action, known: Iterable[str]) -> None:
    """Lets the shell complete the value of an option, also behind a comma (`argcomplete` asks for it)."""
    choices = tuple(known)

    def completer(prefix: str, **_: Any) -> list[str]:
        before = prefix.rpartition(",")[0]
        return [f"{before},{name}" if before else name for name in choices]

    action.completer = completer  # type: ignore[attr-defined]


def add_command(commands: Commands, name: str, command: Command, does: str, example: str, notes: str = "") -> Parser:
    """Adds a command and returns its parser.

    Args:
        commands: Where to.
        name: How it is called.
        command: What it calls.
        does: One line of help.
        example: A command line that works.
        notes: Further sentences for its own help.
    """
    text = f"wambench {name}: {does}. {notes}".strip()
    added: Parser = commands.add_parser(name, help=does, description=text, epilog=f"e.g. {example}")
    added.set_defaults(command=command)
    return added


def fields_of(config: type, arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the keyword arguments of a configuration class: every option whose `dest` is the name of a field."""
    names = {field.name for field in dataclasses.fields(config)}
    values = {name: value for name, value in vars(arguments).items() if name in names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def add_seed(it: Parser) -> None:
    """Adds --seed."""
    it.add_argument(
        "--seed", type=int, default=0, metavar="K", help="seed; equal seeds give equal episodes (default: 0)"
    )


def add_workers(it: Parser) -> None:
    """Adds --workers."""
    it.add_argument("--workers", type=int, default=CORES, metavar="W", help=f"processes (default: {CORES})")


class Pairs(argparse.Action):
    """Collects name=value words into a dictionary; values are JSON, and anything else is text."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        pairs = dict(_pair(parser, text, option_string or self.option_strings[0]) for text in values or ())
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest) or {}), **pairs})


def _pair(parser: argparse.ArgumentParser, text: str, option: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        parser.error(f"argument {option}: {text!r} is not of the form name=value")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def names(text: str) -> tuple[str, ...]:
    """Returns the names of "A,B"."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def numbers(text: str) -> tuple[int, ...]:
    """Returns the numbers of "1,2,4"."""
    try:
        return tuple(int(number) for number in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 1,2,4") from None


def seconds(text: str) -> tuple[float, ...]:
    """Returns the seconds of "0,0.1,0.4"."""
    try:
        return tuple(float(number) for number in names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 0,0.1,0.4") from None


def task_names(asked: Sequence[str]) -> tuple[str, ...]:
    """Returns task names, with the tasks of a split in its place; "all" are those of every split."""
    from wambench.tasks import SPLITS, TASKS, find

    groups = {"all": tuple(TASKS), **{name: split.tasks for name, split in SPLITS.items()}}
    found = [name for one in asked for name in (groups[one] if one in groups else (find(one).name,))]
    return tuple(dict.fromkeys(found))


def check_positive(arguments: argparse.Namespace, *options: str) -> None:
    """Raises ValueError for an option below 1; one that was not given passes."""
    for name in options:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be positive, not {value}")


def add_task_module(it: Parser) -> None:
    """Adds --task-module."""
    what = "Python file or module with TASKS, and SPLITS if you like: tasks of your own beside the shipped ones"
    it.add_argument("--task-module", metavar="FILE", help=what)
