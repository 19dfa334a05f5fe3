"""What a run is: its configuration, checked before anything starts."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from wambench import conventions, policies
from wambench.envs.factors import LOOKALIKE
from wambench.envs.lookalikes import lookalike_of
from wambench.evaluation import executors as execution
from wambench.evaluation import latency
from wambench.interface import unknown_name
from wambench.records.run_folder import holds_another
from wambench.tasks import SPLITS, check, default_factor, find

RUNS = Path("runs")
VISUALS = ("fast", "full")
RANDOM = "random"  # as an instruction: of some other task
UNRECORDED = ("workers", "out", "retry_errors", "policy_batch", "cluster", "film", "view")  # decide nothing in a row
IN_NAME = ("seed", "visual")  # stand in the name of the default folder if they are not the usual ones
TIMED = ("execution", "latency", "replan", "smooth", "clock")  # recorded if not default: older runs know nothing of it
TOLD = ("instruction_of", "name", "robot", "policy_device")  # likewise
CLOCKS = ("virtual", "wall")
CLUSTERS = ("local", "auto")
CPU = "cpu"  # as a policy's device: the rows are those of a run that names none
GPU_BATCH = 8  # queries that are answered together unless asked otherwise


@dataclass(frozen=True)
class RunConfig:
    """What is played. Everything is checked here, before anything heavy is imported.

    `RunConfig.resolve` makes one from what a user says: it fills in the tasks and factors of the split.

    Attributes:
        policy: A name of `policies.POLICIES`, "module:Class", "path/to/file.py:Class", "lerobot:PATH" or
            "SCHEME://HOST:PORT"; or `policies.GIVEN`, for an object that is not made here.
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
        robot: A name of `conventions.CONVENTIONS`: who plays; "" for the robot that the policy's convention asks for.
        record_video: Write an mp4 of every episode.
        film: Draw a film of every episode for spectators (`evaluation.film`), which changes nothing else.
        view: Show what the policy sees in a window, while it plays; for one worker.
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
        policy_device: "cpu", "cuda" or "cuda:1": the policy lives there, in a process of its own, for all workers. "":
            every worker has its own, on the device of its arguments.
        policy_batch: Queries that this process may answer together; None for `GPU_BATCH` on a GPU and 1 on a CPU. A
            number without a device makes such a process, too.
        cluster: Where it is played: "" here, "local" on a Ray cluster that is started here, "auto" on the one that this
            machine belongs to, "ray://HOST:PORT" on another. A shared policy then has a replica on every GPU.

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
    robot: str = ""
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
    policy_device: str = ""
    policy_batch: int | None = None
    cluster: str = ""
    retry_errors: bool = False
    film: bool = False
    view: bool = False

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
            tasks: Names or versioned ids of tasks; none for all of the split, or, with a look-alike among the factors,
                for those that have one.
            factors: None for the split's default: "none" in training environments, else "all".
            instruction_of: A name or versioned id, "random" or "".
            options: The other fields.
        """
        policies.check_name(policy)
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        told = find(instruction_of).name if instruction_of not in ("", RANDOM) else instruction_of
        names = tuple(find(name).name for name in tasks) or tuple(n for n in SPLITS[split].tasks if n != told)
        if not tasks and LOOKALIKE in factors:
            names = tuple(name for name in names if lookalike_of(find(name)))
        return cls(policy, split, names, tuple(factors) or (default_factor(split),), instruction_of=told, **options)

    def __post_init__(self) -> None:
        if self.policy != policies.GIVEN:
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
        if self.robot:
            conventions.find(self.robot)
        if self.visual not in VISUALS:
            raise unknown_name("visual profile", self.visual, VISUALS)
        if self.name and not re.fullmatch(r"[\w.+-]+", self.name):
            raise ValueError(f"name must be letters, digits and . + - _, not {self.name!r}")
        self._check_time()
        self._check_shared()
        self._check_cluster()

    def _check_time(self) -> None:
        """Raises ValueError if executor, latency and clock make no sense, alone or together."""
        execution.find(self.execution)
        latency.parse(self.latency)
        if self.replan is not None and self.replan < 1:
            raise ValueError(f"replan must be at least 1 control step, not {self.replan}")
        if self.clock not in CLOCKS:
            raise unknown_name("clock", self.clock, CLOCKS)
        if self.clock == "wall" and self.policy in policies.PRIVILEGED:
            raise ValueError(f"{self._reads_the_simulator}: it cannot compute while the simulator goes on")
        if self.clock == "wall" and self.workers > 1:
            raise ValueError(f"on the wall clock episodes disturb each other: workers must be 1, not {self.workers}")

        if self.view and (self.workers > 1 or self.cluster):
            raise ValueError("view shows one episode at a time, here: give --workers 1, and no --cluster")

    def _check_shared(self) -> None:
        """Raises ValueError if the policy cannot live in a process of its own, or not on its device."""
        if self.policy_batch is not None and self.policy_batch < 1:
            raise ValueError(f"policy_batch must be at least 1, not {self.policy_batch}")
        if not re.fullmatch(r"|cpu|cuda(:\d+)?", self.policy_device):
            raise ValueError(f"policy_device must be cpu, cuda or cuda:NUMBER, not {self.policy_device!r}")
        if self.shared and self.policy in policies.PRIVILEGED:
            raise ValueError(f"{self._reads_the_simulator}: it cannot live in a process of its own")
        if self.policy_device and self.policy_args.get("device", self.policy_device) != self.policy_device:
            asked = f"policy_device={self.policy_device} and device={self.policy_args['device']}"
            raise ValueError(f"{asked} of the policy's arguments disagree: give one of them")

    def _check_cluster(self) -> None:
        """Raises ValueError if there can be no such cluster, or the run cannot be played on one."""
        if not self.cluster:
            return
        if self.cluster not in CLUSTERS and not re.fullmatch(r"ray://.+:\d+", self.cluster):
            raise ValueError(f"{unknown_name('cluster', self.cluster, CLUSTERS)}, or ray://HOST:PORT")
        if importlib.util.find_spec("ray") is None:
            raise ValueError("--cluster needs Ray, which is not installed: pip install 'wambench[ray]'")
        if self.clock == "wall":
            raise ValueError("on the wall clock a run is played here: leave --cluster out")
        if ":" in self.policy_device:
            raise ValueError(f"a cluster hands out its GPUs itself: say cuda, not {self.policy_device}")

    @property
    def _reads_the_simulator(self) -> str:
        return f"the {self.policy} reads the simulator it acts in"

    @property
    def shared(self) -> bool:
        """The policy lives in a process of its own."""
        return self.policy_device != "" or self.policy_batch is not None

    @property
    def batch(self) -> int:
        """Queries that it may answer together there."""
        device = self.policy_device or str(self.policy_args.get("device", CPU))
        return self.policy_batch or (1 if device == CPU else GPU_BATCH)

    @property
    def label(self) -> str:
        """How the policy is called in the rows: its name and arguments, what it was told, which robot was asked for,
        how it was played."""
        return self._called(policies.short_name(self.policy), self.policy_args)

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
        policy = policies.short_name(self.policy).replace(".py:", "-")
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
        optional = {name: getattr(self, name) for name in TOLD}  # older runs know nothing of them
        if self.policy_device == CPU:
            optional["policy_device"] = ""
        values |= self.timed() | {name: value for name, value in optional.items() if value}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def shared_by(self) -> dict[str, Any]:
        """Returns how the policy is shared, and where, as JSON values: it decides no row on a CPU, but is told."""
        batch = {"policy_batch": self.batch} if self.shared else {}
        return batch | ({"cluster": self.cluster} if self.cluster else {})

    def _told(self) -> dict[str, str]:
        told = {"instruction_of": self.instruction_of, "robot": self.robot}
        return {name: value for name, value in told.items() if value}
