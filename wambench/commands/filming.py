"""`wambench film`: what was recorded, as a spectator sees it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wambench.commands.arguments import Commands, add_command, add_task_module, check_positive, names


def add(commands: Commands) -> None:
    """Adds `wambench film`."""
    example = "wambench film runs/dreamzero-seen --count 1"
    notes = "Films lie in RUN/films. Nothing is played again by the policy, and nothing of the run is changed."
    it = add_command(commands, "film", film, "draw films of recorded episodes, for talks and papers", example, notes)
    it.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or of several runs")
    which = "e.g. PressButton-v1.all.0,LiftCube-v1.all.3 (default: all that are recorded)"
    it.add_argument("--episodes", type=names, default=(), metavar="NAME,NAME", help=which)
    it.add_argument("--count", type=int, metavar="N", help="of each task and factor, the first ones (default: all)")
    add_task_module(it)


def film(arguments: argparse.Namespace) -> None:
    """Draws the films and prints the path of each when it is there."""
    from wambench import records
    from wambench.evaluation import film

    check_positive(arguments, "count")
    runs = records.find_runs(arguments.runs, lambda line: print(f"wambench: {line}", file=sys.stderr))
    folders = [run if run.is_dir() else run.parent for run in runs]
    paths = [print(path, flush=True) for path in film.film_runs(folders, arguments.episodes, arguments.count)]
    if not paths:
        raise ValueError(f"nothing to film: {', '.join(map(str, arguments.runs))} holds no file of such an episode")
