"""What a run leaves on disk: `run.json`, `episodes.csv` and one file of artefacts per episode.

    DIR/run.json                                       configuration and origin of the run
    DIR/episodes.csv                                   one row per episode (`COLUMNS`)
    DIR/episodes/<task>.<factor>.<episode>.npz         frames, actions, states (`encode_episode`, `load_episode`)
    DIR/videos/<task>.<factor>.<episode>.mp4           with --record-video
    DIR/films/<task>.<factor>.<episode>.mp4            with --film
    DIR/errors/<task>.<factor>.<episode>.txt           traceback of an error

Only the parent process of a run writes here. Files appear whole (written beside, synced, renamed) and rows are
appended and synced one by one, an episode's row after its other files, so a kill at any moment loses at most the
episodes being played, and what is recorded is never rewritten before the run is complete. An error that is played
again keeps its row until the new one is there.

A run may grow: its tasks, factors and episodes are those of everything that was ever asked of it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wambench.records.files import append, locked, write_whole
from wambench.records.rows import HEADER, ROWS, RUN, Key, Row, episode_stem, numbered_rows, to_line

FILES = ("episodes/{}.npz", "videos/{}.mp4", "films/{}.mp4", "errors/{}.txt")  # of an episode, by its stem
GROWING = ("tasks", "factors", "episodes")  # what a run covers: may grow from one command to the next
FREE = ("record_video", "time_limit_s")  # without influence on an episode that ends well
JsonConfig = Mapping[str, Any]


class RunFolder:
    """The folder of a run while it is being written: locked, checked, and continued where it stopped.

    Args:
        path: The folder; made if missing.
        config: The JSON configuration. A folder with another one is refused, unless they differ only in what may grow
            (`GROWING`: the run then covers both) or has no influence on the rows (`FREE`).

    Attributes:
        config: The JSON configuration of everything that is there or asked for.
        rows: Rows recorded so far, by key.

    Raises:
        ValueError: The folder holds another configuration or damaged rows, or another process is writing to it.
        OSError: It cannot be written to.
    """

    def __init__(self, path: Path, config: JsonConfig) -> None:
        self.path = path
        self.rows: dict[Key, Row] = {}
        self.config: JsonConfig = json.loads(json.dumps(config))

    def __enter__(self) -> RunFolder:
        self._new = not self.path.exists()
        if self.path.is_file():
            raise ValueError(f"{self.path} is a file, and a run needs a folder: give another --out")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = locked(self.path)
        try:
            self.origin = self._read_origin()
            self._read_rows()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if not (self.path / RUN).exists():  # nothing was recorded: leave nothing behind
            (self.path / ".lock").unlink(missing_ok=True)
            if self._new:
                with contextlib.suppress(OSError):
                    self.path.rmdir()
        self._lock.close()

    def begin(self, origin: Mapping[str, Any], fixed: Iterable[str] = (), latest: Iterable[str] = ()) -> None:
        """Writes run.json, or when continuing checks that what produces the rows is still the same.

        Args:
            origin: Everything a reader must know to judge the rows, JSON.
            fixed: The entries of `origin` that must not change between the parts of a run.
            latest: The entries that run.json has as they are now; all others stay as they were at the beginning.
        """
        for name in fixed:
            if self.origin and self.origin.get(name) != origin.get(name):
                raise ValueError(
                    f"{self.path} was begun with {name} {self.origin.get(name)!r}, now it is {origin.get(name)!r}: "
                    "give another --out"
                )
        kept = {name: value for name, value in self.origin.items() if name not in latest}
        now = {"config": self.config} | {**origin, **kept, "config": self.config}
        if now != self.origin:
            write_whole(self.path / RUN, _text(now))
        if not (self.path / ROWS).exists():
            write_whole(self.path / ROWS, HEADER)

    def write(self, row: Row, files: Mapping[str, bytes]) -> None:
        """Records an episode: its files (by path within the folder), then its row.

        Files of an earlier try that the new one does not replace are removed.
        """
        if row.key in self.rows:
            for name in {form.format(episode_stem(row.key)) for form in FILES} - set(files):
                (self.path / name).unlink(missing_ok=True)
        for name, content in files.items():
            (self.path / name).parent.mkdir(exist_ok=True)
            write_whole(self.path / name, content)
        append(self.path / ROWS, to_line(row).encode())
        self.rows[row.key] = row

    def finish(self) -> None:
        """Puts the rows in the order of the run, whichever worker was first."""
        text = HEADER + "".join(to_line(row) for row in self.in_order())
        if (self.path / ROWS).read_text() != text:
            write_whole(self.path / ROWS, text)

    def in_order(self) -> list[Row]:
        """Returns the rows in the order of the run: by task, factor and number."""
        tasks, factors = (list(self.config[name]) for name in ("tasks", "factors"))
        place = {key: (tasks.index(_name(key[0])), factors.index(key[1]), key[2]) for key in self.rows}
        return [self.rows[key] for key in sorted(self.rows, key=lambda key: place[key])]

    def _read_origin(self) -> dict[str, Any]:
        path = self.path / RUN
        if not path.exists():
            if (self.path / ROWS).exists():
                raise ValueError(f"{self.path} holds {ROWS} without {RUN}: give another --out")
            return {}
        try:
            origin: dict[str, Any] = json.loads(path.read_text())
            theirs = origin["config"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: damaged: {error}") from error
        try:
            self.config = merged(theirs, self.config)
        except ValueError as error:
            raise ValueError(f"{self.path} holds another run ({error}): give another --out") from None
        return origin

    def _read_rows(self) -> None:
        path = self.path / ROWS
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        for number, row in numbered_rows(path, torn=True):
            if not self._covers(row) or row.key in self.rows:
                wrong = "is there twice" if row.key in self.rows else "is not of this run"
                raise ValueError(f"{path}, line {number}: {row.task}, {row.factor}, {row.episode} {wrong}")
            self.rows[row.key] = row
        if whole == 0:
            write_whole(path, HEADER)
        elif not content.startswith(HEADER.encode()):  # begun before time was counted
            write_whole(path, HEADER + "".join(map(to_line, self.rows.values())))
        elif whole < len(content):  # the torn row is played again
            os.truncate(path, whole)

    def _covers(self, row: Row) -> bool:
        config = self.config
        return (
            _name(row.task) in config["tasks"] and row.factor in config["factors"] and row.episode < config["episodes"]
        )


def rows_in(path: Path, config: JsonConfig) -> dict[Key, Row]:
    """Returns the rows that a run would find in a folder; nothing is locked, mended or written.

    Raises:
        ValueError: As `RunFolder`: the folder holds another configuration, or what is there is damaged.
    """
    folder = RunFolder(path, config)
    folder._read_origin()
    return {row.key: row for _, row in numbered_rows(path / ROWS, torn=True)} if (path / ROWS).exists() else {}


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2) + "\n"


def _name(task_id: str) -> str:
    """Returns the name of a versioned task: "PressButton" of "PressButton-v0"."""
    return task_id.rpartition("-v")[0]


def holds_another(path: Path, config: JsonConfig) -> bool:
    """Returns whether a folder holds a run that cannot go on with a configuration; one that is damaged may."""
    try:
        theirs = json.loads((path / RUN).read_text())["config"]
    except (OSError, ValueError, KeyError, TypeError):  # no run at all, or one that opening the folder complains about
        return False
    try:
        merged(theirs, json.loads(json.dumps(config)))
    except ValueError:
        return True
    return False


def merged(theirs: JsonConfig, ours: JsonConfig) -> JsonConfig:
    """Returns the configuration of a run that covers two; raises ValueError, saying what differs, if there is none."""
    odd = sorted(k for k in {*theirs, *ours} - {*GROWING, *FREE} if theirs.get(k) != ours.get(k))
    if odd:
        raise ValueError("; ".join(f"{k} is {theirs.get(k)!r} there, not {ours.get(k)!r}" for k in odd))
    both = {**theirs, **ours, "episodes": max(theirs["episodes"], ours["episodes"])}
    for name in ("tasks", "factors"):
        first, second = (ours, theirs) if {*ours[name]} >= {*theirs[name]} else (theirs, ours)
        both[name] = list(dict.fromkeys((*first[name], *second[name])))
    return both
