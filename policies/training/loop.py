"""The training loop that encoder and models share: flat weights, gradient exchange, checkpoints, log.

Made for a few CPU cores: one thread per process (threads that wait for each other lose more than they gain), one flat
buffer for all weights (one optimiser call, one exchange), bfloat16 arithmetic with float32 master weights where the
processor has it. Gradients are exchanged through shared memory between two barriers, which costs a copy; a process
group would send them through sockets.

Every step derives its randomness from (seed, step, rank), so that a resumed run repeats one that was never interrupted.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from tqdm import tqdm

from wambench.progress_bar import progress_bar

BARRIER_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train.

    Attributes:
        minutes: Wall-clock budget of the loop, or None.
        steps: Step budget, or None; one of the two must be given.
        lr: Peak learning rate; cosine to 3% of it.
        warmup: Steps of linear warm-up.
        weight_decay: On matrices only.
        ema: Decay per step of the averaged weights.
        clip: Largest norm of the gradient.
        log_every: Steps between rows of the log.
        validations: Times the averaged weights are evaluated, the end included.
        checkpoint_s: Seconds between checkpoints.
    """

    minutes: float | None = None
    steps: int | None = None
    lr: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.01
    ema: float = 0.998
    clip: float = 1.0
    log_every: int = 50
    validations: int = 8
    checkpoint_s: float = 60.0

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either minutes or steps of training")
        if (self.minutes or self.steps or 0) <= 0:
            raise ValueError("minutes or steps of training must be positive")


Model = TypeVar("Model", bound=nn.Module)


class TrainJob(Protocol[Model]):
    """What is trained: a model, its loss on a random batch, and how it is judged.

    Attributes:
        model: What is trained.
        batch: Samples per process and step.
        progress: Share of the budget that is used, set before every step.
    """

    model: Model
    batch: int
    progress: float

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of the losses."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the held-out measures."""

    def loss(self, model: Model, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns the losses named in `losses` on a random batch; their sum is minimised."""

    def validate(self, model: Model) -> tuple[float, ...]:
        """Returns the values named in `metrics` on held-out data."""


@dataclass(frozen=True)
class WorkerGroup:
    """What the processes of one training share: gradients (workers, n), progress (1,), a barrier."""

    gradients: Tensor
    progress: Tensor
    barrier: Barrier

    def wait(self) -> None:
        """Waits for the others."""
        self.barrier.wait(BARRIER_TIMEOUT_S)


def compute_type(device: torch.device) -> torch.dtype:
    """Returns bfloat16 where it is fast (a GPU, or a CPU with bfloat16 instructions), else float32."""
    if device.type == "cuda":
        return torch.bfloat16
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if supported() else torch.float32


class Weights:
    """A model's parameters as one flat vector: compute copy, gradient, float32 master, moments and average."""

    def __init__(self, model: nn.Module, config: LoopConfig, dtype: torch.dtype) -> None:
        self.parameters = sorted(model.parameters(), key=lambda p: p.dim() < 2)
        self.config = config
        with torch.no_grad():
            self.master = torch.cat([p.detach().float().flatten() for p in self.parameters])
        self.compute = self.master.to(dtype)
        self.gradient = torch.zeros_like(self.compute)
        self.average = self.master.clone()
        decayed = sum(p.numel() for p in self.parameters if p.dim() >= 2)
        self.groups = [nn.Parameter(self.master[:decayed]), nn.Parameter(self.master[decayed:])]
        groups = [
            {"params": [p], "weight_decay": d} for p, d in zip(self.groups, (config.weight_decay, 0.0), strict=True)
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.95), fused=True)
        self._bind(self.compute, self.gradient)

    def _bind(self, flat: Tensor, gradient: Tensor | None) -> None:
        start = 0
        for p in self.parameters:
            stop = start + p.numel()
            p.data = flat[start:stop].view(p.shape)
            p.grad = None if gradient is None else gradient[start:stop].view(p.shape)
            start = stop

    def step(self, gradient: Tensor, lr: float, count: int) -> None:
        """Clips, updates master, compute copy and average."""
        gradient *= (self.config.clip / (gradient.norm() + 1e-6)).clamp(max=1.0)
        start = 0
        for group, settings in zip(self.groups, self.optimiser.param_groups, strict=True):
            settings["lr"] = lr
            group.grad = gradient[start : start + group.numel()]
            start += group.numel()
        self.optimiser.step()
        self.compute.copy_(self.master)
        # every fourth step with the fourth power is the same average for a quarter of the memory traffic
        if count % 4 == 0:
            decay = min(self.config.ema, (1 + count) / (10 + count)) ** 4
            self.average.lerp_(self.master, 1.0 - decay)

    def averaged(self) -> _AveragedWeights:
        """Returns a context in which the model computes with the averaged weights."""
        return _AveragedWeights(self)

    def freeze(self) -> None:
        """Leaves the averaged float32 weights in the model."""
        self._bind(self.average, None)

    def tensors(self) -> dict[str, Tensor]:
        """Returns what a checkpoint must hold."""
        state = {"master": self.master, "average": self.average}
        for i, group in enumerate(self.groups):
            moments = self.optimiser.state[group]
            for name in ("exp_avg", "exp_avg_sq", "step"):
                state[f"{name}.{i}"] = moments[name].detach().clone()
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continues from `tensors()`."""
        self.master.copy_(state["master"])
        self.average.copy_(state["average"])
        self.compute.copy_(self.master)
        for i, group in enumerate(self.groups):
            self.optimiser.state[group] = {
                n: state[f"{n}.{i}"].to(group.device) for n in ("exp_avg", "exp_avg_sq", "step")
            }


class _AveragedWeights:
    """The context in which a model computes with the averaged weights."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def __enter__(self) -> None:
        self.weights._bind(self.weights.average.to(self.weights.compute.dtype), None)

    def __exit__(self, *_: object) -> None:
        self.weights._bind(self.weights.compute, self.weights.gradient)


