"""Recorded runs under today's predicates: equal where nothing changed, and said so where something did."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from pathlib import Path

import pytest

from tests.datasets.conftest import played as played_fixture
from wambench import cli, scoring, tasks
from wambench.records import read_rows

pytestmark = pytest.mark.slow
played = played_fixture


@pytest.fixture
def run(played: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(played, tmp_path / "run"))


def test_what_did_not_change_is_scored_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "episodes.csv").read_bytes()
    assert cli.main(["score", str(run), "--workers", "1"]) == 0
    assert "2 episodes: 2 as recorded, 0 would change, 0 cannot be scored" in capsys.readouterr().out
    assert (run / "episodes.csv").read_bytes() == before
    with (run / "scores.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    rows = read_rows(run / "episodes.csv")
    assert [float(line["progress_now"]) for line in lines] == [row.progress for row in rows]
    assert all(line["verdict"] == "same" and line["behaviour"] and line["video_skill"] == "" for line in lines)
    assert cli.main(["score", str(run)]) == 2
    assert "is there already, and nothing is overwritten" in capsys.readouterr().err


def test_another_predicate_changes_rows(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks.TASKS["PressButton"]
    # every stage counts as soon as the episode begins, and so the first step that holds long enough is the end
    stages = [dataclasses.replace(stage, reached=always, after=None, meanwhile=None) for stage in task.stages]
    lenient = dataclasses.replace(task, version=99, stages=tuple(stages), success=always)
    monkeypatch.setitem(tasks._tasks, "PressButton", lenient)
    scores = scoring.score([run])
    for score, row in zip(scores, read_rows(run / "episodes.csv"), strict=True):
        assert (score.verdict, score.task_now, score.progress_now) == ("changed", "PressButton-v99", 1.0)
        assert score.progress == row.progress < 1 and score.success_end_now and not score.success_end
        assert score.steps_now is not None and score.steps_now < score.steps == row.steps
    said = scoring.report(scores)
    assert "judged by PressButton-v99" in said[0] and "progress 0 -> 1" in said[0]
    assert "0 as recorded, 2 would change" in said[-2]


def always(view: object) -> bool:
    """A predicate that holds."""
    return True


def test_what_cannot_be_played_again_is_no_score(run: Path) -> None:
    files = sorted((run / "episodes").iterdir())
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:5000])
    scores = scoring.score([run], run / "new.csv")
    assert [score.verdict for score in scores] == ["unknown", "unknown"]
    assert "is missing" in scores[0].reason and "damaged" in scores[1].reason
    assert "2 cannot be scored" in scoring.report(scores)[-1]
    with (run / "new.csv").open(newline="") as file:
        assert {line["progress_now"] for line in csv.DictReader(file)} == {""}


def test_a_scene_that_changed_is_no_score(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wambench.envs.tabletop import TabletopEnv

    advance = TabletopEnv.advance
    monkeypatch.setattr(TabletopEnv, "advance", lambda self, action: advance(self, 0.5 * action))
    scores = scoring.score([run])
    assert {score.verdict for score in scores} == {"unknown"}
    assert all("otherwise than the one that recorded it" in score.reason for score in scores)


def test_what_is_no_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["score", str(tmp_path / "nothing")]) == 2
    assert "no run at" in capsys.readouterr().err
