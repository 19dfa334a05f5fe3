"""`wambench rank`: policies in the simulator and in a world model."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from wambench.commands.arguments import (
    Commands,
    Pairs,
    add_choice,
    add_command,
    add_seed,
    add_task_module,
    add_workers,
    complete_with,
    fields_of,
    names,
)
from wambench.policies import POLICIES
from wambench.tasks import current_splits

WORLD_MODELS = ("dreamzero", "still")


def add(commands: Commands) -> None:
    """Adds the command."""
    example = "wambench rank --policies dreamzero pi0 l1 noop --split seen-v1 --out runs/rank"
    does = "whether a world model can stand in for the simulator"
    it = add_command(commands, "rank", rank, does, example)
    who = 'two or more, as of run; with arguments as "dreamzero(weights=FILE,steps=4)"'
    policies = it.add_argument("--policies", nargs="+", required=True, metavar="POLICY", help=who)
    complete_with(policies, POLICIES)
    add_choice(it, "--world-model", WORLD_MODELS, default="dreamzero", help="in which they play (default: dreamzero)")
    told = "arguments of the world model: weights=FILE, told=instruction (default: it is told nothing), steps=N"
    it.add_argument("--world-model-args", nargs="+", action=Pairs, default={}, metavar="NAME=VALUE", help=told)
    add_choice(it, "--split", [split.name for split in current_splits()], required=True, help="what is played")
    which = "names of tasks (default: those of the split whose progress key points can tell)"
    it.add_argument("--tasks", type=names, default=(), metavar="TASK,TASK", help=which)
    it.add_argument("--episodes", type=int, default=5, metavar="N", help="episodes per task (default: 5)")
    steps = "control steps between queries, in both worlds; the world model must imagine a frame there (default: 16)"
    it.add_argument("--replan", type=int, default=16, metavar="STEPS", help=steps)
    it.add_argument("--out", type=Path, required=True, metavar="DIR", help="the same command continues there")
    it.add_argument("--json", action="store_true", help="the tables for machines")
    add_seed(it)
    add_workers(it)
    add_task_module(it)


def rank(arguments: argparse.Namespace) -> None:
    """Plays in both worlds and prints how alike they are."""
    from wambench.world_model import horizon, ranking

    config = ranking.RankConfig(**fields_of(ranking.RankConfig, arguments))
    table, errors = ranking.rank(config, lambda line: print(f"wambench: {line}", file=sys.stderr))
    if arguments.json:
        found = {world: dataclasses.asdict(one) for world, one in ranking.agreements(table, config.seed).items()}
        by_horizon = json.loads(horizon.summarise(errors).to_json(orient="records"))
        print(json.dumps({"agreement": found, "horizon": by_horizon}))
    else:
        print(ranking.to_text(table, errors, config.seed))
        print(config.out / "rank.csv")
