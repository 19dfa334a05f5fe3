"""Training from the files of `wambench collect`: the encoder, then the policies on its latents.

    train(TrainConfig("encoder", "v1", ("data/demos", "data/renders"), "encoder.safetensors", minutes=6))
    train(TrainConfig("dreamzero", "nano", ("data/demos",), "nano.safetensors", minutes=15))

What is learned, and how, is in the module of each family (`training.dreamzero`, `training.vla`, `training.encoder`,
`training.renderer`). A
killed run continues from the checkpoint beside its output.
`<out>.csv` logs losses, throughput and validation.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
from tqdm import tqdm

from wambench.policies.training import dreamzero as dreamzero_training
from wambench.policies.training import encoder as encoder_training
from wambench.policies.training import flops as training_flops
from wambench.policies.training import loop
from wambench.policies.training import renderer as renderer_training
from wambench.policies.training import vla as vla_training
from wambench.policies.training.config import TrainConfig
from wambench.policies.vla import base as vla

OnValidation = Callable[[str], None]


@dataclass(frozen=True)
class Trainer:
    """How one kind of network is trained.

    Attributes:
        job: (config, rank, wait) -> the training job of this process.
        finish: (job, config, state, FLOPs of a sample): measures and writes the weights.
        parameters: config -> number of trained parameters; None where only one process can train.
        counted: Whether the operations of a sample are counted, so that `flops` can limit the training.
    """

    job: Callable[..., Any]
    finish: Callable[..., None]
    parameters: Callable[[TrainConfig], int] | None = None
    counted: bool = False


TRAINERS: dict[str, Trainer] = {
    "dreamzero": Trainer(
        dreamzero_training.job, dreamzero_training.finish, dreamzero_training.parameters, counted=True
    ),
    "encoder": Trainer(encoder_training.job, encoder_training.finish, encoder_training.parameters),
    "renderer": Trainer(renderer_training.job, renderer_training.finish, renderer_training.parameters),
    **dict.fromkeys(vla.MODULES, Trainer(vla_training.job, vla_training.finish, vla_training.parameters, counted=True)),
}


def _run(
    config: TrainConfig,
    trainer: Trainer,
    rank: int,
    group: loop.WorkerGroup | None,
    on_validation: OnValidation = tqdm.write,
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        job = trainer.job(config, rank, (lambda: None) if group is None else group.wait)
        each = training_flops.per_sample(job) if trainer.counted else 0.0
        budget = config
        if config.flops is not None:
            samples = config.batch * config.workers
            budget = replace(config, steps=training_flops.steps_for(config.flops, each, samples), flops=None)
        state = loop.train_loop(
            job, budget.loop(), Path(config.out), config.identity(), config.seed, rank, group, on_validation
        )
        if rank == 0:
            trainer.finish(job, config, state, each)
    finally:
        torch.set_num_threads(threads)


def _follow(config: TrainConfig, trainer: Trainer, rank: int, group: loop.WorkerGroup, parent: int) -> None:
    """Runs one of the other processes; ends when the first one is gone, breaks the barrier when it fails itself."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        _run(config, trainer, rank, group)
    except BaseException:
        group.barrier.abort()
        raise


def train(config: TrainConfig, on_validation: OnValidation = tqdm.write, trainer: Trainer | None = None) -> Path:
    """Trains, writes the weights and returns their path; continues from `<out>.checkpoint` if there is one.

    `on_validation` is called with the results of each validation, when `<out>.csv` has them.
    `trainer` trains what is no policy: the tracker and the paths of `wambench attribute` bring their own.
    Unknown names, missing or damaged data and a foreign checkpoint raise ValueError.
    """
    trainer = trainer or TRAINERS[config.policy]
    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if config.workers == 1:
        _run(config, trainer, 0, None, on_validation)
    else:
        context = multiprocessing.get_context("spawn")
        barrier: Barrier = context.Barrier(config.workers)
        assert trainer.parameters is not None  # the config refuses several workers where there is none
        gradients = torch.zeros(config.workers, trainer.parameters(config)).share_memory_()
        group = loop.WorkerGroup(gradients, torch.zeros(1, dtype=torch.float64).share_memory_(), barrier)
        others = [
            context.Process(target=_follow, args=(config, trainer, rank, group, os.getpid()), daemon=True)
            for rank in range(1, config.workers)
        ]
        for process in others:
            process.start()
        try:
            _run(config, trainer, 0, group, on_validation)
        except threading.BrokenBarrierError:
            raise RuntimeError("a training process failed; its message stands above") from None
        finally:
            for process in others:
                process.join(timeout=10.0)
                if process.is_alive():
                    process.terminate()
    Path(f"{out}.checkpoint").unlink(missing_ok=True)
    return out
