from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.submission.conftest import edit_json, write_run
from wambench import cli
from wambench.records import Row
from wambench.submission.pack import submit

Edit = Callable[[Row, Any], Row]


def broken(folder: Path, tmp_path: Path, **options: Any) -> str:
    """Returns why a run is refused."""
    with pytest.raises(ValueError, match="make no row") as error:
        submit([folder], tmp_path / "pack.zip", **options)
    assert not (tmp_path / "pack.zip").exists()
    return str(error.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"tasks": ("CatchBall", "PlaceOnTray")}, "4 tasks of dynamic were not played: PickFromBelt"),
        ({"episodes": 9}, "9 episodes of every task: a row has at least 10"),
        ({"seed": 1}, "played with seed 1: rows are of seed 0"),
        ({"visual": "full"}, "visual profile 'full'"),
        ({"split_hash": "0" * 64}, "another version of it: hash 000000000000"),
        ({"commit": f"{'1' * 40}-dirty"}, "differs from its commit"),
        ({"versions": {"wambench": "0.1.0", "mujoco": "3.9.0", "robosuite": "1.5.2"}}, "played with mujoco 3.9.0"),
        ({"renderer": None}, "run.json does not tell renderer"),
        ({"policy": "tests.stubs:Steady"}, "no hash of its weights"),
        ({"policy": "tests.stubs:Steady", "weights_hash": "1" * 16}, "does not tell what it was trained on"),
        ({"policy": "expert"}, "expert reads the simulator it acts in: that is a control and no row"),
        ({"policy": "oracle-choice", "weights_hash": "1" * 16, "corpus": "demos"}, "oracle-choice reads the simulator"),
        ({"task_module_hash": "1" * 64}, "split 'dynamic' is not of this package"),
        ({"world_model": "dreamzero"}, "played in the world model dreamzero, and not in the simulator"),
        ({"error": "policy_error"}, "1 errors are not explained: PickFromBelt-v0.none.0"),
    ],
)
def test_a_run_that_breaks_a_rule_is_refused_and_told_which(tmp_path: Path, values: Any, says: str) -> None:
    assert says in broken(write_run(tmp_path / "run", **values), tmp_path)


def changed(**values: Any) -> Edit:
    def edit(row: Row, job: Any) -> Row:
        return dataclasses.replace(row, **values) if job.index == 1 and row.task.startswith("CatchBall") else row

    return edit


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (changed(progress=0.9), "1 rows have a progress that is not that of the stages they name: CatchBall-v0.none.1"),
        (changed(success_end=True), "1 rows have a success that does not fit their progress"),
        (changed(seed=7), "1 rows are of other scenes"),
        (changed(spec_hash="f" * 16), "1 rows are of other scenes"),
        (changed(prompt="do nothing"), "1 rows tell another prompt"),
        (changed(stages="", progress=0.0), "1 rows do not fit their recordings"),
        (changed(steps=11), "1 rows do not fit their recordings"),
        (changed(policy="other"), "a pack is of one policy, and these runs are of 2: noop, other"),
    ],
)
def test_a_changed_row_is_refused(tmp_path: Path, edit: Edit, says: str) -> None:
    assert says in broken(write_run(tmp_path / "run", edit=edit), tmp_path)


def test_errors_may_be_explained_if_they_are_few(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", error="policy_error")
    for reasons in ({"all": "the server went away"}, {"PickFromBelt-v0.none.0": "the server went away"}):
        assert submit([folder], tmp_path / "pack.zip", reasons).is_file()


def test_what_a_policy_does_not_tell_can_be_said(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", policy="tests.stubs:Steady")
    told = {"weights": "a constant", "corpus": "none"}
    assert submit([folder], tmp_path / "pack.zip", told).is_file()


def test_missing_and_repeated_episodes_are_found(good: Path, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    lines = (folder / "episodes.csv").read_text().splitlines(keepends=True)
    (folder / "episodes.csv").write_text("".join(lines[:-2]))
    assert "2 of 60 episodes have no row" in broken(folder, tmp_path)
    (folder / "episodes.csv").write_text("".join(lines))
    first, second = sorted((folder / "episodes").glob("*.npz"))[:2]
    second.write_bytes(first.read_bytes())
    said = broken(folder, tmp_path)
    assert "1 recordings stand for more than one episode" in said and "do not fit their recordings" in said
    first.unlink()
    assert "1 rows have no recording" in broken(folder, tmp_path)
    with pytest.raises(ValueError, match="60 episodes are there twice"):
        submit([good, write_run(tmp_path / "again")], tmp_path / "pack.zip")


def test_versions_may_not_be_mixed(good: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", weights_hash="abc")
    edit_json(other / "run.json", lambda values: values["versions"].update(wambench="0.0.9"))
    with pytest.raises(ValueError, match=r"mixed versions of wambench: 0\.0\.9, "):
        submit([good, other], tmp_path / "pack.zip")


def test_the_command_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", seed=1)
    assert cli.main(["submit", str(folder), "--out", str(tmp_path / "pack")]) == 2
    assert capsys.readouterr().err.startswith("wambench: error: these runs make no row of the leaderboard: run: played")
    for wrong in (["submit"], ["submit", str(folder)], ["submit", str(folder), "--out", "x", "--replay", "1"]):
        assert cli.main(wrong) == 2
    with pytest.raises(SystemExit):
        cli.main(["submit", str(folder), "--out", "x", "--explain", "because"])
