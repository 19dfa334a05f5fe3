"""`wambench.evaluate`: how good a policy is by now, asked from inside its training."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from wambench import policies
from wambench.analysis.intervals import Estimate, bounded_mean, text, wilson
from wambench.evaluation import own_process
from wambench.evaluation.config import RunConfig
from wambench.evaluation.query_service import QueryService
from wambench.evaluation.worker import MakeSim, tabletop
from wambench.interface import Batched, ControlConvention, Policy, unknown_name
from wambench.records import Row

# further fields of `RunConfig` that `evaluate` takes
OPTIONS = (
    *("factors", "seed", "visual", "instruction_of", "time_limit_s"),
    *("execution", "latency", "replan", "smooth"),
)


@dataclass(frozen=True)
class Evaluation:
    """What came of an evaluation.

    Attributes:
        rows: One row per episode, as in episodes.csv, in the order of the run.
        progress: Mean progress and its 95 % interval (`intervals.bounded_mean`), errors left out.
        success_end, success_ever: Rates and their Wilson intervals, errors left out.
        by_task: Progress of each task, by its id.
        errors: Episodes that could not be played to their end, which the estimates leave out.
    """

    rows: tuple[Row, ...]
    progress: Estimate
    success_end: Estimate
    success_ever: Estimate
    by_task: Mapping[str, Estimate]
    errors: int

    def __str__(self) -> str:
        rates = ("progress", "success_end", "success_ever")
        said = ", ".join(f"{name} {text(getattr(self, name), 2)}" for name in rates)
        return f"{len(self.rows)} episodes, {self.errors} errors: {said}"


def evaluate(
    policy: Policy | str,
    split: str = "seen",
    tasks: Sequence[str] = (),
    episodes: int = 5,
    *,
    workers: int = 1,
    batch: int | None = None,
    name: str = "",
    policy_args: Mapping[str, Any] | None = None,
    make_sim: MakeSim = tabletop,
    **options: Any,
) -> Evaluation:
    """Returns how a policy does on a split. Nothing is written, and the same call plays the same episodes.

    A policy that is an object answers here, in the thread that calls, without gradients. Simulation and rendering
    happen in other processes: an OpenGL context belongs to a thread, and importing a simulator sets environment
    variables and loads libraries, neither of which a training should notice. No thread is started here, and the global
    generators of `random`, NumPy and torch are afterwards as they were, whatever the policy drew from them. A model's
    training mode is the caller's to switch off (`model.eval()`).

    Args:
        policy: A policy (`interface.Policy`), or what `wambench run --policy` takes, which every worker then makes.
        split: A name of `wambench list splits`.
        tasks: Tasks of the split; none for all of them.
        episodes: Per task.
        workers: Processes that simulate. More than one needs a policy that plays several episodes at once
            (`interface.Batched`), or the name of one.
        batch: Queries of several workers that `act_batch` may be given together; None for all of them.
        name: How the rows call the policy; "" for the name of its class.
        policy_args: Keyword arguments of a policy that is given by name.
        make_sim: Module-level function that makes the simulator of a task; another one only in tests.
        options: Further fields of `evaluation.config.RunConfig`, those of `OPTIONS`.

    Raises:
        ValueError: There is no such split, task, policy or option, or the object is no policy.
        WorkerFailed: The policy does not fit the simulators, or cannot be made by its name.
    """
    for option in options:
        if option not in OPTIONS:
            raise unknown_name("option", option, OPTIONS)
    known = {"episodes": episodes, "workers": workers, "policy_args": dict(policy_args or {}), **options}
    if isinstance(policy, str):
        config = RunConfig.resolve(policy, split, tasks, name=name, **known)
        return _summarise(own_process.play(config, make_sim, None))
    _check(policy, workers, policy_args)
    name = name or re.sub(r"[^\w.+-]", "-", type(policy).__name__)
    config = dataclasses.replace(RunConfig.resolve("noop", split, tasks, name=name, **known), policy=policies.GIVEN)
    with _untouched():
        return _summarise(own_process.play(config, make_sim, QueryService(lambda: policy, batch or workers)))


def _check(policy: Policy, workers: int, policy_args: Mapping[str, Any] | None) -> None:
    """Raises ValueError for an object that is no policy, or that cannot be played like this."""
    if not isinstance(policy, Policy) or not isinstance(policy.convention, ControlConvention):
        kind = type(policy).__name__
        raise ValueError(f"{kind} is no policy: it needs a `convention` (ControlConvention) and the methods reset, act")
    if policy_args:
        raise ValueError("policy_args are those of a policy that is given by name; this one is made already")
    if workers > 1 and not isinstance(policy, Batched):
        raise ValueError(
            f"{type(policy).__name__} plays one episode at a time: workers must be 1, not {workers}, unless it has "
            "session, resume and act_batch (wambench.interface.Batched)"
        )


@contextlib.contextmanager
def _untouched() -> Iterator[None]:
    """Puts the global generators back as they were, and lets torch, if it is there, record no gradients."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch = sys.modules.get("torch")
    with torch.no_grad() if torch else contextlib.nullcontext():
        cpu = torch.get_rng_state() if torch else None
        on_gpus = torch.cuda.get_rng_state_all() if torch and torch.cuda.is_initialized() else None
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
            if torch:
                torch.set_rng_state(cpu)
            if torch and on_gpus is not None:
                torch.cuda.set_rng_state_all(on_gpus)


def _summarise(rows: Sequence[Row]) -> Evaluation:
    fine = [row for row in rows if row.status == "ok"]
    by_task = {task: [row.progress for row in fine if row.task == task] for task in dict.fromkeys(r.task for r in rows)}
    strata = [np.array(values) for values in by_task.values()]
    return Evaluation(
        rows=tuple(rows),
        progress=bounded_mean(strata),
        success_end=wilson(sum(row.success_end for row in fine), len(fine)),
        success_ever=wilson(sum(row.success_ever for row in fine), len(fine)),
        by_task=MappingProxyType({task: bounded_mean([np.array(values)]) for task, values in by_task.items()}),
        errors=len(rows) - len(fine),
    )
