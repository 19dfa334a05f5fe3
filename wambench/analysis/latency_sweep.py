"""Progress against latency: the same episodes for every policy, executor and latency, each a run of its own.

    OUT/<policy>-<executor>-<seconds>/   one run (`run`)
    OUT/sweep.csv                        one row per policy, executor and latency (`COLUMNS`)

An executor for which the simulator waits plays the same episode whatever the latency: it is played once, without, and
what waiting costs is computed from its recordings (`executors.progress_within`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wambench import policies
from wambench.analysis.intervals import text
from wambench.analysis.leaderboard import progress
from wambench.evaluation import executors as execution
from wambench.evaluation import latency
from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import run
from wambench.evaluation.worker import MakeSim, tabletop
from wambench.interface import Chunk, Guided, Plan
from wambench.records import Row, episode_stem, write_whole

if TYPE_CHECKING:
    import pandas

TABLE = "sweep.csv"
TIMES = ("stale_ratio", "holds", "effective_hz", "boundary_jump", "jerk")  # means over episodes
COLUMNS = (
    *("policy", "execution", "latency_s", "n", "n_error"),
    *("progress", "progress_low", "progress_high"),
    *("progress_wall", "progress_wall_low", "progress_wall_high"),
    *TIMES,
    "own_latency_s",
)


@dataclass(frozen=True)
class SweepConfig:
    """What is compared. Everything is checked here, before anything heavy is imported.

    Attributes:
        policies, execution: Names as of `RunConfig`; an executor that a policy cannot be played by is left out for it.
        latency: Seconds of every answer.
        split, tasks, episodes, seed, workers, replan, smooth: As of `RunConfig`.
        out: Folder.
    """

    policies: tuple[str, ...]
    latency: tuple[float, ...]
    execution: tuple[str, ...]
    split: str
    out: Path
    tasks: tuple[str, ...] = ()
    episodes: int = 5
    seed: int = 0
    workers: int = 1
    replan: int | None = None
    smooth: bool = False

    def __post_init__(self) -> None:
        for what in ("policies", "latency", "execution"):
            values = getattr(self, what)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{what} must be given, each once, not {', '.join(map(str, values)) or 'none'}")
        for policy in self.policies:
            for executor in self.execution:
                for seconds in self.latency:
                    self.run_of(policy, executor, seconds)
        folders = [Path(policy).name for policy in self.policies]
        if len(set(folders)) < len(folders):
            asked = ", ".join(self.policies)
            raise ValueError(f"{asked}: policies in files of one name would have one folder; rename a file")

    def run_of(self, policy: str, executor: str, seconds: float) -> RunConfig:
        """Returns the run of one point; where the simulator waits it is the one without latency."""
        seconds = 0.0 if execution.find(executor).waits and 0.0 <= seconds <= latency.MAX_S else seconds
        given = {name: getattr(self, name) for name in ("tasks", "episodes", "seed", "workers", "replan", "smooth")}
        name = f"{Path(policy).name.replace(':', '-')}-{executor}-{seconds:g}"
        return RunConfig.resolve(
            policy, self.split, execution=executor, latency=repr(float(seconds)), out=self.out / name, **given
        )


def sweep(
    config: SweepConfig, tell: Callable[[str], None] = lambda _: None, make_sim: MakeSim = tabletop
) -> pandas.DataFrame:
    """Plays what is not there yet, writes the table, and returns it.

    Args:
        config: What is compared.
        tell: Called with a line before every run, and for everything that is left out.
        make_world: As of `run.run`.

    Raises: As `run.run`.
    """
    import pandas

    lines = []
    for policy in config.policies:
        points = []
        for executor in config.execution:
            if execution.find(executor).guided and not _is_guided(policy):
                tell(f"{policy} has no act_guided: left out of {executor}")
                continue
            for seconds in config.latency:
                it = config.run_of(policy, executor, seconds)
                tell(f"{policy}, {executor}, {seconds:g} s: {it.folder}")
                rows = retimed(run(it, make_sim), it, seconds)
                points.append((executor, seconds, rows))
        lines += [
            (policy, *_line(executor, seconds, rows), _own(executor, points)) for executor, seconds, rows in points
        ]
    table = pandas.DataFrame(lines, columns=list(COLUMNS))
    write_whole(config.out / TABLE, table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
    return table


def _is_guided(policy: str) -> bool:
    return policy not in policies.PRIVILEGED and isinstance(policies.load(policy), Guided)


def _own(executor: str, points: Sequence[tuple[str, float, Sequence[Row]]]) -> float:
    """Returns the median seconds that an answer really took: guided ones, which take longer, apart from others."""
    guided = execution.find(executor).guided
    rows = [row for name, _, rows in points if execution.find(name).guided == guided for row in rows]
    took = [row.latency_p50_s for row in rows if not math.isnan(row.latency_p50_s)]
    return float(np.median(took)) if took else math.nan


def retimed(rows: Sequence[Row], config: RunConfig, seconds: float) -> list[Row]:
    """Returns the rows of a run as if its simulator had waited `seconds` for every answer; others as they are."""
    if not execution.find(config.execution).waits or seconds == 0.0:
        return list(rows)
    return [_retimed(row, config.folder / "episodes" / f"{episode_stem(row.key)}.npz", seconds) for row in rows]


def _retimed(row: Row, path: Path, seconds: float) -> Row:
    if row.status != "ok":
        return row
    chunks, horizon, rate = _recorded(path)
    delay = latency.delay_steps(seconds, rate)
    waited = delay * len(chunks)
    return dataclasses.replace(
        row,
        latency=f"{seconds:g}",
        effective_hz=row.steps * rate / (row.steps + waited),
        progress_wall=execution.progress_within(chunks, horizon, row.progress, delay),
    )


def _recorded(path: Path) -> tuple[list[Chunk], int, float]:
    """Returns the chunks of an episode (actions and progress only), its horizon in steps, and the rate in Hz."""
    with np.load(path, allow_pickle=False) as arrays:  # lazy: frames stay packed
        spec = json.loads(arrays["meta"].tobytes())["spec"]
        parts = np.split(arrays["actions"], arrays["actions_start"][1:-1])
        steps, reached = arrays["chunk_steps"], arrays["progress"]
    plan = Plan(np.zeros((0, 0)))
    chunks = [
        Chunk(int(step), b"", plan, part, 0.0, progress=float(so_far))
        for step, part, so_far in zip(steps, parts, reached, strict=True)
    ]
    return chunks, spec["horizon"], spec["control_hz"]


def _line(executor: str, seconds: float, rows: Sequence[Row]) -> tuple[Any, ...]:
    """Returns the table's columns from execution on, without the last."""
    fine = _frame([row for row in rows if row.status == "ok"])
    wall = fine.assign(progress=fine["progress_wall"])
    times = [float(fine[name].mean()) if len(fine) else math.nan for name in TIMES]
    return executor, seconds, len(fine), len(rows) - len(fine), *progress(fine), *progress(wall), *times


def _frame(rows: Sequence[Row]) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame(
        [dataclasses.asdict(row) for row in rows], columns=[f.name for f in dataclasses.fields(Row)]
    )


def to_text(table: pandas.DataFrame) -> str:
    """Returns the table for people: mean [low, high]."""
    shown = table[["policy", "execution", "latency_s", "n", "n_error"]].copy()
    for name in ("progress", "progress_wall"):
        bounds = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
        shown[name] = [text(one) for one in bounds]
    for name in TIMES:
        shown[name] = table[name].map("{:.3g}".format)
    return str(shown.to_string(index=False))
