"""The runs behind `wambench run`: one, or those of a file; played, summed up in a table, or only foretold."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wambench.commands import run_file
from wambench.commands.arguments import Parser, fields_of

if TYPE_CHECKING:
    from wambench.evaluation.config import RunConfig

NO_ROW_OK = 1
NEEDED = ("policy", "split")


def add(it: Parser) -> None:
    """Adds the options that are about the whole command: --config, --dry-run and --quiet."""
    file = "TOML or YAML file of several policies and splits; --out is then the folder of their runs"
    it.add_argument("--config", type=Path, metavar="FILE", help=file)
    foretold = "print what would be played, how long it would take and how much disk, and do nothing"
    it.add_argument("--dry-run", action="store_true", help=foretold)
    it.add_argument("--quiet", action="store_true", help="no progress and no table: one line for each run at its end")
    it.set_defaults(of_run=it)


def run(arguments: argparse.Namespace) -> int:
    """Plays or foretells what the command asks for and returns the exit code."""
    configs, parent = _asked(arguments)
    if arguments.dry_run:
        return foretell(configs, parent)
    return play(configs, parent, arguments.quiet)


def _asked(arguments: argparse.Namespace) -> tuple[list[RunConfig], Path | None]:
    """Returns the configurations of all runs, each of them checked, and the folder of their folders, if any."""
    from wambench.evaluation.config import RunConfig

    if arguments.config is None:
        missing = [f"--{name}" for name in NEEDED if getattr(arguments, name) is None]
        if missing:
            raise ValueError(f"the following arguments are required: {', '.join(missing)} (or --config FILE)")
        return [RunConfig.resolve(**fields_of(RunConfig, arguments))], None
    for name in NEEDED:
        if getattr(arguments, name) is not None:
            raise ValueError(f"--{name} stands in {arguments.config}: give one of the two")
    words = run_file.words_of(arguments.config, arguments.of_run._actions, arguments.words)
    each = [arguments.of_run.parse_args(run) for run in words]
    configs = [RunConfig.resolve(**{**fields_of(RunConfig, one), "out": None}) for one in each]
    for i, config in enumerate(configs):
        if config.recorded() in [other.recorded() for other in configs[:i]]:
            raise ValueError(f"{arguments.config} asks twice for {config.label} on {config.split}")
    return configs, arguments.out or run_file.out_of(arguments.config)


def _placed(config: RunConfig, parent: Path | None) -> RunConfig:
    """Returns a run with its folder, found only now: what was played before may stand in the way of its name."""
    return config if parent is None else dataclasses.replace(config, out=config.folder_in(parent))


def foretell(configs: Sequence[RunConfig], parent: Path | None = None) -> int:
    """Prints what would be played; nothing is touched."""
    from wambench.evaluation import forecast

    told = [forecast.forecast(_placed(config, parent)) for config in configs]
    print("\n\n".join(forecast.to_text(one) for one in told))
    if len(told) > 1:
        seconds, size = sum(one.seconds for one in told), sum(one.bytes for one in told)
        about = "at most" if all(one.at_most for one in told) else "about"
        episodes = sum(sum(one.missing.values()) for one in told)
        total = f"{about} {forecast.duration(seconds)} and {forecast.size(size)}"
        print(f"\nall {len(told)} runs: {episodes} episodes to play, {total}")
    return 0


def play(configs: Sequence[RunConfig], parent: Path | None = None, quiet: bool = False) -> int:
    """Plays runs one after another, prints a table and a line for each, and returns the exit code.

    Args:
        configs: The runs.
        parent: Folder of their folders; None for what each says itself.
        quiet: Print the lines only.
    """
    from wambench.evaluation import run as evaluation

    lines, folders, playable = [], [], True
    for config in configs:
        placed = _placed(config, parent)
        folders.append(placed.folder)
        rows = evaluation.run(placed, tell=_nothing if quiet else evaluation.to_stderr, quiet=quiet)
        lines.append(f"{len(rows)} episodes, {evaluation.summary(rows)}: {folders[-1] / 'episodes.csv'}")
        playable = playable and any(row.status == "ok" for row in rows)
        if quiet or len(configs) > 1:
            print(lines[-1], flush=True)
    if not quiet:
        print(_table(folders))
        print(lines[0] if len(lines) == 1 else f"{len(lines)} runs in {folders[0].parent}")
    return 0 if playable else NO_ROW_OK


def _nothing(_: str) -> None:
    """Says nothing."""


def _table(folders: Sequence[Path]) -> str:
    """Returns the leaderboard of some runs, or why there is none."""
    from wambench import records
    from wambench.analysis import leaderboard

    def tell(line: str) -> None:
        print(f"wambench: {line}", file=sys.stderr)

    try:
        return leaderboard.to_text(leaderboard.leaderboard(records.load(folders, tell)))
    except ValueError as error:  # two versions of a task in one folder, for example; the rows are fine
        return f"no table: {error}"
