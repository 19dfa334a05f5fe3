"""Tasks and splits of one's own, outside the tree: every command that plays tasks takes them, in real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wambench import task_module, tasks
from wambench.records import provenance, read_rows
from wambench.tasks import Split

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
MINE = """
import dataclasses
from wambench.tasks import TASKS as SHIPPED, Split

TASKS = [
    dataclasses.replace(SHIPPED["PressButton"], name="TapButton", version=3, verb="tap", instruction="tap the button"),
    dataclasses.replace(SHIPPED["LiftCube"], name="LiftBlue", version=0, instruction="lift it"),
]
"""


def wambench(*arguments: str, cwd: Path, module: str = "wambench") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=500)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "my_tasks.py"
    path.write_text(MINE)
    return path


def test_a_task_of_ones_own_is_played_and_recorded(mine: Path, tmp_path: Path) -> None:
    run = ("run", "--policy", "expert", "--split", "my_tasks", "--tasks", "TapButton", "--task-module", "my_tasks.py")
    done = wambench(*run, "--episodes", "1", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = read_rows(tmp_path / "runs" / "expert-my_tasks" / "episodes.csv")
    assert (row.task, row.verb, row.prompt, row.status, row.progress) == (
        ("TapButton-v3", "tap", "tap the button", "ok", 1.0)
    )
    origin = json.loads((tmp_path / "runs" / "expert-my_tasks" / "run.json").read_text())
    assert len(origin["task_module_hash"]) == 64
    mine.write_text(MINE + "# edited\n")
    done = wambench(*run, "--episodes", "2", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 2 and "was begun with task_module_hash" in done.stderr


def test_worker_processes_import_it_too(mine: Path, tmp_path: Path) -> None:
    run = ("run", "--policy", "tests.stubs:Steady", "--split", "my_tasks", "--task-module", str(mine), "--workers", "2")
    done = wambench(*run, "--episodes", "3", cwd=tmp_path, module="tests.stubs")
    assert done.returncode == 0, done.stderr
    rows = read_rows(tmp_path / "runs" / "tests.stubs-Steady-my_tasks" / "episodes.csv")
    assert [row.task for row in rows] == ["TapButton-v3"] * 3 + ["LiftBlue-v0"] * 3
    assert {row.status for row in rows} == {"ok"}


def test_other_commands_take_it(mine: Path, tmp_path: Path) -> None:
    done = wambench("list", "--json", "--task-module", "my_tasks.py", cwd=tmp_path)
    tables = json.loads(done.stdout)
    assert [line["splits"] for line in tables["tasks"] if line["id"] == "TapButton-v3"] == [["my_tasks"]]
    collect = ("collect", "--corpus", "demos", "--tasks", "TapButton", "--episodes", "1", "--out", "data")
    done = wambench(*collect, "--workers", "1", "--task-module", "my_tasks.py", cwd=tmp_path)
    assert done.returncode == 0 and list((tmp_path / "data").glob("TapButton.*.npz")), done.stderr
    code = "import gymnasium, wambench; print(gymnasium.make('wambench/TapButton-v3').unwrapped.task.verb)"
    env = {**os.environ, "PYTHONPATH": str(ROOT), task_module.VARIABLE: "my_tasks.py"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout == "tap\n", done.stderr


def test_published_splits_keep_their_hashes(mine: Path, tmp_path: Path) -> None:
    code = (
        "from wambench import tasks; from wambench.records import provenance\n"
        "print({name: provenance.split_hash(name) for name in tasks.SHIPPED_SPLITS})"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), task_module.VARIABLE: str(mine)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout.strip() == str({name: provenance.split_hash(name) for name in tasks.SHIPPED_SPLITS}), done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file"),
        ("TASKS = [", "cannot be imported: SyntaxError"),
        ("import nowhere", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("", "needs TASKS, a sequence of wambench.envs.task.Task"),
        ("TASKS = [3]", "TASKS holds 3, which is no wambench.envs.task.Task"),
        (MINE.replace("LiftBlue", "LiftCube"), "a task named 'LiftCube' exists already"),
        (
            MINE + "SPLITS = [Split('seen', ('TapButton', 'LiftBlue'), 'train', '')]",
            "a split named 'seen' exists already",
        ),
        (MINE + "SPLITS = [Split('mine', ('TapButton',), 'train', '')]", "task 'LiftBlue' is in no split"),
        (MINE + "SPLITS = [Split('mine', ('Tap',), 'train', '')]", "has no task, or unknown ones: Tap"),
        (MINE + "SPLITS = [Split('mine', ('TapButton',), 'here', '')]", "is in environments 'here'"),
    ],
)
def test_what_cannot_be_used_is_one_line(text: str | None, said: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    done = wambench("list", "--task-module", "mine.py", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr and done.stderr.count("\n") == 1 and done.stderr.startswith("wambench: error: ")


def test_own_splits_may_hold_shipped_tasks() -> None:
    """Checked without loading, which lasts as long as the process."""
    split = Split("mine", ("PressButton", "TapButton"), "unseen", "both")
    own = [tasks.TASKS["PressButton"].__class__(**{**vars(tasks.TASKS["PressButton"]), "name": "TapButton"})]
    task_module._check_splits([split], own, "my_tasks.py")
