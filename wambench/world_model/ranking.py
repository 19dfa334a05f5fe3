"""Policies in the simulator and in a world model: the same scenes, the same chunks, two worlds, two rankings.

OUT/<policy>-in-simulator/       a run, as of `wambench run --replan STEPS`
OUT/<policy>-in-<world model>/   the same run, played in the world model
OUT/<policy>-in-still/           the control: played in a world in which nothing moves
OUT/rank.csv                     one row per policy and scene (`COLUMNS`)
OUT/horizon.csv                  how far imagined key points and progress are off (`horizon.HorizonScore`)
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wambench import policies, registration
from wambench.analysis.intervals import bounded_mean, text
from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import run
from wambench.evaluation.worker import MakeSim, tabletop
from wambench.interface import Episode, unknown_name
from wambench.records import Row, episode_stem, load_episode, write_whole
from wambench.tasks import SPLITS, find
from wambench.world_model import agreement, horizon
from wambench.world_model.key_point_goals import GOALS, KeyPointProgress
from wambench.world_model.simulator import WORLD_MODELS, ActionConditioned, InWorldModel, load, named, opening_of

SIMULATOR, STILL = "simulator", "still"
# Columns of progress: in the simulator, its frames read by key points, imagined, and where nothing moves.
WORLDS = {
    "simulator": "in the simulator",
    "read": "read from the simulator's frames",
    "imagined": "in the world model",
    "still": "where nothing moves",
}
COLUMNS = ("policy", "task", "episode", *WORLDS)
REPLAN = 16
Tell = Callable[[str], None]


def parse_policy(said: str) -> tuple[str, dict[str, Any]]:
    """Returns name and arguments of "NAME" or "NAME(key=value,key=value)"; values are JSON, anything else is text."""
    matched = re.fullmatch(r"([^()]+)(?:\((.*)\))?", said)
    if not matched:
        raise ValueError(f"policy {said!r} is not of the form NAME or NAME(key=value,key=value)")
    arguments: dict[str, Any] = {}
    for pair in (matched[2] or "").split(",") if matched[2] else ():
        key, equals, value = pair.partition("=")
        if not equals or not key.strip().isidentifier():
            raise ValueError(f"policy {said!r}: {pair!r} is not of the form key=value")
        try:
            arguments[key.strip()] = json.loads(value)
        except json.JSONDecodeError:
            arguments[key.strip()] = value
    return matched[1], arguments


@dataclass(frozen=True)
class RankConfig:
    """What is ranked. Everything is checked here, before anything heavy is imported.

    Attributes:
        policies: At least two, "NAME" or "NAME(key=value,...)".
        split, tasks, episodes, seed, workers: As of `RunConfig`; without tasks, those of the split that key points can
            tell (`key_point_goals.GOALS`).
        world_model: A name of `simulator.WORLD_MODELS`.
        world_model_args: Its arguments.
        replan: Control steps between queries, in all worlds; the world model must imagine a frame there.
        out: Folder.
        left_out: Tasks of the split that key points cannot tell.

    Raises:
        ValueError: Says what was asked, what exists, and the nearest match.
    """

    policies: tuple[str, ...]
    split: str
    out: Path
    world_model: str = "dreamzero"
    world_model_args: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    episodes: int = 5
    seed: int = 0
    workers: int = 1
    replan: int = REPLAN
    left_out: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        if len(set(self.policies)) < max(2, len(self.policies)):
            raise ValueError(
                f"a ranking needs two policies or more, each once, not {', '.join(self.policies) or 'none'}"
            )
        if self.world_model not in WORLD_MODELS:
            raise unknown_name("world model", self.world_model, WORLD_MODELS)
        if self.split not in SPLITS:
            raise unknown_name("split", self.split, SPLITS)
        asked = tuple(find(name).name for name in self.tasks) or SPLITS[self.split].tasks
        untold = [name for name in asked if name not in GOALS]
        if self.tasks and untold:
            known = ", ".join(GOALS)
            raise ValueError(f"key points cannot tell the progress of {', '.join(untold)}; they can of: {known}")
        object.__setattr__(self, "tasks", tuple(name for name in asked if name in GOALS))
        object.__setattr__(self, "left_out", tuple(untold))
        if not self.tasks:
            raise ValueError(f"key points cannot tell the progress of any task of {self.split}")
        for policy in self.policies:
            if parse_policy(policy)[0] == policies.EXPERT:
                raise ValueError("the expert reads the simulator, and there is none in a world model")
            self.run_of(policy, SIMULATOR)
        folders = [self.run_of(policy, SIMULATOR).folder for policy in self.policies]
        if len(set(folders)) < len(folders):
            raise ValueError(f"{', '.join(self.policies)}: two of them would have one folder; rename a file")

    def run_of(self, policy: str, world: str) -> RunConfig:
        """Returns the run of a policy in a world."""
        name, arguments = parse_policy(policy)
        given = {key: getattr(self, key) for key in ("tasks", "episodes", "seed", "workers", "replan")}
        called = re.sub(r"[^\w.+]+", "-", f"{Path(policy).name}-in-{world}").strip("-")
        label = "" if world == SIMULATOR else called
        return RunConfig.resolve(name, self.split, policy_args=arguments, name=label, out=self.out / called, **given)

    @property
    def worlds(self) -> dict[str, MakeSim]:
        """Name of a world -> what makes it."""
        arguments = dict(self.world_model_args)
        return {
            SIMULATOR: tabletop,
            self.world_model: InWorldModel(self.world_model, arguments),
            STILL: InWorldModel(STILL, arguments),
        }


def rank(config: RankConfig, tell: Tell = lambda _: None, quiet: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Plays what is not there yet, writes both tables, and returns them: progress by scene, and errors by horizon.

    Args:
        config: What is ranked.
        tell: Called with a line before every run.
        quiet: Show no progress.

    Raises: As `evaluation.run.run`.
    """
    model = load(config.world_model, config.world_model_args)
    if config.replan not in model.frame_offsets:
        known = " or ".join(map(str, model.frame_offsets))
        raise ValueError(f"replan must be {known}, where {config.world_model} imagines a frame, not {config.replan}")
    if config.left_out:
        tell(f"left out, because key points cannot tell their progress: {', '.join(config.left_out)}")
    played: dict[tuple[str, str], list[Row]] = {}
    for policy, (world, make_sim) in itertools.product(config.policies, config.worlds.items()):
        it = config.run_of(policy, world)
        tell(f"{policy}, {world}: {it.folder}")
        played[policy, world] = run(it, make_sim, lambda _: None, quiet)
    table, errors = _scored(config, model, played)
    _write(config.out / "rank.csv", table)
    _write(config.out / "horizon.csv", errors)
    return table, errors


