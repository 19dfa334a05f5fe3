"""A progress bar for terminals; where the output is none (a log, a pipe), a line now and then instead."""

from __future__ import annotations

import sys
from typing import TextIO

from tqdm import tqdm

LINE_EVERY_S = 60.0


class Lines:
    """A text stream that writes each state of a bar as a line of its own.

    Args:
        stream: Where the lines go.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Writes what a bar shows; moves of the cursor and erasures are left out."""
        line = text.strip()
        if line:
            self._stream.write(f"{line}\n")

    def flush(self) -> None:
        """Flushes the stream."""
        self._stream.flush()


def progress_bar(
    total: int | None = None, initial: int = 0, unit: str = "it", desc: str | None = None, disable: bool = False
) -> tqdm:
    """Returns a bar on stderr, as `tqdm` makes it.

    Args:
        total, initial: How many there are, and how many are done already.
        unit, desc: What is counted, and what the bar is about.
        disable: Show nothing.
    """
    if sys.stderr.isatty():
        return tqdm(total=total, initial=initial, unit=unit, desc=desc, disable=disable, dynamic_ncols=True)
    lines = Lines(sys.stderr)
    return tqdm(
        total=total, initial=initial, unit=unit, desc=desc, disable=disable, file=lines, ncols=100,
        mininterval=LINE_EVERY_S, maxinterval=LINE_EVERY_S,
    )  # fmt: skip
