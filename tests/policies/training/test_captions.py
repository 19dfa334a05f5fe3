"""The insulated model's side corpus: its labels, its stage, and a training from folders to a policy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.policies.conftest import POINTS, observe
from wambench.policies.actions import fast_tokenizer
from wambench.policies.perception import scene
from wambench.policies.training import captions, dataset, train
from wambench.policies.training import flops as training_flops
from wambench.policies.training import vla as vla_training
from wambench.policies.training.config import TrainConfig
from wambench.policies.vla import base as vla
from wambench.policies.vla import knowledge_insulation as ki
from wambench.policies.vla import questions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(demos: Path, video: Path, encoder_file: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    out = tmp_path_factory.mktemp("weights") / "ki.safetensors"
    folders = str(demos), str(video)
    return TrainConfig("ki", "tiny", folders, str(out), encoder=str(encoder_file), steps=16, lr=3e-3, batch=16)


@pytest.fixture(scope="module")
def job(config: TrainConfig) -> vla_training.VlaJob:
    return vla_training.job(config, 0, lambda: None)


def side_of(job: vla_training.VlaJob) -> captions.Captions:
    assert isinstance(job.side, captions.Captions)
    return job.side


def test_answers_are_what_the_files_say(job: vla_training.VlaJob, video: Path) -> None:
    side = side_of(job)
    rows = torch.arange(len(side.points))
    asked, batch, answers = side.exchange(rows, torch.Generator().manual_seed(0))
    first, vocabulary = 0, side.kit.vocabulary
    for path in dataset.files_of(video):
        stored = dataset.load_arrays(path, ["points", "present", "instruction"])
        for frame in range(0, len(stored["points"]), 7):
            question = questions.questions(POINTS)[int(asked[first + frame])]
            said = [vocabulary[i] for i in answers[first + frame].tolist() if i >= 0]
            if question == questions.CAPTION:
                expected = str(stored["instruction"]).replace("the ", "").split()
            elif question.startswith("where"):
                item = [f"where is the {questions.words_of_point(p)}" for p in POINTS].index(question)
                cell = (stored["points"][frame, item] - np.array(questions.CORNER_M)) / questions.CELL_M
                place = np.clip(np.floor(cell).astype(int), 0, np.array(questions.CELLS) - 1)
                expected = [f"{axis}{i}" for axis, i in zip("xyz", place, strict=True)]
            else:
                expected = ["yes"]
            assert said == [*expected, "END"], question
        first += len(stored["points"])
    words = scene.encode_words([questions.questions(POINTS)[i] for i in asked[:9].tolist()], POINTS)
    assert torch.equal(batch.words.vectors[:9], words.vectors)


def test_words_come_first_and_alone(job: vla_training.VlaJob) -> None:
    model = job.model
    assert isinstance(model, ki.Ki)
    for progress, alone in ((0.0, True), (captions.FIRST, False)):
        job.progress = progress
        losses = dict(zip(job.losses, job.loss(model, torch.Generator().manual_seed(0)), strict=True))
        assert (losses["action"] == 0) == alone and (losses["fast"] == 0) == alone and losses["answer"] > 0
        model.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        acts = model.core.action_out_proj.weight.grad
        assert (acts is None or not acts.any()) == alone


def test_flops_are_those_of_both_stages(job: vla_training.VlaJob) -> None:
    mean, stages = training_flops.per_sample(job), []
    for progress in (0.0, 0.5):
        job.progress = progress
        with FlopCounterMode(display=False) as counter:
            torch.stack(job.loss(job.model, torch.Generator().manual_seed(0))).sum().backward()
        stages.append(counter.get_total_flops() / job.batch)
    assert 1.5 * stages[0] < stages[1]
    assert mean == pytest.approx(captions.FIRST * stages[0] + (1 - captions.FIRST) * stages[1], rel=0.1)


def test_tokens_are_fitted_on_what_is_trained_on(job: vla_training.VlaJob) -> None:
    model = job.model
    assert isinstance(model, ki.Ki) and model.fast is not None
    assert model.fast == fast_tokenizer.fit(captions.sample_chunks(job.clips, 16, 0), ki.ACTION_ROWS, ki.SCALE)
    assert set(model.words) == {"reach", "red", "blue", "cube"}


def test_from_folders_to_a_policy(config: TrainConfig) -> None:
    out = train.train(config)
    network, meta = vla.load("ki", out)
    assert isinstance(network, ki.Ki) and network.fast is not None and meta["corpus"] == "demos+video"
    assert 0.0 <= meta["val_where_error"] <= 1.0 and meta["flops"] > 0
    actor = ki.policy(str(out), encoder=config.encoder)
    actor.reset("reach the red cube", 0)
    plan = actor.act([observe(0, np.zeros((2, 3)), np.array([0.1, 0.1, 0.0]))])
    assert plan.actions.shape == (16, 7) and np.isfinite(plan.actions).all() and plan.frames is None
    again = vla_training.job(replace(config, init=str(out)), 0, lambda: None).model
    assert isinstance(again, ki.Ki) and again.fast == network.fast and again.words == network.words


def test_without_video_there_is_nothing_to_insulate(config: TrainConfig, demos: Path) -> None:
    with pytest.raises(ValueError, match="captioned video first"):
        vla_training.job(replace(config, data=(str(demos),)), 0, lambda: None)
