from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import zstandard

from tests.stubs import SMALL, LineSim, Steady
from wambench import records, tasks
from wambench.envs.episodes import episode_spec
from wambench.evaluation.rollout import rollout
from wambench.interface import Episode, canvas
from wambench.records import (
    HEADER,
    Row,
    encode_episode,
    episode_file,
    from_line,
    load,
    load_episode,
    read_rows,
    to_line,
    write_whole,
)

ROW = Row(
    policy="noop",
    split="seen",
    task="LiftCube-v0",
    verb="lift",
    novelty="seen",
    factor="none",
    episode=3,
    seed=17,
    spec_hash="0123456789abcdef",
    prompt="lift the red cube",
    status="ok",
    progress=1 / 3,
    success_end=False,
    success_ever=True,
    stages="reach;grasp",
    steps=160,
    queries=10,
    latency_p50_s=0.012345678,
    latency_p95_s=0.02,
    wall_s=1.5,
    error="",
)


def test_columns_are_those_of_a_row() -> None:
    assert tuple(field.name for field in dataclasses.fields(Row)) == records.NAMES
    assert HEADER == (
        "policy,split,task,verb,novelty,factor,episode,seed,spec_hash,prompt,status,progress,success_end,success_ever,"
        "stages,steps,queries,latency_p50_s,latency_p95_s,wall_s,error,"
        "execution,latency,stale_ratio,holds,effective_hz,boundary_jump,jerk,progress_wall,"
        "video_frames,video_error,kept_error,named,first_touched,nearest\n"
    )


@pytest.mark.parametrize("columns", records.EARLIER)
def test_rows_of_earlier_versions_still_load(tmp_path: Path, columns: int) -> None:
    header, line = (",".join(text.rstrip("\n").split(",")[:columns]) + "\n" for text in (HEADER, to_line(ROW)))
    path = tmp_path / "episodes.csv"
    path.write_text(header + line)
    assert read_rows(path) == [from_line(to_line(ROW))]
    config = {"tasks": ["LiftCube"], "factors": ["none"], "episodes": 4}
    (tmp_path / "run.json").write_text(json.dumps({"config": config}))
    with records.RunFolder(tmp_path, config) as folder:  # continued by this version
        assert folder.rows[ROW.key].execution == "sync"
    assert path.read_text() == HEADER + to_line(ROW)
    path.write_text(header + to_line(ROW))
    with pytest.raises(ValueError, match=f"line 2: expected {columns} fields, found 35"):
        read_rows(path)


def test_a_row_survives_its_line() -> None:
    again = from_line(to_line(ROW))
    assert again == dataclasses.replace(ROW, progress=0.333333, latency_p50_s=0.012346)
    assert to_line(again) == to_line(ROW)


@pytest.mark.parametrize(
    "text", ['a "quoted", b', "two\nlines\r\n\tand\x85more\u2028", "nul\0", "\udcff", "  ", "=1;é€"]
)
def test_any_text_stays_in_one_line(text: str) -> None:
    line = to_line(dataclasses.replace(ROW, error=text))
    assert line.count("\n") == 1 and line.encode()
    again = from_line(line)
    assert to_line(again) == line
    assert again.key == ROW.key


def test_what_is_not_known_stays_unknown() -> None:
    again = from_line(to_line(dataclasses.replace(ROW, progress=math.nan)))
    assert math.isnan(again.progress)


def test_rows_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    path.write_text(HEADER + to_line(ROW) + to_line(ROW)[:50])
    assert read_rows(path, torn=True) == [from_line(to_line(ROW))]
    with pytest.raises(ValueError, match="line 3: the line is cut off"):
        read_rows(path)
    path.write_bytes(HEADER.encode() + b"\xff\n")
    with pytest.raises(ValueError, match="damaged"):
        read_rows(path)


def _run(folder: Path, *rows: Row) -> Path:
    folder.mkdir()
    (folder / "episodes.csv").write_text(HEADER + "".join(map(to_line, rows)))
    return folder


