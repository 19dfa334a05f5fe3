"""`wambench attribute`: which part of a policy lost the progress of its failed episodes.

    attribute(Path("results/dreamzero-unseen-tasks"), episodes=4, workers=2)   -> RUN/attribution.csv

It continues where it was stopped. Everything that can be refused is refused before any rollout. That the instrument may
be believed is shown by `selftest`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from wambench import policies, records
from wambench.analysis.intervals import Estimate
from wambench.attribution import shapley, table
from wambench.attribution.readout import Limits, Query, Track, d1
from wambench.attribution.shapley import CounterfactualProgress
from wambench.attribution.table import TABLE, AttributionRow
from wambench.attribution.verdicts import d2_verdict, d3_verdict
from wambench.evaluation.config import RunConfig
from wambench.evaluation.process_pool import LostJob, Pool
from wambench.evaluation.run import plan
from wambench.evaluation.worker import Player, tabletop
from wambench.interface import Episode, Observation
from wambench.records import RUN, provenance

if TYPE_CHECKING:
    from wambench.attribution.counterfactuals import ChunkTiming, Instrument, Place

LIMIT_S = 1800.0  # of one episode
D1_EVERY = 16  # control steps between the queries that D1 reads
LIMITS = Limits()
LOST = {name: f"lost to {name}" for name in ("video", "action")} | {
    "timing": "lost to latency",
    "unattributed": "lost by the oracle, too",
    "unread": "in episodes whose imagined frames could not be read",
}
NO_VIDEO = "no imagined video: behavioural type only"
NO_EXTRACT = "no extract: f(oracle, own), the shares, the placebo and D2 are unknown"


@dataclass(frozen=True)
class FailedEpisode:
    """A failed episode to be attributed: its row in episodes.csv and its file."""

    row: records.Row
    path: Path


def load_config(run: Path) -> tuple[RunConfig, dict[str, Any]]:
    """Returns what a folder was run with and its origin; raises ValueError if it cannot be replayed here."""
    path = run / RUN
    if not path.is_file():
        raise ValueError(f"no run at {run}: there is no {path}")
    try:
        values = json.loads(path.read_text())
        config: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["config"].items()}
        made = RunConfig(**config, out=run)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a run of this version: {error}") from error
    now = provenance.of_run(made.split)["split_hash"]
    if values.get("split_hash") != now:
        raise ValueError(
            f"{path}: its split {made.split!r} is of another version ({values.get('split_hash')}, not {now})"
        )
    if made.policy in (policies.EXPERT,):
        raise ValueError(f"{run}: the expert is the oracle here; there is nothing to attribute")
    return made, values


def failed(run: Path, config: RunConfig, episodes: int | None) -> list[FailedEpisode]:
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
        if row.status == "ok" and row.progress < 1.0 - 1e-6 and (episodes is None or len(same) < episodes):
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
    config, values = load_config(run)
    todo = failed(run, config, episodes)
    path, lock = run / TABLE, records.locked(run)
    with lock:
        before = table.read(path, torn=True) if path.exists() else []
        rows = {row.key: row for row in before if not row.error}  # what went wrong is tried again
        records.write_whole(path, table.to_csv(rows.values()))
        left = [one for one in todo if one.row.key not in rows]
        if left:
            with Pool(_set_up, (config, left[0].row.task, values.get("weights_hash")), min(workers, len(left))) as pool:
                for one, result in _results(pool, left, len(todo)):
                    rows[one.row.key] = _lost(one.row, result) if isinstance(result, LostJob) else result
                    records.append(path, table.to_csv([rows[one.row.key]], header=False).encode())
        order = {one.row.key: i for i, one in enumerate(todo)}
        done = sorted(rows.values(), key=lambda row: (order.get(row.key, len(order)), row.key))
        records.write_whole(path, table.to_csv(done))
    return done


def _results(pool: Pool, jobs: Sequence[Any], total: int) -> Any:
    with tqdm(total=total, initial=total - len(jobs), unit="episode") as bar:
        for index, result in pool.results(jobs, LIMIT_S):
            yield jobs[index], result
            bar.update()


def _lost(row: records.Row, lost: LostJob) -> AttributionRow:
    return dataclasses.replace(_base(row), error=lost.reason)


def _base(row: records.Row) -> AttributionRow:
    names = ("policy", "split", "task", "novelty", "factor", "episode", "seed", "spec_hash", "progress")
    return AttributionRow(**{name: getattr(row, name) for name in names})


def _set_up(payload: tuple[RunConfig, str, str | None]) -> tuple[None, Any]:
    """Returns the function that attributes an episode; raises ValueError if the policy is not the one of the run."""
    from wambench.attribution import paths, tracker

    config, task, weights = payload
    player, reader = Player(config, tabletop), tracker.FrameReader()
    ways = paths.load(tracker.weights(paths.WEIGHTS))[0]
    _, policy = player.enter(task)
    here = getattr(policy, "weights_hash", None)
    if here != weights:
        raise ValueError(f"the run was made with weights {weights}, here are {here}: give the policy its own weights")

    def work(one: FailedEpisode) -> AttributionRow:
        from wambench.attribution.counterfactuals import Instrument

        sim, policy = player.enter(one.row.task)
        instrument = Instrument(sim, reader, ways)  # type: ignore[arg-type]
        return one_episode(instrument, policy, records.load_episode(one.path), _base(one.row))

    return None, work


def one_episode(
    instrument: Instrument, policy: Any, episode: Episode, row: AttributionRow, limits: Limits = LIMITS
) -> AttributionRow:
    """Returns the row of a failed episode.

    Args:
        instrument: Of a simulator of its task.
        policy: Who played it.
        episode: As recorded.
        row: What episodes.csv says of it.
        limits: Of D1.
    """
    from wambench.attribution.counterfactuals import layout_of
    from wambench.attribution.replay import behaviour

    began, layout = time.perf_counter(), layout_of(episode)
    found: dict[str, Any] = {
        "behaviour": behaviour(instrument.sim, episode),  # type: ignore[arg-type]
        "chunks": len(episode.chunks),
        "steps": episode.steps,
    }
    if layout is None:
        found["missing"] = NO_VIDEO
    elif not set(instrument.paths.config.steps) <= set(layout.offsets):
        found["missing"] = f"no frames {instrument.paths.config.steps} env steps after a query: behavioural type only"
    else:
        late = int(getattr(policy, "latency_steps", 0))
        found |= _read(instrument, episode, layout, limits, late)
        if late:
            policy.latency_steps = 0
        try:
            found |= _cells(instrument, policy, episode, layout, replay=late > 0)
            found |= _divergence(instrument, policy, episode, layout, late > 0)
        finally:
            if late:
                policy.latency_steps = late
    return dataclasses.replace(row, **found, wall_s=time.perf_counter() - began)


def _cells(instrument: Instrument, policy: Any, episode: Episode, layout: ChunkTiming, replay: bool) -> dict[str, Any]:
    """Returns the cells and what follows from them; the recorded rollout is f(own, own) unless latency spoilt it."""
    spec, nan = episode.spec, math.nan
    own = instrument.play(spec, policy, layout, "own", "own").progress if replay else episode.progress
    by_tracker = instrument.play(spec, policy, layout, "own", "oracle")
    ceiling = instrument.play(spec, None, layout, "oracle", "oracle")
    found: dict[str, Any] = {"own_own": own, "own_oracle": by_tracker.value, "oracle_oracle": ceiling.value}
    found["timing"] = own - episode.progress
    if not hasattr(policy, "extract"):
        return found | {"unattributed": 1.0 - ceiling.value, "missing": NO_EXTRACT}
    placebo = instrument.play(spec, policy, layout, "placebo", "own")
    found["oracle_own"] = instrument.play(spec, policy, layout, "oracle", "own").progress
    found |= {"placebo": placebo.progress - own, "placebo_action": placebo.difference}
    cells = CounterfactualProgress(own, found["oracle_own"], by_tracker.value, ceiling.value)
    verdict, confidence = d2_verdict(cells, found["timing"])
    found |= {"d2": verdict, "d2_confidence": confidence}
    if verdict == "abstain":
        return found | {"video": nan, "action": nan, "unattributed": nan}
    return found | dataclasses.asdict(shapley.shapley(cells))


def _divergence(
    instrument: Instrument, policy: Any, episode: Episode, layout: ChunkTiming, late: bool
) -> dict[str, Any]:
    fatal, number = instrument.fatal(episode, policy, layout, policy if late else None)
    verdict, confidence = d3_verdict(fatal)
    seconds = episode.chunks[number].step / episode.spec.control_hz if number >= 0 else math.nan
    return {"d3": verdict, "d3_confidence": confidence, "no_return": number, "no_return_s": seconds}


def _read(instrument: Instrument, episode: Episode, layout: ChunkTiming, limits: Limits, late: int) -> dict[str, Any]:
    """Returns what D1 says of the recorded frames."""
    pairs = queries(instrument, episode, layout, late)
    reading = d1([q for q, _ in pairs], limits, episode.spec.control_hz, [q for _, q in pairs] if late else None)
    names = ("abstained", "video_error_m", "action_error_m", "motion_m", "lag_s")
    verdict = {"d1": reading.verdict, "d1_confidence": reading.confidence}
    shares = {"d1_video": reading.video, "d1_action": reading.action}
    return verdict | shares | {n: getattr(reading, n) for n in names}


def queries(instrument: Instrument, episode: Episode, layout: ChunkTiming, late: int = 0) -> list[tuple[Query, Query]]:
    """Returns what D1 compares at the queries of an episode, and the same with realised places `late` steps later.

    Only what was imagined is read out of frames; what came and what an expert does, the simulator knows.
    """
    sim, found, next_step = instrument.sim, [], 0
    came = _came(instrument, episode)
    seen = {observation.step: observation for observation in episode.observations}
    for chunk in episode.chunks:
        if chunk.step < next_step or chunk.plan.frames is None or chunk.step not in seen:
            continue
        next_step = chunk.step + D1_EVERY
        sim.restore(chunk.state)
        here, oracle = instrument.place(), instrument.oracle(layout.offsets)
        steps = [chunk.step + ahead for ahead in layout.offsets]
        expert, imagined = (
            _track(chunk.step, here, steps, oracle.places),
            _imagined(instrument, here, seen[chunk.step], chunk.plan.frames, steps, oracle.postures),
        )
        pair = []
        for delay in dict.fromkeys((0, late)):
            known = list(itertools.takewhile(lambda step: step + delay in came, steps))  # noqa: B023
            realised = _track(chunk.step, here, known, [came[step + delay] for step in known])
            pair.append(Query(imagined, realised, expert))
        found.append((pair[0], pair[-1]))
    return found


def _came(instrument: Instrument, episode: Episode) -> dict[int, Place]:
    """Returns where everything was at each env step, by playing what was carried out again, chunk by chunk."""
    found, sim = {}, instrument.sim
    sim.begin(episode.spec, render=False)  # type: ignore[call-arg]
    for chunk in episode.chunks:
        sim.restore(chunk.state)
        for step, action in enumerate(chunk.executed, start=chunk.step + 1):
            sim.advance(action)
            found[step] = instrument.place()
    return found


def _track(now: int, here: Place, steps: Sequence[int], places: Sequence[Place]) -> Track:
    """Returns the track through places that are known."""
    every = [here, *places]
    return Track(
        steps=np.array([now, *steps]),
        hand=np.stack([place.hand for place in every]),
        width=np.array([place.width for place in every]),
        objects=np.stack([place.objects for place in every]),
        sure=np.ones(len(every), bool),
    )


def _imagined(
    instrument: Instrument, here: Place, now: Observation, frames: np.ndarray, steps: Sequence[int], guesses: Any
) -> Track:
    """Returns what is read out of imagined frames, behind what is known now."""
    present = instrument.places()[1][: len(instrument.reader.objects)]
    read = instrument.read(now, frames, [step - now.step for step in steps], guesses)
    return Track(
        steps=np.array([now.step, *steps]),
        hand=np.concatenate([here.hand[None], read.positions]),
        width=np.concatenate([[here.width], read.widths]),
        objects=np.concatenate([here.objects[None], read.objects[:, present]]),
        sure=np.concatenate([[True], read.sure]),
    )


def lost(run: Path) -> dict[str, float]:
    """Returns the progress lost in each task by all episodes of a run."""
    found: dict[str, float] = {}
    for row in records.read_rows(run / records.ROWS):
        if row.status == "ok":
            found[row.task] = found.get(row.task, 0.0) + 1.0 - row.progress
    return found


def _interval(found: Estimate) -> str:
    known = math.isfinite(found.low)
    return f"{found.mean:.2f} " + (f"[{found.low:.2f}, {found.high:.2f}]" if known else "(too few for an interval)")


def summary(rows: Sequence[AttributionRow], lost: Mapping[str, float] | None = None) -> str:
    """Returns what was found, in a few lines: shares of what was lost with 95 % intervals, and the verdicts.

    Args:
        rows: Of a run.
        lost: As of `shapley.share`.
    """
    known = [row for row in rows if shapley.parts(row) is not None]
    lines = [f"{len(rows)} failed episodes, the four cells played for {len(known)}"]
    parts = [shapley.parts(row) or {} for row in known]
    for part in shapley.PARTS if known else ():
        found = shapley.share(known, [one[part] for one in parts], lost)
        lines.append(f"of the progress lost, {LOST[part]}: {_interval(found)}")
    if known:
        least, most = shapley.video_range(known, lost)
        lines.append(
            f"lost to video, whatever unread frames show, at least: {_interval(least)}, at most: {_interval(most)}"
        )
        back = shapley.share(known, [row.placebo for row in known], lost)
        lines.append(f"brought back by its own video, put in again: {_interval(back)}; half of it is in each share")
    for name in ("d1", "d2", "d3", "behaviour"):
        if verdicts := Counter(getattr(row, name) for row in rows if getattr(row, name)):
            lines.append(f"{name}: " + ", ".join(f"{verdict} {count}" for verdict, count in verdicts.most_common()))
    errors = [row.error for row in rows if row.error]
    return "\n".join(lines + ([f"{len(errors)} errors, e.g. {errors[0]}"] if errors else []))
