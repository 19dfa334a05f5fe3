"""Progress in a log file: a line a minute at most, however fast episodes come."""

from __future__ import annotations

import io
import sys

import pytest

from wambench import progress_bar as module


class Clock:
    """A clock that goes on by itself: a tenth of a second each time it is read."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.1
        return self.now


def test_a_log_file_is_not_flooded(monkeypatch: pytest.MonkeyPatch) -> None:
    said, clock = io.StringIO(), Clock()
    monkeypatch.setattr(sys, "stderr", said)
    with module.progress_bar(total=6000, unit="episode") as bar:
        bar._time = clock  # type: ignore[attr-defined]
        bar.start_t = bar.last_print_t = clock.now
        started = clock.now
        for _ in range(6000):
            clock.now += 0.1
            bar.update()
        minutes = (clock.now - started) / 60
    lines = said.getvalue().splitlines()
    assert all(line.strip() for line in lines)
    assert minutes > 10 and 3 < len(lines) <= minutes + 3  # the first, the last, and one a minute


def test_nothing_is_shown_if_nothing_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    with module.progress_bar(total=3, disable=True) as bar:
        bar.update(3)
    assert said.getvalue() == ""
