"""The gallery shows the start and the end of every task that it is asked for."""

from pathlib import Path

import pytest
from matplotlib.image import imread

from wambench.records.figures import LARGEST
from wambench.suite import task_gallery

pytestmark = pytest.mark.slow


def test_gallery_is_a_figure_for_each_group_of_tasks(tmp_path: Path) -> None:
    paths = task_gallery.draw(tmp_path, ("PressButton", "PushCube", "PullBlock"))
    assert paths == [tmp_path / "tasks-seen.png", tmp_path / "tasks-unseen.png"]
    for path in paths:
        assert path.stat().st_size <= LARGEST
        assert imread(path).std() > 0.1  # something is on it


def test_start_and_end_differ() -> None:
    start, end = task_gallery._start_and_end("PushCube", 0)
    assert start.shape == end.shape == (*task_gallery.SIZE, 3)
    assert (start != end).any()


def test_an_end_that_is_not_reached_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from wambench.envs.tabletop import TabletopEnv

    monkeypatch.setattr(TabletopEnv, "expert_action", lambda env: env.action_space.low * 0.0)
    with pytest.raises(RuntimeError, match="the expert of PressButton failed in five scenes"):
        task_gallery._start_and_end("PressButton", 0)
