"""Plays episodes of a pack again from their actions: the only check that a number in a pack cannot argue with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import plan
from wambench.evaluation.worker import tabletop
from wambench.interface import ControlConvention, EpisodeSpec, fields_of_json
from wambench.records import Row, episode_stem
from wambench.submission.pack import Pack
from wambench.submission.rules import SubmittedRun

if TYPE_CHECKING:
    from wambench.envs.tabletop import TabletopEnv

MakeTabletop = Callable[[str, RunConfig, ControlConvention], "TabletopEnv"]


@dataclass(frozen=True)
class Replayed:
    """An episode that was played again: what its row says, and what its actions came to."""

    run: str
    stem: str
    told: float
    found: float
    stages: tuple[str, ...]
    same: bool


def replay(pack: Pack, count: int, seed: int, make_sim: MakeTabletop = tabletop) -> Iterator[Replayed]:
    """Yields some episodes of a pack after playing their actions again, drawn over all runs.

    The same scene and the same actions give the same trajectory on one kind of machine; another processor may round
    otherwise, so that a single difference is a question and many are an answer.

    Args:
        pack: The pack.
        count: How many episodes, at most.
        seed: Of the draw.
        make_sim: Makes the simulator of a task.
    """
    every = [(run, row) for run in pack.runs for row in run.rows if row.status == "ok"]
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.choice(len(every), size=min(count, len(every)), replace=False).tolist())
    for run, row in (every[i] for i in chosen):
        yield _again(run, row, pack.actions(run.name)[episode_stem(row.key)], make_sim)


def _again(run: SubmittedRun, row: Row, actions: NDArray[np.float64], make_sim: MakeTabletop) -> Replayed:
    config = RunConfig(**fields_of_json(run.origin["config"]))
    convention = ControlConvention(**fields_of_json(run.origin["convention"]))
    spec = next(job.spec for job in plan(config) if job.key == row.key)
    sim = make_sim(row.task, config, convention)
    progress, stages = _play(sim, spec, actions)
    same = abs(progress - row.progress) < 1e-5 and ";".join(stages) == row.stages
    return Replayed(run.name, episode_stem(row.key), row.progress, progress, stages, same)


def _play(sim: TabletopEnv, spec: EpisodeSpec, actions: NDArray[np.float64]) -> tuple[float, tuple[str, ...]]:
    try:
        outcome = sim.begin(spec, render=False)
        for action in actions:
            outcome = sim.advance(action)
        return float(outcome.progress), tuple(outcome.stages)
    finally:
        sim.close()
