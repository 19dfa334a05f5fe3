"""`wambench list`, `doctor`, `experts` and `bench`: what there is, and whether it works here and how fast."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from wambench.commands.arguments import (
    Commands,
    add_command,
    add_seed,
    add_task_module,
    add_workers,
    check_positive,
    fields_of,
    names,
    numbers,
    task_names,
)


def add_list(commands: Commands) -> None:
    """Adds `wambench list`."""
    it = add_command(commands, "list", list_command, "show what exists", "wambench list tasks --json")
    it.add_argument("kind", nargs="?", choices=("tasks", "splits", "policies"), help="default: everything")
    it.add_argument("--json", action="store_true", help="for machines")
    add_task_module(it)


def add_doctor(commands: Commands) -> None:
    """Adds `wambench doctor`."""
    add_command(commands, "doctor", doctor, "check that this machine can run the simulator", "wambench doctor")


def add_experts(commands: Commands) -> None:
    """Adds `wambench experts`."""
    example = "wambench experts --episodes 50 --out experts.md"
    it = add_command(commands, "experts", experts, "measure how well the experts solve the tasks", example)
    it.add_argument("--tasks", type=names, default=(), metavar="TASK,TASK", help="tasks or splits (default: all tasks)")
    other = it.add_mutually_exclusive_group()
    other.add_argument("--attack", action="store_true", help="instead: what other ways of acting earn in each task")
    other.add_argument("--resets", action="store_true", help="instead: whether episodes start as they should")
    levels = "instead: scripted tasks at every delay or speed, and what guessing earns where memory is needed"
    other.add_argument("--levels", action="store_true", help=levels)
    robot = "who plays: libero (default), droid, droid-velocity; only with none of the above"
    it.add_argument("--robot", metavar="ROBOT", help=robot)
    counts = "episodes per task and condition (50; of an attack 10, of resets 500, of levels 20)"
    it.add_argument("--episodes", type=int, metavar="N", help=counts)
    out = "also write it, as CSV or Markdown; the same command continues a measurement that was stopped"
    it.add_argument("--out", type=Path, metavar="FILE", help=out)
    add_seed(it)
    add_workers(it)
    add_task_module(it)


def add_bench(commands: Commands) -> None:
    """Adds `wambench bench`."""
    example = "wambench bench policy --config 14b --random-weights --device cuda --json"
    it = add_command(commands, "bench", bench, "measure speed: of simulation, of a policy, or of a run", example)
    what = "sim: simulation, rendering, resets, workers against stock robosuite; policy: a chunk, stage by stage; "
    what += "scale: episodes an hour with the built-in pool, one policy for all workers, and Ray"
    it.add_argument("what", choices=("sim", "policy", "scale"), help=what)
    it.add_argument("--json", action="store_true", help="one object, for machines")
    it.add_argument(
        "--robot", default="libero", metavar="ROBOT", help="of sim: libero (default), droid, droid-velocity"
    )
    run = it.add_argument_group("of scale (and --device)")
    run.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each variant (default: 3)")
    run.add_argument("--episodes", type=int, default=16, metavar="N", help="of each variant in a round (default: 16)")
    add_workers(it)
    of = it.add_argument_group("of policy")
    of.add_argument("--config", default="nano", metavar="SIZE", help="tiny, nano (default), mini, 14b")
    weights = of.add_mutually_exclusive_group()
    given = "file, checkpoint folder or hub id (default: random weights)"
    weights.add_argument("--weights", metavar="WEIGHTS", help=given)
    weights.add_argument("--random-weights", action="store_true", help="make them on the device; speed is the same")
    of.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu (default) or cuda")
    of.add_argument("--steps", type=numbers, default=(1, 2, 4, 8, 16), metavar="N,M", help="default: 1,2,4,8,16")
    of.add_argument(
        "--cfg", dest="guidance", action=argparse.BooleanOptionalAction, help="guide the video (default: of 14b)"
    )
    of.add_argument(
        "--compile", dest="compiled", action=argparse.BooleanOptionalAction, help="torch.compile (default: on a GPU)"
    )
    of.add_argument("--repeats", type=int, default=5, metavar="N", help="chunks per row (default: 5)")


def list_command(arguments: argparse.Namespace) -> None:
    """Prints what exists."""
    from wambench.listing import listing

    print(listing(arguments.kind, arguments.json))


def doctor(arguments: argparse.Namespace) -> None:
    """Prints what it finds as it finds it."""
    from wambench.suite import doctor as suite

    for what, finding in suite.report():
        print(f"{what:<44}{finding}", flush=True)


def experts(arguments: argparse.Namespace) -> None:
    """Measures the experts, attacks or starts."""
    from wambench import records, tasks
    from wambench.suite import attacks, expert_levels, expert_success, resets

    chosen = (arguments.attack, attacks), (arguments.resets, resets), (arguments.levels, expert_levels)
    suite = next((module for asked, module in chosen if asked), expert_success)
    if arguments.episodes is None:
        arguments.episodes = suite.EPISODES
    check_positive(arguments, "episodes", "workers")
    asked = task_names(arguments.tasks or tuple(tasks.TASKS))
    if arguments.robot and suite is not expert_success:
        raise ValueError("--robot goes with the success of the experts alone, not with --attack, --resets or --levels")
    of = {"robot": arguments.robot} if arguments.robot else {}
    table = suite.table(asked, arguments.episodes, arguments.seed, arguments.workers, arguments.out, **of)
    print(table.to_string(index=False))
    print(*(suite.shortfalls(table) or ["nothing falls short"]), sep="\n")
    if arguments.out:
        markdown = arguments.out.suffix == ".md"
        text = suite.markdown(table) + "\n" if markdown else table.to_csv(index=False, float_format="%.3f")
        records.write_whole(arguments.out, text)
        print(arguments.out)


def bench(arguments: argparse.Namespace) -> None:
    """Measures speed."""
    if arguments.what == "policy" and arguments.robot != "libero":
        raise ValueError("--robot goes with bench sim: a policy is timed without a simulator")
    if arguments.what == "policy":
        _bench_policy(arguments)
        return
    if arguments.what == "scale":
        from wambench.speed import scale

        check_positive(arguments, "rounds", "episodes", "workers")
        measured = scale.scale(arguments.rounds, arguments.episodes, arguments.workers, arguments.device)
        print(json.dumps(measured) if arguments.json else scale.text(measured))
        return
    from wambench.speed import simulation

    result = simulation.sim(robot=arguments.robot)
    print(json.dumps(result) if arguments.json else simulation.text(result))


def _bench_policy(arguments: argparse.Namespace) -> None:
    from wambench.speed import policy

    said = sys.stderr if arguments.json else None
    config = policy.BenchConfig(**fields_of(policy.BenchConfig, arguments))
    result = policy.policy(config, lambda line: print(line, file=said, flush=True))
    if arguments.json:
        print(json.dumps(result))
