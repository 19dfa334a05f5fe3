"""`wambench watch`: how far a run that is being played has come; a live table in a terminal, lines in a pipe.

It only reads what the run leaves on disk, so that it can be started and stopped at any time, also from another machine
that sees the folder.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wambench.analysis.intervals import Estimate, bounded_mean, text
from wambench.records import ROWS, RUN, Row, read_rows

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

RECENT = 40  # recordings whose times say how fast it goes
PAUSE = 10.0  # a gap of so many usual ones is a pause of the run, and says nothing about its speed
QUIET_S = 120.0  # without a new episode, at least, before it is asked whether the run has stopped
LINE_EVERY_S = 60.0
WIDTH = 24  # letters of an interval


@dataclass(frozen=True)
class TaskState:
    """What has been played of one task: episodes of `total`, those in error, and mean progress so far."""

    name: str
    done: int
    total: int
    errors: int
    progress: Estimate


@dataclass(frozen=True)
class RunState:
    """How far a run has come.

    Attributes:
        title: Policy and split.
        tasks: In the order of the run.
        progress: Over all tasks.
        pace_s: Seconds from one finished episode to the next, None if not known yet.
        quiet_s: Seconds since the last one, None if there is none.
        error: The last error, "" if there is none.
    """

    title: str
    tasks: tuple[TaskState, ...]
    progress: Estimate
    pace_s: float | None
    quiet_s: float | None
    error: str

    @property
    def done(self) -> int:
        """Episodes that have a row."""
        return sum(task.done for task in self.tasks)

    @property
    def total(self) -> int:
        """Episodes that the run is to have."""
        return sum(task.total for task in self.tasks)

    @property
    def errors(self) -> int:
        """Episodes that ended in an error."""
        return sum(task.errors for task in self.tasks)

    @property
    def finished(self) -> bool:
        """Every episode has a row."""
        return self.done >= self.total

    @property
    def left_s(self) -> float | None:
        """Seconds until it is finished, if it goes on as it went; None if that is not known."""
        return None if self.pace_s is None else self.pace_s * (self.total - self.done)

    @property
    def has_stopped(self) -> bool:
        """Nothing has come for so long that the run has probably been stopped."""
        usual = PAUSE * (self.pace_s or 0.0)
        return not self.finished and self.quiet_s is not None and self.quiet_s > max(QUIET_S, usual)


def read(run: Path, now: float) -> RunState | None:
    """Returns how far a run has come at a time (seconds since 1970), None if it has not begun to write.

    Raises:
        ValueError: There is no such folder, or it holds something else.
    """
    if not run.is_dir():
        raise ValueError(f"no run at {run}: there is no such folder")
    if not (run / RUN).is_file():
        if any(not path.name.startswith(".") for path in run.iterdir()):
            raise ValueError(f"no run at {run}: there is no {run / RUN}")
        return None
    try:
        config = json.loads((run / RUN).read_text())["config"]
        per_task = len(config["factors"]) * int(config["episodes"])
        names = [str(name) for name in config["tasks"]]
        title = f"{config.get('name') or config['policy']} on {config['split']}"
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{run / RUN}: damaged: {error}") from error
    rows = read_rows(run / ROWS, torn=True) if (run / ROWS).is_file() else []
    tasks = tuple(_task_state(name, per_task, rows) for name in names)
    errors = [f"{row.task} {row.episode}, {row.status}: {row.error}" for row in rows if row.status != "ok"]
    times = sorted(path.stat().st_mtime for path in (run / "episodes").glob("*.npz"))[-RECENT:]
    return RunState(
        title, tasks, _progress(rows), pace(times), now - times[-1] if times else None, (errors or [""])[-1]
    )


def _task_state(name: str, total: int, rows: Sequence[Row]) -> TaskState:
    own = [row for row in rows if row.task.rpartition("-v")[0] == name]
    return TaskState(name, len(own), total, sum(row.status != "ok" for row in own), _progress(own))


def _progress(rows: Sequence[Row]) -> Estimate:
    fine = [row for row in rows if row.status == "ok"]
    tasks = sorted({row.task for row in fine})
    return bounded_mean([np.array([row.progress for row in fine if row.task == task]) for task in tasks])


def pace(times: Sequence[float]) -> float | None:
    """Returns the mean seconds between finished episodes, pauses left out; None with fewer than three."""
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    if len(gaps) < 2:
        return None
    usual = PAUSE * max(statistics.median(gaps), 1e-3)
    return statistics.fmean(gap for gap in gaps if gap <= usual)


def duration(seconds: float | None) -> str:
    """Returns "40 s", "12 min" or "3 h 20 min"."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def speed(pace_s: float | None) -> str:
    """Returns how many episodes there are in a minute, or in an hour if they are few."""
    if pace_s is None or pace_s <= 0:
        return "speed unknown yet"
    return f"{60 / pace_s:.1f} episodes/min" if pace_s < 60 else f"{3600 / pace_s:.1f} episodes/h"


