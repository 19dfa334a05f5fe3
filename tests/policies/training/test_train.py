"""Training end to end on the toy world: learns, resumes exactly, refuses what does not fit."""

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import safetensors.torch
import torch

from wambench.policies import weight_files
from wambench.policies.dreamzero import nano
from wambench.policies.dreamzero.policy import load_nano
from wambench.policies.perception import encoder
from wambench.policies.training import augmentation, dataset, loop, train
from wambench.policies.training import dreamzero as dreamzero_training
from wambench.policies.training.config import TrainConfig

pytestmark = pytest.mark.slow


def test_encoder_learns(encoder_file: Path) -> None:
    with Path(f"{encoder_file}.csv").open() as file:
        rows = list(csv.DictReader(file))
    _, meta = encoder.load(encoder_file)
    assert meta["corpus"] == "demos+renders" and set(meta["points_mm"]) == {"red_cube", "blue_cube", "hand"}
    assert 5.0 < meta["psnr_moving_db"] < 60.0
    judged = [row for row in rows if row["psnr_db"]]
    assert float(judged[-1]["psnr_db"]) > float(judged[0]["psnr_db"])
    assert float(rows[-1]["points"]) < float(rows[0]["points"])
    assert not Path(f"{encoder_file}.checkpoint").exists()


@pytest.fixture(scope="module")
def clips(encoder_file: Path, demos: Path, video: Path, dreamzero_file: Path) -> dataset.Clips:
    return dataset.load_clips([demos, video], weight_files.digest(encoder_file))


def test_latents_are_standardised(clips: dataset.Clips) -> None:
    values = clips.latents.float()
    assert values.mean(dim=(0, 2, 3)).abs().max() < 0.6 and 0.5 < float(values.std()) < 1.6


def test_clips(clips: dataset.Clips, demos: Path) -> None:
    frames = clips.frames_at(torch.tensor([0, 1, 20, 21]), [0, 8, 16])
    assert frames.tolist() == [[0, 4, 8], [1, 5, 9], [20, 20, 20], [21, 25, 29]]  # 21 frames an episode
    actions, executed, begun = clips.chunks_at(torch.tensor([3, 20]), [0, 16], 16)
    demo = dataset.load_arrays(dataset.files_of(demos)[0], ["actions"])["actions"]
    np.testing.assert_allclose(actions[0, 0], demo[6:22])
    assert torch.equal(actions, executed)  # the toy world has no noise
    assert begun.tolist() == [[True, True], [False, False]]
    last = actions[1, 0]
    assert not last[:, :6].any() and (last[:, 6] == demo[-1, 6]).all()
    assert 0 < int(clips.held_out.sum()) < len(clips.held_out)


def test_two_trainings_may_encode_one_corpus(
    encoder_file: Path, demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "disturbed", tmp_path / "alone"]
    for folder in folders:
        shutil.copytree(demos, folder, ignore=shutil.ignore_patterns("latents.*"))
    reader, digest, write = encoder.load(encoder_file)[0], weight_files.digest(encoder_file), np.savez
    dataset.encode_shards(folders[1], reader, digest)
    met: list[int] = []

    def write_while_another_does(file: IO[bytes], **arrays: np.ndarray) -> None:
        if not met:
            met.append(os.getpid())
            with monkeypatch.context() as other:
                other.setattr(os, "getpid", lambda: met[0] + 1)
                dataset.encode_shards(folders[0], reader, digest)
        write(file, **arrays)

    monkeypatch.setattr(np, "savez", write_while_another_does)
    dataset.encode_shards(folders[0], reader, digest)
    assert met and {path.suffix for path in dataset.latent_folder(folders[0], digest).iterdir()} == {".npz"}
    both = [dataset.load_clips([folder], digest).latents for folder in folders]
    assert torch.equal(both[0], both[1])


def test_video_has_neither_actions_nor_states(clips: dataset.Clips) -> None:
    video = torch.nonzero(~clips.known).flatten()
    assert len(video) == 26 * 21 and not clips.features[video].any()
    actions, executed, begun = clips.chunks_at(video[:1], [0], 16)
    assert not actions.any() and not executed.any() and bool(begun.all())
    assert clips.features[clips.known].abs().sum() > 0


