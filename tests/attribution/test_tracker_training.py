"""What the tracker is trained on: which episodes are held out, and a corpus that is too small."""

from pathlib import Path

import pytest

from wambench.attribution import tracker_training


def folder_of(path: Path, episodes: int) -> str:
    path.mkdir()
    for number in range(episodes):
        (path / f"PressButton.{number}.npz").touch()
    return str(path)


def test_a_corpus_that_is_too_small_is_named_before_anything_is_encoded(tmp_path: Path) -> None:
    small = folder_of(tmp_path / "small", 18)
    with pytest.raises(ValueError, match="18 episodes are too few to train the tracker; a folder needs at least 19"):
        tracker_training.check_episodes([small])
    tracker_training.check_episodes([folder_of(tmp_path / "enough", 19)])


def test_held_out_episodes_show_both_degraded_versions() -> None:
    held = [k for k in range(24) if tracker_training.is_held_out(k)]
    assert held == [6, 18] and {tracker_training.version_of(k) for k in held} == {1, 2}
    assert sum(tracker_training.version_of(k) == 1 for k in range(24)) == 12
