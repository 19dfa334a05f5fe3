"""A few real episodes, collected once: demonstrations, video without actions, and a run of the expert."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

TASKS = ("LiftCube", "PressButton")


def needs(*modules: str) -> pytest.MarkDecorator:
    """Returns a mark that skips, saying why, where a package is missing."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs wambench[datasets]: {', '.join(missing)} missing")


@pytest.fixture(scope="session")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of four demonstrations of two tasks."""
    from wambench.collection import CollectConfig, collect

    return collect(CollectConfig.resolve("demos", TASKS, 2, tmp_path_factory.mktemp("demos") / "demos", seed=3))


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a video without actions, of odd length or not."""
    from wambench.collection import CollectConfig, collect

    out = tmp_path_factory.mktemp("video") / "video"
    return collect(CollectConfig.resolve("video", ("PressButton",), 1, out, seed=3))


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a run: two episodes of a policy that does not know better."""
    from wambench.evaluation.config import RunConfig
    from wambench.evaluation.run import run

    out = tmp_path_factory.mktemp("run") / "run"
    run(RunConfig.resolve("random", "seen", tasks=("PressButton",), episodes=2, out=out), tell=lambda _: None)
    return out


@pytest.fixture(scope="session")
def v30(demos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the demonstrations as a dataset of layout v3.0."""
    from wambench.datasets.export import ExportConfig, export

    return export(ExportConfig((demos,), tmp_path_factory.mktemp("v30") / "dataset"))


@pytest.fixture(scope="session")
def v21(demos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the demonstrations as a small dataset of layout v2.1, with the size that trainings here have."""
    from wambench.datasets.export import ExportConfig, export

    out = tmp_path_factory.mktemp("v21") / "dataset"
    return export(ExportConfig((demos,), out, format="lerobot-v2.1", image_size=(96, 96)))


@pytest.fixture(scope="session")
def lerobot_python() -> str:
    """Returns an interpreter that has lerobot; skips where there is none."""
    named = os.environ.get("WAMBENCH_LEROBOT_PYTHON", "")
    if named:
        return named
    if importlib.util.find_spec("lerobot") is None:
        pytest.skip("no lerobot here: WAMBENCH_LEROBOT_PYTHON names the interpreter of an environment that has it")
    return sys.executable
