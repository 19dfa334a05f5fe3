"""Refuses files that are too large for the repository: `python tests/tools/large_files.py FILE...`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

LARGEST_MB = 25.0
LARGEST_VIDEO_MB = 1.0
VIDEOS = (".mp4", ".webm", ".gif")


def too_large(paths: Iterable[Path]) -> list[str]:
    """Returns a line for each file that is above its limit."""
    lines = []
    for path in paths:
        limit = LARGEST_VIDEO_MB if path.suffix in VIDEOS else LARGEST_MB
        size = path.stat().st_size / 1e6 if path.is_file() else 0.0
        if size > limit:
            lines.append(f"{path} has {size:.1f} MB; at most {limit:g} MB may be committed")
    return lines


if __name__ == "__main__":
    found = too_large(Path(name) for name in sys.argv[1:])
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(1 if found else 0)
