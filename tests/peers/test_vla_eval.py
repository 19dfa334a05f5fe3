"""The real vla-eval of PyPI: its model servers under our client, its connection and harness against our server, and
wambench as its benchmark (`wambench[peers]`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving.served import served
from tests.stubs import line_sim
from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import run

reason = "vla-eval is not installed: pip install 'wambench[peers]'"
api = pytest.importorskip("vla_eval.api", reason=reason)
base = pytest.importorskip("vla_eval.model_servers.base", reason=reason)
predict = pytest.importorskip("vla_eval.model_servers.predict", reason=reason)
specs = pytest.importorskip("vla_eval.specs", reason=reason)
pytestmark = pytest.mark.slow

CONFIG = {
    "benchmarks": [
        {
            "benchmark": "wambench.vla_eval:WambenchBenchmark",
            "episodes_per_task": 1,
            "params": {"split": "seen", "tasks": ["LiftCube"], "image_size": 96},
        }
    ],
    "render": "cpu",
}


class Mover(predict.PredictModelServer):  # type: ignore[name-defined]
    """Moves in chunks of four; `rotation` and `fails` say what is wrong with it."""

    def __init__(self, rotation: Any = specs.ROTATION_AA, fails: bool = False) -> None:
        super().__init__(chunk_size=4)
        self.rotation, self.fails = rotation, fails
        self.seen: list[dict[str, Any]] = []

    def predict(self, obs: dict[str, Any], ctx: Any) -> dict[str, Any]:
        self.seen.append(obs)
        if self.fails and len(self.seen) > 2:
            raise KeyError("no such tensor")
        actions = np.zeros((4, 7), np.float32)
        actions[:, 0], actions[:, 6] = 0.6, -1.0
        return {"actions": actions}

    def get_action_spec(self) -> dict[str, Any]:
        names = ("position", "rotation", "gripper")
        return dict(zip(names, (specs.POSITION_DELTA, self.rotation, specs.GRIPPER_CLOSE_POS), strict=True))

    def get_observation_spec(self) -> dict[str, Any]:
        return {"agentview": specs.IMAGE_RGB, "language": specs.LANGUAGE, "state": specs.STATE_EEF_POS_AA_GRIP}

    def get_observation_params(self) -> dict[str, Any]:
        return {"send_state": True}


def play(server: Mover, out: Path) -> list[Any]:
    """Returns the rows of a run of our client against a model server of vla-eval."""
    with api.serve_background(server) as handle:
        policy = f"vla-eval://127.0.0.1:{handle.port}"
        return run(RunConfig.resolve(policy, "seen", ("LiftCube",), episodes=2, out=out), line_sim)


def test_our_client_plays_its_model_server(tmp_path: Path) -> None:
    server = Mover()
    rows = play(server, tmp_path / "run")
    assert [(row.status, row.progress, row.steps) for row in rows] == [("ok", 1.0, 34)] * 2
    asked = server.seen[-1]
    assert list(asked["images"]) == ["agentview"], "the wrist's picture was not asked for"
    assert asked["images"]["agentview"].shape == (256, 256, 3) and asked["task_description"] == "lift the red cube"
    assert asked["states"].shape == (8,) and asked["states"][0] > 0.9


def test_an_error_of_its_model_server_is_a_row(tmp_path: Path) -> None:
    rows = play(Mover(fails=True), tmp_path / "run")
    assert rows[0].status == "policy_error" and "KeyError" in rows[0].error


def test_a_format_that_does_not_fit_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="rotation: the server answers euler_xyz, the adapter expects axis_angle"):
        play(Mover(rotation=specs.ROTATION_EULER), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    """Returns what its harness reports of a policy that our server serves, in our benchmark."""
    with served("noop", "vla-eval") as port:
        out = tmp_path_factory.mktemp("vla-eval")
        yield api.run(CONFIG, server_url=f"ws://127.0.0.1:{port}", output_dir=out, docker=False)


def test_its_harness_plays_our_benchmark_with_our_server(results: list[Any]) -> None:
    [benchmark] = results
    [task] = benchmark["tasks"]
    [episode] = task["episodes"]
    assert task["task"] == "LiftCube" and episode["metrics"]["success"] is False
    assert episode["metrics"]["progress"] == 0.0 and benchmark["mean_progress"] == 0.0
