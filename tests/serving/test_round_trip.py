"""A policy behind our own server plays as it plays in process: actions, imagined frames, steps and progress."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.test_run import recorded
from tests.policies.test_contract import observations
from tests.serving.served import served
from tests.serving.stubs import Imaginer, droid_line
from tests.stubs import line_sim
from wambench import policies
from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import run
from wambench.evaluation.worker import MakeSim
from wambench.interface import Guided

pytest.importorskip("websockets", reason="needs wambench[remote]")
pytestmark = pytest.mark.slow


WATCHER = "tests.serving.stubs:Watcher"
Played = tuple[list[Any], dict[str, Any]]


def played(policy: str, out: Path, make_sim: MakeSim = line_sim, **values: Any) -> Played:
    """Returns rows, without the policy's name, and the contents of the files of a run on lines."""
    config = RunConfig.resolve(policy, "seen", ("LiftCube", "PressButton"), episodes=2, out=out, **values)
    run(config, make_sim)
    rows, files = recorded(out)
    for content in files.values():
        del content["meta"]["timings"]
    return [dataclasses.replace(row, policy="") for row in rows], files


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Returns the run of a policy in process that shows what it saw, imagines frames and depends on the seed."""
    return played(WATCHER, tmp_path_factory.mktemp("here") / "run")


@pytest.mark.parametrize("protocol", ["openpi", "gr00t"])
def test_a_run_is_the_same_behind_a_socket(protocol: str, here: Played, tmp_path: Path) -> None:
    """Two workers are two clients. What GR00T's protocol rounds, our own clients are told exactly."""
    with served(WATCHER, protocol) as port:
        there = played(f"{protocol}://127.0.0.1:{port}", tmp_path / "there", workers=2)
    assert there == here


def test_roboarena_carries_the_droid_convention(tmp_path: Path) -> None:
    """Three cameras, joints and gripper; the server's words are recorded."""
    with served(WATCHER, "roboarena", "--policy-args", "robot=droid") as port:
        there = played(f"roboarena://127.0.0.1:{port}", tmp_path / "there", droid_line)
    assert there == played(WATCHER, tmp_path / "here", droid_line, policy_args={"robot": "droid"})
    record = json.loads((tmp_path / "there" / "run.json").read_text())
    assert record["server"]["metadata"]["action_space"] == "joint_position"
    assert record["server"]["adapter"]["protocol"] == "roboarena" and record["server_hash"]


def test_vla_eval_asks_at_every_step_and_plays_the_same(here: Played, tmp_path: Path) -> None:
    with served(WATCHER, "vla-eval") as port:
        rows, files = played(f"vla-eval://127.0.0.1:{port}", tmp_path / "there", workers=2)
    assert [row.queries for row in rows] == [row.steps for row in rows]
    for one, other in zip(rows, here[0], strict=True):
        assert (one.status, one.progress, one.steps) == ("ok", other.progress, other.steps)
    for name, content in here[1].items():
        for key in ("actions", "imagined", "imagined_steps"):
            assert files[name][key] == content[key], key


def test_what_attribution_and_real_time_chunking_ask_is_asked_behind_a_socket() -> None:
    """Actions for a given future, and a chunk that goes on from the one being played; two clients do not meet."""
    here: Any = Imaginer()
    seen = observations(here, 3)
    previous = np.random.default_rng(1).uniform(-0.5, 0.5, (12, 7))
    future = np.random.default_rng(2).integers(0, 255, (2, 18, 64, 3), dtype=np.uint8)
    with served("tests.serving.stubs:Imaginer", "openpi") as port:
        there: Any
        other: Any
        there, other = (policies.load(f"openpi://127.0.0.1:{port}") for _ in range(2))
        answers = []
        for policy in (here, there):
            policy.reset("lift the red cube", 3)
            other.reset("press the button", 7)
            first = policy.act(seen[:1]).actions
            other.act(seen[:1])
            extracted = policy.extract(seen[1:2], future)
            answers.append((first, extracted, policy.act_guided(seen[2:], previous, 2).actions))
    assert isinstance(there, Guided) and all(map(np.array_equal, *answers))
    with served(WATCHER, "openpi") as port:
        plain = policies.load(f"openpi://127.0.0.1:{port}")
    assert not hasattr(plain, "extract") and not isinstance(plain, Guided)
