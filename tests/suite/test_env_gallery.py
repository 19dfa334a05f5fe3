"""The harness with the real worlds: what stubs cannot show."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.evaluation.test_run import recorded
from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import run
from wambench.records import load_episode

pytestmark = pytest.mark.slow

Maker = Callable[..., RunConfig]


def test_real_results_do_not_depend_on_the_number_of_workers(config: Maker) -> None:
    values = {"policy": "expert", "episodes": 1, "split": "unseen-envs"}
    one, two = config(out="one", **values), config(out="two", workers=2, **values)
    rows = run(one)
    run(two)
    assert {(row.status, row.progress) for row in rows} == {("ok", 1.0)}
    assert recorded(one.folder) == recorded(two.folder)  # every frame, state and snapshot


def test_real_episode_is_recorded_at_the_video_rate(config: Maker) -> None:
    it = config("expert", tasks=("PressButton",), episodes=1)
    run(it)
    episode = load_episode(it.folder / "episodes" / "PressButton-v1.none.0.npz")
    steps = [observation.step for observation in episode.observations]
    assert steps == [*range(0, episode.steps, 4), episode.steps]
    assert [chunk.step for chunk in episode.chunks] == list(range(0, episode.steps, 4))
