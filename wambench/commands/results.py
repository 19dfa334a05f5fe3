"""From episodes to results: `wambench leaderboard`, `compare`, `selectivity`, `imagine`, `attribute`, `plot` and on."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from wambench.commands.arguments import (
    Commands,
    Pairs,
    add_command,
    add_seed,
    add_task_module,
    add_workers,
    check_positive,
    names,
)

RUNS_HELP = "folder of a run, or of several runs; what holds none is left out"


def add(commands: Commands) -> None:
    """Adds the commands."""
    add_leaderboard(commands)
    add_compare(commands)
    add_selectivity(commands)
    add_imagine(commands)
    add_attribute(commands)
    add_plot(commands)
    add_report(commands)
    add_submit(commands)


def add_leaderboard(commands: Commands) -> None:
    """Adds `wambench leaderboard`."""
    example = "wambench leaderboard runs/* --out leaderboard.csv"
    it = add_command(commands, "leaderboard", leaderboard, "rates of finished runs, with n and intervals", example)
    it.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=f"{RUNS_HELP}; or a pack of `wambench submit`")
    it.add_argument("--by", default="novelty", metavar="GROUP", help="novelty (default) or task: what a line is about")
    add_interval(it, "a policy has")
    it.add_argument("--out", type=Path, metavar="FILE", help="also write them as CSV")


def add_compare(commands: Commands) -> None:
    """Adds `wambench compare`."""
    example = "wambench compare runs/dreamzero-seen runs/pi0-seen"
    it = add_command(commands, "compare", compare, "paired difference of two policies on the same episodes", example)
    several = "folder of a run, or several with commas between (training seeds): an episode counts with their mean"
    it.add_argument("a", type=names, metavar="A", help=several)
    it.add_argument("b", type=names, metavar="B", help="likewise")
    add_interval(it, "both sides have")
    it.add_argument("--out", type=Path, metavar="FILE", help="also write the table as CSV")


def add_selectivity(commands: Commands) -> None:
    """Adds `wambench selectivity`."""
    example = "wambench selectivity runs/pi0-seen-v1-none-lookalike"
    does = "who goes for what was named, alone and beside distractors or a look-alike"
    it = add_command(commands, "selectivity", selectivity, does, example, "Explained in docs/selectivity.md.")
    it.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=RUNS_HELP)
    it.add_argument("--out", type=Path, metavar="FILE", help="also write the shares as CSV")


def add_interval(it: argparse.ArgumentParser, who: str) -> None:
    """Adds what intervals are over."""
    over = f"what intervals are over: scenes (default), or scenes+seeds, where {who} three training seeds"
    it.add_argument("--interval", default="scenes", metavar="OVER", help=over)


def add_imagine(commands: Commands) -> None:
    """Adds `wambench imagine`."""
    example = "wambench imagine runs/dreamzero-unseen-tasks"
    it = add_command(commands, "imagine", imagine, "how good imagined video is, against what really came", example)
    it.add_argument("runs", nargs="*", type=Path, metavar="RUN", help=f"{RUNS_HELP}; or")
    it.add_argument("--policy", metavar="POLICY", help="as of run: play a split first, into --out")
    it.add_argument(
        "--policy-args", nargs="+", action=Pairs, default={}, metavar="NAME=VALUE", help="arguments of its class"
    )
    it.add_argument("--split", metavar="SPLIT", help="what is played")
    it.add_argument("--episodes", type=int, default=2, metavar="N", help="of each task that is played (default: 2)")
    it.add_argument("--out", type=Path, metavar="DIR", help="of the run that is played (default: as of run)")
    it.add_argument("--json", action="store_true", help="the table for machines")
    ceiling = "also measure what encoding and decoding costs; loads the policy of each run"
    it.add_argument("--ceiling", action="store_true", help=ceiling)
    react = "also ask the policy of each run at N moments how its video reacts to actions and words (default: 0)"
    it.add_argument("--reactions", type=int, default=0, metavar="N", help=react)
    poses = "also let the instrument of attribute read the frames of N queries of each run (default: 0)"
    it.add_argument("--poses", type=int, default=0, metavar="N", help=poses)
    dream = "also let the policy of each run dream N chunks on end at 48 moments (default: 0)"
    it.add_argument("--drift", type=int, default=0, metavar="N", help=dream)
    add_seed(it)
    add_workers(it)
    add_task_module(it)


def add_attribute(commands: Commands) -> None:
    """Adds `wambench attribute`."""
    example = "wambench attribute runs/dreamzero-unseen-tasks --episodes 5"
    it = add_command(commands, "attribute", attribute, "say what lost the progress of failed episodes", example)
    it.add_argument("run", nargs="?", type=Path, metavar="RUN", help="folder of a finished run")
    it.add_argument("--episodes", type=int, metavar="N", help="failed ones of each task (default: all; per fault, 30)")
    it.add_argument("--self-test", action="store_true", help="planted faults instead: is the instrument right?")
    it.add_argument("--faults", type=names, default=(), metavar="FAULT,FAULT", help="of the self-test (default: all)")
    it.add_argument("--out", type=Path, metavar="DIR", help="of the self-test (default: runs/self-test)")
    it.add_argument("--json", action="store_true", help="its summary for machines")
    add_workers(it)
    add_task_module(it)


def add_plot(commands: Commands) -> None:
    """Adds `wambench plot`."""
    example = "wambench plot runs/* --out figures"
    it = add_command(commands, "plot", plot, "draw figures of finished runs, or of the environments", example)
    it.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help=f'{RUNS_HELP}; of a sweep; logs of trainings; "envs"; "tasks"; "profiles"',
    )
    it.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the figures")
    it.add_argument("--episode", metavar="NAME", help="episode of the filmstrip, e.g. PressButton-v1.all.0")
    add_task_module(it)


def add_report(commands: Commands) -> None:
    """Adds `wambench report`."""
    from wambench.report import MAX_MB

    example = "wambench report runs/* --out site"
    it = add_command(
        commands, "report", report, "one static page of finished runs, with films of the episodes", example
    )
    it.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=f"{RUNS_HELP}; of a sweep or self-test; a pack")
    it.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the page; open DIR/index.html")
    it.add_argument("--title", default="", metavar="TEXT", help="heading of the page (default: wambench report)")
    most = f"megabytes of the folder at most; later episodes of each task are left out (default: {MAX_MB:g})"
    it.add_argument("--max-mb", type=float, default=MAX_MB, metavar="MB", help=most)
    add_task_module(it)


def add_submit(commands: Commands) -> None:
    """Adds `wambench submit`."""
    example = "wambench submit runs/mine-seen runs/mine-unseen-tasks --out mine.zip"
    does = "check runs against the rules of the leaderboard, and pack a row"
    it = add_command(commands, "submit", submit, does, example, "The rules: docs/rules.md.")
    it.add_argument("runs", nargs="*", type=Path, metavar="RUN", help=f"{RUNS_HELP}; all of one policy")
    it.add_argument("--out", type=Path, metavar="PACK", help="the file that is written, a ZIP")
    why = 'reason of an error, by its episode (or "all"); what "weights" or "corpus" are where run.json does not tell'
    it.add_argument("--explain", nargs="+", action=Reasons, default={}, metavar="EPISODE=TEXT", help=why)
    it.add_argument(
        "--check", type=Path, metavar="PACK", help="read a pack instead, and say whether it fulfils the rules"
    )
    again = "with --check: play so many of its episodes again from their actions (default: 0)"
    it.add_argument("--replay", type=int, default=0, metavar="N", help=again)
    add_seed(it)


class Reasons(argparse.Action):
    """Collects EPISODE=TEXT words into a dictionary."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        found = dict(getattr(namespace, self.dest) or {})
        for word in values or ():
            name, equals, reason = str(word).partition("=")
            if not equals or not name.strip() or not reason.strip():
                parser.error(f"argument --explain: {word!r} is not of the form EPISODE=TEXT")
            found[name.strip()] = reason.strip()
        setattr(namespace, self.dest, found)


