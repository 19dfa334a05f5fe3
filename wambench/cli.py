# PYTHON_ARGCOMPLETE_OK
"""The command line: arguments in, one configuration, one function; nothing heavy is imported before it is needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import wambench
from wambench.commands import data, filming, init, playing, ranking, results, serving, suite, training
from wambench.commands.arguments import USER_ERROR, Parser

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    0; 1 if a run has no episode that could be played; 2 for an error of the user or the machine; 130 after Ctrl-C.
    """
    made = parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what could come next
        import argcomplete

        argcomplete.autocomplete(made)
    arguments = made.parse_args(argv)
    try:
        if getattr(arguments, "task_module", None):
            from wambench import task_module

            task_module.load(arguments.task_module)
        code = arguments.command(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\nwambench: interrupted; what is recorded stays, the same command continues", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `wambench list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except FileExistsError as error:  # of `mkdir`, the only call that minds
        return _fail(f"{error.filename} is a file, and a folder is needed there")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}")
    except (ValueError, RuntimeError) as error:
        return _fail(str(error))
    return code or 0


def _fail(message: str) -> int:
    print(f"wambench: error: {' '.join(message.split())}", file=sys.stderr)
    return USER_ERROR


def parser() -> Parser:
    """Returns the parser of all commands."""
    top = Parser(
        prog="wambench",
        description="World action models against vision-language-action models, simulated.",
        epilog=playing.EXIT_CODES,
    )
    top.add_argument("--version", action="version", version=f"wambench {wambench.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    playing.add(commands)
    results.add(commands)
    ranking.add(commands)
    for add in (suite.add_list, suite.add_doctor, suite.add_bench):
        add(commands)
    training.add(commands)
    data.add(commands)
    suite.add_experts(commands)
    for module in (serving, filming, init):
        module.add(commands)
    return top
