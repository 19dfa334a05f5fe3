"""The rules of a row of the leaderboard (docs/rules.md), as checks on what a run left.

Every check returns sentences, one for each rule that is broken; none means that the run may stand in the table. They
need the rows, the run.json and the digests of the recordings, and neither a simulator nor the policy.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wambench import policies, tasks
from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import plan
from wambench.interface import EpisodeSpec, fields_of_json
from wambench.records import Row, episode_stem, provenance

MIN_EPISODES = 10  # of every task
MAX_ERRORS = 0.05  # share of a run's episodes
SEED = 0  # of the run: everybody plays the same scenes, so that rows can be paired
VISUAL = "fast"
SAME = ("wambench", "mujoco", "robosuite")  # packages of which a pack has one version
SIMULATOR = ("mujoco", "robosuite")  # packages whose version decides what an action does
TOLD = ("date", "split_hash", "versions", "renderer", "device", "convention")  # what a run.json must tell
WITHOUT_WEIGHTS = (policies.EXPERT, "noop", "random")
SHOWN = 3  # examples in a sentence
EVERY = "all"  # explains every error that has no explanation of its own
WEIGHTS, CORPUS = "weights", "corpus"  # explain what run.json does not tell of weights and of their training


@dataclass(frozen=True)
class Digest:
    """What a recording says of its episode, and the hashes by which it is known again.

    Attributes:
        recording, actions, first_frame: SHA-256 of the file, of the actions carried out (float64), and of the first
            frame of every camera, one after the other; "" where there is none.
        spec_hash, status, progress, success_end, stages, steps: Of the episode, as in a row.
    """

    recording: str
    actions: str
    first_frame: str
    spec_hash: str
    status: str
    progress: float
    success_end: bool
    stages: tuple[str, ...]
    steps: int


@dataclass(frozen=True)
class SubmittedRun:
    """A run as it is submitted: `run.json`, rows, and the digests of its recordings by the stem of their files."""

    name: str
    origin: Mapping[str, Any]
    rows: tuple[Row, ...]
    digests: Mapping[str, Digest]


def violations(runs: Sequence[SubmittedRun], explained: Mapping[str, str]) -> list[str]:
    """Returns the rules that a set of runs breaks.

    Args:
        runs: All of one policy.
        explained: Reasons of errors, by episode stem or `EVERY`; what is not told, by `WEIGHTS` or `CORPUS`.
    """
    if not runs:
        return ["there is no run"]
    found = list(_together(runs))
    for run in runs:
        found += [f"{run.name}: {sentence}" for sentence in _of_run(run, explained)]
    return found


def _together(runs: Sequence[SubmittedRun]) -> Iterator[str]:
    policies = sorted({row.policy for run in runs for row in run.rows})
    if len(policies) != 1:
        yield f"a pack is of one policy, and these runs are of {len(policies)}: {_some(policies)}"
    for package in SAME:
        versions = sorted({str(_dict(run.origin.get("versions")).get(package)) for run in runs})
        if len(versions) > 1:
            yield f"mixed versions of {package}: {', '.join(versions)}"
    places = Counter(
        (row.split, row.factor, str(run.origin.get("weights_hash")), row.task, row.episode)
        for run in runs
        for row in run.rows
    )
    twice = [place for place, n in places.items() if n > 1]
    if twice:
        yield f"{len(twice)} episodes are there twice, e.g. episode {twice[0][4]} of {twice[0][3]} on {twice[0][0]}"
    recordings = Counter(digest.recording for run in runs for digest in run.digests.values())
    copies = sum(n > 1 for n in recordings.values())
    if copies:
        yield f"{copies} recordings stand for more than one episode: each is played by itself"


def _of_run(run: SubmittedRun, explained: Mapping[str, str]) -> Iterator[str]:
    missing = [name for name in TOLD if not run.origin.get(name)]
    if missing:
        yield f"run.json does not tell {', '.join(missing)}"
    try:
        config = RunConfig(**fields_of_json(_dict(run.origin.get("config"))))
    except (ValueError, TypeError) as error:
        yield f"run.json is of no run of this version: {error}"
        return
    yield from _provenance(run, config, explained)
    yield from _settings(config)
    yield from _complete(run, config)
    yield from _errors(run, explained)
    specs = {job.key: job.spec for job in plan(config)}
    yield from _grouped(run.rows, lambda row: _row(row, config, specs.get(row.key)))
    yield from _grouped(run.rows, lambda row: _recorded(row, run.digests.get(episode_stem(row.key))))


def _provenance(run: SubmittedRun, config: RunConfig, explained: Mapping[str, str]) -> Iterator[str]:
    origin = run.origin
    if origin.get("world_model"):
        yield f"played in the world model {origin['world_model']}, and not in the simulator"
    if config.split not in tasks.SHIPPED_SPLITS or origin.get("task_module_hash"):
        yield f"split {config.split!r} is not of this package"
    elif origin.get("split_hash") != (now := provenance.split_hash(config.split)):
        theirs = str(origin.get("split_hash"))[:12]
        yield f"split {config.split!r} is another version of it: hash {theirs}, here {now[:12]}"
    here = provenance.versions()
    for package in SIMULATOR:
        theirs = str(_dict(origin.get("versions")).get(package))
        if theirs != here[package]:
            yield f"played with {package} {theirs}, and rows here are of {here[package]}"
    if str(origin.get("commit") or "").endswith("-dirty"):
        yield "played with code that differs from its commit: commit it, and play again"
    if config.policy in WITHOUT_WEIGHTS:
        return
    if not origin.get("weights_hash") and WEIGHTS not in explained:
        yield f'the policy tells no hash of its weights: say what they are with --explain {WEIGHTS}="..."'
    if not origin.get("corpus") and CORPUS not in explained:
        yield f'the policy does not tell what it was trained on: say it with --explain {CORPUS}="..."'


def _settings(config: RunConfig) -> Iterator[str]:
    if config.policy in policies.PRIVILEGED:
        yield f"{config.policy} reads the simulator it acts in: that is a control and no row"
    if config.seed != SEED:
        yield f"played with seed {config.seed}: rows are of seed {SEED}, so that everybody plays the same scenes"
    if config.visual != VISUAL:
        yield f"played with visual profile {config.visual!r}: rows are of {VISUAL!r}"
    if config.instruction_of:
        yield f"told the instruction of {config.instruction_of}: that is a control and no row"
    if config.clock != "virtual":
        yield "played on the wall clock, whose rows depend on the machine: rows are of the virtual clock"


def _complete(run: SubmittedRun, config: RunConfig) -> Iterator[str]:
    left_out = [name for name in tasks.SPLITS[config.split].tasks if name not in config.tasks]
    if left_out:
        yield f"{len(left_out)} tasks of {config.split} were not played: {_some(left_out)}"
    if config.episodes < MIN_EPISODES:
        yield f"{config.episodes} episodes of every task: a row has at least {MIN_EPISODES}"
    asked = {job.key for job in plan(config)}
    there = Counter(row.key for row in run.rows)
    missing = sorted(asked - there.keys())
    if missing:
        yield f"{len(missing)} of {len(asked)} episodes have no row: {_some(map(episode_stem, missing))}"
    odd = sorted(there.keys() - asked)
    if odd:
        yield f"{len(odd)} rows are not of this run: {_some(map(episode_stem, odd))}"


def _errors(run: SubmittedRun, explained: Mapping[str, str]) -> Iterator[str]:
    errors = [row for row in run.rows if row.status != "ok"]
    machine = [row for row in errors if row.of_machine]
    if machine:
        yield f"{len(machine)} errors are of the machine: the same command plays them again"
    open_ones = [row for row in errors if not row.of_machine and not {episode_stem(row.key), EVERY} & explained.keys()]
    if open_ones:
        names = _some(episode_stem(row.key) for row in open_ones)
        yield f'{len(open_ones)} errors are not explained: {names}; --explain EPISODE="..." or {EVERY}="..."'
    if len(errors) > MAX_ERRORS * len(run.rows):
        yield f"{len(errors)} of {len(run.rows)} episodes are errors: at most {MAX_ERRORS:.0%} may be"


def _row(row: Row, config: RunConfig, spec: EpisodeSpec | None) -> str:
    """Returns how a row contradicts itself or its run, "" if it does not."""
    if spec is None:
        return ""  # told already: it is not of this run
    if (row.policy, row.split, row.task) != (config.label, config.split, spec.task):
        return "rows are of another policy, split or version of a task than run.json says"
    if (row.seed, row.spec_hash) != (spec.seed, spec.hash):
        return "rows are of other scenes: seed or scene hash does not fit task, factor and number"
    if row.prompt != " ".join(spec.instruction.split()):
        return "rows tell another prompt than the task's instruction"
    if row.status != "ok":
        return ""
    weights = {stage.name: stage.weight for stage in tasks.find(row.task).stages}
    reached = [name for name in row.stages.split(";") if name]
    if not set(reached) <= weights.keys() or abs(sum(weights[name] for name in reached) - row.progress) > 1e-5:
        return "rows have a progress that is not that of the stages they name"
    if row.success_end != (row.progress > 1.0 - 1e-6) or (row.success_end and row.steps == 0):
        return "rows have a success that does not fit their progress"
    return "rows are longer than their task's horizon" if row.steps > spec.horizon else ""


def _recorded(row: Row, digest: Digest | None) -> str:
    """Returns how a row contradicts its recording, "" if it does not."""
    if digest is None:
        return "rows have no recording" if row.status == "ok" else ""
    stages = tuple(name for name in row.stages.split(";") if name)
    ours = (row.spec_hash, row.status, row.success_end, stages, row.steps)
    theirs = (digest.spec_hash, digest.status, digest.success_end, digest.stages, digest.steps)
    same = abs(row.progress - digest.progress) < 1e-5 or math.isnan(row.progress + digest.progress)
    return "" if ours == theirs and same else "rows do not fit their recordings"


def _grouped(rows: Sequence[Row], check: Callable[[Row], str]) -> Iterator[str]:
    """Yields each sentence once, with the number of the rows that it is about, and examples."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if said := check(row):
            found.setdefault(said, []).append(episode_stem(row.key))
    for said, stems in found.items():
        yield f"{len(stems)} {said}: {_some(stems)}"


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
