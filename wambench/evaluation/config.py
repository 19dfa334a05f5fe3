"""What a run is: its configuration, checked before anything starts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from wambench import policies
from wambench.evaluation import executors as execution
from wambench.evaluation import latency
from wambench.interface import unknown_name
from wambench.records.run_folder import holds_another
from wambench.tasks import SPLITS, check, default_factor, find

RUNS = Path("runs")
VISUALS = ("fast", "full")
RANDOM = "random"  # as an instruction: of some other task
UNRECORDED = ("workers", "out", "retry_errors", "film")  # without influence on what a row says
IN_NAME = ("seed", "visual")  # stand in the name of the default folder if they are not the usual ones
TIMED = ("execution", "latency", "replan", "smooth", "clock")  # recorded if not default: older runs know nothing of it
TOLD = ("instruction_of", "name")  # likewise
CLOCKS = ("virtual", "wall")


@dataclass(frozen=True)
class RunConfig:
    """What is played. Everything is checked here, before anything heavy is imported.

    `RunConfig.resolve` makes one from what a user says: it fills in the tasks and factors of the split.

    Attributes:
        policy: A name of `policies.POLICIES`, "module:Class" or "path/to/file.py:Class".
        split: A name of `tasks.SPLITS`.
        tasks: Task names of the split.
        factors: Environment factors, each played in episodes of its own.
        episodes: Episodes per task and factor.
        seed: Seed of the run; equal seeds give every policy the same episodes.
        visual: Visual profile, "fast" or "full".
        policy_args: Keyword arguments of the policy's class, JSON values.
        instruction_of: Task whose instruction the policy is told instead of the right one, or "random" for another
            one of the split in every episode: a control for whether it listens. Scenes and scoring stay the same; the
            task itself is left out of the default tasks.
        record_video: Write an mp4 of every episode.
        film: Draw a film of every episode for spectators (`evaluation.film`), which changes nothing else.
        time_limit_s: Wall-clock seconds after which an episode ends with status "timeout".
        workers: Processes; without influence on the results.
        out: Folder; None for one in `runs/`, named after the configuration.
        retry_errors: Play again what ended in an error, whatever its cause.
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
    tasks: tuple[str, ...]
    factors: tuple[str, ...]
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
    retry_errors: bool = False
    film: bool = False

    @classmethod
    def resolve(
        cls,
        policy: str,
        split: str,
        tasks: Sequence[str] = (),
        factors: Sequence[str] = (),
        instruction_of: str = "",
        **options: Any,
    ) -> RunConfig:
        """Returns the configuration of what a user says.

        Args:
            policy, split: As above.
            tasks: Names or versioned ids of tasks; none for all of the split.
            factors: None for the split's default: "none" in training environments, else "all".
            instruction_of: A name or versioned id, "random" or "".
            options: The other fields.
        """
        policies.check_name(policy)
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        told = find(instruction_of).name if instruction_of not in ("", RANDOM) else instruction_of
        names = tuple(find(name).name for name in tasks) or tuple(n for n in SPLITS[split].tasks if n != told)
        return cls(policy, split, names, tuple(factors) or (default_factor(split),), instruction_of=told, **options)

    def __post_init__(self) -> None:
        policies.check_name(self.policy)
        if not self.tasks or not self.factors:
            raise ValueError("a RunConfig names its tasks and factors; RunConfig.resolve fills in those of the split")
        if self.instruction_of in self.tasks:
            told = self.instruction_of
            raise ValueError(f"{told} is told its own instruction: leave it out of the tasks, or name another one")
        for factor in self.factors:
            for name in self.tasks:
                check(name, self.split, factor)
        for kind, values in (("task", self.tasks), ("factor", self.factors)):
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
        return self._called(self.policy.rsplit("/", 1)[-1], self.policy_args)

    def _called(self, policy: str, arguments: Mapping[str, Any]) -> str:
        given = ({} if self.name else dict(sorted(arguments.items()))) | self._told()
        inside = ",".join(f"{key}={value}" for key, value in given.items())
        played = ",".join(f"{key}={value}" for key, value in self.timed().items())
        name = self.name or policy
        return (f"{name}({inside})" if inside else name) + (f"@{played}" if played else "")

    def timed(self) -> dict[str, Any]:
        """Returns executor, latency and so on, those that differ from the default, as JSON values."""
        values = {"latency": latency.parse(self.latency).label}
        values = {name: values.get(name, getattr(self, name)) for name in TIMED}
        return {name: value for name, value in values.items() if value != getattr(RunConfig, name)}

    @property
    def folder(self) -> Path:
        """`out`, or the default in `runs/`: policy, arguments, split, and whatever else is not the usual.

        The same for what one run can hold, however many tasks and episodes. Where another run stands in the way (two
        policies in files of one name, for example), the name ends in a number.
        """
        return self.out if self.out is not None else self.folder_in(RUNS)

    def folder_in(self, parent: Path) -> Path:
        """Returns the folder of that name in another folder than `runs/`."""
        policy = self.policy.rsplit("/", 1)[-1].replace(".py:", "-")
        short = {k: Path(v).stem if isinstance(v, str) and "/" in v else v for k, v in self.policy_args.items()}
        words = [self._called(policy, short), self.split]
        if self.factors != (default_factor(self.split),):
            words += self.factors
        words += [
            f"{name}={getattr(self, name)}" for name in IN_NAME if getattr(self, name) != getattr(RunConfig, name)
        ]
        name = re.sub(r"[^\w.=]+", "-", "-".join(words)).strip("-")
        places = (parent / (name if i == 1 else f"{name}-{i}") for i in count(1))
        return next(place for place in places if not holds_another(place, self.recorded()))

    def recorded(self) -> dict[str, Any]:
        """Returns what decides the rows, as JSON values."""
        left_out = (*UNRECORDED, *TIMED, *TOLD)
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left_out}
        optional = {name: getattr(self, name) for name in TOLD}  # only where they say something: older runs know
        values |= self.timed() | {name: value for name, value in optional.items() if value}  # nothing of them
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def _told(self) -> dict[str, str]:
        return {"instruction_of": self.instruction_of} if self.instruction_of else {}