def line(state: RunState) -> str:
    """Returns the state as one line."""
    words = [f"{state.done}/{state.total} episodes", f"progress {text(state.progress, 2)}", f"{state.errors} errors"]
    if not state.finished:
        words += [speed(state.pace_s), f"{duration(state.left_s)} left" if state.left_s is not None else ""]
    if state.has_stopped:
        words.append(f"nothing new for {duration(state.quiet_s)}: has it stopped?")
    return f"{state.title}: {', '.join(word for word in words if word)}"


def bar(estimate: Estimate, width: int = WIDTH) -> str:
    """Returns an interval on [0, 1] as text: a dot for the mean, a thick line for the interval."""
    if estimate.mean != estimate.mean:
        return "─" * width
    low, mean, high = (round(value * (width - 1)) for value in (estimate.low, estimate.mean, estimate.high))
    signs = ["━" if low <= i <= high else "─" for i in range(width)]
    signs[mean] = "●"
    return "".join(signs)


def picture(state: RunState) -> RenderableType:
    """Returns the state as a table of rich. Names and errors are text there, never markup."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("task")
    for name in ("episodes", "errors", "progress"):
        table.add_column(name, justify="right")
    table.add_column("0" + " " * (WIDTH - 2) + "1")
    for task in state.tasks:
        errors = Text(str(task.errors), style="bold red" if task.errors else "dim")
        mean = text(task.progress, 2)
        table.add_row(Text(task.name), f"{task.done}/{task.total}", errors, mean, Text(bar(task.progress), "cyan"))
    sums = (f"{state.done}/{state.total}", str(state.errors), text(state.progress, 2), bar(state.progress))
    table.add_row(*(Text(word, "bold") for word in ("all", *sums)))
    below = "finished" if state.finished else f"{speed(state.pace_s)}, {duration(state.left_s)} left"
    parts: list[Any] = [Text(state.title, "bold"), Text(), table, Text(), Text(below, "dim")]
    if state.has_stopped:
        parts.append(
            Text(f"nothing new for {duration(state.quiet_s)}: has it stopped? Its command continues it", "yellow")
        )
    if state.error:
        parts.append(Text(f"last error: {state.error}", "red", overflow="ellipsis", no_wrap=True))
    return Group(*parts)


def watch(run: Path, every_s: float = 2.0, once: bool = False, console: Console | None = None) -> None:
    """Shows how far a run has come until it is finished.

    Args:
        run: Its folder; if the run has not begun to write there, it is waited for.
        every_s: Seconds between two looks.
        once: Only look once.
        console: Where a live table is shown; None for lines on standard output.

    Raises:
        ValueError: There is no such folder, or it holds no run.
    """
    if not every_s > 0:
        raise ValueError(f"every must be positive, not {every_s:g}")
    if console is None:
        _follow(run, every_s, once, _Lines().show)
        return
    from rich.live import Live
    from rich.text import Text

    with Live(Text("waiting for the run to begin"), console=console, auto_refresh=False) as live:
        _follow(run, every_s, once, lambda state: live.update(picture(state), refresh=True))


def _follow(run: Path, every_s: float, once: bool, show: Callable[[RunState], None]) -> None:
    while True:
        state = read(run, time.time())
        if state is not None:
            show(state)
        if once or (state is not None and state.finished):
            return
        time.sleep(every_s)


class _Lines:
    """Prints a state as a line: the first, the last, and one a minute if there is something new."""

    def __init__(self) -> None:
        self._said: Mapping[str, Any] = {}

    def show(self, state: RunState) -> None:
        """Prints the state if it is time to."""
        now, new = time.monotonic(), line(state)
        due = not self._said or state.finished or now - self._said["at"] >= LINE_EVERY_S
        if due and new != self._said.get("line"):
            print(new, flush=True)
            self._said = {"at": now, "line": new}
