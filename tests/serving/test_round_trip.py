"""A policy behind our own server plays as it plays in process: actions, imagined frames, steps and progress."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.test_run import recorded
from tests.serving.droid_stubs import droid_line
from tests.serving.served import served
from tests.stubs import line_sim
from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import run
from wambench.evaluation.worker import MakeSim

pytest.importorskip("websockets", reason="needs wambench[remote]")
pytestmark = pytest.mark.slow


def played(policy: str, out: Path, make_sim: MakeSim = line_sim, **values: Any) -> tuple[list[Any], dict[str, Any]]:
    """Returns rows, without the policy's name, and the contents of the files of a run on lines."""
    config = RunConfig.resolve(policy, "seen", ("LiftCube", "PressButton"), episodes=2, out=out, **values)
    run(config, make_sim)
    rows, files = recorded(out)
    for content in files.values():
        del content["meta"]["timings"]
    return [dataclasses.replace(row, policy="") for row in rows], files


@pytest.mark.parametrize("policy", ["tests.stubs:Steady", "random"])
def test_openpi(policy: str, tmp_path: Path) -> None:
    """`Steady` imagines frames; `random` depends on the episode's seed, and two workers are two clients."""
    with served(policy, "openpi") as port:
        there = played(f"openpi://127.0.0.1:{port}", tmp_path / "there", workers=2)
    assert there == played(policy, tmp_path / "here")


@pytest.mark.parametrize("velocity", ["false", "true"])
def test_roboarena(velocity: str, tmp_path: Path) -> None:
    """Three cameras, joints and gripper of the DROID convention arrive, and so do the imagined frames."""
    policy = "tests.serving.droid_stubs:Watcher"
    with served(policy, "roboarena", "--policy-args", f"velocity={velocity}") as port:
        there = played(f"roboarena://127.0.0.1:{port}", tmp_path / "there", droid_line)
    arguments = {"velocity": velocity == "true"}
    assert there == played(policy, tmp_path / "here", droid_line, policy_args=arguments)
    record = json.loads((tmp_path / "there" / "run.json").read_text())
    assert record["server"]["metadata"]["action_space"] == (
        "joint_velocity" if arguments["velocity"] else "joint_position"
    )


@pytest.mark.parametrize("policy", ["tests.stubs:Steady", "random"])
def test_gr00t(policy: str, tmp_path: Path) -> None:
    """What the protocol rounds (its gripper is open or closed) our own clients are told exactly."""
    with served(policy, "gr00t") as port:
        there = played(f"gr00t://127.0.0.1:{port}", tmp_path / "there", workers=2)
    assert there == played(policy, tmp_path / "here")
