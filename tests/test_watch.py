from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stubs import line_sim
from wambench import cli, watch
from wambench.analysis.intervals import Estimate
from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import run
from wambench.records import HEADER

Maker = Callable[..., RunConfig]


@pytest.fixture
def half(config: Maker) -> Path:
    """Returns a run of eight episodes of which four were played, ten seconds apart; a fifth is being written."""
    it = config("tests.stubs:Faulty", out="half", episodes=4)
    run(it, line_sim, lambda line: None)
    lines = (it.folder / "episodes.csv").read_text().splitlines(keepends=True)
    (it.folder / "episodes.csv").write_text("".join(lines[:5]) + lines[5][:20])
    for i, path in enumerate(sorted((it.folder / "episodes").glob("*.npz"))):
        if i < 4:
            os.utime(path, (1000 + 10 * i, 1000 + 10 * i))
        else:
            path.unlink()
    return it.folder


def test_state_counts_what_is_there(half: Path) -> None:
    state = watch.read(half, now=1035.0)
    assert state is not None
    assert [(task.name, task.done, task.total) for task in state.tasks] == [("LiftCube", 4, 4), ("PressButton", 0, 4)]
    assert (state.done, state.total, state.finished) == (4, 8, False)
    assert state.errors == state.tasks[0].errors == (half / "episodes.csv").read_text().count("policy_error") > 0
    assert "policy_error" in state.error
    assert state.pace_s == 10.0 and state.left_s == 40.0 and state.quiet_s == 5.0 and not state.has_stopped
    assert state.tasks[0].progress.low <= state.tasks[0].progress.mean <= state.tasks[0].progress.high
    assert watch.line(state).endswith("6.0 episodes/min, 40 s left")
    late = watch.read(half, now=1330.0)
    assert late is not None and late.has_stopped and "has it stopped?" in watch.line(late)


def test_pauses_are_no_part_of_the_pace() -> None:
    assert watch.pace([0, 1, 2, 3, 500, 501, 502]) == 1.0
    assert watch.pace([0, 1]) is None
    assert watch.speed(120.0) == "30.0 episodes/h" and watch.speed(None) == "speed unknown yet"
    assert [watch.duration(s) for s in (40, 720, 12000, None)] == ["40 s", "12 min", "3 h 20 min", "unknown"]


def test_bar_draws_the_interval() -> None:
    assert watch.bar(Estimate(0.5, 0.2, 0.9), 11) == "──━━━●━━━━─"
    assert watch.bar(Estimate(float("nan"), 0.0, 1.0), 4) == "────"


def test_table_has_tasks_and_no_markup(half: Path) -> None:
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=100)
    state = watch.read(half, 1035.0)
    assert state is not None
    console.print(watch.picture(state))
    text = console.file.getvalue()
    assert "LiftCube" in text and "4/4" in text and "0/4" in text and "●" in text and "last error" in text


def test_watching_ends_with_the_run(config: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    it = config("tests.stubs:Steady", out="live", policy_args={"pause_s": 0.02})
    it.folder.mkdir()
    playing = threading.Thread(target=run, args=(it, line_sim, lambda line: None))
    playing.start()
    watch.watch(it.folder, every_s=0.05)
    playing.join()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("tests.stubs:Steady on seen: 8/8 episodes, progress 1.00 [")
    assert len(lines) <= 2  # a log is not flooded


def test_once_and_errors(half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["watch", str(half), "--once"]) == 0
    assert "4/8 episodes" in capsys.readouterr().out
    assert cli.main(["watch", str(tmp_path / "no")]) == 2 and "no such folder" in capsys.readouterr().err
    other = tmp_path / "other"
    other.mkdir()
    (other / "episodes.csv").write_text(HEADER)
    assert cli.main(["watch", str(other)]) == 2 and "run.json" in capsys.readouterr().err
    (other / "run.json").write_text(json.dumps({"config": {}}))
    assert cli.main(["watch", str(other)]) == 2 and "damaged" in capsys.readouterr().err
    assert cli.main(["watch", str(half), "--every", "0"]) == 2
