"""`wambench attribute`: which part of a policy lost the progress of its failed episodes.

    attribute(Path("runs/dreamzero-unseen-tasks"), episodes=4, workers=2)   -> RUN/attribution.csv

This is the loop over episodes. Each of the three definitions of docs/attribution.md is a file: the read-out
(`readout`), the intervention (`counterfactuals`) and the first divergence (`first_divergence`). The loop continues
where it was stopped, and everything that can be refused is refused before any rollout. `self_test` shows how far the
answers may be believed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeGuard, TypeVar

from wambench import policies, records
from wambench.analysis.intervals import text
from wambench.attribution import readout, shapley, table
from wambench.attribution.readout import Limits
from wambench.attribution.shapley import CounterfactualProgress
from wambench.attribution.table import TABLE, AttributionRow
from wambench.attribution.verdicts import first_divergence_verdict, intervention_verdict
from wambench.conventions import ROBOT
from wambench.evaluation.config import RunConfig
from wambench.evaluation.process_pool import LostJob, Pool
from wambench.evaluation.run import plan
from wambench.evaluation.worker import Player, tabletop
from wambench.interface import ControlConvention, Episode, Policy, fields_of_json
from wambench.progress_bar import progress_bar
from wambench.records import RUN, provenance

if TYPE_CHECKING:
    from wambench.attribution.counterfactuals import ChunkTiming
    from wambench.attribution.frame_reading import FrameInterpreter

T = TypeVar("T")

LIMIT_S = 1800.0  # that an episode may take: nano's take 35 s of processor time
FAILED = 1.0 - 1e-6  # progress below which an episode failed
LIMITS = Limits()
LOST = {name: f"lost to {name}" for name in ("video", "action")} | {
    "timing": "lost to latency",
    "unattributed": "lost by the oracle, too",
    "unread": "in episodes whose imagined frames could not be read",
}
VERDICT_NAMES = {"d1": "read-out", "d2": "intervention", "d3": "first divergence", "behaviour": "how it failed"}
NO_VIDEO = "no imagined video: behavioural type only"
NO_READER = "no reader of this robot's frames: no read-out, f(own, oracle), f(oracle, oracle), shares or verdicts"
NO_EXTRACT = "no extract: f(oracle, own), the shares, the placebo and D2 are unknown"


@dataclass(frozen=True)
class RecordedRun:
    """What a folder was run with.

    Attributes:
        config: The configuration, with the folder as `out`.
        weights_hash: Of the policy; None if it has no weights.
        convention: Of the policy and its simulators.
    """

    config: RunConfig
    weights_hash: str | None
    convention: ControlConvention


@dataclass(frozen=True)
class FailedEpisode:
    """A failed episode to be attributed: its row in episodes.csv and its file."""

    row: records.Row
    path: Path


class LatePolicy(Policy, Protocol):
    """A policy whose own actions come late, and that can be told not to."""

    latency_steps: int


def is_late(policy: Policy) -> TypeGuard[LatePolicy]:
    """Returns whether a policy delays its own actions."""
    return bool(getattr(policy, "latency_steps", 0))


@contextlib.contextmanager
def without_latency(policy: Policy) -> Iterator[None]:
    """Makes a policy answer in time for a while."""
    if not is_late(policy):
        yield
        return
    late = policy.latency_steps
    policy.latency_steps = 0
    try:
        yield
    finally:
        policy.latency_steps = late


def load_run(run: Path) -> RecordedRun:
    """Returns what a folder was run with; raises ValueError if it cannot be replayed here."""
    path = run / RUN
    if not path.is_file():
        raise ValueError(f"no run at {run}: there is no {path}")
    try:
        values = json.loads(path.read_text())
        config = _make(RunConfig, values["config"] | {"out": run})
        convention = _make(ControlConvention, values["convention"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a run of this version: {error}") from error
    now = provenance.of_run(config.split)["split_hash"]
    if values.get("split_hash") != now:
        raise ValueError(
            f"{path}: its split {config.split!r} is of another version ({values.get('split_hash')}, not {now})"
        )
    if values.get("world_model"):
        raise ValueError(f"{run}: played in a world model, so that there is no state of the simulator to go back to")
    if config.policy == policies.EXPERT:
        raise ValueError(f"{run}: the expert is the oracle here; there is nothing to attribute")
    if config.policy in policies.PRIVILEGED:
        raise ValueError(f"{run}: {config.policy} reads the simulator it acts in; attribute the policy without it")
    return RecordedRun(config, values.get("weights_hash"), convention)


def _make(kind: Callable[..., T], values: Mapping[str, object]) -> T:
    """Returns what a JSON object says; its lists stand for tuples."""
    return kind(**fields_of_json(values))


def find_failed(run: Path, config: RunConfig, episodes: int | None) -> list[FailedEpisode]:
    """Returns the failed episodes of a run, at most so many of each task; raises ValueError if one cannot be used."""
    rows = records.read_rows(run / records.ROWS)
    expected = {job.key for job in plan(config)}
    missing = len(expected - {row.key for row in rows})
    if missing:
        raise ValueError(
            f"{run}: {missing} of {len(expected)} episodes are missing: run its command again to finish it"
        )
    chosen: dict[str, list[FailedEpisode]] = {}
    for row in rows:
        same = chosen.setdefault(row.task, [])
        if row.status == "ok" and row.progress < FAILED and (episodes is None or len(same) < episodes):
            same.append(FailedEpisode(row, run / "episodes" / f"{records.episode_stem(row.key)}.npz"))
    found = [one for same in chosen.values() for one in same]
    for one in found:
        if not one.path.is_file():
            raise ValueError(f"{one.path} is missing: without the states of its chunks an episode cannot be attributed")
    if found and not all(chunk.state for chunk in records.load_episode(found[0].path).chunks):
        raise ValueError(f"{found[0].path}: recorded without the states of its chunks")
    return found


def attribute(run: Path, episodes: int | None = None, workers: int = 1) -> list[AttributionRow]:
    """Writes RUN/attribution.csv and returns its rows, one per failed episode.

    Args:
        run: Folder of a finished run.
        episodes: Failed episodes of each task to attribute, at most; None: all.
        workers: Processes.

    Raises:
        ValueError: The run cannot be used; says why.
    """
    recorded = load_run(run)
    todo = find_failed(run, recorded.config, episodes)
    path = run / TABLE
    with records.locked(run):
        before = table.read(path, torn=True) if path.exists() else []
        rows = {row.key: row for row in before if not row.error}  # what went wrong is tried again
        records.write_whole(path, table.to_csv(rows.values()))
        left = [one for one in todo if one.row.key not in rows]
        if left:
            payload = (recorded, left[0].row.task)
            with Pool(_set_up, payload, min(workers, len(left))) as pool:
                for row in _attributed_rows(pool, left, len(todo)):
                    rows[row.key] = row
                    records.append(path, table.to_csv([row], header=False).encode())
        order = {one.row.key: i for i, one in enumerate(todo)}
        done = sorted(rows.values(), key=lambda row: (order.get(row.key, len(order)), row.key))
        records.write_whole(path, table.to_csv(done))
    return done


def _attributed_rows(pool: Pool, jobs: Sequence[FailedEpisode], total: int) -> Iterator[AttributionRow]:
    """Yields the rows of episodes as they are done; one whose worker was lost says so in `error`."""
    with progress_bar(total=total, initial=total - len(jobs), unit="episode") as bar:
        for index, result in pool.results(jobs, LIMIT_S):
            if isinstance(result, LostJob):
                result = dataclasses.replace(_begin_row(jobs[index].row), error=result.reason)
            yield result
            bar.update()


def _begin_row(row: records.Row) -> AttributionRow:
    """Returns the row of attribution that says what episodes.csv says."""
    return AttributionRow(
        policy=row.policy,
        split=row.split,
        task=row.task,
        novelty=row.novelty,
        factor=row.factor,
        episode=row.episode,
        seed=row.seed,
        spec_hash=row.spec_hash,
        progress=row.progress,
    )


def _set_up(payload: tuple[RecordedRun, str]) -> tuple[None, Callable[[FailedEpisode], AttributionRow]]:
    """Returns the function that attributes an episode; raises ValueError if the policy is not the one of the run."""
    from wambench.attribution import paths, tracker
    from wambench.attribution.frame_reading import FrameInterpreter
    from wambench.attribution.oracle import has_oracle
    from wambench.policies import weight_files

    recorded, task = payload
    player = Player(recorded.config, tabletop)
    reader = tracker.FrameReader()
    ways, _ = paths.load(weight_files.packaged(paths.WEIGHTS))
    _, policy = player.enter(task)
    here = getattr(policy, "weights_hash", None)
    if here != recorded.weights_hash:
        raise ValueError(
            f"the run was made with weights {recorded.weights_hash}, here are {here}: give the policy its own weights"
        )

    def work(one: FailedEpisode) -> AttributionRow:
        sim, policy = player.enter(one.row.task)
        if not has_oracle(sim):
            raise ValueError(f"the simulator of {one.row.task} has no oracle: it cannot be branched and posed")
        interpreter = FrameInterpreter.of(sim, reader, ways)
        return attribute_episode(interpreter, policy, records.load_episode(one.path), _begin_row(one.row))

    return None, work


def attribute_episode(
    interpreter: FrameInterpreter, policy: Policy, episode: Episode, row: AttributionRow, limits: Limits = LIMITS
) -> AttributionRow:
    """Returns the row of a failed episode.

    Args:
        interpreter: Of a simulator of its task.
        policy: Who played it.
        episode: As recorded.
        row: What episodes.csv says of it.
        limits: Of the read-out.
    """
    from wambench.attribution.counterfactuals import timing_of
    from wambench.attribution.replay import behaviour

    began = time.perf_counter()
    steps = interpreter.paths.steps
    timing = timing_of(episode)
    row = dataclasses.replace(
        row, behaviour=behaviour(interpreter.sim, episode), chunks=len(episode.chunks), steps=episode.steps
    )
    if timing is None:
        row = dataclasses.replace(row, missing=NO_VIDEO)
    elif episode.spec.robot != ROBOT:
        row = _without_reader(row, interpreter, policy, episode, timing)
    elif not set(steps) <= set(timing.offsets):
        row = dataclasses.replace(row, missing=f"no frames {steps} env steps after a query: behavioural type only")
    else:
        late = policy.latency_steps if is_late(policy) else 0
        row = _read_out(row, interpreter, episode, timing, limits, late)
        with without_latency(policy):
            row = _intervene(row, interpreter, policy, episode, timing, late > 0)
            row = _find_divergence(row, interpreter, policy, episode, timing, late > 0)
    return dataclasses.replace(row, wall_s=time.perf_counter() - began)


def _read_out(
    row: AttributionRow,
    interpreter: FrameInterpreter,
    episode: Episode,
    timing: ChunkTiming,
    limits: Limits,
    late: int,
) -> AttributionRow:
    """Returns the row with what the read-out says of the recorded frames."""
    pairs = readout.find_queries(interpreter, episode, timing, late)
    delayed = [query for _, query in pairs] if late else None
    found = readout.read_out([query for query, _ in pairs], limits, episode.spec.control_hz, delayed)
    return dataclasses.replace(
        row,
        d1=found.verdict,
        d1_confidence=found.confidence,
        d1_video=found.video,
        d1_action=found.action,
        abstained=found.abstained,
        video_error_m=found.video_error_m,
        action_error_m=found.action_error_m,
        motion_m=found.motion_m,
        lag_s=found.lag_s,
    )


def _intervene(
    row: AttributionRow,
    interpreter: FrameInterpreter,
    policy: Policy,
    episode: Episode,
    timing: ChunkTiming,
    was_late: bool,
) -> AttributionRow:
    """Returns the row with the counterfactuals; the recorded rollout is f(own, own) unless latency spoilt it."""
    from wambench.attribution import counterfactuals

    spec = episode.spec
    own = episode.progress
    if was_late:
        own = counterfactuals.play_own(interpreter.sim, spec, policy, timing).progress
    by_servo = counterfactuals.play_followed(interpreter, spec, policy, timing)
    ceiling = counterfactuals.play_followed(interpreter, spec, None, timing)
    row = dataclasses.replace(
        row, own_own=own, own_oracle=by_servo.value, oracle_oracle=ceiling.value, timing=own - episode.progress
    )
    if not counterfactuals.can_extract(policy):
        return dataclasses.replace(row, unattributed=1.0 - ceiling.value, missing=NO_EXTRACT)
    placebo = counterfactuals.play_extracted(interpreter, spec, policy, timing, placebo=True)
    extracted = counterfactuals.play_extracted(interpreter, spec, policy, timing)
    progress = CounterfactualProgress(own, extracted.progress, by_servo.value, ceiling.value)
    verdict, confidence = intervention_verdict(progress, row.timing)
    row = dataclasses.replace(
        row,
        oracle_own=extracted.progress,
        placebo=placebo.progress - own,
        placebo_action=placebo.difference,
        d2=verdict,
        d2_confidence=confidence,
    )
    if verdict == "abstain":
        return row
    shares = shapley.shapley(progress)
    return dataclasses.replace(row, video=shares.video, action=shares.action, unattributed=shares.unattributed)


def _without_reader(
    row: AttributionRow, interpreter: FrameInterpreter, policy: Policy, episode: Episode, timing: ChunkTiming
) -> AttributionRow:
    """Returns the row with what needs no frames to be read: f(own, own), f(oracle, own), the chunk of no return.

    The learned reader knows the cameras of the usual robot only. Without it there is no read-out, and nobody can follow
    a video, so that two of the four cells and every verdict stay open.
    """
    from wambench.attribution import counterfactuals, first_divergence

    number, _ = first_divergence.find_no_return(interpreter.sim, episode)
    seconds = episode.chunks[number].step / episode.spec.control_hz if number >= 0 else math.nan
    row = dataclasses.replace(row, own_own=episode.progress, no_return=number, no_return_s=seconds, missing=NO_READER)
    if not counterfactuals.can_extract(policy) or is_late(policy):
        return row
    placebo = counterfactuals.play_extracted(interpreter, episode.spec, policy, timing, placebo=True)
    extracted = counterfactuals.play_extracted(interpreter, episode.spec, policy, timing)
    return dataclasses.replace(
        row,
        oracle_own=extracted.progress,
        placebo=placebo.progress - episode.progress,
        placebo_action=placebo.difference,
    )


def _find_divergence(
    row: AttributionRow,
    interpreter: FrameInterpreter,
    policy: Policy,
    episode: Episode,
    timing: ChunkTiming,
    was_late: bool,
) -> AttributionRow:
    """Returns the row with the chunk of no return and what it is blamed on."""
    from wambench.attribution.first_divergence import find_fatal_chunk

    fatal, number = find_fatal_chunk(interpreter, episode, policy, timing, was_late)
    verdict, confidence = first_divergence_verdict(fatal)
    seconds = episode.chunks[number].step / episode.spec.control_hz if number >= 0 else math.nan
    return dataclasses.replace(row, d3=verdict, d3_confidence=confidence, no_return=number, no_return_s=seconds)


def progress_lost(run: Path) -> dict[str, float]:
    """Returns the progress lost in each task by all episodes of a run."""
    found: dict[str, float] = {}
    for row in records.read_rows(run / records.ROWS):
        if row.status == "ok":
            found[row.task] = found.get(row.task, 0.0) + 1.0 - row.progress
    return found


def summary(rows: Sequence[AttributionRow], lost: Mapping[str, float] | None = None) -> str:
    """Returns what was found, in a few lines: shares of what was lost with 95 % intervals, and the verdicts.

    Args:
        rows: Of a run.
        lost: Progress lost in each task by all episodes of the run, as for `shapley.share`.
    """
    known = [row for row in rows if shapley.parts(row) is not None]
    lines = [f"{len(rows)} failed episodes, the four rollouts played for {len(known)}"]
    parts = [shapley.parts(row) or {} for row in known]
    for part in shapley.PARTS if known else ():
        found = shapley.share(known, [one[part] for one in parts], lost)
        lines.append(f"of the progress lost, {LOST[part]}: {text(found, 2)}")
    if known:
        least, most = shapley.video_range(known, lost)
        lines.append(
            f"lost to video, whatever unread frames show, at least: {text(least, 2)}, at most: {text(most, 2)}"
        )
        back = shapley.share(known, [row.placebo for row in known], lost)
        lines.append(f"brought back by its own video, put in again: {text(back, 2)}; half of it is in each share")
    for column, name in VERDICT_NAMES.items():
        if verdicts := Counter(getattr(row, column) for row in rows if getattr(row, column)):
            lines.append(f"{name}: " + ", ".join(f"{verdict} {count}" for verdict, count in verdicts.most_common()))
    errors = [row.error for row in rows if row.error]
    return "\n".join(lines + ([f"{len(errors)} errors, e.g. {errors[0]}"] if errors else []))
