"""`wambench export` and `score`: what was collected or recorded, for other programs and under today's predicates."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from wambench.commands.arguments import (
    Commands,
    add_command,
    add_task_module,
    add_workers,
    check_positive,
    fields_of,
    names,
)

NOTHING_SCORED = 1


def add(commands: Commands) -> None:
    """Adds the commands."""
    add_export(commands)
    add_score(commands)


def add_export(commands: Commands) -> None:
    """Adds `wambench export`."""
    example = "wambench export data/demos --format lerobot-v3.0 --out data/demos-lerobot"
    it = add_command(commands, "export", export_command, "make a LeRobot dataset of data or runs", example)
    what = "folder of `wambench collect` (demos, video) or of a run; several of one convention go into one dataset"
    it.add_argument("data", nargs="+", type=Path, metavar="DATA", help=what)
    formats = "lerobot-v3.0 (default), or lerobot-v2.1 for GR00T, DreamZero, openpi and lerobot up to 0.3"
    it.add_argument("--format", default="lerobot-v3.0", metavar="FORMAT", help=formats)
    where = "the dataset, which appears when it is complete; the same command continues after a kill"
    it.add_argument("--out", type=Path, required=True, metavar="DIR", help=where)
    it.add_argument("--tasks", type=names, default=(), metavar="TASK,TASK", help="default: all")
    it.add_argument("--episodes", type=int, metavar="N", help="the first N of each task (default: all)")
    size = "of the videos, HEIGHTxWIDTH (default: 256x256, rendered again; action-free video: twice what is stored)"
    it.add_argument("--image-size", type=size_of, metavar="SIZE", help=size)
    it.add_argument("--license", default="mit", metavar="NAME", help="of the data, for the dataset card (default: mit)")
    add_workers(it)
    add_task_module(it)


def add_score(commands: Commands) -> None:
    """Adds `wambench score`."""
    example = "wambench score runs/dreamzero-seen"
    it = add_command(
        commands, "score", score_command, "recorded runs under today's predicates, without policy", example
    )
    it.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, or of several runs")
    it.add_argument("--out", type=Path, metavar="FILE", help="CSV for all runs (default: scores.csv in each folder)")
    add_workers(it)
    add_task_module(it)


def size_of(text: str) -> tuple[int, int]:
    """Returns (height, width) of "96x128", or of "96" for a square."""
    words = text.split("x")
    if len(words) > 2 or not all(word.isdigit() for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 256 or 256x320")
    return int(words[0]), int(words[-1])


def export_command(arguments: argparse.Namespace) -> None:
    """Makes a LeRobot dataset."""
    from wambench.datasets.lerobot_folder import require_packages

    require_packages()  # before what imports them
    from wambench.datasets.export import ExportConfig, export

    def tell(line: str) -> None:
        print(f"wambench: {line}", file=sys.stderr, flush=True)

    print(export(ExportConfig(**fields_of(ExportConfig, arguments)), tell))


def score_command(arguments: argparse.Namespace) -> int:
    """Scores recorded runs and says which rows would change."""
    from wambench import records, scoring

    def tell(line: str) -> None:
        print(f"wambench: {line}", file=sys.stderr, flush=True)

    check_positive(arguments, "workers")
    runs = records.find_runs(arguments.runs, tell)
    folders = [run if run.is_dir() else run.parent for run in runs]
    scores = scoring.score(folders, arguments.out, arguments.workers)
    print(*scoring.report(scores), sep="\n")
    print(*([arguments.out] if arguments.out else [run / scoring.SCORES for run in folders]), sep="\n")
    return 0 if any(one.verdict != scoring.UNKNOWN for one in scores) else NOTHING_SCORED
