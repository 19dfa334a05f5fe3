"""One page for all tests of the report: recorded runs of stub policies, an attribution, a sweep, and hostile text."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TASKS
from tests.stubs import line_sim
from wambench.attribution import table
from wambench.attribution.table import AttributionRow
from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import run
from wambench.records import HEADER, ROWS, read_rows, to_line
from wambench.report.report import report

HOSTILE = "<script>window.hacked=1</script><img src=x onerror='window.hacked=2'>"
SWEEP = """policy,execution,latency_s,n,n_error,progress,progress_low,progress_high,progress_wall,progress_wall_low,\
progress_wall_high,stale_ratio,holds,effective_hz,boundary_jump,jerk,own_latency_s
steady,sync,0,8,0,0.8,0.7,0.9,0.8,0.7,0.9,0,0,20,0,0,0.03
steady,sync,0.4,8,1,0.8,0.7,0.9,0.4,0.3,0.5,0,0,10,0,0,0.03
steady,async,0.4,8,0,0.5,0.4,0.6,0.5,0.4,0.6,0,0,20,0,0,0.03
"""


def play(policy: str, out: Path, episodes: int = 2, split: str = "seen", **values: Any) -> Path:
    """Plays a small run of a stub policy and returns its folder."""
    config = RunConfig.resolve(policy, split, TASKS, episodes=episodes, out=out, **values)
    run(config, line_sim, lambda line: None)
    return config.folder


def attribute(folder: Path) -> None:
    """Writes an attribution of the first episode of a run."""
    first = read_rows(folder / ROWS)[0]
    names = ("policy", "split", "task", "novelty", "factor", "episode", "seed", "spec_hash")
    about = {name: getattr(first, name) for name in names}
    row = AttributionRow(
        **about, progress=0.5, own_own=0.5, oracle_own=1.0, own_oracle=0.5, oracle_oracle=1.0, video=0.5, action=0.0,
        unattributed=0.0, timing=0.0, placebo=0.0, d1="action", d1_confidence=0.7, d2="video", d2_confidence=1.0,
        d3="video", d3_confidence=0.5, no_return=1, no_return_s=0.4, chunks=4, steps=40, behaviour="wrong object",
    )  # fmt: skip
    (folder / table.TABLE).write_text(table.to_csv([row]))


def make_hostile(folder: Path) -> None:
    """Gives policy, prompt and an error of a run names that are markup."""
    rows = read_rows(folder / ROWS)
    rows = [dataclasses.replace(row, policy=HOSTILE, prompt=HOSTILE) for row in rows]
    rows[0] = dataclasses.replace(rows[0], status="policy_error", error=f"{HOSTILE} {'x' * 900}")
    (folder / ROWS).write_text(HEADER + "".join(map(to_line, rows)))


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of runs and, beside them, one of a sweep."""
    root = tmp_path_factory.mktemp("report")
    runs = root / "runs"
    attribute(play("tests.stubs:Steady", runs / "steady", name="steady"))
    play("tests.stubs:Steady", runs / "slow", name="slow", policy_args={"speed": 0.3})
    play("tests.stubs:Steady", runs / "elsewhere", 1, "unseen-envs", name="steady")
    make_hostile(play("noop", runs / "hostile", 1))
    (root / "sweep").mkdir()
    (root / "sweep" / "sweep.csv").write_text(SWEEP)
    return root


@pytest.fixture(scope="session")
def site(played: Path) -> Path:
    """Returns the folder of the page of all that was played."""
    return report([played / "runs", played / "sweep"], played / "site", "A <b>title</b>").parent


def data_of(site: Path) -> Any:
    """Returns the data of a page."""
    script = (site / "data.js").read_text()
    return json.loads(script.removeprefix("const WAMBENCH = ").removesuffix(";\n"))