def _scored(
    config: RankConfig, model: ActionConditioned, played: Mapping[tuple[str, str], Sequence[Row]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns both tables; a scene that ended in an error for anyone is left out for all."""
    by_scene = {pair: {row.key: row for row in rows} for pair, rows in played.items()}
    broken = {key for rows in by_scene.values() for key, row in rows.items() if row.status != "ok"}
    lines: list[tuple[Any, ...]] = []
    errors: list[horizon.HorizonScore] = []
    for task in config.tasks:
        with contextlib.closing(registration.make(task, split=config.split)) as sim:
            for policy in config.policies:
                real = by_scene[policy, SIMULATOR]
                folder = config.run_of(policy, SIMULATOR).folder
                for key in real:
                    if key in broken or key[0] != find(task).id:
                        continue
                    episode = load_episode(folder / "episodes" / f"{episode_stem(key)}.npz")
                    worlds = [by_scene[policy, world][key].progress for world in (config.world_model, STILL)]
                    read = read_progress(model, episode)
                    lines.append((policy, key[0], key[2], real[key].progress, read, *worlds))
                    errors += horizon.score_episode(model, sim, episode, policy)
    return pd.DataFrame(lines, columns=list(COLUMNS)), horizon.frame_of(errors)


def read_progress(model: ActionConditioned, episode: Episode) -> float:
    """Returns the progress at the end of a real episode as key points tell it: the scorer without the imagination."""
    seen = [o for i, o in enumerate(episode.observations) if i == 0 or o.step > episode.observations[i - 1].step]
    places = [named(model, one) for one in model.read(seen)]
    openings = [opening_of(o.state, model.convention) for o in seen]
    progress = KeyPointProgress(episode.spec, places[0], openings[0])
    for before, now, points, opening in zip(seen, seen[1:], places[1:], openings[1:], strict=False):
        progress.advance(points, opening, now.step - before.step)
    return progress.tracker.progress


def agreements(table: pd.DataFrame, seed: int = 0) -> dict[str, agreement.Agreement]:
    """Returns how each world ranks the policies of `rank`'s first table, against the simulator."""
    wide = {world: table.pivot(index="policy", columns=["task", "episode"], values=world) for world in WORLDS}
    scenes = wide[SIMULATOR].columns.get_level_values("task").tolist()
    real = wide[SIMULATOR].to_numpy(float)
    return {
        world: agreement.agreement(real, wide[world].to_numpy(float), scenes, np.random.default_rng([seed, 6]))
        for world in WORLDS
        if world != SIMULATOR
    }


def to_text(table: pd.DataFrame, errors: pd.DataFrame, seed: int = 0) -> str:
    """Returns for people: progress of every policy in every world, how alike they rank, and trust by horizon."""
    shown = []
    for policy, rows in table.groupby("policy", sort=False):
        groups = [group for _, group in rows.groupby("task")]
        means = {world: text(bounded_mean([g[world].to_numpy(float) for g in groups]), 2) for world in WORLDS}
        shown.append({"policy": policy, "n": len(rows), **means})
    lines = [pd.DataFrame(shown).to_string(index=False), ""]
    for world, found in agreements(table, seed).items():
        lines.append(
            f"{WORLDS[world]}: Spearman {text(found.spearman, 2)}, chance {found.chance:.2g}, "
            f"MMRV {text(found.mmrv, 2)} ({found.policies} policies, {found.scenes} scenes)"
        )
    by_horizon = horizon.summarise(errors)
    if len(by_horizon):
        lines += ["", "imagined / kept / read key points against the true ones:", horizon.to_text(by_horizon)]
        until = [f"{what} {horizon.trusted(by_horizon, what):.1f} s" for what in ("hand", "object")]
        lines.append(f"nearer to the truth than what is kept, up to: {', '.join(until)}")
    return "\n".join(lines)


def _write(path: Path, table: pd.DataFrame) -> None:
    write_whole(path, table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