def _say(line: str) -> None:
    print(f"wambench: {line}", file=sys.stderr)


def _unpacked(paths: list[Path]) -> AbstractContextManager[list[Path]]:
    """Gives paths with folders of runs in the place of packs, for as long as they are needed."""
    from wambench.submission import is_pack

    if not any(is_pack(path) for path in paths):
        return nullcontext(paths)
    from wambench.submission.pack import unpacked

    return unpacked(paths)


def leaderboard(arguments: argparse.Namespace) -> None:
    """Prints the rates of runs."""
    from wambench import records
    from wambench.analysis import leaderboard as analysis

    with _unpacked(arguments.runs) as runs:
        table = analysis.leaderboard(
            records.load(records.find_runs(runs, _say), _say), arguments.by, arguments.interval
        )
    print(analysis.to_text(table))
    if arguments.out:
        records.write_whole(arguments.out, analysis.to_csv(table))
        print(arguments.out)


def compare(arguments: argparse.Namespace) -> None:
    """Prints the paired difference of two sides."""
    from wambench import records
    from wambench.analysis import compare as analysis

    sides = [[Path(run) for run in runs] for runs in (arguments.a, arguments.b)]
    if not all(sides):
        raise ValueError("both sides need a run")
    table = analysis.compare(sides[0], sides[1], arguments.interval)
    print(analysis.to_text(table, ", ".join(arguments.a), ", ".join(arguments.b)))
    if arguments.out:
        records.write_whole(arguments.out, analysis.to_csv(table))
        print(arguments.out)