def learning_rate(config: LoopConfig, step: int, progress: float) -> float:
    """Returns the rate at a step: linear warm-up, cosine in the share of the budget used, down to 3%."""
    cosine = 0.03 + 0.97 * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
    return config.lr * cosine * min(1.0, (step + 1) / config.warmup)


@dataclass
class TrainState:
    """How far a run has come: optimiser steps, samples seen, and seconds spent in the loop."""

    step: int = 0
    samples: int = 0
    elapsed_s: float = 0.0


def save_checkpoint(path: Path, weights: Weights, train_state: TrainState, identity: str) -> None:
    """Writes everything a resumed run needs, in one step."""
    meta = {
        "step": train_state.step,
        "samples": train_state.samples,
        "elapsed_s": train_state.elapsed_s,
        "identity": identity,
    }
    part = path.with_name(path.name + ".part")
    safetensors.torch.save_file(weights.tensors(), str(part), metadata={"wambench": json.dumps(meta)})
    part.replace(path)


def load_checkpoint(path: Path, weights: Weights, identity: str) -> TrainState:
    """Restores a checkpoint and returns how far its run had come; a damaged or foreign one raises ValueError."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            meta = json.loads(file.metadata()["wambench"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, KeyError, TypeError, safetensors.SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: damaged checkpoint ({error}); remove it to start again") from None
    if meta["identity"] != identity:
        raise ValueError(f"{path}: checkpoint of a different configuration; remove it or choose another output")
    weights.restore(state)
    return TrainState(meta["step"], meta["samples"], meta["elapsed_s"])


class Log:
    """The CSV beside the output: one row each `log_every` steps, flushed; rows after a checkpoint are taken back."""

    def __init__(self, path: Path, columns: list[str], step: int) -> None:
        rows: list[list[str]] = []
        if step and path.exists():
            with path.open(newline="") as old:
                rows = [row for row in list(csv.reader(old))[1:] if row and row[0].isdigit() and int(row[0]) <= step]
        self.file = path.open("w", newline="")
        self.writer = csv.writer(self.file)
        self.writer.writerows([columns, *rows])
        self.file.flush()

    def write(self, row: list[float | int | str]) -> None:
        """Appends a row."""
        self.writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in row])
        self.file.flush()


def step_seed(seed: int, step: int, rank: int) -> int:
    """Returns the seed of one step of one process."""
    return (seed * 1_000_003 + step) * 64 + rank


def exchange(gradient: Tensor, rank: int, progress: float, group: WorkerGroup | None) -> tuple[Tensor, float]:
    """Returns the mean gradient of all processes in float32, and the first process's progress."""
    if group is None:
        return gradient.float(), progress
    group.gradients[rank].copy_(gradient)
    if rank == 0:
        group.progress[0] = progress
    group.wait()
    mean = group.gradients.mean(dim=0).to(gradient.device)
    shared = float(group.progress[0])
    group.wait()
    return mean, shared


