"""Exports, read by pyarrow, pandas and PyAV alone: every number and picture is where LeRobot's readers look for it."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.conftest import needs
from tests.datasets.reading import assert_same, episodes, info, psnr

pytestmark = [pytest.mark.slow, needs("av", "pyarrow")]


@pytest.fixture(scope="module")
def expected(demos: Path) -> list[Any]:
    return episodes(demos, (256, 256))


def test_numbers_of_v30_are_those_of_the_demonstrations(v30: Path, demos: Path) -> None:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(v30 / "data/chunk-000/file-000.parquet")
    columns = {name: np.array(table.column(name).to_pylist()) for name in table.column_names}
    assert info(v30)["total_frames"] == len(table) and info(v30)["total_episodes"] == 4
    np.testing.assert_array_equal(columns["index"], np.arange(len(table)))
    for number, path in enumerate(sorted(demos.glob("*.npz"))):
        own = columns["episode_index"] == number
        with np.load(path) as stored:
            count = len(stored["actions"])
            assert own.sum() == count + 1
            np.testing.assert_array_equal(columns["observation.state"][own].astype(np.float32), stored["states"])
            for name, source in (("action", "actions"), ("executed", "executed")):
                found = columns[name][own].astype(np.float32)
                np.testing.assert_array_equal(found[:-1], stored[source])
                assert not found[-1, :-1].any() and found[-1, -1] == stored["executed"][-1, -1]
        np.testing.assert_array_equal(columns["frame_index"][own], np.arange(count + 1))
        np.testing.assert_allclose(columns["timestamp"][own], np.arange(count + 1) / 20, atol=1e-6)
        assert columns["next.done"][own].tolist() == [False] * count + [True]
        assert columns["progress"][own][-1] == 1.0 and columns["success"][own][-1]
        np.testing.assert_allclose(columns["next.reward"][own].sum(), 1.0 - columns["progress"][own][0], atol=1e-6)


def test_pictures_are_those_of_the_simulator(v30: Path, expected: list[Any]) -> None:
    import pandas

    from wambench.datasets.video_file import read_frames

    table = pandas.read_parquet(v30 / "meta/episodes/chunk-000/file-000.parquet")
    for camera in ("agentview", "wrist"):
        key = f"observation.images.{camera}"
        path = v30 / f"videos/{key}/chunk-000/file-000.mp4"
        for number, rows in enumerate(expected):
            first = round(table[f"videos/{key}/from_timestamp"][number] * 20)
            assert round(table[f"videos/{key}/to_timestamp"][number] * 20) == first + len(rows)
            shown = list(read_frames(path, first, len(rows), 20))
            assert min(psnr(a, row.images[camera]) for a, row in zip(shown, rows, strict=True)) >= 35.0
            other = expected[(number + 1) % len(expected)][0].images[camera]
            assert psnr(shown[0], other) < 30.0  # the measure tells frames apart


def test_statistics_are_those_of_the_rows(v21: Path, demos: Path) -> None:
    stats = json.loads((v21 / "meta/stats.json").read_text())
    expected = episodes(demos, (96, 96))
    states = np.concatenate([[row.state for row in rows] for rows in expected]).astype(float)
    own = stats["observation.state"]
    np.testing.assert_allclose(own["mean"], states.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(own["std"], states.std(axis=0), atol=1e-9)
    np.testing.assert_allclose(own["q99"], np.quantile(states, 0.99, axis=0), atol=1e-7)
    assert own["count"] == [len(states)]
    pixels = np.stack([row.images["wrist"] for rows in expected for row in rows]) / 255.0
    own = stats["observation.images.wrist"]
    np.testing.assert_allclose(np.ravel(own["mean"]), pixels.mean(axis=(0, 1, 2)), atol=1e-9)
    np.testing.assert_allclose(np.ravel(own["std"]), pixels.std(axis=(0, 1, 2)), atol=1e-9)
    np.testing.assert_allclose(np.ravel(own["q10"]), np.quantile(pixels, 0.1, axis=(0, 1, 2)), atol=1 / 255)
    assert np.shape(own["max"]) == (3, 1, 1)


def test_videos_seek_everywhere(v30: Path) -> None:
    import av

    with av.open(str(v30 / "videos/observation.images.wrist/chunk-000/file-000.mp4")) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        packets = [packet for packet in film.demux(stream) if packet.pts is not None]
        assert stream.time_base is not None
        times = [(packet.pts or 0) * stream.time_base * 20 for packet in packets]
        assert times == list(range(len(packets))) and len(packets) == info(v30)["total_frames"]
        keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        assert max(np.diff(keys)) <= 2 and keys[0] == 0
    content = (v30 / "videos/observation.images.wrist/chunk-000/file-000.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # the index comes first


def test_tasks_are_the_index_of_their_table(v30: Path) -> None:
    import pandas

    table = pandas.read_parquet(v30 / "meta/tasks.parquet")
    assert table.index.name == "task" and table["task_index"].tolist() == [0, 1]
    assert table.index.tolist() == ["lift the red cube", "press the button"]


def test_v21_has_a_file_for_each_episode(v21: Path, demos: Path) -> None:
    import pyarrow.parquet

    values = info(v21)
    assert values["codebase_version"] == "v2.1" and values["total_videos"] == 8 and values["total_chunks"] == 1
    lengths = [json.loads(line) for line in (v21 / "meta/episodes.jsonl").read_text().splitlines()]
    assert sum(line["length"] for line in lengths) == values["total_frames"]
    first = pyarrow.parquet.read_table(v21 / "data/chunk-000/episode_000000.parquet")
    assert set(first.column_names) == {name for name, f in values["features"].items() if f["dtype"] != "video"}
    stats = [json.loads(line) for line in (v21 / "meta/episodes_stats.jsonl").read_text().splitlines()]
    assert set(stats[0]["stats"]["action"]) == {"min", "max", "mean", "std", "count"}
    assert stats[3]["stats"]["index"]["max"] == [values["total_frames"] - 1]
    second = pyarrow.parquet.read_table(v21 / "data/chunk-000/episode_000001.parquet")
    assert second.column("index")[0].as_py() == lengths[0]["length"]


def test_the_card_is_one_that_the_hub_reads(v30: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.DatasetCard.load(v30 / "README.md")
    assert card.data.license == "mit" and "LeRobot" in card.data.tags
    assert card.data.configs == [{"config_name": "default", "data_files": "data/*/*.parquet"}]
    assert "| LiftCube-v1 | 2 | 2 | 1.000 |" in card.text and "wambench export demos" in card.text


def test_modality_cuts_state_and_action_without_gaps(v21: Path) -> None:
    modality = json.loads((v21 / "meta/modality.json").read_text())
    for kind, length in (("state", 8), ("action", 7)):
        ends = [(part["start"], part["end"]) for part in modality[kind].values()]
        assert ends[0][0] == 0 and ends[-1][1] == length
        assert all(a[1] == b[0] for a, b in itertools.pairwise(ends))
    assert list(modality["state"]) == ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
    assert modality["video"]["wrist_image"] == {"original_key": "observation.images.wrist"}
    for key in modality["annotation"]:
        assert info(v21)["features"][f"annotation.{key}"]["dtype"] == "int64"


def test_actions_of_a_dataset_lead_to_the_same_end(v30: Path) -> None:
    """The actions are read from the dataset alone, and played from the recorded specs."""
    import pyarrow.parquet

    from wambench import registration
    from wambench.interface import EpisodeSpec

    table = pyarrow.parquet.read_table(v30 / "data/chunk-000/file-000.parquet")
    index = table.column("episode_index").to_numpy()
    actions = np.array(table.column("executed").to_pylist(), np.float32)
    progress = table.column("progress").to_numpy()
    lines = (v30 / "meta/wambench/episodes.jsonl").read_text().splitlines()
    assert len(lines) == 4
    for line in map(json.loads, lines):
        own = index == line["episode_index"]
        env = registration.make(line["task"])
        env.begin(EpisodeSpec.from_json(json.dumps(line["spec"])), render=False)
        reached = [env.advance(action).progress for action in actions[own]]
        env.close()
        np.testing.assert_allclose(reached[:-1], progress[own][1:], atol=1e-6)
        assert reached[-1] == line["progress"] == 1.0


def test_runs_have_progress_and_video_has_no_actions(played: Path, video: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    from wambench.datasets.export import ExportConfig, export
    from wambench.datasets.video_file import count_frames, read_frames
    from wambench.records import read_rows

    run = export(ExportConfig((played,), tmp_path / "run", image_size=(32, 32)))
    rows = read_rows(played / "episodes.csv")
    table = pyarrow.parquet.read_table(run / "data/chunk-000/file-000.parquet")
    assert len(table) == sum(row.steps + 1 for row in rows)
    ends = np.flatnonzero(table.column("next.done").to_numpy(zero_copy_only=False))
    np.testing.assert_allclose(table.column("progress").to_numpy()[ends], [row.progress for row in rows], atol=1e-6)
    film = export(ExportConfig((video,), tmp_path / "video"))
    assert info(film)["fps"] == 10 and "action" not in info(film)["features"]
    path = next(iter(video.glob("*.npz")))
    with np.load(path) as stored:
        kept = stored["frames"][stored["frame_steps"] % 2 == 0]
    shown = film / "videos/observation.images.wrist/chunk-000/file-000.mp4"
    assert count_frames(shown) == len(kept) == info(film)["total_frames"]
    for frame, truth in zip(read_frames(shown, 0, len(kept), 10), kept, strict=True):
        assert psnr(frame, truth[:, 96:].repeat(2, axis=0).repeat(2, axis=1)) >= 35.0


def test_an_interrupted_export_ends_with_the_same_bytes(
    demos: Path, v21: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wambench.datasets import episode_files, layouts
    from wambench.datasets import export as module

    config = module.ExportConfig((demos,), tmp_path / "dataset", format="lerobot-v2.1", image_size=(96, 96))
    write, assemble = episode_files.write_episode, layouts._v21

    def full(stage: Path, schema: Any, moments: Any, place: dict[str, int], about: dict[str, Any]) -> None:
        if place["episode_index"] == 2:
            next(iter(moments))
            raise OSError(28, "No space left on device", "film")
        write(stage, schema, moments, place, about)

    def killed(plan: Any, stage: Path, target: Path) -> None:
        assemble(plan, stage, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(episode_files, "write_episode", full)
        with pytest.raises(OSError, match="No space"):
            module.export(config)
    assert not config.out.exists()
    with monkeypatch.context() as patch:
        patch.setattr(layouts, "_v21", killed)
        with pytest.raises(KeyboardInterrupt):
            module.export(config)
    assert not config.out.exists()
    module.export(config)
    assert_same(config.out, v21)
    assert not config.out.with_name("dataset.partial").exists()
    said: list[str] = []
    module.export(config, said.append)
    assert said == [f"{config.out} is complete already"]


def test_wrong_input_is_named_before_anything_is_written(demos: Path, v21: Path, video: Path, tmp_path: Path) -> None:
    from wambench.datasets.export import ExportConfig, export

    def refused(said: str, *data: Path, **values: Any) -> None:
        with pytest.raises(ValueError, match=said):
            export(ExportConfig(data, **{"out": tmp_path / "out", **values}))
        assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()

    other, damaged, old = (tmp_path / name for name in ("other", "damaged", "old"))
    for folder in (other, damaged, old):
        shutil.copytree(demos, folder)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["spec"]["gripper"] = "close_negative"
    (other / "manifest.json").write_text(json.dumps(manifest))
    victim = damaged / "PressButton.1.npz"
    victim.write_bytes(victim.read_bytes()[:-2000])
    with np.load(old / "LiftCube.0.npz") as stored:
        arrays = dict(stored)
    arrays["spec"] = np.array(str(arrays["spec"]).replace("LiftCube-v1", "LiftCube-v0"))
    np.savez(old / "LiftCube.0.npz", **arrays)
    (tmp_path / "renders").mkdir()
    (tmp_path / "renders" / "manifest.json").write_text(json.dumps({**manifest, "corpus": "renders"}))
    refused("no such folder", tmp_path / "nothing")
    refused("neither manifest.json nor episodes.csv", tmp_path)
    refused("is a LeRobot dataset already", v21)
    refused("holds renders", tmp_path / "renders")
    refused("gripper 'close_positive' there and 'close_negative' here", demos, other)
    refused("has actions True there and False here", demos, video)
    refused("PressButton.1.npz: damaged episode", damaged)
    refused("LiftCube.0.npz: recorded with LiftCube version 0", old)
    refused("did you mean 'LiftCube'", demos, tasks=("LiftCub",))
    refused("did you mean 'lerobot-v3.0'", demos, format="lerobot-v3")
    refused("must be even", demos, image_size=(97, 96))
    refused("cannot be rendered again", video, image_size=(256, 256))
    refused("no export of wambench", demos, out=demos)


def test_an_episode_that_plays_otherwise_is_no_silent_change(demos: Path, tmp_path: Path) -> None:
    from wambench.datasets.export import ExportConfig, export

    with np.load(demos / "LiftCube.0.npz") as stored:
        arrays = dict(stored)
    (tmp_path / "demos").mkdir()
    shutil.copy(demos / "manifest.json", tmp_path / "demos")
    arrays["executed"][:10] += 0.2
    np.savez(tmp_path / "demos" / "LiftCube.0.npz", **arrays)
    with pytest.raises(ValueError, match=r"LiftCube.0.npz: played again, it is 0\.0\d+ off at step \d+"):
        export(ExportConfig((tmp_path / "demos",), tmp_path / "out", image_size=(32, 32)))
    assert not (tmp_path / "out").exists()


def test_several_workers_make_the_same_bytes(demos: Path, v21: Path, tmp_path: Path) -> None:
    from wambench.datasets.export import ExportConfig, export

    config = ExportConfig((demos,), tmp_path / "dataset", format="lerobot-v2.1", image_size=(96, 96), workers=2)
    assert_same(export(config), v21)
