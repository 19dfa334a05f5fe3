"""A policy behind our own server plays as it plays in process: actions, imagined frames, steps and progress."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.test_run import recorded
from tests.serving.served import served
from tests.stubs import line_sim
from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import run

pytest.importorskip("websockets", reason="needs wambench[remote]")
pytestmark = pytest.mark.slow


def played(policy: str, out: Path, workers: int = 1, **values: Any) -> tuple[list[Any], dict[str, Any]]:
    """Returns rows, without the policy's name, and the contents of the files of a run on lines."""
    config = RunConfig.resolve(policy, "seen", ("LiftCube", "PressButton"), episodes=2, out=out, workers=workers)
    run(dataclasses.replace(config, **values), line_sim)
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
