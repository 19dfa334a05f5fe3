"""What `wambench run` prints and leaves behind, in processes of their own with the simulator of lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wambench.records import read_rows

ROOT = Path(__file__).parents[2]
FILE = """
episodes = 2
workers = 1
tasks = ["LiftCube"]
split = "seen"
out = "night"
[[policies]]
policy = "tests.stubs:Steady"
name = "steady"
[[policies]]
policy = "tests.stubs:Steady"
policy-args = {speed = 0.1}
name = "slow"
"""


def wambench(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a simulator of lines."""
    command = [sys.executable, "-m", "tests.stubs", *words]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300
    )


def files(folder: Path) -> list[str]:
    """Returns everything below a folder, with times, so that a touch would show."""
    return sorted(f"{path} {path.stat().st_mtime_ns}" for path in folder.rglob("*"))


@pytest.mark.slow
def test_a_file_is_foretold_played_and_continued(tmp_path: Path) -> None:
    (tmp_path / "night.toml").write_text(FILE)
    before = files(tmp_path)
    told = wambench("run", "--config", "night.toml", "--dry-run", cwd=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    assert "steady on seen, into night/steady-seen" in told.stdout and "2 episodes; 2 to play" in told.stdout
    assert "the policy's own time not counted" in told.stdout and "all 2 runs: 4 episodes to play" in told.stdout
    assert files(tmp_path) == before

    played = wambench("run", "--config", "night.toml", cwd=tmp_path)
    assert played.returncode == 0, played.stderr
    lines = played.stdout.splitlines()
    assert lines[0].startswith("2 episodes, progress 1.00: night/steady-seen")
    assert lines[2].split()[:5] == ["policy", "split", "group", "n", "errors"]
    assert [line.split()[:5] for line in lines[3:5]] == [
        ["slow", "seen", "all", "2", "0"],
        ["steady", "seen", "all", "2", "0"],
    ]
    assert lines[-1] == "2 runs in night"

    more = wambench("run", "--config", "night.toml", "--episodes", "3", "--dry-run", cwd=tmp_path)
    assert "3 episodes, 2 of them there already; 1 to play" in more.stdout
    assert "about" in more.stdout and "by 2 episodes of night/steady-seen" in more.stdout
    again = wambench("run", "--config", "night.toml", "--episodes", "3", "--quiet", cwd=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert [line.split(":")[0] for line in again.stdout.splitlines()] == [
        "3 episodes, progress 1.00",
        "3 episodes, progress 0.00",
    ]
    assert len(read_rows(tmp_path / "night" / "slow-seen" / "episodes.csv")) == 3


@pytest.mark.slow
def test_a_run_of_errors_shows_them_and_fails(tmp_path: Path) -> None:
    run = ("run", "--policy", "tests.stubs:Faulty", "--policy-args", "fault=raise", "--split", "seen")
    done = wambench(*run, "--tasks", "LiftCube", "--episodes", "1", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].split()[3:5] == ["0", "1"]
    assert "first error: LiftCube" in done.stderr


def test_another_run_in_the_folder_is_told_without_playing(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"config": {"policy": "random"}}')
    run = ("run", "--policy", "noop", "--split", "seen", "--out", str(tmp_path), "--dry-run")
    done = wambench(*run, cwd=tmp_path)
    assert done.returncode == 2 and "holds another run" in done.stderr
