"""Files that a kill at any moment leaves whole."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def locked(folder: Path) -> IO[str]:
    """Returns a locked file; the lock goes with the process, however it ends."""
    lock = (folder / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise ValueError(f"another run is writing to {folder}") from error
    return lock


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file so that it is there whole or not at all."""
    beside = path.with_name(path.name + ".tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with _named(path), beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def append(path: Path, line: bytes) -> None:
    """Appends a line and syncs it; if that fails, for example on a full disk, the file is as it was.

    An interrupt while a whole line is being synced leaves it: others may have read it.
    """
    with _named(path), path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            while line:  # a disk that is nearly full takes a part, and says why only when asked for the rest
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except BaseException as error:
            if line or isinstance(error, OSError):
                file.truncate(size)
            raise


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Gives an error of the operating system the name of the file, which a failed write lacks."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
