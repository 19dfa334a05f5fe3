"""Saves figures in full colour and small enough to publish."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from wambench.records.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST = 1_000_000  # bytes
SMALLER = 0.9  # the next resolution to try


def save_figure(figure: Figure, path: Path, dpi: float = 200.0, vector: bool = False) -> Path:
    """Saves a figure as a PNG of at most `LARGEST` bytes and returns its path.

    A figure that is too large is drawn again with fewer dots per inch. Colours are never reduced to a palette, because
    frames are evidence: with 256 colours a blue cube was grey. Equal figures give equal bytes.

    Args:
        figure: What is saved.
        path: File; its folder exists.
        dpi: Dots per inch, if they fit.
        vector: Also save it as an SVG beside the PNG: for figures without photographs.
    """
    if vector:
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
        write_whole(path.with_suffix(".svg"), drawn.getvalue())
    while True:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None}, pil_kwargs={"optimize": True})
        if buffer.tell() <= LARGEST or dpi < 20.0:
            write_whole(path, buffer.getvalue())
            return path
        dpi *= SMALLER
