"""What a run leaves on disk: `run.json`, `episodes.csv` and one file of artefacts per episode.

    DIR/run.json                                       configuration and origin of the run
    DIR/episodes.csv                                   one row per episode (`COLUMNS`)
    DIR/episodes/<task>.<factor>.<episode>.npz         frames, actions, states (`encode_episode`, `load_episode`)
    DIR/videos/<task>.<factor>.<episode>.mp4           with --record-video

Only the parent process of a run writes here. Files appear whole (written beside, synced, renamed) and rows are
appended and synced one by one, an episode's row after its other files, so a kill at any moment loses at most the
episodes being played, and what is recorded is never rewritten before the run is complete.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wambench.records.files import append, locked, write_whole
from wambench.records.rows import HEADER, ROWS, RUN, Key, Row, read_rows, to_line


class RunFolder:
    """The folder of a run while it is being written: locked, checked, and continued where it stopped.

    Args:
        path: The folder; made if missing.
        config: The JSON configuration; a folder with another one is refused.
        keys: The episodes of the run, in the order of the finished file.

    Attributes:
        rows: Rows recorded so far, by key.

    Raises:
        ValueError: The folder holds another configuration or damaged rows, or another process is writing to it.
        OSError: It cannot be written to.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], keys: Iterable[Key]) -> None:
        self.path = path
        self.rows: dict[Key, Row] = {}
        self._config = json.loads(json.dumps(config))
        self._order = {key: i for i, key in enumerate(keys)}

    def __enter__(self) -> RunFolder:
        self._new = not self.path.exists()
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

    def begin(self, origin: Mapping[str, Any], fixed: Iterable[str] = ()) -> None:
        """Writes run.json, or when continuing checks that what produces the rows is still the same.

        Args:
            origin: Everything a reader must know to judge the rows, JSON.
            fixed: The entries of `origin` that must not change between the parts of a run.
        """
        for name in fixed:
            if self.origin and self.origin.get(name) != origin.get(name):
                raise ValueError(
                    f"{self.path} was begun with {name} {self.origin.get(name)!r}, now it is {origin.get(name)!r}: "
                    "give another --out"
                )
        if not self.origin:
            write_whole(self.path / RUN, json.dumps({"config": self._config, **origin}, indent=2) + "\n")
        if not (self.path / ROWS).exists():
            write_whole(self.path / ROWS, HEADER)

    def write(self, row: Row, files: Mapping[str, bytes]) -> None:
        """Records an episode: its files (by path within the folder), then its row."""
        for name, content in files.items():
            (self.path / name).parent.mkdir(exist_ok=True)
            write_whole(self.path / name, content)
        append(self.path / ROWS, to_line(row).encode())
        self.rows[row.key] = row

    def finish(self) -> None:
        """Puts the rows in the order of the run, whichever worker was first."""
        rows = sorted(self.rows.values(), key=lambda row: self._order[row.key])
        text = HEADER + "".join(to_line(row) for row in rows)
        if (self.path / ROWS).read_text() != text:
            write_whole(self.path / ROWS, text)

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
        if theirs != self._config:
            odd = sorted(k for k in {*theirs, *self._config} if theirs.get(k) != self._config.get(k))
            differences = "; ".join(f"{k} is {theirs.get(k)!r} there, not {self._config.get(k)!r}" for k in odd)
            raise ValueError(f"{self.path} holds another run ({differences}): give another --out")
        return origin

    def _read_rows(self) -> None:
        path = self.path / ROWS
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        for number, row in enumerate(read_rows(path, torn=True), start=2):
            if row.key not in self._order or row.key in self.rows:
                wrong = "is there twice" if row.key in self.rows else "is not of this run"
                raise ValueError(f"{path}, line {number}: {row.task}, {row.factor}, {row.episode} {wrong}")
            self.rows[row.key] = row
        if whole == 0:
            write_whole(path, HEADER)
        elif not content.startswith(HEADER.encode()):  # begun before time was counted
            write_whole(path, HEADER + "".join(map(to_line, self.rows.values())))
        elif whole < len(content):  # the torn row is played again
            os.truncate(path, whole)
