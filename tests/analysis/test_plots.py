from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from tests.stubs import SMALL, LineSim, Steady, line_sim
from wambench import tasks
from wambench.analysis import plots
from wambench.envs.episodes import episode_spec
from wambench.evaluation.config import RunConfig
from wambench.evaluation.rollout import rollout
from wambench.evaluation.run import run
from wambench.interface import canvas
from wambench.pictures import block_distance
from wambench.records import HEADER, ROWS, episode_stem, load, read_rows, to_line

Maker = Callable[..., RunConfig]


@pytest.fixture
def runs(config: Maker) -> list[Path]:
    made = [config("noop", out="noop"), config("tests.stubs:Steady", out="steady")]
    for it in made:
        run(it, line_sim)
    return [it.folder for it in made]


def test_figures_of_runs(runs: list[Path], tmp_path: Path) -> None:
    paths = plots.plot(runs, tmp_path / "figures")
    assert [path.name for path in paths] == ["progress.png", "filmstrip.png"]
    for path in paths:
        assert np.ptp(matplotlib.image.imread(path)) > 0.5
    again = plots.plot(runs[::-1], tmp_path / "again")
    assert paths[0].read_bytes() == again[0].read_bytes()
    drawn, redrawn = (path.with_suffix(".svg").read_text() for path in (paths[0], again[0]))
    assert drawn == redrawn and "<svg" in drawn
    assert not paths[1].with_suffix(".svg").exists()  # photographs


def test_progress_figure_shows_means_intervals_and_n(runs: list[Path]) -> None:
    figure = plots.progress_figures(load(runs))["progress"]
    axes = figure.axes[0]
    assert figure.get_suptitle() == "tests.stubs:Steady leads on seen tasks and environments"
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "tests.stubs:Steady",
        "no action",
    ]  # the better first
    assert [bar.get_window_extent().width > 1 for bar in axes.patches] == [True, False]
    assert [text.get_text() for text in axes.texts] == ["n=8", "n=8"]
    assert len(axes.collections) >= 2  # error bars


def test_training_seeds_share_one_bar(runs: list[Path]) -> None:
    rows = load(runs[:1])
    both = pd.concat([rows.assign(weights="a", progress=0.2), rows.assign(weights="b", progress=0.6)])
    axes = plots.progress_figures(both)["progress"].axes[0]
    assert [text.get_text() for text in axes.texts] == [f"n={len(rows)}"]  # scenes, not rows
    assert axes.patches[0].get_path().get_extents(axes.patches[0].get_patch_transform()).width == pytest.approx(0.4)
    dots = next(line for line in axes.lines if line.get_marker() == "o")
    assert sorted(np.ravel(dots.get_xdata())) == pytest.approx([0.2, 0.6])


def test_splits_novelties_and_factors_have_figures_of_their_own(runs: list[Path]) -> None:
    rows = load(runs)
    half = len(rows) // 2
    envs = rows.assign(split="unseen-envs", factor=["all", "camera"] * half)
    tasks_ = rows.assign(split="unseen-tasks", factor="all", novelty=["word", "motion"] * half)
    figures = plots.progress_figures(pd.concat([tasks_, envs, rows]))
    titles = {name: [axes.get_title() for axes in figure.axes] for name, figure in figures.items()}
    assert list(titles) == ["progress", "progress-novelty", "progress-factors"]
    assert titles["progress"] == ["seen tasks and\nenvironments", "unseen environments", "unseen tasks"]
    assert [text.replace("\n", " ") for text in titles["progress-novelty"]] == [
        "unseen tasks: a motion never acted out",
        "unseen tasks: a new word for a seen motion",
    ]
    factors = figures["progress-factors"].axes[0]
    assert [label.get_text() for label in factors.get_yticklabels()] == ["camera"]
    assert "(n = 4 episodes a mark)" in factors.get_xlabel()
    assert "camera leaves least progress" in figures["progress-factors"].get_suptitle()


def test_no_figure_has_more_panels_than_can_be_read(runs: list[Path]) -> None:
    rows = load(runs)
    many = pd.concat([rows.assign(split=f"split-{i}") for i in range(8)])
    figures = plots.progress_figures(many)
    assert [len(figure.axes) for figure in figures.values()] == [4, 4]
    assert list(figures) == ["progress", "progress-2"]