def selectivity(arguments: argparse.Namespace) -> None:
    """Prints which objects are touched first, and what stands in the way changes."""
    from wambench import records
    from wambench.analysis import selectivity as analysis

    rows = analysis.judged(records.load(records.find_runs(arguments.runs, _say), _say))
    lines = analysis.conditions(rows)
    print(analysis.to_text(lines, analysis.differences(rows)))
    if arguments.out:
        records.write_whole(arguments.out, analysis.to_csv(lines))
        print(arguments.out)


def imagine(arguments: argparse.Namespace) -> int | None:
    """Prints how good the imagined video of runs is, or of a policy that plays a split now."""
    from wambench import records
    from wambench.analysis import imagination

    if bool(arguments.runs) == (arguments.policy is not None) or (arguments.policy is None) != (
        arguments.split is None
    ):
        raise ValueError("give folders of runs, or --policy with --split")
    for option in ("reactions", "poses", "drift"):
        if getattr(arguments, option) < 0:
            raise ValueError(f"--{option} must be at least 0, not {getattr(arguments, option)}")
    runs = arguments.runs
    if arguments.policy:
        from wambench.commands import playing
        from wambench.evaluation.config import RunConfig

        asked = {name: getattr(arguments, name) for name in ("policy", "policy_args", "split", "episodes", "out")}
        config = RunConfig.resolve(**asked, seed=arguments.seed, workers=arguments.workers)
        if code := playing.play(config):
            return code
        runs = [config.folder]
    runs = records.find_runs(runs, _say)
    told: dict[str, Any] = {"horizons": imagination.summarise(imagination.score_runs(runs, arguments.ceiling))}
    lines = [imagination.to_text(told["horizons"])]
    if arguments.drift:
        from wambench.analysis import drift

        dreams = drift.score_runs(runs, arguments.drift, seed=arguments.seed)
        told["drift"] = imagination.summarise(dreams)
        lines += [f"dreams of {arguments.drift} chunks, no real frame injected:", imagination.to_text(told["drift"])]
    if arguments.reactions:
        from wambench.attribution import reactions

        told["reactions"] = reactions.summarise(reactions.ask_runs(runs, arguments.reactions, arguments.seed))
        lines.append(reactions.to_text(told["reactions"]))
    if arguments.poses:
        from wambench.attribution import shown_poses

        told["poses"] = shown_poses.summarise(shown_poses.read_runs(runs, arguments.poses, arguments.seed))
        lines.append(shown_poses.to_text(told["poses"]))
    if arguments.json:
        print(json.dumps({name: json.loads(table.to_json(orient="records")) for name, table in told.items()}))
    else:
        print(*lines, sep="\n")
    return None


