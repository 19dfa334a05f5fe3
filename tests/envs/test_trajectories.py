"""Specs, physics and frames are the frozen ones, bit by bit, whatever the numpy generation and the Python.

What changes results on purpose raises a task's version; then `python -m tests.tools.trajectories >
tests/golden/trajectories.txt` freezes them anew.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tools import trajectories

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[1] / "golden" / "trajectories.txt"
LINES = dict(line.split(" ", 1) for line in GOLDEN.read_text().splitlines())


@pytest.mark.parametrize("task", trajectories.TASKS)
def test_an_expert_episode_is_the_frozen_one(task: str) -> None:
    specs, physics, frames = LINES[task].split()
    mine = dict(zip(("specs", "physics", "frames"), trajectories.hashes(task).split()[1:], strict=True))
    assert mine["specs"] == specs
    if trajectories.machine() != LINES["machine"]:
        pytest.skip(f"frozen on {LINES['machine']}, this is {trajectories.machine()}: only the specs are compared")
    assert mine["physics"] == physics, f"numpy {np.__version__}"
    if trajectories.renderer() != LINES["renderer"]:
        pytest.skip(f"frames are of {LINES['renderer']}, this is {trajectories.renderer()}: they are not compared")
    assert mine["frames"] == frames


def test_the_hashes_hold_the_states_and_frames_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trajectories, "EVERY", trajectories.EVERY + 1)
    specs, physics, frames = trajectories.hashes("PressButton").split()[1:]
    usual = LINES["PressButton"].split()
    assert specs == usual[0] and physics != usual[1] and frames != usual[2]
