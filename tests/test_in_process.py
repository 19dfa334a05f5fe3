"""`wambench.evaluate`: the rows of a run, and a caller who notices nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wambench
from tests.conftest import TASKS
from tests.evaluation.test_run import timeless
from tests.stubs import Faulty, Steady, Together, Unfit, line_sim
from wambench.evaluation.config import RunConfig
from wambench.evaluation.process_pool import WorkerFailed
from wambench.evaluation.run import run
from wambench.interface import Observation, Plan

ROOT = Path(__file__).parents[1]
LINE: dict[str, Any] = {"split": "seen", "tasks": TASKS, "episodes": 4, "make_sim": line_sim}


class Careless(Steady):
    """Draws from every global generator, looks who it is, and needs gradients to be off."""

    def act(self, history: Sequence[Observation]) -> Plan:
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        self.thread, self.grad = threading.current_thread(), torch.is_grad_enabled()
        return super().act(history)


def test_rows_are_those_of_a_run(config: Callable[..., RunConfig]) -> None:
    played = run(config("tests.stubs:Faulty", name="Faulty"), line_sim)
    found = wambench.evaluate(Faulty(), **LINE)
    assert timeless(list(found.rows)) == timeless(played)
    fine = [row.progress for row in played if row.status == "ok"]
    assert found.errors == len(played) - len(fine) > 0
    assert found.progress.mean == np.mean(fine) and found.progress.low < 1.0
    assert found.success_end.low < found.success_end.mean == 1.0 and list(found.by_task) == [
        "LiftCube-v1",
        "PressButton-v1",
    ]
    assert str(found).startswith(f"8 episodes, {found.errors} errors: progress 1.00 [")


def test_by_name_and_with_several_workers() -> None:
    named = wambench.evaluate("tests.stubs:Together", policy_args={"every": 5}, name="Together", **LINE)
    policy = Together(every=5)
    shared = wambench.evaluate(policy, workers=3, execution="sync", **LINE)
    assert timeless(list(named.rows)) == timeless(list(shared.rows)) and 0 < named.errors < 8
    assert max(policy.sizes) <= 3


def state_of_caller() -> dict[str, Any]:
    return {
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),  # type: ignore[index]  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "grad": torch.is_grad_enabled(),
        "torch threads": torch.get_num_threads(),
        "threads": threading.enumerate(),
        "environment": dict(os.environ),
        "path": list(sys.path),
        "children": sorted(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()),
        "files": len(os.listdir("/proc/self/fd")),
    }


def test_the_caller_is_as_it_was() -> None:
    wambench.evaluate("tests.stubs:Steady", **LINE)  # whatever is imported late is there by now
    policy, before = Careless(), state_of_caller()
    wambench.evaluate(policy, **LINE)
    assert state_of_caller() == before
    assert policy.thread is threading.current_thread() and not policy.grad
    with pytest.raises(WorkerFailed, match="gripper: the environment has 'close_positive'"):
        wambench.evaluate(Unfit(), **LINE)
    assert state_of_caller() == before


SCRIPT = """
import sys, wambench
assert not {"torch", "mujoco", "robosuite", "wambench.in_process"} & set(sys.modules), "importing it is light"
import numpy as np
from wambench.interface import ControlConvention, Plan
print("main runs")
class Mine:
    convention = ControlConvention()
    def reset(self, instruction, seed):
        pass
    def act(self, history):
        return Plan(np.zeros((16, 7)))
found = wambench.evaluate(Mine(), "seen", ["PressButton"], episodes=1)
print(found)
import ctypes.util, os
gl = [name for name in ("mujoco", "robosuite", "OpenGL", "torch") if name in sys.modules]
maps = open("/proc/self/maps").read()
print(gl, "MUJOCO_GL" in os.environ, [name for name in ("libEGL", "libGL.", "libmujoco", "libOSMesa") if name in maps])
"""


@pytest.mark.slow
def test_a_script_without_a_guard_is_run_once_and_gets_no_simulator(tmp_path: Path) -> None:
    """With the real simulator: its libraries and its OpenGL context are in another process."""
    (tmp_path / "train.py").write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "train.py")],
        capture_output=True, text=True, cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "main runs" and lines[1].startswith("1 episodes, 0 errors: progress 0.00 [0.00, ")
    assert lines[2:] == ["[] False []"]


@pytest.mark.parametrize(
    ("policy", "values", "said"),
    [
        (Steady(), {"split": "sen"}, "did you mean 'seen'?"),
        (Steady(), {"tasks": ["LiftCub"]}, "did you mean 'LiftCube'?"),
        (Steady(), {"epsiodes": 3}, "unknown option 'epsiodes'"),
        (Steady(), {"episodes": 0}, "episodes must be positive"),
        (Steady(), {"workers": 2}, "Steady plays one episode at a time: workers must be 1, not 2"),
        (Steady(), {"policy_args": {"speed": 1}}, "this one is made already"),
        (object(), {}, "object is no policy"),
        ("given", {}, "unknown policy 'given'"),
        ("dreamzer", {}, "did you mean 'dreamzero'?"),
    ],
)
def test_wrong_values_are_told_before_anything_starts(policy: Any, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        wambench.evaluate(policy, **{**LINE, **values})
    assert said in str(refused.value)
