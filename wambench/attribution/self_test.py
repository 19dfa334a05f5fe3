"""How far the answers of attribution are right: policies with a known fault are played and attributed like any other.

    self_test(Path("runs/self-test"), episodes=30, workers=2)   -> DIR/self-test.csv, and a summary

Episodes of a fault that succeed anyhow are counted, not attributed.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from wambench import records, registration, tasks
from wambench.analysis.agreement import kappa, right
from wambench.attribution import table
from wambench.attribution.attribute import FAILED, LIMIT_S, attribute_episode
from wambench.attribution.planted_faults import FAULTS, FaultyPolicy, fits
from wambench.attribution.readout import Limits
from wambench.attribution.table import AttributionRow
from wambench.envs.episodes import episode_spec
from wambench.evaluation.process_pool import LostJob, Pool
from wambench.interface import unknown_name
from wambench.progress_bar import progress_bar

if TYPE_CHECKING:
    from wambench.attribution.frame_reading import LearnedReader, PathModel
    from wambench.envs.tabletop import TabletopEnv

ROWS = "self-test.csv"
# Of eight verbs and more, in training and in unseen environments; the seed is that of development, not of results.
TASKS = ("LiftCube", "PlaceInBin", "PlaceOnPlate", "StackCubes", "PushCube", "OpenDrawer", "CloseDrawer",
         "PressButton", "WithdrawDrawer", "PullBlock", "TurnDial", "FlipLever")  # fmt: skip
SEED = 1
NAMES = ("fault", "truth", *table.NAMES)
DEFINITIONS = {"d1": "read-out", "d2": "intervention", "d3": "first divergence"}  # column -> name


class Summary(TypedDict):
    """What a self-test found; shares and kappas are followed by the ends of their 95 % interval, and by n.

    Attributes:
        played: Episodes.
        failed: Of them; the others succeeded in spite of their fault.
        errors: Episodes that could not be attributed.
        single: Definition -> share of right verdicts on faults of either video or action.
        all: The same on all faults.
        fault: Fault -> definition -> share, and n.
        kappa: Pair of definitions -> Cohen's kappa.
        placebo: Mean and largest size of what the placebo changed.
        ceiling: Task -> mean progress of the expert's video followed by the instrument, and n.
        abstained: Mean share of frames that could not be read.
    """

    played: int
    failed: int
    errors: int
    single: dict[str, list[float]]
    all: dict[str, list[float]]
    fault: dict[str, dict[str, float]]
    kappa: dict[str, list[float]]
    placebo: dict[str, float]
    ceiling: dict[str, list[float]]
    abstained: float


@dataclass(frozen=True)
class SelfTestJob:
    """One episode of a planted fault."""

    fault: str
    task: str
    index: int

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from the other episodes."""
        return self.fault, self.task, self.index


