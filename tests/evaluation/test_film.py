"""Films: what they show, and that an episode is the same whether it is filmed or not."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.test_run import recorded, timeless
from wambench import cli, registration, tasks
from wambench.envs.appearance import FILM
from wambench.envs.episodes import episode_spec
from wambench.envs.tabletop import TabletopEnv
from wambench.evaluation import film
from wambench.evaluation.config import RunConfig
from wambench.evaluation.rollout import rollout
from wambench.evaluation.run import plan, run
from wambench.evaluation.worker import Player, tabletop
from wambench.interface import ControlConvention, Episode, Observation, Plan
from wambench.records import load_episode

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def episode() -> Episode:
    """An episode of 40 control steps in which only the hand moves, and every query imagines the present frame."""
    with contextlib.closing(registration.make("PressButton")) as sim:
        spec = dataclasses.replace(episode_spec(sim.task, "seen", "none", 0, 0), horizon=40)
        return rollout(sim, Dreamer(), spec)


class Dreamer:
    """Moves down and imagines that nothing changes."""

    convention = ControlConvention()

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode."""

    def act(self, history: Sequence[Observation]) -> Plan:
        now = history[-1]
        frame = np.concatenate(list(now.images.values()), axis=1)
        return Plan(np.tile([0, 0, -0.3, 0, 0, 0, -1.0], (8, 1)), 8, frame[None], np.array([now.step + 8]))


@pytest.fixture(scope="module")
def sim(episode: Episode) -> Iterator[TabletopEnv]:
    sim = film.spectator(episode.spec)
    yield sim
    sim.close()


@pytest.fixture(scope="module")
def moments(episode: Episode, sim: TabletopEnv) -> list[film.Moment]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film, "FPS", 2)
        return list(film.moments(episode, sim))


def test_the_replay_is_the_episode(episode: Episode, sim: TabletopEnv, moments: list[film.Moment]) -> None:
    assert [moment.step for moment in moments] == [0, 10, 20, 30, 40]
    assert moments[-1].progress == episode.progress and moments[-1].stages == episode.stages
    np.testing.assert_array_equal(sim.proprioception(), episode.observations[-1].state)  # after other scenery, bitwise


def test_a_spectator_sees_more_than_the_policy(moments: list[film.Moment], sim: TabletopEnv) -> None:
    assert moments[0].view.shape == (512, 512, 3)
    assert moments[0].view.std() > 20 and (moments[0].view != moments[-1].view).mean() > 0.01
    light = sim.scene.model.light_castshadow
    assert light.any()
    with_shadow = moments[-1].view.astype(int)
    light[:] = 0
    without = sim.renderer.render(sim.scene.data, [FILM], (512, 512))[FILM].astype(int)
    light[0] = 1
    assert ((without - with_shadow).max(axis=2) > 30).mean() > 0.01


def test_a_frame_has_caption_views_and_progress(episode: Episode, moments: list[film.Moment]) -> None:
    frame = film.compose(episode, moments[2])
    height, width = frame.shape[:2]
    assert height >= 384 and height % 2 == 0 and width % 2 == 0
    np.testing.assert_array_equal(frame[: film.SIDE, : film.SIDE], moments[2].view)
    assert (frame[film.SIDE :] < 128).any()  # the caption
    half = film.compose(episode, dataclasses.replace(moments[2], progress=0.5))
    green = np.all(half == [0, 158, 115], axis=2).sum(axis=1).max()
    assert green == pytest.approx((width - 2 * film.MARGIN) / 2, abs=2)
    other = film.compose(episode, moments[2], told="lift it")
    assert (other != frame).any()


def test_imagined_frames_are_shown_from_the_first_query_on(episode: Episode, moments: list[film.Moment]) -> None:
    side = np.s_[: film.SIDE, film.SIDE :]
    begin, later = (film.compose(episode, moment)[side] for moment in (moments[0], moments[2]))
    plain = np.all(begin == 217, axis=2).mean()
    assert plain > 0.2 and np.all(later == 217, axis=2).mean() < 0.01


