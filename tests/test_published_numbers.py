"""Numbers in the docs are those of the published rows, tables and measurements, and the published tables of their rows.

Each test makes the lines of a table anew from what is in results/ and looks for them, as they are, in the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"


def missing(document: str, lines: Iterator[str]) -> list[str]:
    """Returns the lines that a document does not have; spaces are as good as one."""
    there = {" ".join(line.split()) for line in (ROOT / document).read_text().splitlines()}
    return [line for line in lines if " ".join(line.split()) not in there]


def chunk_table(config: str, part: str) -> Iterator[str]:
    """Yields the lines of a table of docs/inference.md: one for each measured or unavailable variant."""
    for row in json.loads((RESULTS / "inference" / f"h200-{config}.json").read_text())[part]:
        if row["unavailable"]:
            why = row["unavailable"].partition(": ")[2]
            yield f"| {row['name'].strip()} | not measured: {why} | | | | |"
            continue
        yield _chunk_line(row, digits=0 if config == "14b" else 1)


def _chunk_line(row: dict[str, Any], digits: int) -> str:
    chunk = row["chunk_ms"]
    shares = f"{row['tflops']:.0f} ({row['fraction']:.0%})" if row["tflops"] > 1 else "under 1"
    times = (chunk["observe"], chunk["denoise"], chunk["total"])
    observe, denoise, total = (f"{milliseconds:.{digits}f}" for milliseconds in times)
    return f"| {row['name'].strip()} | {observe} | {denoise} | **{total}** | {shares} | {row['memory_mb'] / 1024:.1f} |"


@pytest.mark.parametrize("part", ["ladder", "steps"])
@pytest.mark.parametrize("config", ["14b", "nano"])
def test_measurements_on_a_gpu(config: str, part: str) -> None:
    assert not missing("docs/inference.md", chunk_table(config, part))
