"""Training of the VLA baselines: demonstrations, augmentation and optimiser of DreamZero nano, one chunk a sample.

A method may have a corpus that its language side learns from (`AUXILIARY`: captioned video), first alone and then
beside the demonstrations. Without one, folders without actions are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from wambench.policies import weight_files
from wambench.policies.perception import encoder
from wambench.policies.perception.encoder import Encoder
from wambench.policies.perception.scene import PRESENT, SceneFeatures, encode_words
from wambench.policies.training import augmentation, captions, dataset, loop
from wambench.policies.training.config import (
    VALIDATION,
    TrainConfig,
    build_seeded,
    describe,
    read_clips,
)
from wambench.policies.vla import base as vla
from wambench.policies.weight_files import digest

BESIDE = 16  # chunks of actions for each sample of a side corpus that is learned beside them


class SideCorpus(Protocol):
    """What a network learns beside chunks of actions; it knows the network."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Names of what `loss` returns."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `validate` returns."""

    @property
    def first(self) -> float:
        """Share of the training in which nothing else is learned."""

    def loss(self, generator: torch.Generator, count: int) -> tuple[Tensor, ...]:
        """Returns the losses on a random batch of its own."""

    def validate(self) -> tuple[float, ...]:
        """Returns errors on held-out data of its own."""


# What a method learns beside chunks of actions: (config, network, clips, rank, wait) -> SideCorpus.
AUXILIARY: dict[str, Callable[..., SideCorpus]] = {"ki": captions.side}


class VlaJob:
    """Trains a `base.Network` on the latents of demonstrations."""

    progress = 0.0

    def __init__(
        self, config: TrainConfig, model: vla.Network, clips: dataset.Clips, side: SideCorpus | None = None
    ) -> None:
        self.model = model
        self.config = config
        self.batch = config.batch
        self.clips = clips
        self.side = side
        self.losses = (*model.losses, *(side.losses if side else ()))
        self.metrics = ("val_action_mse", "val_gripper_error", *(side.metrics if side else ()))
        self.words = encode_words(clips.sentences, model.inputs.points)
        self.how = augmentation.Augmentation()
        self.action_std = clips.actions.std(dim=0).clamp_min(vla.ACTION_FLOOR)  # the unit of errors, as nano's
        own = clips.offset >= 0
        quiet = clips.undisturbed(model.inputs.horizon)
        wanted = (quiet if config.anchors == "undisturbed" else own) & (clips.step < clips.length)
        self.train_rows = clips.split(wanted)[0]
        self.test_rows = torch.nonzero(own & quiet & clips.held_out).flatten()

    def _moments(self, rows: Tensor) -> augmentation.TrainingBatch:
        """Returns the moments at some rows with the chunks that follow, actions as the environment takes them."""
        clips = self.clips
        device = self.config.device
        at = rows[:, None]
        latents, points = clips.read(at, device)
        scene = SceneFeatures(
            latents=latents,
            points=points,
            state=clips.features[at].to(device),
            known=clips.known[at].float()[..., None].to(device),
            at_chunk=points,
        )
        model = self.model
        actions, executed, begun = (x.to(device) for x in clips.chunks_at(rows, [0], model.inputs.horizon))
        words = self.words.at(clips.sentence[rows]).trimmed().to(device)
        counts = begun.float()
        return augmentation.TrainingBatch(scene, words, actions, executed, torch.ones_like(counts), counts, counts)

    def loss(self, model: vla.Network, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns the network's losses on `batch` augmented moments, and those of its side corpus."""
        if self.side and self.progress < self.side.first:
            return (
                *(torch.zeros((), device=self.config.device) for _ in model.losses),
                *self._beside(generator),
            )
        rows = self.train_rows[torch.randint(len(self.train_rows), (self.batch,), generator=generator)]
        batch = augmentation.augment(self._moments(rows), self.how, model.inputs.points, generator)
        seen = vla.observe(batch.scene, batch.words, model.points_mean, model.inputs)
        losses = model.loss(seen, batch.actions[:, 0], generator)
        return (*losses, *self._beside(generator))

    def _beside(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns the losses of the side corpus: as many samples while it is alone, later fewer."""
        if self.side is None:
            return ()
        alone = self.progress < self.side.first
        return self.side.loss(generator, self.batch if alone else max(1, self.batch // BESIDE))

    def validate(self, model: vla.Network) -> tuple[float, ...]:
        """Returns errors of sampled chunks on held-out demonstrations.

        The mean squared error in standard deviations of the demonstrations' actions, as DreamZero nano's, and how often
        the gripper's sign is wrong.
        """
        if not len(self.test_rows):
            return (float("nan"),) * len(self.metrics)
        rows = self.test_rows[torch.linspace(0, len(self.test_rows) - 1, min(VALIDATION, len(self.test_rows))).long()]
        totals = torch.zeros(2)
        for i, part in enumerate(rows.split(64)):
            totals += self._judge(model, self._moments(part), i) * len(part)
        return (*(totals / len(rows)).tolist(), *(self.side.validate() if self.side else ()))

    @torch.no_grad()
    def _judge(self, model: vla.Network, batch: augmentation.TrainingBatch, number: int) -> Tensor:
        truth = batch.actions[:, 0]
        generators = [torch.Generator().manual_seed(64 * number + k) for k in range(len(truth))]
        noise = torch.stack([torch.randn(truth.shape[1:], generator=g) for g in generators]).to(truth.device)
        seen = vla.observe(batch.scene, batch.words, model.points_mean, model.inputs)
        guess = model.sample(seen, noise, model.steps)
        error = ((guess - truth) / self.action_std.to(truth.device)).square().mean()
        wrong = ((guess[..., -1] > 0) != (truth[..., -1] > 0)).float().mean()
        return torch.stack([error.cpu(), wrong.cpu()])


def inputs_of(config: TrainConfig, reader: Encoder) -> vla.Inputs:
    """Returns what a network reads and writes with an encoder."""
    points = tuple(reader.config.points)
    return vla.Inputs(points, reader.config.latent, horizon=config.actions_per_chunk, presence=PRESENT)


def fit(network: vla.Network, clips: dataset.Clips) -> None:
    """Stores in a network what the demonstrations say about positions, states and actions."""
    rows = ~clips.held_out & clips.known
    if not rows.any():
        raise ValueError("no demonstrations with actions")
    network.state.fit(clips.features[rows], vla.STATE_FLOOR)
    network.action.fit(clips.actions, vla.ACTION_FLOOR)
    seen = clips.points[rows][clips.points[rows][..., 3] > 0.5]
    network.points_mean.copy_(seen[:, :3].mean(dim=0) if len(seen) else torch.zeros(3))


def with_actions(config: TrainConfig) -> tuple[str, ...]:
    """Returns the folders of demonstrations; none raises ValueError."""
    folders = tuple(folder for folder in config.data if dataset.read_manifest(folder).corpus == "demos")
    if not folders:
        raise ValueError(f"{', '.join(config.data)}: no demonstrations with actions")
    return folders


def job(config: TrainConfig, rank: int, wait: Callable[[], Any]) -> VlaJob:
    """Returns the training job of a kind of `base.MODULES`."""
    module = vla.module_of(config.policy)
    network: vla.Network
    reader, clips = read_clips(replace(config, data=with_actions(config)), rank, wait)
    network = build_seeded(config.seed, module.build, config.config, inputs_of(config, reader))
    if config.init:
        weight_files.load_into(network, weight_files.read_weights(config.init_path, config.policy)[0], config.init_path)
    else:
        fit(network, clips)
    learns_words = AUXILIARY.get(config.policy)
    side = learns_words(config, network, clips, rank, wait) if learns_words else None
    return VlaJob(config, network.to(config.device), clips, side)


def finish(job: VlaJob, config: TrainConfig, state: loop.TrainState, flops: float) -> None:
    """Writes the weights and their training provenance; `flops` are the operations of a sample."""
    network = job.model.eval()
    folders = config.data if job.side else with_actions(config)
    scores = dict(zip(job.metrics, (round(v, 5) for v in job.validate(network)), strict=True))
    tqdm.write(f"held-out demonstrations: {scores}")
    meta = describe(config, state, "+".join(dataset.read_manifest(folder).corpus for folder in folders), flops)
    meta |= scores | {"encoder": digest(config.encoder_path)}
    # every moment has actions, its instruction, and a present frame; a side corpus begins alone
    useful = 1.0 - (job.side.first if job.side else 0.0)
    meta |= {"frames": len(job.train_rows), "useful_samples": round(useful * state.samples)}
    vla.save(config.policy, network, config.out, meta)


def parameters(config: TrainConfig) -> int:
    """Returns the number of parameters of the network to be trained."""
    reader, _ = encoder.load(config.encoder_path)
    network = vla.module_of(config.policy).build(config.config, inputs_of(config, reader))
    return sum(p.numel() for p in network.parameters())