def attribute(arguments: argparse.Namespace) -> None:
    """Attributes the failures of a run, or tests the instrument."""
    check_positive(arguments, "episodes", "workers")
    if arguments.self_test == (arguments.run is not None):
        raise ValueError("give the folder of a run, or --self-test")
    if arguments.self_test:
        from wambench.attribution import self_test

        out = arguments.out or Path("runs/self-test")
        found = self_test.self_test(out, arguments.episodes or 30, arguments.workers, arguments.faults)
        print(json.dumps(found) if arguments.json else self_test.text(found))
        return
    from wambench.attribution import attribute as attribution
    from wambench.attribution import filmstrips, sensitivity

    rows = attribution.attribute(arguments.run, arguments.episodes, arguments.workers)
    filmstrips.render(arguments.run, rows)
    sensitivity.ask(arguments.run, rows)
    print(attribution.summary(rows, attribution.progress_lost(arguments.run)))
    print(arguments.run / attribution.TABLE)


def plot(arguments: argparse.Namespace) -> None:
    """Draws everything that the given folders and files have something for."""
    if arguments.runs == ["envs"]:
        from wambench.suite import env_gallery

        paths = env_gallery.contact_sheets(arguments.out)
    elif arguments.runs == ["tasks"]:
        from wambench.suite import task_gallery

        paths = task_gallery.draw(arguments.out)
    elif arguments.runs == ["profiles"]:
        from wambench.suite import render_profiles

        path, table = render_profiles.draw(arguments.out)
        print(table, end="\n\n")
        paths = [path]
    else:
        paths = _plot_recorded([Path(run) for run in arguments.runs], arguments.out, arguments.episode)
    print(*paths, sep="\n")


def _plot_recorded(given: list[Path], out: Path, episode: str | None) -> list[Path]:
    """Draws figures of training logs, sweeps, self-tests and runs, whichever there are."""
    from wambench import records
    from wambench.analysis import training_curves
    from wambench.attribution import plots as attribution_plots

    logs = [path for path in given if training_curves.is_log(path)]
    sweeps = [path for path in given if (path / "sweep.csv").is_file()]
    self_tests = [path for path in given if (path / attribution_plots.SELF_TEST).is_file()]
    rest = [path for path in given if path not in (*logs, *sweeps, *self_tests)]
    paths = training_curves.together(logs, out) if logs else []
    if sweeps:
        from wambench.analysis import latency_plot

        paths += latency_plot.plot(sweeps, out)
    runs: list[Path] = []
    if rest:
        try:
            runs = records.find_runs(rest, _say)
        except ValueError as error:
            if not paths and not self_tests:
                raise
            _say(str(error))
    if runs:
        from wambench.analysis import plots

        paths += plots.plot(runs, out, episode)
    if runs or self_tests:
        paths += attribution_plots.draw([*runs, *self_tests], out)
    return paths


def report(arguments: argparse.Namespace) -> None:
    """Writes the page of runs and prints its path."""
    from wambench.report import report as page

    with _unpacked(arguments.runs) as runs:
        print(page.report(runs, arguments.out, arguments.title, arguments.max_mb, _say))


def submit(arguments: argparse.Namespace) -> int | None:
    """Packs runs, or checks a pack; the exit code is 1 if an episode that is played again comes out otherwise."""
    from wambench.submission import pack as packing

    if bool(arguments.runs) == (arguments.check is not None) or (arguments.check is None) != (
        arguments.out is not None
    ):
        raise ValueError("give runs and --out, or --check with a pack")
    if arguments.replay < 0 or (arguments.replay and arguments.check is None):
        raise ValueError("--replay is at least 0, and goes with --check")
    if arguments.check is None:
        path = packing.submit(arguments.runs, arguments.out, arguments.explain, _say)
        print(packing.summary(packing.read_pack(path)))
        print(path)
        return None
    pack = packing.read_pack(arguments.check)
    print(packing.summary(pack))
    print("it fulfils the rules of a row")
    if not arguments.replay:
        return None
    from wambench.submission.replay import replay

    odd = 0
    for one in replay(pack, arguments.replay, arguments.seed):
        odd += not one.same
        says = "the same" if one.same else f"its row says {one.told:.3f}"
        print(f"{one.run}, {one.stem}: progress {one.found:.3f}, {says}")
    print(f"{odd} of {arguments.replay} episodes came out otherwise" if odd else "every one came out the same")
    return 1 if odd else None