def test_filming_changes_neither_rows_nor_what_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same episode, played in this process with and without a film."""
    files: dict[bool, dict[str, bytes]] = {}
    rows = {}
    for filmed in (False, True):
        config = RunConfig.resolve("random", "seen", ["LiftCube"], episodes=1, out=tmp_path / str(filmed), film=filmed)
        monkeypatch.setattr(film, "FPS", 1)
        player = Player(config, tabletop)
        job = plan(config)[0]
        row, found = player.play(dataclasses.replace(job, spec=dataclasses.replace(job.spec, horizon=24)))
        again, _ = player.play(dataclasses.replace(job, spec=dataclasses.replace(job.spec, horizon=24)))
        rows[filmed], files[filmed] = timeless([row, again]), dict(found)
        assert config.recorded() == dataclasses.replace(config, film=not filmed).recorded()
    assert rows[False] == rows[True]
    arrays = [np.load(io.BytesIO(files[filmed]["episodes/LiftCube-v1.none.0.npz"])) for filmed in (False, True)]
    for name in ("frames", "states", "actions", "snapshots"):
        np.testing.assert_array_equal(arrays[0][name], arrays[1][name])
    assert set(files[True]) - set(files[False]) == {"films/LiftCube-v1.none.0.mp4"}
    assert len(files[True]["films/LiftCube-v1.none.0.mp4"]) > 10_000


def test_recorded_runs_are_filmed_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import imageio.v2 as imageio

    monkeypatch.setattr(film, "FPS", 1)
    out = tmp_path / "run"
    run(RunConfig.resolve("expert", "seen", ["PressButton"], episodes=2, out=out))
    before = recorded(out)
    capsys.readouterr()
    assert cli.main(["film", str(out), "--episodes", "PressButton-v1.none.1"]) == 0
    path = out / "films" / "PressButton-v1.none.1.mp4"
    assert capsys.readouterr().out == f"{path}\n"
    frames = imageio.mimread(path, memtest=False)
    steps = load_episode(out / "episodes" / "PressButton-v1.none.1.npz").steps
    assert len(frames) >= steps / 20 and frames[0].shape[0] >= 384
    assert recorded(out) == before
    assert cli.main(["film", str(out), "--episodes", "PressButton-v1.none.7"]) == 2
    assert "no episode 'PressButton-v1.none.7'" in capsys.readouterr().err


def test_a_film_that_fails_costs_no_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object) -> bytes:
        raise RuntimeError("no lamp")

    config = RunConfig.resolve("noop", "seen", tasks=("PressButton",), episodes=1, out=tmp_path / "run", film=True)
    job = plan(config)[0]
    job = dataclasses.replace(job, spec=dataclasses.replace(job.spec, horizon=20))
    player = Player(config, tabletop)
    monkeypatch.setattr(player, "_film", broken)
    row, files = player.play(job)
    assert row.status == "ok" and "films/PressButton-v1.none.0.mp4" not in files
    assert b"no lamp" in files["errors/PressButton-v1.none.0.film.txt"]


def test_a_spectator_sees_the_robot_that_played() -> None:
    spec = episode_spec(tasks.find("PressButton"), "seen", "none", 0, 0, robot="droid")
    with contextlib.closing(film.spectator(spec, "droid")) as sim:
        sim.begin(dataclasses.replace(spec, visual=film.SHOW), render=False)
        view = sim.renderer.render(sim.scene.data, [FILM], (64, 64))[FILM]
    assert view.std() > 10


def test_three_wide_views_stand_below_each_other() -> None:
    views = [np.full((18, 32, 3), value, np.uint8) for value in (10, 20, 30)]
    wide = np.concatenate(views, axis=1)
    ((title, picture),) = film._below_each_other([("seen", wide), ("imagined", wide + np.uint8(100))], 3)
    assert title == "seen | imagined" and picture.shape == (54, 64, 3)
    assert picture[::18, ::32, 0].tolist() == [[10, 110], [20, 120], [30, 130]]
    narrow = [("seen", np.concatenate(views[:2], axis=1))]
    assert film._below_each_other(narrow, 2) == narrow
