"""What `wambench init` writes works as it is: its tests pass, and it plays by the command that init prints."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from wambench import cli, templates

ROOT = Path(__file__).parent.parent


def done(*command: str, cwd: Path) -> str:
    """Returns what a command said; it must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=500
    )
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]
    return found.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", templates.KINDS)
def test_what_is_written_works(kind: str, tmp_path: Path) -> None:
    lines = done("wambench", "init", kind, "reach_cup", cwd=tmp_path).splitlines()
    assert lines[:2] == ["reach_cup.py", "test_reach_cup.py"]
    tests = shlex.split(lines[2].removeprefix("next: python -m "))
    assert " passed" in done(*tests, cwd=tmp_path)
    play = shlex.split(lines[3].removeprefix("then: "))
    assert ", progress " in done(*play, "--episodes", "1", "--workers", "1", cwd=tmp_path)
    assert "emplate" not in (tmp_path / "reach_cup.py").read_text() + (tmp_path / "test_reach_cup.py").read_text()


@pytest.mark.parametrize("name", ["reach_cup", "ReachCup", "reach-cup", "Reach_Cup"])
def test_a_name_has_two_spellings(name: str) -> None:
    assert templates.spellings(name) == ("reach_cup", "ReachCup")


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_reach.py").write_text("mine")
    assert cli.main(["init", "policy", "reach", "--out", str(tmp_path)]) == 2
    assert "test_reach.py exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["test_reach.py"]


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("task", "lift_cube", "a task named 'LiftCube' exists already"),
        ("policy", "2fast", "'2fast' is no name of a module"),
        ("policy", "a/b", "'a/b' is no name of a module"),
        ("policy", "class", "'class' is no name of a module"),
        ("polcy", "mine", "invalid choice: 'polcy'"),
    ],
)
def test_what_init_refuses(kind: str, name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main(["init", kind, name, "--out", str(tmp_path / "new")])
    except SystemExit as exited:
        code = int(str(exited.code))
    assert code == 2 and said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
