"""The command line: arguments in, one configuration, one function; nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import wambench

USER_ERROR, INTERRUPTED = 2, 130
CORES = min(2, os.cpu_count() or 1)
Command = Callable[[argparse.Namespace], None]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        self.exit(USER_ERROR, f"wambench: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 2 for an error of the user or the machine, 130 after Ctrl-C."""
    arguments = parser().parse_args(argv)
    try:
        arguments.command(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\nwambench: interrupted; what is recorded stays, the same command continues", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `wambench list | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}")
    except (ValueError, RuntimeError) as error:
        return _fail(str(error))
    return 0


def _fail(message: str) -> int:
    print(f"wambench: error: {' '.join(message.split())}", file=sys.stderr)
    return USER_ERROR


def parser() -> Parser:
    """Returns the parser of all commands."""
    top = Parser(prog="wambench", description="World action models against vision-language-action models, simulated.")
    top.add_argument("--version", action="version", version=f"wambench {wambench.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    of_results = (_add_run, _add_sweep, _add_leaderboard, _add_compare, _add_attribute, _add_plot)
    of_the_machine = (_add_list, _add_doctor, _add_bench)
    for add in of_results + of_the_machine + (_add_collect, _add_train, _add_experts):
        add(commands)
    return top


def _add(commands: Any, name: str, command: Command, does: str, example: str) -> Parser:
    added: Parser = commands.add_parser(
        name, help=does, description=f"wambench {name}: {does}.", epilog=f"e.g. {example}"
    )
    added.set_defaults(command=command)
    return added


def _add_run(commands: Any) -> None:
    example = "wambench run --policy dreamzero --split unseen-tasks"
    it = _add(commands, "run", _run, "play a split with a policy and record it", example)
    it.add_argument("--policy", required=True, metavar="P", help="a listed name, module:Class or path/to/file.py:Class")
    it.add_argument("--policy-args", nargs="+", type=_pair, default=[], metavar="K=V", help="arguments of its class")
    it.add_argument("--split", required=True, metavar="S", help="a name of `wambench list splits`")
    it.add_argument("--tasks", type=_names, default=(), metavar="A,B", help="default: all of the split")
    it.add_argument("--factor", type=_names, default=(), metavar="F", help="vary this alone (default: all at once)")
    it.add_argument("--episodes", type=int, default=5, metavar="N", help="episodes per task (default: 5)")
    called = "how the rows call the policy (default: P with its arguments); weights that differ are training seeds"
    it.add_argument("--name", default="", metavar="NAME", help=called)
    told = "control: tell the policy another task's instruction, or a random one (same scenes, same scoring)"
    it.add_argument("--instruction-of", default="", metavar="T", help=told)
    it.add_argument("--visual", default="fast", metavar="V", help="fast (default) or full")
    it.add_argument("--record-video", action="store_true", help="write an mp4 of every episode")
    it.add_argument("--time-limit", type=float, default=600.0, metavar="S", help="seconds an episode may take (600)")
    it.add_argument("--out", type=Path, metavar="DIR", help="default: results/P-S; the same command continues there")
    time = it.add_argument_group("time")
    time.add_argument("--execution", default="sync", metavar="E", help="sync (default), async, ensemble or rtc")
    time.add_argument("--latency", default="0", metavar="L", help='of an answer: seconds (0), "measured" or TRACE.csv')
    time.add_argument("--replan", type=int, metavar="N", help="control steps between queries (default: as planned)")
    time.add_argument("--smooth", action="store_true", help="filter every chunk of actions")
    time.add_argument("--clock", default="virtual", metavar="C", help="virtual (default), or wall: real time")
    _add_common(it)


def _add_sweep(commands: Any) -> None:
    example = (
        "wambench sweep --policy dreamzero --latency 0,0.1,0.4 --execution sync,async,rtc --split seen --out sweep"
    )
    it = _add(commands, "sweep", _sweep, "progress against latency, for policies and executors", example)
    it.add_argument("--policy", nargs="+", required=True, metavar="P", help="as of run")
    it.add_argument("--latency", type=_seconds, default=(0, 0.05, 0.1, 0.2, 0.4, 0.8), metavar="S,S", help="seconds")
    it.add_argument("--execution", type=_names, default=("sync", "async", "rtc"), metavar="E,E", help="as of run")
    it.add_argument("--split", required=True, metavar="S", help="a name of `wambench list splits`")
    it.add_argument("--tasks", type=_names, default=(), metavar="A,B", help="default: all of the split")
    it.add_argument("--episodes", type=int, default=5, metavar="N", help="episodes per task (default: 5)")
    it.add_argument("--replan", type=int, metavar="N", help="control steps between queries (default: as planned)")
    it.add_argument("--smooth", action="store_true", help="filter every chunk of actions")
    it.add_argument("--out", type=Path, required=True, metavar="DIR", help="the same command continues there")
    _add_common(it)


def _add_leaderboard(commands: Any) -> None:
    example = "wambench leaderboard results/* --out leaderboard.csv"
    it = _add(commands, "leaderboard", _leaderboard, "rates of finished runs, with n and intervals", example)
    it.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    it.add_argument("--by", default="novelty", metavar="GROUP", help="novelty (default) or task: what a line is about")
    it.add_argument("--out", type=Path, metavar="FILE", help="also write them as CSV")


def _add_compare(commands: Any) -> None:
    example = "wambench compare results/dreamzero-seen results/pi0-seen"
    it = _add(commands, "compare", _compare, "paired difference of two policies on the same episodes", example)
    several = "folder of a run, or several with commas between (training seeds): an episode counts with their mean"
    it.add_argument("a", type=_names, metavar="A", help=several)
    it.add_argument("b", type=_names, metavar="B", help="likewise")
    it.add_argument("--out", type=Path, metavar="FILE", help="also write the table as CSV")


def _add_attribute(commands: Any) -> None:
    example = "wambench attribute results/dreamzero-unseen-tasks --episodes 5"
    it = _add(commands, "attribute", _attribute, "say what lost the progress of failed episodes", example)
    it.add_argument("run", nargs="?", type=Path, metavar="RUN", help="folder of a finished run")
    it.add_argument("--episodes", type=int, metavar="N", help="failed ones of each task (default: all; per fault, 30)")
    it.add_argument("--workers", type=int, default=CORES, metavar="W", help=f"processes (default: {CORES})")
    it.add_argument("--self-test", action="store_true", help="planted faults instead: is the instrument right?")
    it.add_argument("--faults", type=_names, default=(), metavar="A,B", help="of the self-test (default: all)")
    it.add_argument("--out", type=Path, metavar="DIR", help="of the self-test (default: results/self-test)")
    it.add_argument("--json", action="store_true", help="its summary for machines")


def _add_plot(commands: Any) -> None:
    example = "wambench plot results/* --out figures"
    it = _add(commands, "plot", _plot, "draw figures of finished runs, or of the environments", example)
    it.add_argument(
        "runs", nargs="+", metavar="RUN", help='folder of a run or sweep; logs of trainings; "envs"; "profiles"'
    )
    it.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the figures")
    it.add_argument("--episode", metavar="NAME", help="episode of the filmstrip, e.g. PressButton-v1.all.0")


def _add_list(commands: Any) -> None:
    it = _add(commands, "list", _list, "show what exists", "wambench list tasks --json")
    it.add_argument("kind", nargs="?", choices=("tasks", "splits", "policies"), help="default: everything")
    it.add_argument("--json", action="store_true", help="for machines")


def _add_doctor(commands: Any) -> None:
    _add(commands, "doctor", _doctor, "check that this machine can run the simulator", "wambench doctor")


def _add_collect(commands: Any) -> None:
    example = "wambench collect --corpus demos --tasks seen --episodes 100 --out data/demos"
    it = _add(commands, "collect", _collect, "make training data", example)
    corpora = "demos (by the experts), video (other arms, no actions), renders (for the encoder), tracks (tracker)"
    it.add_argument("--corpus", required=True, metavar="C", help=corpora)
    tasks = "tasks, splits, or all (default: seen; of video, all)"
    it.add_argument("--tasks", type=_names, default=(), metavar="A,B", help=tasks)
    it.add_argument("--episodes", type=int, required=True, metavar="N", help="episodes per task, or pictures in all")
    it.add_argument("--rooms", default="", metavar="R", help="of renders: train (default), or elsewhere")
    arms = "of video and renders: Panda, UR5e, Sawyer, Kinova3, IIWA (default: of video, all others than Panda)"
    it.add_argument("--arms", type=_names, default=(), metavar="A,B", help=arms)
    it.add_argument("--out", type=Path, required=True, metavar="DIR", help="the same command continues there")
    _add_common(it)


def _add_train(commands: Any) -> None:
    example = "wambench train --policy dreamzero --config nano --data data/demos --minutes 60 --out nano.safetensors"
    it = _add(commands, "train", _train, "train a policy", example)
    what = "encoder, dreamzero, pi0, pi05, ki, groot, l1, or tracker and paths (of attribute)"
    it.add_argument("--policy", required=True, metavar="P", help=what)
    it.add_argument("--config", metavar="C", help="its size (default: nano; of encoder, tracker and paths, v1)")
    it.add_argument("--data", nargs="+", required=True, metavar="DIR", help="what `wambench collect` made")
    it.add_argument("--out", required=True, metavar="FILE", help="weights; the same command continues the training")
    it.add_argument("--encoder", metavar="FILE", help="encoder that the policy reads with (default: the shipped one)")
    it.add_argument("--init", metavar="FILE", help="start from these weights")
    it.add_argument("--minutes", type=float, metavar="M", help="length of the training, or")
    it.add_argument("--steps", type=int, metavar="N", help="number of optimiser steps, or")
    it.add_argument("--flops", type=float, metavar="F", help="operations of the training: equal compute for all")
    it.add_argument("--batch", type=int, default=32, metavar="B", help="samples per process and step (32)")
    it.add_argument("--lr", type=float, default=1e-3, metavar="R", help="peak learning rate (0.001)")
    it.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    it.add_argument("--evaluate", metavar="SPLIT", help="play a split with the new weights, into FILE.SPLIT")
    it.add_argument("--episodes", type=int, default=3, metavar="N", help="of that evaluation, per task (3)")
    it.add_argument("--video-share", type=float, default=0.35, metavar="S", help="share of action-free video (0.35)")
    it.add_argument("--levels", default="mixed", metavar="L", help="noise levels: mixed, coupled or flash")
    it.add_argument(
        "--ablation", default="none", metavar="A", help="none, no_video_loss, separate, bidirectional or no_key_points"
    )
    it.add_argument("--frames-per-chunk", type=int, default=2, metavar="K", help="imagined frames of a chunk (2)")
    it.add_argument("--actions-per-chunk", type=int, default=16, metavar="H", help="actions of a chunk (16)")
    it.add_argument("--prefix", type=int, default=0, metavar="D", help="most given actions: training-time rtc (0)")
    _add_common(it)


def _add_experts(commands: Any) -> None:
    example = "wambench experts --episodes 50 --out experts.md"
    it = _add(commands, "experts", _experts, "measure how well the experts solve the tasks", example)
    it.add_argument("--tasks", type=_names, default=(), metavar="A,B", help="tasks or splits (default: all tasks)")
    it.add_argument("--episodes", type=int, default=50, metavar="N", help="episodes per task and condition (50)")
    it.add_argument("--out", type=Path, metavar="FILE", help="also write it, as CSV or Markdown")
    _add_common(it)


def _add_bench(commands: Any) -> None:
    example = "wambench bench policy --config 14b --random-weights --device cuda --json"
    it = _add(commands, "bench", _bench, "measure speed: of simulation, or of a policy", example)
    what = "sim: simulation, rendering, resets, workers against stock robosuite; policy: a chunk, stage by stage"
    it.add_argument("what", choices=("sim", "policy"), help=what)
    it.add_argument("--json", action="store_true", help="one object, for machines")
    of = it.add_argument_group("of policy")
    of.add_argument("--config", default="nano", metavar="C", help="tiny, nano (default), mini, 14b")
    weights = of.add_mutually_exclusive_group()
    weights.add_argument("--weights", metavar="W", help="file, checkpoint folder or hub id (default: random weights)")
    weights.add_argument("--random-weights", action="store_true", help="make them on the device; speed is the same")
    of.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    of.add_argument("--steps", type=_numbers, default=(1, 2, 4, 8, 16), metavar="N,M", help="default: 1,2,4,8,16")
    of.add_argument("--cfg", action=argparse.BooleanOptionalAction, help="guide the video (default: of 14b)")
    of.add_argument("--compile", action=argparse.BooleanOptionalAction, help="torch.compile (default: on a GPU)")
    of.add_argument("--repeats", type=int, default=5, metavar="N", help="chunks per row (default: 5)")


def _add_common(it: Parser) -> None:
    it.add_argument("--seed", type=int, default=0, metavar="K", help="default: 0")
    it.add_argument("--workers", type=int, default=CORES, metavar="W", help=f"processes (default: {CORES})")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in _names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 1,2,4") from None


def _seconds(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in _names(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 0,0.1,0.4") from None


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=value")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _task_names(asked: Sequence[str]) -> tuple[str, ...]:
    """Returns task names, with the tasks of a split in its place; "all" are those of every split."""
    from wambench.tasks import SPLITS, TASKS, find

    groups = {"all": tuple(TASKS), **{name: split.tasks for name, split in SPLITS.items()}}
    names = [name for one in asked for name in (groups[one] if one in groups else (find(one).name,))]
    return tuple(dict.fromkeys(names))


def _run(arguments: argparse.Namespace) -> None:
    from wambench.evaluation.config import RunConfig
    from wambench.evaluation.run import run, summary

    config = RunConfig(
        policy=arguments.policy,
        split=arguments.split,
        tasks=arguments.tasks,
        factors=arguments.factor,
        episodes=arguments.episodes,
        seed=arguments.seed,
        visual=arguments.visual,
        policy_args=dict(arguments.policy_args),
        instruction_of=arguments.instruction_of,
        record_video=arguments.record_video,
        time_limit_s=arguments.time_limit,
        workers=arguments.workers,
        out=arguments.out,
        name=arguments.name,
        **{name: getattr(arguments, name) for name in ("execution", "latency", "replan", "smooth", "clock")},
    )
    print(f"{config.label} on {config.split}, recorded in {config.folder}", flush=True)
    rows = run(config)
    print(f"{len(rows)} episodes, {summary(rows)}: {config.folder / 'episodes.csv'}")


def _sweep(arguments: argparse.Namespace) -> None:
    from wambench.analysis.latency_sweep import SweepConfig, sweep, to_text

    names = ("latency", "execution", "split", "tasks", "episodes", "seed", "workers", "replan", "smooth", "out")
    config = SweepConfig(tuple(arguments.policy), **{name: getattr(arguments, name) for name in names})
    print(to_text(sweep(config, lambda line: print(line, flush=True))))
    print(config.out / "sweep.csv")


def _leaderboard(arguments: argparse.Namespace) -> None:
    from wambench import records
    from wambench.analysis import leaderboard

    table = leaderboard.leaderboard(records.load(arguments.runs), arguments.by)
    print(leaderboard.to_text(table))
    if arguments.out:
        records.write_whole(arguments.out, leaderboard.to_csv(table))
        print(arguments.out)


def _compare(arguments: argparse.Namespace) -> None:
    from wambench import records
    from wambench.analysis import compare

    sides = [[Path(run) for run in runs] for runs in (arguments.a, arguments.b)]
    if not all(sides):
        raise ValueError("both sides need a run")
    table = compare.compare(*sides)
    print(compare.to_text(table, ", ".join(arguments.a), ", ".join(arguments.b)))
    if arguments.out:
        records.write_whole(arguments.out, compare.to_csv(table))
        print(arguments.out)


def _attribute(arguments: argparse.Namespace) -> None:
    for name in ("episodes", "workers"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise ValueError(f"{name} must be positive, not {getattr(arguments, name)}")
    if arguments.self_test == (arguments.run is not None):
        raise ValueError("give the folder of a run, or --self-test")
    if arguments.self_test:
        from wambench.attribution import self_test

        out = arguments.out or Path("results/self-test")
        found = self_test.self_test(out, arguments.episodes or 30, arguments.workers, arguments.faults)
        print(json.dumps(found) if arguments.json else self_test.text(found))
        return
    from wambench.attribution import attribute, filmstrips, sensitivity

    rows = attribute.attribute(arguments.run, arguments.episodes, arguments.workers)
    filmstrips.render(arguments.run, rows)
    sensitivity.ask(arguments.run, rows)
    print(attribute.summary(rows, attribute.progress_lost(arguments.run)))
    print(arguments.run / attribute.TABLE)


def _plot(arguments: argparse.Namespace) -> None:
    from wambench.analysis import training_curves

    if arguments.runs == ["envs"]:
        from wambench.suite import env_gallery

        paths = env_gallery.contact_sheets(arguments.out)
    elif arguments.runs == ["profiles"]:
        from wambench.suite import render_profiles

        path, table = render_profiles.draw(arguments.out)
        print(table, end="\n\n")
        paths = [path]
    elif all(training_curves.is_log(Path(run)) for run in arguments.runs):
        paths = [training_curves.together([Path(run) for run in arguments.runs], arguments.out)]
    elif any((Path(run) / "sweep.csv").is_file() for run in arguments.runs):
        from wambench.analysis import latency_plot

        paths = latency_plot.plot([Path(run) for run in arguments.runs], arguments.out)
    else:
        from wambench.analysis import plots
        from wambench.attribution import plots as attribution_plots

        runs = [Path(run) for run in arguments.runs]
        played = [run for run in runs if not (run / attribution_plots.SELF_TEST).is_file()]
        paths = plots.plot(played, arguments.out, arguments.episode) if played else []
        paths += attribution_plots.draw(runs, arguments.out)
    print(*paths, sep="\n")


def _list(arguments: argparse.Namespace) -> None:
    from wambench.listing import listing

    print(listing(arguments.kind, arguments.json))


def _doctor(arguments: argparse.Namespace) -> None:
    from wambench.suite import doctor

    for what, finding in doctor.report():
        print(f"{what:<44}{finding}", flush=True)


def _collect(arguments: argparse.Namespace) -> None:
    from wambench.collection import CollectConfig, collect

    names = _task_names(arguments.tasks or (("all",) if arguments.corpus == "video" else ("seen",)))
    given = ("corpus", "episodes", "out", "seed", "workers", "rooms", "arms")
    config = CollectConfig(tasks=names, **{name: getattr(arguments, name) for name in given})
    print(collect(config))


def _train(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from wambench.analysis import training_curves
    from wambench.attribution.training import TRAINER
    from wambench.policies.training.config import ATTRIBUTION, TrainConfig
    from wambench.policies.training.train import train

    names = ("policy", "out", "encoder", "init", "minutes", "steps", "flops", "batch", "lr")
    own = ("device", "seed", "workers", "video_share", "levels", "ablation", "prefix")
    values = {name: getattr(arguments, name) for name in (*names, *own, "frames_per_chunk", "actions_per_chunk")}
    apart = ("encoder", "tracker", "paths")
    values["config"] = arguments.config or ("v1" if arguments.policy in apart else "nano")
    if arguments.evaluate and arguments.policy in apart:
        raise ValueError(f"--evaluate plays episodes: it is for policies, not for the {arguments.policy}")
    log = Path(f"{arguments.out}.csv")

    def note(validation: str) -> None:
        tqdm.write(validation)
        with contextlib.suppress(ValueError):  # too short a log yet
            training_curves.draw(log)

    trainer = TRAINER if arguments.policy in ATTRIBUTION else None
    print(train(TrainConfig(data=tuple(arguments.data), **values), note, trainer))
    try:
        print(training_curves.draw(log))
    except ValueError as error:  # a training of a few steps logs nothing; its weights are fine
        print(f"wambench: no curves: {error}", file=sys.stderr)
    if arguments.evaluate:
        weights = [f"weights={arguments.out}", *([f"encoder={arguments.encoder}"] if arguments.encoder else [])]
        split = ["--split", arguments.evaluate, "--episodes", str(arguments.episodes)]
        out = ["--out", f"{arguments.out}.{arguments.evaluate}", "--workers", str(arguments.workers)]
        main(["run", "--policy", arguments.policy, "--policy-args", *weights, *split, *out])


def _experts(arguments: argparse.Namespace) -> None:
    from wambench import records, tasks
    from wambench.suite import expert_success

    for name in ("episodes", "workers"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name} must be positive, not {getattr(arguments, name)}")
    names = _task_names(arguments.tasks or tuple(tasks.TASKS))
    table = expert_success.table(names, arguments.episodes, arguments.seed, arguments.workers)
    print(table.to_string(index=False))
    if arguments.out:
        markdown = arguments.out.suffix == ".md"
        text = expert_success.markdown(table) + "\n" if markdown else table.to_csv(index=False, float_format="%.3f")
        records.write_whole(arguments.out, text)
        print(arguments.out)


def _bench(arguments: argparse.Namespace) -> None:
    if arguments.what == "policy":
        _bench_policy(arguments)
        return
    from wambench.speed import simulation as bench_simulation

    result = bench_simulation.sim()
    print(json.dumps(result) if arguments.json else bench_simulation.text(result))


def _bench_policy(arguments: argparse.Namespace) -> None:
    from wambench.speed import policy as bench_policy

    names = ("config", "weights", "device", "steps", "repeats")
    values = {name: getattr(arguments, name) for name in names}
    given = bench_policy.BenchConfig(**values, guidance=arguments.cfg, compiled=arguments.compile)
    result = bench_policy.policy(
        given, lambda line: print(line, file=sys.stderr if arguments.json else None, flush=True)
    )
    if arguments.json:
        print(json.dumps(result))
