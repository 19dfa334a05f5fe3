"""Runs on a Ray cluster of two nodes on this machine: the rows of an undisturbed run, also if a node is killed."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.test_inference_process import Ear
from tests.evaluation.test_run import recorded, timeless
from tests.stubs import line_sim
from wambench.evaluation.config import RunConfig
from wambench.evaluation.process_pool import WorkerFailed
from wambench.evaluation.run import run

Maker = Callable[..., RunConfig]
MISSING = importlib.util.find_spec("ray") is None
needs_ray = pytest.mark.skipif(MISSING, reason="Ray is not installed: pip install 'wambench[ray]'")
STORE_BYTES = 100 * 2**20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        made = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False},
        )
        made.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        made.shutdown()


@needs_ray
@pytest.mark.slow
def test_a_node_killed_in_mid_run_changes_no_row(config: Maker, cluster: Any, tmp_path: Path) -> None:
    """The first episodes come from the built-in pool, and the cluster goes on where it stopped."""
    (tmp_path / "marks").mkdir()
    arguments = {"pause_s": 0.05, "marks": str(tmp_path / "marks")}

    def part(out: str, **values: Any) -> RunConfig:
        return config("tests.stubs:Together", out=out, policy_args=arguments, **values)

    alone, it, ear = part("alone", episodes=16), part("cluster", episodes=16, cluster="auto", workers=2), Ear()
    run(alone, line_sim)
    run(part("cluster", episodes=3), line_sim)
    node = next(iter(cluster.worker_nodes))
    raylet = node.all_processes["raylet"][0].process.pid

    def kill() -> None:
        while raylet not in {parent_of(int(path.name)) for path in (tmp_path / "marks").iterdir()}:
            time.sleep(0.01)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    rows = run(it, line_sim, ear)
    killer.join(60)
    cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    assert any("is played again: the worker, or its machine, died" in line for line in ear.lines), ear.lines
    assert len(rows) == 32 and recorded(it.folder) == recorded(alone.folder)
    assert {row.status for row in rows} == {"ok"}


def parent_of(process: int) -> int:
    """Returns the number of a process's parent, 0 if it is gone."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


@needs_ray
@pytest.mark.slow
def test_a_replica_that_dies_is_started_anew_and_its_episodes_are_played_again(
    config: Maker, cluster: Any, tmp_path: Path
) -> None:
    arguments = {"grave": str(tmp_path / "grave")}
    it = config("tests.stubs:Mortal", cluster="auto", policy_batch=4, policy_args=arguments)
    ear = Ear()
    rows = run(it, line_sim, ear)
    assert (tmp_path / "grave").exists() and {row.status for row in rows} == {"ok"}
    assert any("is played again: the policy's process died" in line for line in ear.lines), ear.lines
    alone = config("tests.stubs:Mortal", out="alone", policy_args=arguments)
    assert timeless(rows) == timeless(run(alone, line_sim))


@needs_ray
@pytest.mark.slow
def test_errors_are_those_of_the_built_in_pool_and_stop_the_run_at_once(config: Maker, cluster: Any) -> None:
    alone = config("tests.stubs:Faulty", out="alone", episodes=2)
    it = config("tests.stubs:Faulty", out="cluster", episodes=2, cluster="auto", workers=2)
    assert timeless(run(it, line_sim)) == timeless(run(alone, line_sim))
    for policy, values, said in (
        ("tests.stubs:Unfit", {}, "gripper: the environment has 'close_positive'"),
        ("tests.stubs:Together", {"policy_device": "cuda"}, "there is no GPU in the cluster for policy_device=cuda"),
        ("tests.stubs:Stedy", {"policy_batch": 2}, "did you mean 'Steady'?"),
    ):
        refused = config(policy, out="refused", cluster="auto", **values)
        with pytest.raises(WorkerFailed) as error:
            run(refused, line_sim)
        assert said in str(error.value) and not refused.folder.exists()


@needs_ray
@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_one_line(config: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    it = config(cluster="ray://127.0.0.1:1")
    with pytest.raises(ValueError, match=r"no Ray cluster answers at 'ray://127\.0\.0\.1:1': Connection refused"):
        run(it, line_sim)
    assert not it.folder.exists()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cluster": "loca"}, "unknown cluster 'loca'; did you mean 'local'? there are: local, auto, or ray://HOST"),
        ({"cluster": "ray://head"}, "or ray://HOST:PORT"),
        ({"cluster": "local", "clock": "wall"}, "on the wall clock a run is played here"),
        ({"cluster": "local", "policy_device": "cuda:1"}, "say cuda, not cuda:1"),
    ],
)
def test_wrong_values_are_told_before_anything_starts(
    config: Maker, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], said: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found("json" if name == "ray" else name))
    with pytest.raises(ValueError, match=r".") as refused:
        config(**values)
    assert said in str(refused.value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else found(name))
    with pytest.raises(ValueError, match=r"needs Ray, which is not installed: pip install 'wambench\[ray\]'"):
        config(cluster="auto")
