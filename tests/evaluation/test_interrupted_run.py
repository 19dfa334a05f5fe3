"""Runs in a process of their own: killed at any moment, interrupted, on a full disk, with a worker that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.test_run import recorded
from tests.stubs import heed_interrupts
from wambench.records import read_rows

ROOT = Path(__file__).parents[2]


def command(out: Path, *more: str) -> list[str]:
    play = ["run", "--policy", "tests.stubs:Steady", "--split", "seen", "--tasks", "LiftCube,PressButton"]
    return [sys.executable, "-m", "tests.stubs", *play, "--out", str(out), *more]


def start(out: Path, *more: str, limit: int | None = None) -> subprocess.Popen[str]:
    import resource

    def small_disk() -> None:
        heed_interrupts()
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    pipe = subprocess.PIPE
    return subprocess.Popen(
        command(out, *more),
        cwd=ROOT,
        text=True,
        stdout=pipe,
        stderr=pipe,
        preexec_fn=small_disk,
        start_new_session=True,
    )


@pytest.mark.slow
def test_no_row_ok_is_exit_code_1_and_a_worker_killed_from_outside_is_played_again(tmp_path: Path) -> None:
    out = tmp_path / "run"
    faulty = [*command(out, "--episodes", "2", "--workers", "1")]
    faulty[faulty.index("tests.stubs:Steady")] = "tests.stubs:Faulty"
    done = subprocess.run([*faulty, "--policy-args", "every=1"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "first error: LiftCube-v" in done.stderr and "KeyError" in done.stderr and "4 errors" in done.stdout
    assert len(list((out / "errors").iterdir())) == 4

    out = tmp_path / "killed"
    process = start(out, "--episodes", "4", "--workers", "1", "--policy-args", "pause_s=0.2")
    deadline = time.monotonic() + 300
    while not (children := worker_of(process.pid)) or size(out / "episodes.csv") < 400:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(children[-1], signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0 and "killed by SIGKILL" in errors
    assert [row.of_machine for row in read_rows(out / "episodes.csv")].count(True) == 1
    process = start(out, "--episodes", "4", "--workers", "1", "--policy-args", "pause_s=0.2")
    _, errors = process.communicate(timeout=300)
    assert "1 of 8 recorded episodes are errors that are played again, 1 of them errors of the machine" in errors
    assert {row.status for row in read_rows(out / "episodes.csv")} == {"ok"} and not list((out / "errors").iterdir())


def worker_of(pid: int) -> list[int]:
    """Returns the worker processes of a run: its children that multiprocessing spawned to run a function."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            words = (path.parent / "cmdline").read_text()
        except OSError:  # gone by now
            continue
        if parent == pid and "spawn_main" in words:
            found.append(int(path.parent.name))
    return sorted(found)


def test_a_file_as_out_and_arguments_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out, more, said in (
        ("file", (), "is a file, and a run needs a folder: give another --out"),
        ("run", ("--policy-args", "sped=1"), "did you mean 'speed'?"),
    ):
        process = start(tmp_path / out, *more)
        told, errors = process.communicate(timeout=300)
        assert process.returncode == 2 and told == "" and "recorded in" not in errors
        assert errors.count("\n") == 1 and said in errors


def test_a_log_is_not_flooded(tmp_path: Path) -> None:
    process = start(tmp_path / "run", "--episodes", "40", "--workers", "2")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0 and "\r" not in errors
    assert len(errors.splitlines()) <= 8 and "80/80" in errors


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_rows_of_an_undisturbed_run(tmp_path: Path) -> None:
    arguments = ("--episodes", "60", "--workers", "2", "--policy-args", "pause_s=0.005")
    assert start(tmp_path / "whole", *arguments).wait(300) == 0
    rng = np.random.default_rng(0)
    out, rows = tmp_path / "killed", tmp_path / "killed" / "episodes.csv"
    sizes = []
    for kill in range(6):
        process = start(out, *arguments)
        if kill >= 2:  # the first two at any moment of the start, the others between and within rows
            before = size(rows)
            while size(rows) == before and process.poll() is None:
                time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)  # the parent alone: its workers must notice
        process.communicate()
        sizes.append(size(rows))
    assert sizes == sorted(sizes) and len(set(sizes)) >= 3 and sizes[-1] < size(tmp_path / "whole" / "episodes.csv")
    process = start(out, *arguments)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert recorded(out) == recorded(tmp_path / "whole")
    assert not list(out.rglob("*.tmp"))


def test_ctrl_c_ends_tidily(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out, "--episodes", "400", "--workers", "2", "--policy-args", "pause_s=0.05")
    deadline = time.monotonic() + 300
    while not (out / "episodes.csv").exists() or len(read_rows(out / "episodes.csv", torn=True)) < 3:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: parent and workers alike
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("wambench: interrupted")
    assert 3 <= len(read_rows(out / "episodes.csv")) < 800


@pytest.mark.parametrize("limit", [3_000, 5_000])
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, limit: int) -> None:
    out, episodes = tmp_path / "run", ("--episodes", "20", "--workers", "1")
    process = start(out, *episodes, limit=limit)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert errors.splitlines()[-1].startswith(f"wambench: error: {out}/")
    assert "File too large" in errors.splitlines()[-1] and "Traceback" not in errors
    before = read_rows(out / "episodes.csv") if (out / "episodes.csv").exists() else []
    assert not list(out.rglob("*.tmp"))
    assert start(out, *episodes).wait(300) == 0
    after = read_rows(out / "episodes.csv")
    assert len(after) == 40 and {row.key: row for row in after}.items() >= {row.key: row for row in before}.items()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    process = start(tmp_path / "file" / "run")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert errors == f"wambench: error: {tmp_path}/file/run: Not a directory\n"
