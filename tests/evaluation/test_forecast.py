"""What a run would take: against rows that are made up, and against the published ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from wambench import records, tasks
from wambench.evaluation import forecast
from wambench.evaluation.config import RunConfig
from wambench.records import Row, episode_stem, read_rows

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "episodes.csv"


def config(out: Path, **values: Any) -> RunConfig:
    asked: dict[str, Any] = {"tasks": ("LiftCube", "PressButton"), "episodes": 4, "out": out, **values}
    return RunConfig.resolve("noop", "seen", **asked)


def record(run: RunConfig, seconds: dict[tuple[str, int], float], size: int = 1000) -> None:
    """Leaves a run of episodes that took some seconds, with files of a size."""
    assert run.out is not None
    (run.out / "episodes").mkdir(parents=True)
    (run.out / "run.json").write_text(json.dumps({"config": run.recorded()}))
    like = read_rows(GOLDEN)[0]
    rows = [_row(like, name, episode, wall_s) for (name, episode), wall_s in seconds.items()]
    (run.out / "episodes.csv").write_text(records.HEADER + "".join(map(records.to_line, rows)))
    for row in rows:
        (run.out / "episodes" / f"{episode_stem(row.key)}.npz").write_bytes(b"0" * size)


def _row(like: Row, name: str, episode: int, wall_s: float) -> Row:
    task = tasks.find(name).id
    return dataclasses.replace(like, task=task, episode=episode, wall_s=wall_s, status="ok", factor="none")


def test_without_a_recorded_run_the_rates_hold(tmp_path: Path) -> None:
    told = forecast.forecast(config(tmp_path / "new"))
    steps = 4 * sum(tasks.find(name).horizon for name in ("LiftCube", "PressButton"))
    assert told.seconds == pytest.approx(steps * forecast.SECONDS["noop"] + 2 * forecast.COMPILING_S)
    assert told.bytes == steps * forecast.BYTES and told.at_most
    assert "docs/running.md" in told.basis
    assert set(told.missing.values()) == {4}
    assert not list(tmp_path.iterdir())


def test_workers_share_the_time(tmp_path: Path) -> None:
    one, two = (forecast.forecast(config(tmp_path / "new", workers=workers)) for workers in (1, 2))
    assert two.seconds == pytest.approx(one.seconds / 2)


def test_a_recorded_run_of_the_policy_counts_task_by_task(tmp_path: Path) -> None:
    record(config(tmp_path / "old"), {("LiftCube", 0): 9.0, ("LiftCube", 1): 1.0, ("LiftCube", 2): 1.0})
    told = forecast.forecast(config(tmp_path / "new", seed=1))
    assert told.seconds == pytest.approx(4 * 1.0 + 8.0 + 4 * 1.0 + forecast.COMPILING_S)
    assert told.bytes == 8 * 1000
    assert told.basis == f"3 episodes of {tmp_path / 'old'}" and not told.at_most


@pytest.mark.parametrize("other", [{"visual": "full"}, {"policy_args": {"chunk": 4}}, {"execution": "async"}])
def test_a_run_that_takes_another_time_does_not_count(other: dict[str, Any], tmp_path: Path) -> None:
    record(config(tmp_path / "old"), {("LiftCube", 0): 1.0})
    assert forecast.recorded_like(config(tmp_path / "new", **other)) is None


def test_what_is_there_is_not_counted_and_errors_as_the_run_counts_them(tmp_path: Path) -> None:
    run = config(tmp_path / "run")
    record(run, {("LiftCube", 0): 1.0, ("LiftCube", 1): 1.0, ("PressButton", 0): 1.0})
    table = tmp_path / "run" / "episodes.csv"
    rows = read_rows(table)
    failed = dataclasses.replace(rows[0], status="policy_error", error="ValueError: no")
    table.write_text(records.HEADER + "".join(map(records.to_line, [failed, *rows[1:]])))
    told = forecast.forecast(run)
    assert told.missing == {("LiftCube", "none"): 2, ("PressButton", "none"): 3}
    again = forecast.forecast(dataclasses.replace(run, retry_errors=True))
    assert again.missing == {("LiftCube", "none"): 3, ("PressButton", "none"): 3}
    text = forecast.to_text(told)
    assert "LiftCube     2 of 4" in text and "8 episodes, 3 of them there already; 5 to play" in text


def test_factors_are_columns(tmp_path: Path) -> None:
    run = RunConfig.resolve("pi0", "unseen-envs", ("LiftCube",), ("camera", "lighting"), episodes=2, out=tmp_path / "r")
    assert "task      camera  lighting\n  LiftCube  2       2\n" in forecast.to_text(forecast.forecast(run))


@pytest.mark.slow
def test_the_rates_are_those_of_the_published_rows() -> None:
    """Within a third: the published rows may be played again, and then the table of docs/running.md follows."""
    rows = records.load(records.find_runs([ROOT / "results" / "reference"]))
    rows = rows[rows["status"] == "ok"]
    for policy, own in rows.groupby("policy"):
        assert forecast.SECONDS[str(policy)] == pytest.approx(own["wall_s"].sum() / own["steps"].sum(), rel=0.33)
    documented = (ROOT / "docs" / "running.md").read_text()
    for policy, seconds in forecast.SECONDS.items():
        name = "noop (the simulator alone)" if policy == "noop" else policy
        assert f"| {name} | {1000 * seconds:.1f} |" in documented


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (forecast.duration(40), "40 s"), (forecast.duration(720), "12 min"), (forecast.duration(12600), "3.5 h"),
        (forecast.size(4e5), "0.4 MB"), (forecast.size(1.2e7), "12 MB"), (forecast.size(3.46e9), "3.5 GB"),
    ],
)  # fmt: skip
def test_times_and_sizes_are_short(text: str, said: str) -> None:
    assert text == said
