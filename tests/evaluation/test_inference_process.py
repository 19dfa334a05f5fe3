"""Runs whose policy lives in a process of its own: the rows of a run without, whatever becomes of the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.evaluation.test_run import recorded, timeless
from tests.stubs import line_sim
from wambench.evaluation import process_pool
from wambench.evaluation.config import RunConfig
from wambench.evaluation.process_pool import WorkerFailed
from wambench.evaluation.run import run
from wambench.evaluation.worker import Make

Maker = Callable[..., RunConfig]


class Ear:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(
    ("policy", "values"),
    [
        ("tests.stubs:Together", {"policy_args": {"every": 5}}),
        ("random", {"policy_device": "cpu", "smooth": True}),
        ("tests.stubs:Together", {"execution": "rtc", "latency": "0.1", "policy_device": "cpu"}),
    ],
)
def test_rows_and_recordings_are_those_of_policies_in_workers(
    config: Maker, policy: str, values: dict[str, Any]
) -> None:
    plain = {name: value for name, value in values.items() if name != "policy_device"}
    alone = config(policy, out="alone", **plain)
    shared = config(policy, out="shared", workers=3, policy_batch=4, **values)
    assert timeless(run(alone, line_sim)) == timeless(run(shared, line_sim))
    assert recorded(alone.folder) == recorded(shared.folder)
    assert alone.recorded() == shared.recorded(), "one goes on with the other's folder"


def test_on_the_wall_clock(config: Maker) -> None:
    rows = run(config(clock="wall", policy_batch=2, episodes=1), line_sim)
    assert [row.status for row in rows] == ["ok", "ok"]


def test_the_death_of_the_process_is_an_error_of_the_machine_and_the_run_goes_on(config: Maker) -> None:
    it, ear = config("tests.stubs:Faulty", policy_args={"fault": "exit"}, policy_batch=2, workers=2), Ear()
    rows = run(it, line_sim, ear)
    lost = [row for row in rows if row.status != "ok"]
    assert {row.key for row in rows if row.seed % 3 == 0} <= {row.key for row in lost}
    assert {row.error for row in lost} == {"machine: the policy's process died"} and all(row.of_machine for row in lost)
    assert len(lost) < len(rows) and "the policy's process died or hung, and was started anew" in ear.lines
    run(it, line_sim, ear)
    assert any("are errors that are played again" in line for line in ear.lines)


@pytest.mark.slow
def test_a_process_that_hangs_is_started_anew(config: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_pool, "GRACE_S", 0.5)
    monkeypatch.setattr(process_pool, "TICK_S", 0.1)
    it = config("tests.stubs:Faulty", policy_args={"fault": "hang"}, time_limit_s=0.5, policy_batch=1)
    rows = run(it, line_sim)
    assert {row.status for row in rows if row.seed % 3 == 0} == {"timeout"}
    assert {row.status for row in rows if row.seed % 3} == {"ok"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"policy_batch": 0}, "policy_batch must be at least 1, not 0"),
        ({"policy_device": "gpu"}, "policy_device must be cpu, cuda or cuda:NUMBER, not 'gpu'"),
        ({"policy": "expert", "policy_device": "cpu"}, "the expert reads the simulator"),
        ({"policy": "oracle-choice", "policy_batch": 2}, "the oracle-choice reads the simulator"),
        (
            {"policy": "pi0", "policy_device": "cpu", "policy_args": {"device": "cuda"}},
            "policy_device=cpu and device=cuda of the policy's arguments disagree",
        ),
    ],
)
def test_wrong_values_are_told_before_anything_starts(config: Maker, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        config(**values)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("policy", "values", "said"),
    [
        ("tests.stubs:Together", {"policy_device": "cuda:99"}, "there is no device 'cuda:99' here: torch"),
        ("tests.stubs:Stedy", {"policy_batch": 1}, "did you mean 'Steady'?"),
        ("tests.stubs:Together", {"policy_batch": 1, "policy_args": {"evry": 1}}, "did you mean 'every'?"),
        ("tests.stubs:Unfit", {"policy_batch": 1}, "gripper: the environment has 'close_positive'"),
    ],
)
def test_a_policy_that_cannot_be_made_stops_the_run_at_once(
    config: Maker, policy: str, values: dict[str, Any], said: str
) -> None:
    it = config(policy, **values)
    with pytest.raises(WorkerFailed) as refused:
        run(it, line_sim)
    assert said in str(refused.value) and "\n" not in str(refused.value) and not it.folder.exists()


def test_the_device_is_given_to_policies_that_take_one_and_decides_the_run(config: Maker) -> None:
    together: Any = Make("tests.stubs:Together", {}, device="cuda")()
    assert together.device == "cuda" and Make("noop", {}, device="cpu")()
    with pytest.raises(ValueError, match="policy 'noop' has no argument device: it cannot be put on 'cuda'"):
        Make("noop", {}, device="cuda")()
    gpu, cpu, plain = (config("tests.stubs:Together", policy_device=device) for device in ("cuda", "cpu", ""))
    assert cpu.recorded() == plain.recorded() and gpu.recorded()["policy_device"] == "cuda"
    assert (gpu.batch, cpu.batch, config(policy_device="cuda", policy_batch=3).batch) == (8, 1, 3)
    assert plain.label == gpu.label
    assert gpu.shared_by() == {"policy_batch": 8} and plain.shared_by() == {}
    assert config(name="cpu").recorded()["name"] == "cpu"
