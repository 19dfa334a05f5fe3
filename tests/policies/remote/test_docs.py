"""docs/remote.md is what it says: its server plays, its adapter loads, its tables name what there is."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.serving.served import free_port
from tests.stubs import line_sim
from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import run
from wambench.policies.remote import adapter as adapters

PAGE = (Path(__file__).parents[3] / "docs" / "remote.md").read_text()


def block(kind: str) -> str:
    """Returns the first block of a kind."""
    found = re.search(rf"```{kind}[^\n]*\n(.*?)```", PAGE, flags=re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_the_server_of_the_page_plays(tmp_path: Path) -> None:
    pytest.importorskip("websockets", reason="needs wambench[remote]")
    port = free_port()
    code = block("python").replace("8000", str(port))
    config = RunConfig.resolve(
        f"openpi://127.0.0.1:{port}",
        "seen",
        ("LiftCube",),
        episodes=1,
        policy_args={"adapter": "libero", "wait_s": 20.0},
        out=tmp_path / "run",
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        time.sleep(0.5)
        try:
            [row] = run(config, line_sim)
        finally:
            process.kill()
    assert (row.status, row.steps, row.progress) == ("ok", 40, 0.0), "it keeps still"
    assert '"checkpoint": "step-1000"' in (tmp_path / "run" / "run.json").read_text()


def test_the_adapter_of_the_page_is_one(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(block("toml"))
    adapter = adapters.load(str(tmp_path / "mine.toml"))
    assert adapter.execute == 5 and adapter.history == (-15, 0) and adapter.images["observation/image"].mirror


def test_every_shipped_adapter_is_in_the_table() -> None:
    table = PAGE.partition("## Dialects")[2].partition("\n\n##")[0]
    assert [name for name in adapters.shipped() if f"`{name}`" not in table] == []