def test_dreamzero_learns(dreamzero_file: Path) -> None:
    with Path(f"{dreamzero_file}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["action"]) < 0.8 * float(rows[0]["action"])
    judged = [row for row in rows if row["val_action_mse"]]
    assert all(np.isfinite(float(row[name])) for row in judged for name in dreamzero_training.DreamZeroJob.metrics)
    assert int(rows[-1]["samples"]) == 150 * 32


def test_training_can_start_from_a_file(tmp_path: Path, demos: Path, renders: Path, encoder_file: Path) -> None:
    out = tmp_path / "more.safetensors"
    config = TrainConfig(
        "encoder", "tiny", (str(demos), str(renders)), str(out), steps=1, lr=1e-9, init=str(encoder_file), batch=4
    )
    train.train(config)
    (a, before), (b, after) = (weight_files.read_weights(path, "encoder") for path in (encoder_file, out))
    assert after["init"]["sha256"] == weight_files.digest(encoder_file)
    assert after["init"]["command"] == before["command"] and after["samples"] == 4
    torch.testing.assert_close(a["stem.weight"], b["stem.weight"], atol=1e-3, rtol=1e-2)
    assert torch.equal(a["points_mean"], b["points_mean"])


class _Killed(Exception):
    pass


def test_resumed_run_equals_an_undisturbed_one(
    tmp_path: Path, demos: Path, encoder_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(
        "dreamzero",
        "tiny",
        (str(demos),),
        str(tmp_path / "a.safetensors"),
        encoder=str(encoder_file),
        steps=24,
        batch=4,
    )
    plain = TrainConfig.loop
    monkeypatch.setattr(TrainConfig, "loop", lambda self: replace(plain(self), checkpoint_s=0.0, log_every=5))
    train.train(config)
    step, other = loop.Weights.step, replace(config, out=str(tmp_path / "b.safetensors"))

    def dies(self: loop.Weights, gradient: torch.Tensor, lr: float, count: int) -> None:
        if count == 13:
            raise _Killed
        step(self, gradient, lr, count)

    monkeypatch.setattr(loop.Weights, "step", dies)
    with pytest.raises(_Killed):
        train.train(other)
    monkeypatch.setattr(loop.Weights, "step", step)
    train.train(other)
    a, b = (safetensors.torch.load_file(tmp_path / f"{name}.safetensors") for name in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)
    logs = [list(csv.reader((tmp_path / f"{name}.safetensors.csv").open())) for name in "ab"]
    assert [row[0] for row in logs[0]] == [row[0] for row in logs[1]]


def test_foreign_and_damaged_checkpoints_are_refused(tmp_path: Path, demos: Path, encoder_file: Path) -> None:
    out = tmp_path / "a.safetensors"
    config = TrainConfig("dreamzero", "tiny", (str(demos),), str(out), encoder=str(encoder_file), steps=2, batch=2)
    Path(f"{out}.checkpoint").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="damaged checkpoint"):
        train.train(config)
    model = nano.SmallDreamZero(nano.config_for("tiny", ("red_cube", "blue_cube", "hand"), (8, 6, 12)))
    weights = loop.Weights(model, config.loop(), torch.float32)
    weights.step(torch.ones_like(weights.master), 1e-3, 0)
    loop.save_checkpoint(Path(f"{out}.checkpoint"), weights, loop.TrainState(1), "another")
    with pytest.raises(ValueError, match="different configuration"):
        train.train(config)


def test_two_workers_train(tmp_path: Path, demos: Path, encoder_file: Path) -> None:
    out = tmp_path / "two.safetensors"
    config = TrainConfig(
        "dreamzero", "tiny", (str(demos),), str(out), encoder=str(encoder_file), steps=6, batch=4, workers=2
    )
    train.train(config)
    assert weight_files.read_weights(out, "dreamzero")[1]["samples"] == 6 * 4 * 2


def test_bad_requests_are_named(tmp_path: Path, demos: Path, encoder_file: Path) -> None:
    out = str(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="did you mean 'dreamzero'"):
        TrainConfig("dreamzro", "tiny", (str(demos),), out, steps=1)
    with pytest.raises(ValueError, match="no config 'huge'"):
        TrainConfig("dreamzero", "huge", (str(demos),), out, steps=1)
    with pytest.raises(ValueError, match="either minutes or steps"):
        TrainConfig("dreamzero", "tiny", (str(demos),), out)
    with pytest.raises(ValueError, match=r"no manifest\.json"):
        train.train(TrainConfig("encoder", "tiny", (str(tmp_path),), out, steps=1))


def test_damaged_data_is_named(tmp_path: Path, demos: Path, encoder_file: Path) -> None:
    folder = tmp_path / "demos"
    folder.mkdir()
    shutil.copy(demos / "manifest.json", folder)
    first = dataset.files_of(demos)[0]
    (folder / first.name).write_bytes(first.read_bytes()[:5000])
    config = TrainConfig("dreamzero", "tiny", (str(folder),), str(tmp_path / "x"), encoder=str(encoder_file), steps=1)
    with pytest.raises(ValueError, match=f"{first.name}: damaged"):
        train.train(config)
    (folder / "manifest.json").write_text(json.dumps({"points": ["sphere"], "corpus": "demos"}))
    with pytest.raises(ValueError, match="key points"):
        train.train(config)


def test_frames_are_read_in_place(demos: Path) -> None:
    path = dataset.files_of(demos)[0]
    stored, frames = dataset.locate_frames(path), np.load(path)["frames"]
    np.testing.assert_array_equal(stored.row(3), frames[3])
    np.testing.assert_array_equal(stored.all(), frames)


def test_undisturbed_moments(clips: dataset.Clips) -> None:
    assert clips.undisturbed(16).all()  # the toy world has no noise
    executed = clips.executed.clone()
    first = int(clips.offset[0])
    executed[first + 20] += 0.1
    quiet = replace(clips, executed=executed).undisturbed(16)
    episode = clips.offset == first
    steps = clips.step[episode & ~quiet]
    assert steps.tolist() == [step for step in clips.step[episode].tolist() if step <= 20 < step + 16]
    assert quiet[~episode].all()


def test_anchors_are_undisturbed_unless_all_are_wanted(
    clips: dataset.Clips, demos: Path, encoder_file: Path, dreamzero_file: Path
) -> None:
    executed = clips.executed.clone()
    executed[int(clips.offset[0]) + 20] += 0.1
    noisy = replace(clips, executed=executed)
    quiet, model = noisy.undisturbed(16), load_nano(dreamzero_file)[0]
    config = TrainConfig("dreamzero", "tiny", (str(demos),), "x", encoder=str(encoder_file), steps=1)
    rows = {
        anchors: dreamzero_training.DreamZeroJob(replace(config, anchors=anchors), model, noisy).train_rows[0]
        for anchors in ("undisturbed", "all")
    }
    assert quiet[rows["undisturbed"]].all() and not quiet[rows["all"]].all()
    assert len(rows["all"]) == len(rows["undisturbed"]) + int((~quiet & ~noisy.held_out & (noisy.offset >= 0)).sum())
    with pytest.raises(ValueError, match="--anchors all"):
        noisy.split(torch.zeros_like(quiet))
    with pytest.raises(ValueError, match="unknown anchors 'quiet'"):
        replace(config, anchors="quiet")


def test_useful_samples_are_counted(dreamzero_file: Path) -> None:
    config = TrainConfig("dreamzero", "nano", ("d",), "x", steps=1, video_share=0.2)
    how = augmentation.Augmentation()
    share = dreamzero_training.useful_share(config, how)
    assert share == pytest.approx((0.8 + 0.15 / 2 + 0.05 / 4) * 0.8 * 0.9 * 0.88)
    assert dreamzero_training.useful_share(replace(config, ablation="bidirectional"), how) > share
    generator = torch.Generator().manual_seed(0)
    drawn = [dreamzero_training.draw_chunks(generator) for _ in range(2000)]
    assert np.mean(np.array(drawn) == 1) == pytest.approx(0.8, abs=0.03) and set(drawn) == {1, 2, 4}
    meta = weight_files.read_weights(dreamzero_file, "dreamzero")[1]
    assert 0.4 < meta["useful_samples"] / meta["samples"] < 0.7


def test_rows_are_drawn_from_both_parts_in_their_shares() -> None:
    parts = (torch.arange(10), torch.arange(100, 120))
    drawn = dataset.draw_rows(parts, 0.25, 4000, torch.Generator().manual_seed(0))
    assert float((drawn >= 100).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert set(drawn.tolist()) == {*range(10), *range(100, 120)}
    assert int(dataset.draw_rows(parts[:1], 0.25, 100, torch.Generator()).max()) < 10


def test_shipped_weights_are_started_from_by_name() -> None:
    name = weight_files.ENCODERS[0]
    config = TrainConfig("dreamzero", "nano", ("d",), "o", steps=1, encoder=name, init=name)
    assert config.encoder_path == config.init_path == weight_files.packaged(name)
    assert TrainConfig("dreamzero", "nano", ("d",), "o", steps=1).encoder_path == weight_files.packaged(
        weight_files.ENCODER
    )