def test_a_headline_claims_no_lead_where_intervals_overlap(runs: list[Path]) -> None:
    rows = load(runs)
    equal = plots.progress_figures(rows.assign(progress=0.5))["progress"]
    assert equal.get_suptitle() == "No policy is ahead alone on seen tasks and environments"
    alone = plots.progress_figures(rows[rows["policy"] == "noop"])["progress"]
    assert alone.get_suptitle() == "Progress on seen tasks and environments"


def test_runs_without_imagination_have_no_filmstrip(runs: list[Path], tmp_path: Path) -> None:
    assert [path.name for path in plots.plot(runs[:1], tmp_path)] == ["progress.png"]
    with pytest.raises(ValueError, match="has no imagined frames"):
        plots.plot(runs[:1], tmp_path, sorted((runs[0] / "episodes").glob("*.npz"))[0].stem)
    with pytest.raises(ValueError, match=r"no episode 'LiftCube\.none\.9'"):
        plots.plot(runs, tmp_path, "LiftCube.none.9")


def test_pairs_are_of_the_same_step_and_the_latest_foresight() -> None:
    class FarSighted(Steady):
        """Imagines 4 to 16 steps ahead and acts for 8, so most steps are foreseen twice."""

        def act(self, history):  # type: ignore[no-untyped-def]
            plan = super().act(history)
            now = history[-1].step
            frames = np.full((4, 8, 16, 3), now, np.uint8)
            return type(plan)(plan.actions, frames=frames, frame_steps=now + np.array([4, 8, 12, 16]))

    episode = rollout(LineSim(SMALL), FarSighted(), episode_spec(tasks.find("LiftCube"), "seen", "none", 0, 0))
    pairs = plots.imagined_pairs(episode)
    assert [pair.step for pair in pairs] == [4, 8, 12, 16, 20, 24, 28, 32]
    assert [int(pair.imagined.max()) for pair in pairs] == [0, 0, 8, 8, 16, 16, 24, 24]
    assert [pair.asked for pair in pairs] == [0, 0, 8, 8, 16, 16, 24, 24]
    seen = {observation.step: observation for observation in episode.observations}
    assert all(np.array_equal(pair.real, canvas(seen[pair.step], SMALL.cameras)) for pair in pairs)


def test_the_filmstrip_is_of_the_episode_that_shows_most(runs: list[Path], tmp_path: Path) -> None:
    """That is by the row; a run of an earlier version, whose rows do not say it, gives its first."""
    run = tmp_path / "run"
    shutil.copytree(next(r for r in runs if plots.find_imagined([r]) is not None), run)
    rows = read_rows(run / ROWS)
    files = sorted(path.stem for path in (run / "episodes").glob("*.npz"))
    lines = [dataclasses.replace(row, kept_error=9.0 if episode_stem(row.key) == files[-1] else 1.0) for row in rows]
    (run / ROWS).write_text(HEADER + "".join(map(to_line, lines)))
    found = plots.find_imagined([run])
    assert found is not None and found.stem == files[-1]
    unknown = [dataclasses.replace(row, kept_error=math.nan) for row in rows]
    (run / ROWS).write_text(HEADER + "".join(map(to_line, unknown)))
    found = plots.find_imagined([run])
    assert found is not None and found.stem == files[0]


def test_a_filmstrip_tells_horizon_and_difference() -> None:
    class Wrong(Steady):
        """Imagines black frames for 8 steps later."""

        def act(self, history):  # type: ignore[no-untyped-def]
            plan = super().act(history)
            frames = np.zeros((1, 8, 16, 3), np.uint8)
            return type(plan)(plan.actions, frames=frames, frame_steps=np.array([history[-1].step + 8]))

    episode = rollout(LineSim(SMALL), Wrong(), episode_spec(tasks.find("LiftCube"), "seen", "none", 0, 0))
    figure = plots.filmstrip(episode, "run: episode")
    assert all("0.4 s ahead" in axes.get_title() for axes in figure.axes[: len(figure.axes) // 3])
    pair = plots.imagined_pairs(episode)[0]
    assert figure.axes[-(len(figure.axes) // 3)].get_xlabel() == f"{block_distance(pair.imagined, pair.real):.0f}"
