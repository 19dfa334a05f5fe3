"""Frames that were packed while an episode was played are those of the episode."""

from pathlib import Path

import numpy as np
import pytest

from tests.stubs import SMALL, LineSim, Steady
from wambench import tasks
from wambench.envs.episodes import episode_spec
from wambench.evaluation.frame_recorder import FrameRecorder
from wambench.evaluation.rollout import rollout
from wambench.interface import Episode, Observation, Outcome, canvas
from wambench.records import encode_episode, load_episode


def play(tape: FrameRecorder, index: int) -> Episode:
    tape.begin()
    return rollout(LineSim(SMALL), Steady(), episode_spec(tasks.find("LiftCube"), "seen", "none", index, 0), [tape])


def test_one_tape_serves_one_episode_after_another(tmp_path: Path) -> None:
    tape, path = FrameRecorder(SMALL.cameras), tmp_path / "episode.npz"
    for index in range(3):
        episode = play(tape, index)
        frames = tape.packed(len(episode.observations))
        assert frames is not None
        path.write_bytes(encode_episode(episode, SMALL.cameras, frames))
        on_tape = load_episode(path)
        path.write_bytes(encode_episode(episode, SMALL.cameras))
        afterwards = load_episode(path)
        assert len(on_tape.observations) == len(episode.observations) > 5
        for one, other, real in zip(on_tape.observations, afterwards.observations, episode.observations, strict=True):
            assert np.array_equal(canvas(one, SMALL.cameras), canvas(real, SMALL.cameras))
            assert np.array_equal(canvas(one, SMALL.cameras), canvas(other, SMALL.cameras))


def test_a_long_episode_of_large_frames_comes_back(tmp_path: Path) -> None:
    """More than one of the compressor's jobs, of frames that hardly compress."""
    rng, tape = np.random.default_rng(0), FrameRecorder(("one", "two"))
    seen = [
        Observation(i, {name: rng.integers(0, 256, (96, 96, 3), np.uint8) for name in ("one", "two")}, np.zeros(8))
        for i in range(40)
    ]
    for observation in seen:
        tape(None, Outcome((observation,), observation.step, 0.0, (), False, False, False, False))
    spec = episode_spec(tasks.find("LiftCube"), "seen", "none", 0, 0)
    episode = Episode(spec, "ok", "", 0.0, False, False, (), 39, 1.0, (), tuple(seen))
    path = tmp_path / "episode.npz"
    path.write_bytes(encode_episode(episode, ("one", "two"), tape.packed(40)))
    for one, real in zip(load_episode(path).observations, seen, strict=True):
        assert all(np.array_equal(one.images[name], real.images[name]) for name in real.images)


@pytest.mark.parametrize("more", [-1, 1])
def test_a_tape_of_something_else_is_not_used(more: int) -> None:
    tape = FrameRecorder(SMALL.cameras)
    assert tape.packed(len(play(tape, 0).observations) + more) is None


def test_nothing_seen_is_an_empty_tape() -> None:
    tape = FrameRecorder(SMALL.cameras)
    assert tape.packed(0) is not None
