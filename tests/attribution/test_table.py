"""The table of attribution is read as it was written, or refused."""

import dataclasses
import math
from pathlib import Path

import pytest

from wambench.attribution import table
from wambench.attribution.table import AttributionRow, to_csv


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        AttributionRow(
            "p", "seen", "LiftCube-v0", "seen", "none", 3, 7, "abc", 0.6, own_own=0.6, d2="video", missing="a, b"
        ),
        AttributionRow("p", "seen", "LiftCube-v0", "seen", "none", 4, 8, "abd", 1 / 3),
    ]
    path = tmp_path / table.TABLE
    path.write_text(to_csv(rows))
    first, second = table.read(tmp_path)
    assert first.own_own == 0.6 and math.isnan(first.oracle_own) and first.missing == "a, b"
    assert second.progress == pytest.approx(1 / 3, abs=1e-6)
    assert dataclasses.replace(second, progress=1 / 3) == rows[1]


def test_a_torn_table_is_refused_or_repaired(tmp_path: Path) -> None:
    row = AttributionRow("p", "seen", "LiftCube-v0", "seen", "none", 3, 7, "abc", 0.6)
    path = tmp_path / table.TABLE
    path.write_text(to_csv([row]) + "p,se")
    assert len(table.read(path, torn=True)) == 1
    with pytest.raises(ValueError, match="cut off"):
        table.read(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="line 1"):
        table.read(path)