def test_load_is_typed_and_does_not_depend_on_the_order_of_the_runs(tmp_path: Path) -> None:
    one = _run(tmp_path / "one", ROW, dataclasses.replace(ROW, episode=10, error="NA"))
    two = _run(tmp_path / "two", dataclasses.replace(ROW, policy="expert", progress=math.nan))
    frame = load([one, two])
    assert frame.equals(load([two / "episodes.csv", one, two]))
    assert list(frame.columns) == [*records.NAMES, "weights"]
    assert {column.name: str(frame[column.name].dtype) for column in records.COLUMNS} == {
        column.name: column.dtype for column in records.COLUMNS
    }
    assert list(frame["episode"]) == [3, 3, 10] and list(frame["error"]) == ["", "", "NA"]
    assert len(load([_run(tmp_path / "empty")])) == 0


def test_a_file_that_a_spreadsheet_saved_loads(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    lines = (HEADER + to_line(ROW)).replace("True", "TRUE").replace("False", "FALSE").replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert read_rows(path) == [from_line(to_line(ROW))] and len(load([path])) == 1
    config = {"tasks": ["LiftCube"], "factors": ["none"], "episodes": 4}
    (tmp_path / "run.json").write_text(json.dumps({"config": config}))
    with records.RunFolder(tmp_path, config) as folder:
        assert list(folder.rows) == [ROW.key]
    assert path.read_text() == HEADER + to_line(ROW), "continuing it brings back its form"


def test_the_same_outcome_counts_once(tmp_path: Path) -> None:
    told: list[str] = []
    one, two = _run(tmp_path / "one", ROW), _run(tmp_path / "two", dataclasses.replace(ROW, wall_s=9.0))
    assert len(load([one, two], told.append)) == 1
    assert told == ["1 episodes are there more than once, with the same outcome: each counts once"]


def test_runs_are_found_one_folder_deeper_and_the_rest_is_left_out(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "reference").mkdir()
    one, two = _run(tmp_path / "mine", ROW), _run(tmp_path / "reference" / "theirs", ROW)
    (tmp_path / "figures").mkdir()
    (tmp_path / "README.md").write_text("")
    assert records.find_runs(sorted(tmp_path.iterdir()), told.append) == [one, two]
    assert told == [f"{tmp_path / name} is no run: left out" for name in ("README.md", "figures")]
    assert records.find_runs([one / "episodes.csv"]) == [one / "episodes.csv"]
    with pytest.raises(ValueError, match=r"no run at .*figures"):
        records.find_runs([tmp_path / "figures"])
    with pytest.raises(ValueError, match=r"no run at .*missing"):
        records.find_runs([one, tmp_path / "missing"])


def test_load_refuses_what_it_cannot_tell_apart(tmp_path: Path) -> None:
    one, two = _run(tmp_path / "one", ROW), _run(tmp_path / "two", dataclasses.replace(ROW, progress=0.5))
    with pytest.raises(ValueError, match="both hold episode 3 of LiftCube-v0"):
        load([one, two])
    with pytest.raises(ValueError, match="no run at"):
        load([tmp_path / "missing"])


@pytest.fixture
def episode() -> Episode:
    spec = episode_spec(tasks.find("LiftCube"), "seen", "none", 0, 0)
    return rollout(LineSim(SMALL), Steady(), spec)


def test_an_episode_survives_its_file(episode: Episode, tmp_path: Path) -> None:
    path = tmp_path / "episode.npz"
    path.write_bytes(encode_episode(episode, SMALL.cameras))
    again = load_episode(path)
    for name in ("spec", "status", "error", "progress", "success_end", "success_ever", "stages", "steps", "wall_s"):
        assert getattr(again, name) == getattr(episode, name)
    assert len(again.observations) == len(episode.observations) and len(again.chunks) == len(episode.chunks)
    for mine, theirs in zip(again.observations, episode.observations, strict=True):
        assert mine.step == theirs.step and list(mine.images) == list(SMALL.cameras)
        assert np.array_equal(canvas(mine, SMALL.cameras), canvas(theirs, SMALL.cameras))
        assert np.array_equal(mine.state, theirs.state)
    for chunk, other in zip(again.chunks, episode.chunks, strict=True):
        assert (chunk.step, chunk.state, chunk.latency_s) == (other.step, other.state, other.latency_s)
        assert chunk.plan.execute == other.plan.execute == 8
        assert (chunk.delay, chunk.progress) == (other.delay, other.progress)
        for array, same in (
            (chunk.executed, other.executed),
            (chunk.plan.actions, other.plan.actions),
            (chunk.plan.frames, other.plan.frames),
            (chunk.plan.frame_steps, other.plan.frame_steps),
        ):
            assert array is not None and same is not None
            assert array.dtype == same.dtype and np.array_equal(array, same)


def same(one: Episode, other: Episode) -> bool:
    """Returns whether two episodes hold the same, whatever the times."""
    files = [encode_episode(_timeless(episode), SMALL.cameras) for episode in (one, other)]
    return files[0] == files[1]


def _timeless(episode: Episode) -> Episode:
    chunks = tuple(dataclasses.replace(chunk, latency_s=0.0, progress=0.0) for chunk in episode.chunks)
    return dataclasses.replace(episode, wall_s=0.0, chunks=chunks)


def test_the_first_format_can_still_be_read() -> None:
    """The file was written before frames were packed by Zstandard; its episode is played again here."""
    stored = load_episode(Path(__file__).parents[1] / "golden" / "episode-format-1.npz")
    assert same(stored, rollout(LineSim(SMALL), Steady(), stored.spec))


def test_a_format_of_the_future_is_refused(episode: Episode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "episode.npz"
    with monkeypatch.context() as patch:
        patch.setattr(episode_file, "FORMAT", 3)
        path.write_bytes(encode_episode(episode, SMALL.cameras))
    with pytest.raises(ValueError, match=r"episode\.npz: .*newer wambench: format 3"):
        load_episode(path)


def test_a_file_needs_no_pickle_and_names_its_shapes(episode: Episode, tmp_path: Path) -> None:
    path = tmp_path / "episode.npz"
    path.write_bytes(encode_episode(episode, SMALL.cameras))
    with np.load(path, allow_pickle=False) as file:
        meta = json.loads(file["meta"].tobytes())
        frames = zstandard.ZstdDecompressor().decompress(file["frames"].tobytes())
    assert meta["format"] == 2 and meta["shapes"]["frames"] == [len(episode.observations), 8, 16, 3]
    assert np.frombuffer(frames, np.uint8).reshape(meta["shapes"]["frames"])[3].tolist() == (
        canvas(episode.observations[3], SMALL.cameras).tolist()
    )


def test_an_episode_without_anything_survives_its_file(episode: Episode, tmp_path: Path) -> None:
    bare = dataclasses.replace(episode, status="env_error", chunks=(), observations=(), stages=())
    path = tmp_path / "episode.npz"
    path.write_bytes(encode_episode(bare, SMALL.cameras))
    assert load_episode(path) == bare


def test_a_plan_without_frames_stays_without(episode: Episode, tmp_path: Path) -> None:
    chunks = tuple(
        dataclasses.replace(c, plan=dataclasses.replace(c.plan, frames=None, frame_steps=None)) if i % 2 else c
        for i, c in enumerate(episode.chunks)
    )
    path = tmp_path / "episode.npz"
    path.write_bytes(encode_episode(dataclasses.replace(episode, chunks=chunks), SMALL.cameras))
    assert [chunk.plan.frames is None for chunk in load_episode(path).chunks] == [False, True, False, True, False]


def test_declared_hands_survive_the_file(episode: Episode, tmp_path: Path) -> None:
    hands = [np.full((2, 4), float(i)) if i % 2 else None for i in range(len(episode.chunks))]
    chunks = tuple(
        dataclasses.replace(chunk, plan=dataclasses.replace(chunk.plan, frame_hands=hand))
        for chunk, hand in zip(episode.chunks, hands, strict=True)
    )
    path = tmp_path / "episode.npz"
    path.write_bytes(encode_episode(dataclasses.replace(episode, chunks=chunks), SMALL.cameras))
    for chunk, hand in zip(load_episode(path).chunks, hands, strict=True):
        again = chunk.plan.frame_hands
        assert (again is None) == (hand is None)
        assert again is None or np.array_equal(again, np.asarray(hand))


def test_a_damaged_episode_is_named(episode: Episode, tmp_path: Path) -> None:
    content = encode_episode(episode, SMALL.cameras)
    path = tmp_path / "episode.npz"
    for damaged in (content[:-40], content[:200] + b"\xff" * 40 + content[240:], b"nothing", b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"episode\.npz: damaged"):
            load_episode(path)


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, "before")
    with pytest.raises(TypeError):
        write_whole(path, 3)  # type: ignore[arg-type]
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_interrupt_while_syncing_keeps_the_whole_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.csv"
    records.append(path, b"one\n")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        records.append(path, b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
