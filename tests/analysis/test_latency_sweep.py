from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas
import pytest

from tests.stubs import line_sim
from wambench.analysis import latency_plot
from wambench.analysis.latency_sweep import COLUMNS, SweepConfig, retimed, sweep, to_text
from wambench.evaluation.run import run


def config(out: Path, **values: Any) -> SweepConfig:
    given = {"tasks": ("LiftCube",), "episodes": 3, "split": "seen", **values}
    return SweepConfig(("tests.stubs:Steady",), (0.0, 0.1, 1.5), ("sync", "async"), out=out, **given)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepConfig, pandas.DataFrame, list[str]]:
    it, said = config(tmp_path_factory.mktemp("sweep")), list[str]()
    return it, sweep(it, said.append, line_sim), said


def test_the_table(played: tuple[SweepConfig, pandas.DataFrame, list[str]]) -> None:
    it, table, _ = played
    assert tuple(table.columns) == COLUMNS and len(table) == 6
    assert table.equals(table.sort_values(["execution", "latency_s"], ascending=[False, True]))
    by = table.set_index(["execution", "latency_s"])
    assert (by["n"] == 3).all() and (by["n_error"] == 0).all()
    assert set(table[table["execution"] == "sync"]["progress"]) == {1.0}
    assert by.loc[("sync", 0.0), "progress_wall"] == 1.0
    assert by.loc[("sync", 1.5), "progress_wall"] == 0.5  # 3 turns of 30 + 8 steps within the horizon
    assert by.loc[("sync", 1.5), "effective_hz"] == pytest.approx(20 * 34 / 184)
    assert by.loc[("async", 0.0), "progress"] == 1.0 and by.loc[("async", 0.0), "holds"] == 0
    assert by.loc[("async", 1.5), "progress"] == 0.0 and by.loc[("async", 1.5), "holds"] == 40  # longer than a chunk
    live = table[table["execution"] == "async"]
    assert list(live["progress"]) == list(live["progress_wall"])
    assert (by["own_latency_s"] < 0.05).all()
    again = pandas.read_csv(it.out / "sweep.csv")
    assert np.allclose(again["progress_wall"], table["progress_wall"])
    assert len(to_text(table).splitlines()) == 7
    nothing = table.assign(progress=math.nan, progress_low=math.nan, progress_high=math.nan)
    assert "[nan" not in to_text(nothing)


def test_the_world_that_waits_is_played_once(played: tuple[SweepConfig, pandas.DataFrame, list[str]]) -> None:
    it, _, said = played
    folders = sorted(path.name for path in it.out.iterdir() if path.is_dir())
    name = "tests.stubs-Steady"
    assert folders == [f"{name}-{rest}" for rest in ("async-0", "async-0.1", "async-1.5", "sync-0")]
    assert len(said) == 6


def test_waiting_computed_is_waiting_played(
    played: tuple[SweepConfig, pandas.DataFrame, list[str]], tmp_path: Path
) -> None:
    """What a run with latency records is what the sweep computes from one without."""
    it = played[0]
    without = it.run_of("tests.stubs:Steady", "sync", 1.5)
    really = run(dataclasses.replace(without, latency="1.5", out=tmp_path / "really"), line_sim)
    computed = retimed(run(without, line_sim), without, 1.5)
    for name in ("progress", "progress_wall", "effective_hz", "steps", "latency"):
        assert [getattr(row, name) for row in computed] == pytest.approx([getattr(row, name) for row in really])


def test_it_continues(played: tuple[SweepConfig, pandas.DataFrame, list[str]]) -> None:
    it, table, _ = played
    rows = (it.out / "tests.stubs-Steady-async-0.1" / "episodes.csv").read_text()
    (it.out / "tests.stubs-Steady-async-0.1" / "episodes.csv").write_text(rows[:-40])  # killed while writing
    before = (it.out / "sweep.csv").read_bytes()
    again = sweep(it, make_sim=line_sim)
    columns = [name for name in COLUMNS if name != "own_latency_s"]
    assert np.allclose(again[columns[2:]], table[columns[2:]], equal_nan=True, atol=1e-5)
    assert (it.out / "sweep.csv").read_bytes()[:200] == before[:200]


def test_policies_without_guidance_are_left_out_of_rtc(tmp_path: Path) -> None:
    said: list[str] = []
    it = SweepConfig(("noop",), (0.0,), ("rtc", "sync"), "seen", tmp_path, ("LiftCube",), episodes=1)
    table = sweep(it, said.append, line_sim)
    assert list(table["execution"]) == ["sync"] and said[0] == "noop has no act_guided: left out of rtc"


def test_the_picture(played: tuple[SweepConfig, pandas.DataFrame, list[str]], tmp_path: Path) -> None:
    it, table, _ = played
    (path,) = latency_plot.plot([it.out], tmp_path / "figures")
    assert path.name == "sweep.png" and np.ptp(matplotlib.image.imread(path)) > 0.5
    axes = latency_plot.figure(table).axes
    assert [np.asarray(line.get_ydata()).tolist() for line in axes[1].lines[:3:2]] == [[1.0, 1.0, 0.5], [1.0, 1.0, 0.0]]
    assert all(line.get_marker() == "*" for line in axes[0].lines[1:4:2])  # own latency, on every line
    second = table.assign(policy="second")
    several = latency_plot.figure(pandas.concat([table, second[second["execution"] == "sync"]])).axes
    assert [len(panel.collections) for panel in several] == [2, 2, 1]  # second is left out of async
    assert [panel.get_title()[:5] for panel in several] == [
        "sync,",
        "sync,",
        "async",
    ]
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ValueError, match="no sweep at"):
        latency_plot.plot([it.out, other], tmp_path)
    (other / "sweep.csv").write_text("policy,execution\n")
    with pytest.raises(ValueError, match="no table of a sweep: latency_s, n"):
        latency_plot.plot([other], tmp_path)
    table.to_csv(other / "sweep.csv")
    with pytest.raises(ValueError, match="in two sweeps"):
        latency_plot.plot([it.out, other], tmp_path)
