"""Shared fixtures. The stub simulator and policies are in `tests.stubs`, which worker processes import by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TASKS = ("LiftCube", "PressButton")
GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-golden", action="store_true", help="write the golden files anew; review the diff")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Returns a check that a text equals the golden file of a name, byte by byte."""

    def check(name: str, text: str) -> None:
        if request.config.getoption("--rewrite-golden"):
            (GOLDEN / name).write_text(text)
        assert text == (GOLDEN / name).read_text()

    return check


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Any]:
    """Returns a maker of small runs of the stub policies: two tasks, a few episodes, in a folder of their own."""
    from wambench.evaluation.config import RunConfig

    def make(policy: str = "tests.stubs:Steady", out: str = "run", **values: Any) -> RunConfig:
        return RunConfig.resolve(
            policy, **{"split": "seen", "tasks": TASKS, "episodes": 4, "out": tmp_path / out, **values}
        )

    return make
