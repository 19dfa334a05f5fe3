from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from tests.stubs import Steady, line_sim
from wambench import cli, records, registration, tasks
from wambench.attribution import filmstrips, table
from wambench.attribution import plots as attribution_plots
from wambench.attribution.table import AttributionRow
from wambench.envs.episodes import episode_spec
from wambench.evaluation.config import RunConfig
from wambench.evaluation.rollout import rollout
from wambench.evaluation.run import run
from wambench.interface import ControlConvention, canvas

pytestmark = pytest.mark.slow

FAILED: dict[str, Any] = {"own_own": 0.5, "oracle_own": 0.9, "own_oracle": 0.6, "oracle_oracle": 1.0}


class Slow(Steady):
    """Never reaches the end."""

    def __init__(self) -> None:
        super().__init__(speed=0.3)


def attributed(folder: Path, **values: Any) -> list[AttributionRow]:
    """Writes and returns an attribution of all failed episodes of a run: 0.4 of 0.5 lost to video, 0.1 to action."""
    rows = []
    for i, row in enumerate(records.read_rows(folder / records.ROWS)):
        names = ("policy", "split", "task", "novelty", "factor", "episode", "seed", "spec_hash", "progress")
        about = {name: getattr(row, name) for name in names}
        made = AttributionRow(
            **about, **FAILED, video=0.4, action=0.1, unattributed=0.0, timing=0.0, d1="video", d2="video",
            d3=("video", "stall")[i % 2], no_return=(3, -1)[i % 2], chunks=row.queries, steps=row.steps,
            behaviour=("slip", "stall")[i % 2],
        )  # fmt: skip
        rows.append(dataclasses.replace(made, **values))
    (folder / table.TABLE).write_text(table.to_csv(rows))
    return rows


@pytest.fixture
def slow(config: Callable[..., RunConfig]) -> Path:
    made = config("tests.attribution.test_plots:Slow", out="slow")
    assert {row.progress for row in run(made, line_sim)} == {0.5}
    return made.folder


def test_parts_of_the_bar_add_up_to_one(slow: Path) -> None:
    attributed(slow)
    found = attribution_plots.read([slow])
    assert [one.name for one in found] == ["tests.attribution.test_plots:Slow\nseen"]
    parts = attribution_plots.shares(found[0].episodes, found[0].known)
    assert sum(part.mean for part in parts.values()) == pytest.approx(1.0)
    assert parts["reached"].mean == 0.5 and parts["video"].mean == pytest.approx(0.4)
    assert 0.2 < parts["video"].low < 0.4 < parts["video"].high < 0.6  # all episodes alike, but few of them


def test_a_negative_part_is_said_and_the_bar_still_ends_at_one(slow: Path) -> None:
    attributed(slow, video=0.6, action=-0.1)
    found = attribution_plots.read([slow])
    drawn = attribution_plots.widths(attribution_plots.shares(found[0].episodes, found[0].known))
    assert drawn["action"] == 0.0 and sum(drawn.values()) == pytest.approx(1.0)
    texts = [text.get_text() for text in attribution_plots.draw_bars(found).axes[0].texts]
    assert any("below zero: action -0.10" in text for text in texts) and any(text.startswith("0.60") for text in texts)


def test_what_was_not_attributed_is_said_to_be_unknown(slow: Path) -> None:
    attributed(slow, video=math.nan, action=math.nan, unattributed=math.nan, d1="", d2="", d3="")
    one = attribution_plots.read([slow])[0]
    parts = attribution_plots.shares(one.episodes, one.known)
    assert set(parts) == {"reached", "unknown"} and parts["unknown"].mean == 0.5
    names = [path.name for path in attribution_plots.draw([slow], slow / "figures")]
    assert names == ["attribution.png", "attribution-by-task.png", "attribution-behaviour.png", "imagination-slow.png"]