def train_loop(
    job: TrainJob[Model],
    config: LoopConfig,
    out: Path,
    identity: str,
    seed: int = 0,
    rank: int = 0,
    group: WorkerGroup | None = None,
    on_validation: Callable[[str], None] = tqdm.write,
) -> TrainState:
    """Trains `job.model` in place and leaves the averaged float32 weights in it.

    Args:
        job: What is trained.
        config: How long and how fast.
        out: The output file; `<out>.checkpoint` and `<out>.csv` lie beside it. A checkpoint is continued.
        identity: What a checkpoint must agree in to be continued.
        seed: Seed of the whole run.
        rank: Number of this process; the first one writes files.
        group: What several processes share; None for one process.
        on_validation: Called with the results of each validation, once they are in the log.
    """
    device = next(job.model.parameters()).device
    weights = Weights(job.model, config, compute_type(device))
    checkpoint = Path(f"{out}.checkpoint")
    train_state = TrainState()
    if checkpoint.exists():
        train_state = load_checkpoint(checkpoint, weights, identity)
    workers = 1 if group is None else len(group.gradients)
    _Run(
        job, config, weights, train_state, rank, workers, checkpoint, Path(f"{out}.csv"), identity, on_validation
    ).loop(seed, group)
    weights.freeze()
    return train_state


class _Run(Generic[Model]):
    """The steps of one process, and its log."""

    def __init__(
        self,
        job: TrainJob[Model],
        config: LoopConfig,
        weights: Weights,
        train_state: TrainState,
        rank: int,
        workers: int,
        checkpoint: Path,
        log: Path,
        identity: str,
        on_validation: Callable[[str], None],
    ) -> None:
        self.job = job
        self.config = config
        self.weights = weights
        self.train_state = train_state
        self.rank = rank
        self.first = rank == 0
        self.workers = workers
        self.checkpoint = checkpoint
        self.identity = identity
        self.on_validation = on_validation
        columns = ["step", "samples", "minutes", "samples_per_s", "lr", *job.losses, *job.metrics]
        self.log = Log(log, columns, train_state.step) if self.first else None
        self.sums = torch.zeros(len(job.losses), device=weights.master.device)
        self.mark = (train_state.step, time.monotonic())
        self.validated = int(self.progress() * config.validations)

    def progress(self) -> float:
        if self.config.minutes is not None:
            return self.train_state.elapsed_s / (60.0 * self.config.minutes)
        return self.train_state.step / (self.config.steps or 1)

    def loop(self, seed: int, group: WorkerGroup | None) -> None:
        generator = torch.Generator()
        saved = time.monotonic()
        progress = self.progress()
        bar = progress_bar(total=100, initial=int(100 * progress), disable=not self.first, unit="%")
        while progress < 1.0:
            began = time.monotonic()
            generator.manual_seed(step_seed(seed, self.train_state.step, self.rank))
            self.weights.gradient.zero_()
            self.job.progress = progress
            losses = self.job.loss(self.job.model, generator)
            torch.stack([value.float() for value in losses]).sum().backward()
            self.sums += torch.stack([value.detach().float() for value in losses])
            gradient, progress = exchange(self.weights.gradient, self.rank, self.progress(), group)
            if progress >= 1.0:
                break
            rate = learning_rate(self.config, self.train_state.step, progress)
            self.weights.step(gradient, rate, self.train_state.step)
            self.train_state.step += 1
            self.train_state.samples += self.job.batch * self.workers
            self.train_state.elapsed_s += time.monotonic() - began
            if self.first:
                self._report(rate, bar)
                if time.monotonic() - saved > self.config.checkpoint_s:
                    save_checkpoint(self.checkpoint, self.weights, self.train_state, self.identity)
                    saved = time.monotonic()
            progress = self.progress() if group is None else progress
        bar.close()
        if self.first and self.train_state.step:
            save_checkpoint(self.checkpoint, self.weights, self.train_state, self.identity)

    def _report(self, rate: float, bar: tqdm) -> None:
        share = int(self.progress() * self.config.validations)
        due = share > self.validated
        if self.train_state.step % self.config.log_every and not due:
            return
        step, began = self.mark
        count = max(self.train_state.step - step, 1)
        speed = count * self.job.batch * self.workers / max(time.monotonic() - began, 1e-9)
        losses = (self.sums / count).tolist()
        metrics: list[float | str] = [""] * len(self.job.metrics)
        if due:
            self.validated = share
            with self.weights.averaged():
                self.job.model.eval()
                metrics = list(self.job.validate(self.job.model))
                self.job.model.train()
        assert self.log is not None
        minutes = self.train_state.elapsed_s / 60.0
        self.log.write([self.train_state.step, self.train_state.samples, minutes, speed, rate, *losses, *metrics])
        if due:
            named = ", ".join(f"{n} {v:.4g}" for n, v in zip(self.job.metrics, metrics, strict=True))
            self.on_validation(f"step {self.train_state.step}, {self.train_state.samples} samples: {named}")
        named = " ".join(f"{n} {v:.4g}" for n, v in zip(self.job.losses, losses, strict=True))
        bar.set_postfix_str(f"{named}, {speed:.0f} samples/s", refresh=False)
        bar.update(min(100, int(100 * self.progress())) - bar.n)
        self.sums.zero_()
        self.mark = (self.train_state.step, time.monotonic())
