"""What a run is: its configuration, checked before anything starts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wambench import policies, tasks
from wambench.evaluation import executors as execution
from wambench.evaluation import latency
from wambench.interface import unknown_name

RESULTS = Path("results")
VISUALS = ("fast", "full")
RANDOM = "random"  # as an instruction: of some other task
UNRECORDED = ("workers", "out")  # without influence on the rows
TIMED = ("execution", "latency", "replan", "smooth", "clock")  # recorded if not default: older runs know nothing of it
TOLD = ("instruction_of", "name")  # likewise
CLOCKS = ("virtual", "wall")


@dataclass(frozen=True)
class RunConfig:
    """What is played. Everything is checked here, before anything heavy is imported.

    Attributes:
        policy: A name of `policies.POLICIES`, "module:Class" or "path/to/file.py:Class".
        split: A name of `tasks.SPLITS`.
        tasks: Task names; empty for all of the split.
        factors: Environment factors, each played in episodes of its own; empty for the split's default.
        episodes: Episodes per task and factor.
        seed: Seed of the run; equal seeds give every policy the same episodes.
        visual: Visual profile, "fast" or "full".
        policy_args: Keyword arguments of the policy's class, JSON values.
        instruction_of: Task whose instruction the policy is told instead of the right one, or "random" for another
            one of the split in every episode: a control for whether it listens. Scenes and scoring stay the same; the
            task itself is left out of the default tasks.
        record_video: Write an mp4 of every episode.
        time_limit_s: Wall-clock seconds after which an episode ends with status "timeout".
        workers: Processes; without influence on the results.
        out: Folder; None for one in `results/`, named after the configuration.
        name: How the policy is called in the rows; "" for its name with its arguments. Runs of one name whose weights
            differ are training seeds of one method (`leaderboard`).
        execution: A name of `executors.EXECUTORS`.
        latency: Of every answer: seconds, "measured", or a TRACE.csv (see `latency.parse`).
        replan: Control steps from query to query, at most a plan's length; None for what executor or plan say.
        smooth: Filter every chunk (`policies.actions.smoothing`).
        clock: "virtual", or "wall": the policy computes in a worker of its own while the simulator goes on in real
            time.

    Raises:
        ValueError: Says what was asked, what exists, and the nearest match.
    """

    policy: str
    split: str
    tasks: tuple[str, ...] = ()
    factors: tuple[str, ...] = ()
    episodes: int = 5
    seed: int = 0
    visual: str = "fast"
    policy_args: Mapping[str, Any] = field(default_factory=dict)
    instruction_of: str = ""
    record_video: bool = False
    time_limit_s: float = 600.0
    workers: int = 1
    out: Path | None = None
    name: str = ""
    execution: str = "sync"
    latency: str = "0"
    replan: int | None = None
    smooth: bool = False
    clock: str = "virtual"

    def __post_init__(self) -> None:
        policies.check_name(self.policy)
        if self.split not in tasks.SPLITS:
            raise unknown_name("split", self.split, tasks.SPLITS)
        factors = self.factors or (tasks.default_factor(self.split),)
        told = tasks.find(self.instruction_of).name if self.instruction_of not in ("", RANDOM) else self.instruction_of
        names = tuple(tasks.find(name).name for name in self.tasks)
        if told in names:
            raise ValueError(f"{told} is told its own instruction: leave it out of the tasks, or name another one")
        names = names or tuple(name for name in tasks.SPLITS[self.split].tasks if name != told)
        for factor in factors:
            for name in names:
                tasks.check(name, self.split, factor)
        for kind, values in (("task", names), ("factor", factors)):
            if len(set(values)) < len(values):
                raise ValueError(f"a {kind} is named twice: {', '.join(values)}")
        for kind in ("episodes", "workers", "time_limit_s"):
            if not getattr(self, kind) > 0:
                raise ValueError(f"{kind} must be positive, not {getattr(self, kind)}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, not {self.seed}")
        if self.visual not in VISUALS:
            raise unknown_name("visual profile", self.visual, VISUALS)
        if self.name and not re.fullmatch(r"[\w.+-]+", self.name):
            raise ValueError(f"name must be letters, digits and . + - _, not {self.name!r}")
        self._check_time()
        object.__setattr__(self, "tasks", names)  # written out, so that the default and its value are one run
        object.__setattr__(self, "factors", factors)
        object.__setattr__(self, "instruction_of", told)

    def _check_time(self) -> None:
        """Raises ValueError if executor, latency and clock make no sense, alone or together."""
        execution.find(self.execution)
        latency.parse(self.latency)
        if self.replan is not None and self.replan < 1:
            raise ValueError(f"replan must be at least 1 control step, not {self.replan}")
        if self.clock not in CLOCKS:
            raise unknown_name("clock", self.clock, CLOCKS)
        if self.clock == "wall" and self.policy == policies.EXPERT:
            raise ValueError("the expert reads the simulator it acts in: it cannot compute while the simulator goes on")
        if self.clock == "wall" and self.workers > 1:
            raise ValueError(f"on the wall clock episodes disturb each other: workers must be 1, not {self.workers}")

    @property
    def label(self) -> str:
        """How the policy is called in the rows: its name and arguments, what it was told, how it was played."""
        name = self.name or self.policy.rsplit("/", 1)[-1]
        given = ({} if self.name else dict(sorted(self.policy_args.items()))) | self._told()
        arguments = ",".join(f"{key}={value}" for key, value in given.items())
        played = ",".join(f"{key}={value}" for key, value in self.timed().items())
        return (f"{name}({arguments})" if arguments else name) + (f"@{played}" if played else "")

    def timed(self) -> dict[str, Any]:
        """Returns executor, latency and so on, those that differ from the default, as JSON values."""
        values = {"latency": latency.parse(self.latency).label}
        values = {name: values.get(name, getattr(self, name)) for name in TIMED}
        return {name: value for name, value in values.items() if value != getattr(RunConfig, name)}

    @property
    def folder(self) -> Path:
        """`out`, or the default: the same for the same configuration, another one for any other."""
        if self.out is not None:
            return self.out
        words = [self.label, self.split]
        if self.factors != (tasks.default_factor(self.split),):
            words += self.factors
        kept = {name: getattr(self, name) for name in (*TIMED, *TOLD)}
        plain = RunConfig(self.policy, self.split, factors=self.factors, policy_args=self.policy_args, **kept)
        if self.recorded() != plain.recorded():
            words.append(hashlib.sha256(json.dumps(self.recorded(), sort_keys=True).encode()).hexdigest()[:6])
        return RESULTS / re.sub(r"[^\w.=]+", "-", "-".join(words)).strip("-")

    def recorded(self) -> dict[str, Any]:
        """Returns what decides the rows, as JSON values."""
        left_out = (*UNRECORDED, *TIMED, *TOLD)
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left_out}
        optional = {name: getattr(self, name) for name in TOLD}  # only where they say something: older runs know
        values |= self.timed() | {name: value for name, value in optional.items() if value}  # nothing of them
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def _told(self) -> dict[str, str]:
        return {"instruction_of": self.instruction_of} if self.instruction_of else {}