def test_all_figures_are_drawn_from_the_command_line(slow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attributed(slow)
    test = slow.parent / "test"
    self_test_rows(test)
    assert cli.main(["plot", str(slow), str(test), "--out", str(slow / "figures")]) == 0
    names = {Path(line).name for line in capsys.readouterr().out.splitlines()}
    kinds = (
        "attribution",
        "attribution-by-task",
        "attribution-no-return",
        "attribution-behaviour",
        "self-test",
        "imagination-slow",
    )
    assert names == {*(f"{kind}.png" for kind in kinds), "failures-video-slow.png", "progress.png", "filmstrip.png"}
    for name in names:
        assert np.ptp(matplotlib.image.imread(slow / "figures" / name)) > 0.5


def self_test_rows(folder: Path) -> None:
    folder.mkdir()
    lines = ["fault,truth,task,d1,d2,d3"]
    lines += [f"noise,action,A-v0,{d1},action,action" for d1 in ("action", "action", "video")]
    lines += ["other object,video,A-v0,abstain,video,video", "gain,action,A-v0,,,"]
    (folder / "self-test.csv").write_text("\n".join(lines) + "\n")


def test_self_test_figure_counts_what_was_found(tmp_path: Path) -> None:
    self_test_rows(tmp_path / "test")
    figure = attribution_plots.draw_self_test(attribution_plots.read_self_test(tmp_path / "test" / "self-test.csv"))
    first, second, third = figure.axes
    assert sorted(text.get_text() for text in first.texts) == ["1", "1", "2"]
    assert sorted(text.get_text() for text in second.texts) == ["1", "3"]
    assert "right 0.50" in first.get_title() and "n=4" in first.get_title()
    assert "right 1.00" in third.get_title()
    assert [label.get_text() for label in first.get_yticklabels()] == ["video: other object", "action: noise"]
    (tmp_path / "empty.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"no self-test: columns missing: d1, d2, d3, fault, truth"):
        attribution_plots.read_self_test(tmp_path / "empty.csv")


def test_clearest_failures_lost_most_and_are_agreed_upon(slow: Path) -> None:
    rows = attributed(slow)
    loud = dataclasses.replace(rows[5], video=0.9)
    alone = dataclasses.replace(rows[6], video=0.5, d1="action", d3="action")
    other = dataclasses.replace(rows[7], video=1.0, d2="action")
    chosen = filmstrips.choose([*rows[:5], loud, alone, other], "video")
    assert chosen[0] == loud and len(chosen) == 3 and alone not in chosen
    assert filmstrips.choose([other], "video") == [] and filmstrips.choose([other], "action") == [other]


def test_moments_surround_the_point_of_no_return(slow: Path) -> None:
    row = attributed(slow)[0]
    episode = records.load_episode(slow / "episodes" / f"{records.episode_stem(row.key)}.npz")
    count = len(episode.chunks)
    for number in range(count):
        assert number in filmstrips.choose_moments(episode, dataclasses.replace(row, no_return=number))
    whole = filmstrips.choose_moments(episode, dataclasses.replace(row, no_return=-1))
    assert whole[0] == 0 and whole[-1] == count - 1
    assert filmstrips.choose_moments(episode, dataclasses.replace(row, no_return=count - 1))[-1] == count - 1


def test_expert_frames_are_rendered_and_drawn(tmp_path: Path) -> None:
    """In the real world: the expert's future begins in the recorded state and is not the realised one."""
    sim = registration.make("PressButton")
    spec = episode_spec(tasks.find("PressButton"), "seen", "none", 0, 0)
    episode = rollout(sim, Dreamer(), spec)
    row = AttributionRow(
        "dreamer", "seen", spec.task, "seen", "none", 0, 0, "", 0.0, d2="video", chunks=len(episode.chunks)
    )
    file = tmp_path / "episodes" / f"{records.episode_stem(row.key)}.npz"
    file.parent.mkdir()
    file.write_bytes(records.encode_episode(episode, sim.convention.cameras))
    (path,) = filmstrips.save(tmp_path, [row], lambda task: sim)
    with np.load(path) as saved:
        assert len(saved["frames"]) == len(saved["chunks"]) == filmstrips.MOMENTS
        assert saved["frames"].shape[1:] == canvas(episode.observations[0], sim.convention.cameras).shape
        assert (
            np.abs(saved["frames"][0].astype(int) - canvas(episode.observations[0], ("agentview", "wrist"))).max() > 50
        )
    figure = filmstrips.draw_strips(tmp_path, [row], "video")
    assert f"{spec.task}, episode 0" in figure.subfigs[0].get_suptitle()
    assert len(figure.subfigs[0].axes) == 3 * filmstrips.MOMENTS


class Dreamer(Steady):
    """Stands still in front of the real world and imagines grey."""

    def __init__(self) -> None:
        super().__init__(speed=0.0, convention=ControlConvention())


def test_runs_without_attribution_have_no_such_figures(slow: Path) -> None:
    assert attribution_plots.draw([slow], slow / "figures") == []
