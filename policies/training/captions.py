"""What the insulated model learns beside actions: captions and questions about action-free video.

The pictures are the ones DreamZero learns from (`wambench collect --corpus video`), under the same augmentation, and
the answers come from the labels stored beside them (`questions`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wambench.policies import weight_files
from wambench.policies.actions import fast_tokenizer
from wambench.policies.perception.scene import SceneFeatures, encode_words
from wambench.policies.training import augmentation, dataset
from wambench.policies.training.config import VALIDATION, TrainConfig, read_clips
from wambench.policies.vla import base as vla
from wambench.policies.vla import knowledge_insulation as ki
from wambench.policies.vla import questions

FIRST = 0.1  # share of the training in which nothing else is learned: the knowledge to be insulated
FIT_CHUNKS = 4096  # chunks that the action tokenizer is fitted on


class Captions:
    """Questions about video: a side corpus (`training.vla.SideCorpus`).

    Args:
        network: To be trained; it knows the words of the answers.
        clips: Episodes without actions.
        points: (N, C, 3) labels in m of all frames.
        present: (N, C) bool.
        device: Where the network is.
    """

    losses = ("answer",)
    metrics = ("val_caption_error", "val_where_error", "val_there_error")
    first = FIRST

    def __init__(self, network: ki.Ki, clips: dataset.Clips, points: Tensor, present: Tensor, device: str) -> None:
        self.network = network
        self.names = network.inputs.points
        self.device = device
        self.clips = clips
        self.points = points
        self.present = present
        self.kit = questions.Answers(self.names, network.words)
        self.captions = self.kit.captions(clips.sentences)
        self.asked = encode_words(questions.questions(self.names), self.names)
        self.how = augmentation.Augmentation()
        self.train_rows = torch.nonzero(~clips.held_out).flatten()
        self.test_rows = torch.nonzero(clips.held_out).flatten()

    def exchange(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, augmentation.TrainingBatch, Tensor]:
        """Returns questions about some rows, the moments with the questions as instructions, and the answers."""
        clips = self.clips
        at = rows[:, None]
        asked = questions.draw(self.present[rows], generator)
        answers = self.kit.answer(asked, self.points[rows], self.present[rows], self.captions[clips.sentence[rows]])
        latents, points = clips.read(at, self.device)
        nothing = torch.zeros(len(rows), 1, 1, device=self.device)
        state = clips.features[at].to(self.device)
        scene = SceneFeatures(latents, points, state, nothing, points)
        words = self.asked.at(asked).to(self.device)
        no_actions = nothing[..., None]
        batch = augmentation.TrainingBatch(scene, words, no_actions, no_actions, *[nothing[..., 0]] * 3)
        return asked, batch, answers.to(self.device)

    def loss(self, generator: torch.Generator, count: int) -> tuple[Tensor, ...]:
        """Returns the loss of answers to `count` random questions."""
        rows = self.train_rows[torch.randint(len(self.train_rows), (count,), generator=generator)]
        _, batch, answers = self.exchange(rows, generator)
        batch = augmentation.augment(batch, self.how, self.names, generator)
        return (self.network.answer_loss(self._seen(batch), answers),)

    def _seen(self, batch: augmentation.TrainingBatch) -> vla.EncodedObservation:
        return vla.observe(batch.scene, batch.words, self.network.points_mean, self.network.inputs)

    def validate(self) -> tuple[float, ...]:
        """Returns the shares of wrong captions, places and presences on held-out video, without augmentation."""
        rows = self.test_rows[
            torch.linspace(0, max(0, len(self.test_rows) - 1), VALIDATION).long()[: len(self.test_rows)]
        ]
        generator = torch.Generator().manual_seed(0)
        kinds = []
        wrong = []
        for part in rows.split(64):
            asked, batch, answers = self.exchange(part, generator)
            kinds.append((asked > 0).long() + (asked > len(self.names)).long())
            wrong.append(self.network.answer_errors(self._seen(batch), answers).cpu().float())
        if not kinds:
            return (float("nan"),) * len(self.metrics)
        kind = torch.cat(kinds)
        errors = torch.cat(wrong)
        return tuple(float(errors[kind == i].mean()) for i in range(3))


def labels(folders: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Returns the labels of all frames of some folders, in the order of `dataset.load_clips`: (N, C, 3) and (N, C)."""
    parts = [
        dataset.load_arrays(path, ["points", "present"]) for folder in folders for path in dataset.files_of(folder)
    ]
    points, present = (np.concatenate([part[name] for part in parts]) for name in ("points", "present"))
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(present.astype(bool))


def sample_chunks(clips: dataset.Clips, horizon: int, seed: int) -> np.ndarray:
    """Returns up to `FIT_CHUNKS` random chunks (N, H, A) of the demonstrations that are trained on."""
    rows = torch.nonzero((clips.offset >= 0) & ~clips.held_out & (clips.step < clips.length)).flatten()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:FIT_CHUNKS]
    return clips.chunks_at(rows[order], [0], horizon)[0][:, 0].numpy()


def side(config: TrainConfig, network: ki.Ki, demos: dataset.Clips, rank: int, wait: Callable[[], Any]) -> Captions:
    """Returns the side corpus, after the network has learned what its tokens mean; no video raises ValueError.

    Args:
        config: Of the training; with `init`, tokens mean what they meant there.
        network: To be trained.
        demos: The demonstrations, which the action tokenizer is fitted on.
        rank, wait: Of this process, see `read_clips`.
    """
    folders = tuple(folder for folder in config.data if dataset.read_manifest(folder).corpus == "video")
    if not folders:
        raise ValueError(f"{', '.join(config.data)}: ki learns words from captioned video first (--corpus video)")
    _, clips = read_clips(replace(config, data=folders), rank, wait)
    if config.init:
        before = ki.from_dict(weight_files.read_weights(config.init_path, config.policy)[1]["config"])
        network.learn(before.fast, before.words)
    else:
        tokens = fast_tokenizer.fit(
            sample_chunks(demos, network.inputs.horizon, config.seed),
            ki.ACTION_ROWS,
            ki.SCALE,
        )
        network.learn(tokens, questions.Answers.of(network.inputs.points, clips.sentences).words)
    points, present = labels(folders)
    if len(points) != len(clips.latents):
        raise ValueError(f"{', '.join(folders)}: the stored latents do not fit the data; remove the latents.* folders")
    return Captions(network, clips, points, present, config.device)
