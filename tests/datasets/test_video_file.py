"""Videos: every frame in its place, joined or alone, at any start."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.datasets.conftest import needs

pytestmark = needs("av", "pyarrow")
SIZE = (32, 48)


def shade(number: int) -> np.ndarray:
    return np.full((*SIZE, 3), 16 + 5 * number, np.uint8)


def film(path: Path, numbers: range) -> Path:
    from wambench.datasets.video_file import VideoWriter

    with VideoWriter(path, SIZE, 15) as video:
        for number in numbers:
            video.write(shade(number))
    return path


def test_frames_of_joined_videos_are_where_they_should_be(tmp_path: Path) -> None:
    from wambench.datasets.video_file import count_frames, join, read_frames

    parts = [film(tmp_path / f"{k}.mp4", numbers) for k, numbers in enumerate((range(7), range(7, 8), range(8, 21)))]
    whole = tmp_path / "whole.mp4"
    assert join(parts, whole, 15) == [7, 1, 13] and count_frames(whole) == 21
    for start, count in ((0, 21), (7, 1), (9, 4), (20, 1)):
        shown = [round(frame.mean()) for frame in read_frames(whole, start, count, 15)]
        np.testing.assert_allclose(shown, [16 + 5 * n for n in range(start, start + count)], atol=1.5)
    small = next(iter(read_frames(whole, 0, 1, 15, size=(16, 24))))
    assert small.shape == (16, 24, 3)
    with pytest.raises(ValueError, match="frame 21 is missing"):
        list(read_frames(whole, 18, 5, 15))


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = (film(tmp_path / f"{k}.mp4", range(9)) for k in range(2))
    assert one.read_bytes() == other.read_bytes()


def test_what_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    from wambench.datasets.video_file import count_frames

    with pytest.raises(OSError, match="No space left"):
        film(Path("/dev/full"), range(200))
    cut = film(tmp_path / "cut.mp4", range(30))
    cut.write_bytes(cut.read_bytes()[:600])
    with pytest.raises(ValueError, match=r"cut.mp4: damaged video"):
        count_frames(cut)
