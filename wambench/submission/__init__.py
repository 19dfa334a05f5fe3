"""`wambench submit`: what a row of the leaderboard must fulfil, and the file that carries it."""

from __future__ import annotations

import zipfile
from pathlib import Path


def is_pack(path: Path) -> bool:
    """Returns whether a path is a file that should be a pack: a ZIP, or what is called one."""
    return path.is_file() and (path.suffix == ".zip" or zipfile.is_zipfile(path))
