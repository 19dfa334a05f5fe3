"""`wambench collect` and `train`: from simulators to training data to weights."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wambench.commands import playing
from wambench.commands.arguments import (
    Commands,
    Pairs,
    add_command,
    add_seed,
    add_task_module,
    add_workers,
    fields_of,
    names,
    task_names,
)

if TYPE_CHECKING:
    from wambench.policies.training.config import TrainConfig

NO_POLICIES = ("encoder", "renderer", "tracker", "paths")  # what else can be trained


def add(commands: Commands) -> None:
    """Adds both commands."""
    add_collect(commands)
    add_train(commands)


def add_collect(commands: Commands) -> None:
    """Adds `wambench collect`."""
    example = "wambench collect --corpus demos --tasks seen --episodes 100 --out data/demos"
    it = add_command(commands, "collect", collect_command, "make training data", example)
    corpora = "demos (by the experts), video (other arms, no actions), renders (for the encoder), tracks (tracker)"
    it.add_argument("--corpus", required=True, metavar="CORPUS", help=corpora)
    tasks = "tasks, splits, or all (default: seen; of video, all)"
    it.add_argument("--tasks", type=names, default=(), metavar="TASK,TASK", help=tasks)
    it.add_argument("--episodes", type=int, required=True, metavar="N", help="episodes per task, or pictures in all")
    it.add_argument("--rooms", default="", metavar="ROOMS", help="of renders: train (default), or elsewhere")
    arms = "of video and renders: Panda, UR5e, Sawyer, Kinova3, IIWA (default: of video, all others than Panda)"
    it.add_argument("--arms", type=names, default=(), metavar="ARM,ARM", help=arms)
    learner = "of demos: a policy that drives in turns with the expert, who shows how to go on (DAgger)"
    it.add_argument("--learner", default="", metavar="POLICY", help=learner)
    it.add_argument("--learner-args", nargs="+", action=Pairs, default={}, metavar="NAME=VALUE", help="of its class")
    it.add_argument("--out", type=Path, required=True, metavar="DIR", help="the same command continues there")
    add_seed(it)
    add_workers(it)
    add_task_module(it)


def add_train(commands: Commands) -> None:
    """Adds `wambench train`."""
    example = "wambench train --policy dreamzero --config nano --data data/demos --minutes 60 --out nano.safetensors"
    it = add_command(commands, "train", train_command, "train a policy", example)
    what = "encoder, renderer, dreamzero, pi0, pi05, ki, groot, l1, or tracker and paths (of attribute)"
    it.add_argument("--policy", required=True, metavar="POLICY", help=what)
    it.add_argument("--config", metavar="SIZE", help="its size (default: nano; of what is no policy, v1)")
    it.add_argument("--data", nargs="+", required=True, metavar="DIR", help="of `wambench collect`, or lerobot://DIR")
    it.add_argument("--out", required=True, metavar="FILE", help="weights; the same command continues the training")
    it.add_argument("--encoder", metavar="FILE", help="encoder that the policy reads with (default: the shipped one)")
    it.add_argument("--init", metavar="FILE", help="start from these weights")
    it.add_argument("--minutes", type=float, metavar="MINUTES", help="length of the training, or")
    it.add_argument("--steps", type=int, metavar="N", help="number of optimiser steps, or")
    it.add_argument("--flops", type=float, metavar="FLOPS", help="operations of the training: equal compute for all")
    it.add_argument("--batch", type=int, default=32, metavar="N", help="samples per process and step (32)")
    it.add_argument("--lr", type=float, default=1e-3, metavar="RATE", help="peak learning rate (0.001)")
    it.add_argument("--device", default="cpu", metavar="DEVICE", help="cpu (default) or cuda")
    it.add_argument("--evaluate", metavar="SPLIT", help="play a split with the new weights, into FILE.SPLIT")
    it.add_argument("--episodes", type=int, default=3, metavar="N", help="of that evaluation, per task (3)")
    it.add_argument("--video-share", type=float, default=0.2, metavar="SHARE", help="share of action-free video (0.2)")
    it.add_argument("--levels", default="mixed", metavar="LEVELS", help="noise levels: mixed, coupled or flash")
    left_out = "none, no_video_loss, separate, bidirectional or no_key_points"
    it.add_argument("--ablation", default="none", metavar="ABLATION", help=left_out)
    it.add_argument("--frames-per-chunk", type=int, default=2, metavar="K", help="imagined frames of a chunk (2)")
    it.add_argument("--actions-per-chunk", type=int, default=16, metavar="H", help="actions of a chunk (16)")
    it.add_argument("--prefix", type=int, default=0, metavar="D", help="most given actions: training-time rtc (0)")
    anchors = "moments to learn from: undisturbed (default), or all"
    it.add_argument("--anchors", default="undisturbed", metavar="WHICH", help=anchors)
    it.add_argument("--world-model", metavar="FILE", help="of renderer: draw what this DreamZero imagines")
    add_seed(it)
    add_workers(it)


def collect_command(arguments: argparse.Namespace) -> None:
    """Makes training data."""
    from wambench.collection import CollectConfig, collect

    arguments.tasks = task_names(arguments.tasks or (("all",) if arguments.corpus == "video" else ("seen",)))
    print(collect(CollectConfig.resolve(**fields_of(CollectConfig, arguments))))


def train_command(arguments: argparse.Namespace) -> int:
    """Trains a policy, draws its curves, and plays a split with it if asked."""
    from tqdm import tqdm

    from wambench.analysis import training_curves
    from wambench.attribution.training import TRAINER
    from wambench.policies.training.config import ATTRIBUTION, TrainConfig
    from wambench.policies.training.train import train

    arguments.config = arguments.config or ("v1" if arguments.policy in NO_POLICIES else "nano")
    if arguments.evaluate and arguments.policy in NO_POLICIES:
        raise ValueError(f"--evaluate plays episodes: it is for policies, not for the {arguments.policy}")
    log = Path(f"{arguments.out}.csv")

    def note(validation: str) -> None:
        tqdm.write(validation)
        with contextlib.suppress(ValueError):  # too short a log yet
            training_curves.draw(log)

    config = TrainConfig(**fields_of(TrainConfig, arguments))
    print(train(config, note, TRAINER if arguments.policy in ATTRIBUTION else None))
    try:
        print(training_curves.draw(log))
    except ValueError as error:  # a training of a few steps logs nothing; its weights are fine
        print(f"wambench: no curves: {error}", file=sys.stderr)
    return _evaluate(config, arguments.evaluate, arguments.episodes) if arguments.evaluate else 0


def _evaluate(config: TrainConfig, split: str, episodes: int) -> int:
    """Plays a split with new weights, beside which it is recorded, and returns the exit code."""
    from wambench.evaluation.config import RunConfig

    weights = {"weights": str(config.out), **({"encoder": str(config.encoder)} if config.encoder else {})}
    out = Path(f"{config.out}.{split}")
    run = RunConfig.resolve(
        config.policy, split, policy_args=weights, episodes=episodes, out=out, workers=config.workers
    )
    return playing.play(run)