def plan_jobs(faults: Sequence[str], episodes: int) -> list[SelfTestJob]:
    """Returns the episodes of each fault, spread over the tasks that it can make fail."""
    found = []
    for fault in faults:
        able = [task for task in TASKS if fits(fault, task)]
        found += [SelfTestJob(fault, able[i % len(able)], i // len(able)) for i in range(episodes)]
    return found


def self_test(out: Path, episodes: int = 30, workers: int = 1, faults: Sequence[str] = ()) -> Summary:
    """Plays what DIR/self-test.csv does not hold yet and returns the summary of all of it.

    Args:
        out: Folder; continued.
        episodes: Of each fault.
        workers: Processes.
        faults: Names of `planted_faults.FAULTS`; default: all.
    """
    for fault in faults:
        if fault not in FAULTS:
            raise unknown_name("fault", fault, FAULTS)
    out.mkdir(parents=True, exist_ok=True)
    path = out / ROWS
    wanted = plan_jobs(tuple(faults) or tuple(FAULTS), episodes)
    with records.locked(out):
        if not path.exists():
            records.write_whole(path, _line(NAMES))
        rows = read(path)
        done = {(row["fault"], row["task"].split("-v")[0], int(row["episode"])) for row in rows}
        mixed = np.random.default_rng(0).permutation(len(wanted))  # so that what is done so far is a fair sample
        left = [wanted[i] for i in mixed if wanted[i].key not in done]
        if left:
            _play(path, left, len(wanted), workers)
    keys = {job.key for job in wanted}
    return summary([r for r in read(path) if (r["fault"], r["task"].split("-v")[0], int(r["episode"])) in keys])


def _play(path: Path, left: Sequence[SelfTestJob], total: int, workers: int) -> None:
    with (
        Pool(_set_up, None, min(workers, len(left))) as pool,
        progress_bar(total=total, initial=total - len(left), unit="episode") as bar,
    ):
        for index, result in pool.results(left, LIMIT_S):
            job = left[index]
            row = result if isinstance(result, AttributionRow) else _lost_row(job, result)
            records.append(path, _line([job.fault, FAULTS[job.fault], *next(csv.reader([_csv(row)]))]).encode())
            bar.update()


def _lost_row(job: SelfTestJob, lost: LostJob) -> AttributionRow:
    task = tasks.find(job.task)
    return AttributionRow("planted", "", task.id, task.novelty, "", job.index, 0, "", math.nan, error=lost.reason)


def _csv(row: AttributionRow) -> str:
    return table.to_csv([row], header=False).rstrip("\n")


def _line(fields: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(fields)
    return buffer.getvalue()


def read(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a self-test.csv, without a torn last one; a foreign file raises ValueError."""
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        records.write_whole(path, whole)
    rows = list(csv.DictReader(io.StringIO(whole)))
    if rows and tuple(rows[0]) != NAMES:
        raise ValueError(f"{path}: not a self-test of this version")
    return rows


def _set_up(payload: None) -> tuple[None, Callable[[SelfTestJob], AttributionRow]]:
    """Returns the function that plays and attributes an episode of a planted fault."""
    import torch

    from wambench.attribution import paths, tracker
    from wambench.policies import weight_files

    torch.set_num_threads(1)
    reader = tracker.FrameReader()
    ways, _ = paths.load(weight_files.packaged(paths.WEIGHTS))
    sims: dict[str, TabletopEnv] = {}

    def work(job: SelfTestJob) -> AttributionRow:
        if job.task not in sims:
            sims[job.task] = registration.make(job.task)
        return play_planted(sims[job.task], job, reader, ways)

    return None, work


def play_planted(
    sim: TabletopEnv,
    job: SelfTestJob,
    reader: LearnedReader,
    ways: PathModel,
    limits: Limits | None = None,
    precise: bool = True,
) -> AttributionRow:
    """Returns the row of an episode of a planted fault; of a success, without verdicts."""
    from wambench.attribution.frame_reading import FrameInterpreter
    from wambench.evaluation.rollout import rollout

    task = tasks.find(job.task)
    split = tasks.default_split(task.name)
    factor = tasks.default_factor(split)
    spec = episode_spec(task, split, factor, job.index, SEED)
    policy = FaultyPolicy(sim, job.fault)
    episode = rollout(sim, policy, spec)
    about = ("planted", split, task.id, task.novelty, factor, job.index, spec.seed, spec.hash)
    row = AttributionRow(*about, progress=episode.progress, steps=episode.steps, error=episode.error)
    if episode.error or episode.progress >= FAILED:
        return row
    interpreter = FrameInterpreter.of(sim, reader, ways, precise)
    return attribute_episode(interpreter, policy, episode, row, limits or Limits())


def summary(rows: Sequence[Mapping[str, str]]) -> Summary:
    """Returns how often each definition was right, kappas, the placebo, and the ceiling of each task."""
    failed = [row for row in rows if row["d2"]]
    by_fault = {fault: [row for row in failed if row["fault"] == fault] for fault in FAULTS}
    by_task = {task: [row for row in failed if row["task"] == task] for task in sorted({r["task"] for r in failed})}
    placebo = np.abs(_numbers(failed, "placebo"))
    ceilings = {task: _numbers(some, "oracle_oracle") for task, some in by_task.items()}
    return Summary(
        played=len(rows),
        failed=len(failed),
        errors=sum(bool(row["error"]) for row in rows),
        single=_shares_right([row for row in failed if row["truth"] in ("video", "action")]),
        all=_shares_right(failed),
        fault={
            fault: {d: round(_share_right(some, d)[0], 2) for d in DEFINITIONS} | {"n": len(some)}
            for fault, some in by_fault.items()
            if some
        },
        kappa={
            f"{a},{b}": [round(v, 3) for v in kappa([row[a] for row in failed], [row[b] for row in failed])]
            for a, b in itertools.combinations(DEFINITIONS, 2)
        },
        placebo={"mean": round(float(placebo.mean()), 4), "largest": float(placebo.max())} if len(placebo) else {},
        ceiling={task: [round(float(v.mean()), 3), len(v)] for task, v in ceilings.items() if len(v)},
        abstained=round(float(np.nanmean(_numbers(failed, "abstained"))), 4) if failed else math.nan,
    )


def _shares_right(rows: Sequence[Mapping[str, str]]) -> dict[str, list[float]]:
    """Returns the share of right verdicts of each definition, the ends of its interval, and n."""
    return {d: [round(v, 3) for v in _share_right(rows, d)] + [len(rows)] for d in DEFINITIONS}


def _share_right(rows: Sequence[Mapping[str, str]], definition: str) -> tuple[float, float, float]:
    share, low, high = right([row["truth"] for row in rows], [row[definition] for row in rows])
    return share, low, high


def _numbers(rows: Sequence[Mapping[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name]) for row in rows if row[name]])


def text(found: Summary) -> str:
    """Returns a summary for people."""
    lines = [f"{found['failed']} failed of {found['played']} played, {found['errors']} errors"]
    for title, shares in (("right on single faults", found["single"]), ("right on all faults", found["all"])):
        parts = [f"{DEFINITIONS[d]} {v[0]:.2f} [{v[1]:.2f}, {v[2]:.2f}]" for d, v in shares.items()]
        lines.append(f"{title}: {', '.join(parts)}")
    for fault, values in found["fault"].items():
        named = ", ".join(f"{name} {values[d]:.2f}" for d, name in DEFINITIONS.items())
        lines.append(f"  {FAULTS[fault]:>7} {fault:<15} n={values['n']:<3} {named}")
    agreements = [f"{' and '.join(DEFINITIONS[d] for d in k.split(','))} {v[0]:.2f}" for k, v in found["kappa"].items()]
    lines.append("kappa: " + ", ".join(agreements))
    lines.append(f"placebo: {json.dumps(found['placebo'])}, frames not read: {found['abstained']:.3f}")
    lines.append("ceiling f(oracle, oracle): " + ", ".join(f"{t} {v[0]:.2f}" for t, v in found["ceiling"].items()))
    return "\n".join(lines)
