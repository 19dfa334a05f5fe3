"""`wambench run`, `sweep` and `watch`: a policy plays episodes, and how far it has come."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wambench.commands import several
from wambench.commands.arguments import (
    Commands,
    Pairs,
    Parser,
    add_choice,
    add_command,
    add_seed,
    add_task_module,
    add_workers,
    complete_with,
    fields_of,
    names,
    seconds,
)
from wambench.conventions import CONVENTIONS
from wambench.envs.factors import FACTORS, LOOKALIKE
from wambench.evaluation.config import CLOCKS, VISUALS
from wambench.evaluation.executors import EXECUTORS
from wambench.policies import POLICIES
from wambench.tasks import TASKS, current_splits

if TYPE_CHECKING:
    from wambench.evaluation.config import RunConfig

EXIT_CODES = (
    "Exit codes: 0; 1 if no episode could be played (every row is an error); 2 for an error of the user or of the "
    "machine; 130 after Ctrl-C."
)


def add(commands: Commands) -> None:
    """Adds the commands."""
    add_run(commands)
    add_watch(commands)
    add_sweep(commands)


def add_run(commands: Commands) -> None:
    """Adds `wambench run`."""
    example = "wambench run --policy dreamzero --split unseen-tasks"
    it = add_command(commands, "run", run_command, "play a split with a policy and record it", example, EXIT_CODES)
    what = (
        f"{', '.join(POLICIES)}; or module:Class, path/to/file.py:Class, lerobot:PATH, openpi://HOST:PORT and the like"
    )
    complete_with(it.add_argument("--policy", metavar="POLICY", help=what), POLICIES)
    it.add_argument(
        "--policy-args", nargs="+", action=Pairs, default={}, metavar="NAME=VALUE", help="arguments of its class"
    )
    _add_split(it)
    _add_episodes(it)
    single = ", ".join((*FACTORS, LOOKALIKE))
    alone = f"vary this alone (default: all at once): {single}; a delay or speed in memory and dynamic"
    factor = it.add_argument("--factor", dest="factors", type=names, default=(), metavar="FACTOR,FACTOR", help=alone)
    complete_with(factor, (*FACTORS, LOOKALIKE))
    called = "how the rows call the policy (default: its name with its arguments); weights that differ are its seeds"
    it.add_argument("--name", default="", metavar="NAME", help=called)
    told = "control: tell the policy another task's instruction, or a random one (same scenes, same scoring)"
    it.add_argument("--instruction-of", default="", metavar="TASK", help=told)
    robot = "who plays (default: the robot that the policy's convention asks for)"
    add_choice(it, "--robot", CONVENTIONS, default="", help=robot)
    add_choice(it, "--visual", VISUALS, default="fast", help="how pictures are drawn (default: fast)")
    it.add_argument("--record-video", action="store_true", help="write an mp4 of what the policy saw, of every episode")
    for_people = "draw a film of every episode for people: the arm, shadows, 512 pixels; later, `wambench film` does it"
    it.add_argument("--film", action="store_true", help=for_people)
    it.add_argument("--view", action="store_true", help="show what the policy sees in a window (with --workers 1)")
    limit = "seconds an episode may take, compiling its scene not counted (default: 600)"
    it.add_argument("--time-limit", dest="time_limit_s", type=float, default=600.0, metavar="SECONDS", help=limit)
    again = "play errors again, whatever their cause; errors of the machine (killed worker, full disk) always are"
    it.add_argument("--retry-errors", action="store_true", help=again)
    where = "default: runs/POLICY-SPLIT; the same command continues there, and may ask for more tasks and episodes"
    it.add_argument("--out", type=Path, metavar="DIR", help=where)
    time = it.add_argument_group("time")
    add_choice(time, "--execution", EXECUTORS, default="sync", help="how chunks become actions (default: sync)")
    latency = 'of an answer: seconds (default: 0), "measured", or a TRACE.csv that a measured run left'
    time.add_argument("--latency", default="0", metavar="LATENCY", help=latency)
    add_choice(time, "--clock", CLOCKS, default="virtual", help="wall is real time (default: virtual)")
    _add_chunks(time)
    many = it.add_argument_group("one policy for all workers, many machines")
    device = "cpu, cuda or cuda:1: the policy lives there, in a process of its own (default: one in every worker)"
    many.add_argument("--policy-device", default="", metavar="DEVICE", help=device)
    batch = "queries of several workers that are answered together (default: 8 on a GPU, 1 on a CPU)"
    many.add_argument("--policy-batch", type=int, metavar="N", help=batch)
    cluster = "play on a Ray cluster: local, auto (the one this machine is part of) or ray://HOST:PORT"
    many.add_argument("--cluster", default="", metavar="ADDRESS", help=cluster)
    several.add(it)
    add_seed(it)
    add_workers(it)
    add_task_module(it)


def add_watch(commands: Commands) -> None:
    """Adds `wambench watch`."""
    example = "wambench watch runs/dreamzero-unseen-tasks"
    it = add_command(commands, "watch", watch_command, "show a run while it is played, until it is finished", example)
    it.add_argument("run", type=Path, metavar="RUN", help="folder of the run; lines instead of a table in a pipe")
    it.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="between two looks (default: 2)")
    it.add_argument("--once", action="store_true", help="look once, and end")


def add_sweep(commands: Commands) -> None:
    """Adds `wambench sweep`."""
    example = (
        "wambench sweep --policy dreamzero --latency 0,0.1,0.4 --execution sync,async,rtc --split seen --out runs/sweep"
    )
    it = add_command(commands, "sweep", sweep_command, "progress against latency, for policies and executors", example)
    policies = it.add_argument(
        "--policy", dest="policies", nargs="+", required=True, metavar="POLICY", help="as of run"
    )
    complete_with(policies, POLICIES)
    it.add_argument(
        "--latency", type=seconds, default=(0, 0.05, 0.1, 0.2, 0.4, 0.8), metavar="SECONDS,SECONDS",
        help="of an answer (default: 0,0.05,0.1,0.2,0.4,0.8)",
    )  # fmt: skip
    hows = f"of {', '.join(EXECUTORS)} (default: sync,async,rtc)"
    how = it.add_argument("--execution", type=names, default=("sync", "async", "rtc"), metavar="HOW,HOW", help=hows)
    complete_with(how, EXECUTORS)
    _add_split(it, required=True)
    _add_episodes(it)
    _add_chunks(it)
    it.add_argument("--out", type=Path, required=True, metavar="DIR", help="the same command continues there")
    add_seed(it)
    add_workers(it)
    add_task_module(it)


def _add_split(it: Parser, required: bool = False) -> None:
    known = [split.name for split in current_splits()]
    add_choice(it, "--split", known, required=required, help="what is played; `wambench list splits` describes them")


def _add_episodes(it: Parser) -> None:
    which = "names of `wambench list tasks` (default: all of the split)"
    complete_with(it.add_argument("--tasks", type=names, default=(), metavar="TASK,TASK", help=which), TASKS)
    it.add_argument("--episodes", type=int, default=5, metavar="N", help="episodes per task (default: 5)")


def _add_chunks(it: argparse._ActionsContainer) -> None:
    it.add_argument("--replan", type=int, metavar="STEPS", help="control steps between queries (default: as planned)")
    it.add_argument("--smooth", action="store_true", help="filter every chunk of actions")


def run_command(arguments: argparse.Namespace) -> int:
    """Plays a split with a policy, or what a file asks for; the exit code says whether any episode could be played."""
    return several.run(arguments)


def play(config: RunConfig) -> int:
    """Plays a run, prints what came of it, and returns the exit code."""
    return several.play([config])


def sweep_command(arguments: argparse.Namespace) -> int:
    """Plays a sweep over latencies and prints its table."""
    from wambench.analysis.latency_sweep import SweepConfig, sweep, to_text

    config = SweepConfig(**fields_of(SweepConfig, arguments))
    table = sweep(config, lambda line: print(line, flush=True))
    print(to_text(table))
    print(config.out / "sweep.csv")
    return 0 if table["n"].sum() > 0 else several.NO_ROW_OK


def watch_command(arguments: argparse.Namespace) -> None:
    """Shows how far a run has come: a live table in a terminal that has rich, lines elsewhere."""
    from wambench.watch import watch

    console = None
    if sys.stdout.isatty():
        try:
            from rich.console import Console

            console = Console()
        except ImportError:
            print("wambench: a live table needs rich: pip install 'wambench[watch]'", file=sys.stderr)
    watch(arguments.run, arguments.every, arguments.once, console)
