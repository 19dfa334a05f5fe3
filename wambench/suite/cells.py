"""Measurements of many small cells in several processes, each written down as soon as it is known.

A cell is one task under one condition. A measurement that is stopped is continued by the same command: cells that the
file beside its table has are not measured again, and a task whose version rose is.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from wambench import records
from wambench.conventions import ROBOT
from wambench.progress_bar import progress_bar

Value = float | str


@dataclass(frozen=True)
class Cell:
    """One task under one condition.

    Attributes:
        task: Versioned id.
        condition: What is done there.
        episodes: How many.
        seed: Of the run whose episodes they are.
        robot: Who plays.
    """

    task: str
    condition: str
    episodes: int
    seed: int
    robot: str = ROBOT


Found = dict[str, Value]


def cells_file(out: Path) -> Path:
    """Returns where the cells of a table are written down: beside it."""
    return out.with_suffix(".cells.jsonl")


def measure_all(
    cells: Sequence[Cell], measure: Callable[[Cell], Found], workers: int, out: Path | None, label: str
) -> dict[Cell, Found]:
    """Returns what was found in every cell.

    Args:
        cells: What to measure.
        measure: A function at the top of a module, since other processes run it.
        workers: Processes.
        out: The table that comes of it, or None to write nothing down.
        label: Of the progress bar.
    """
    known = {} if out is None else _read(cells_file(out))
    found = {cell: known[cell] for cell in cells if cell in known}
    missing = [cell for cell in cells if cell not in found]
    if missing:
        with (
            multiprocessing.get_context("spawn").Pool(min(workers, len(missing))) as pool,
            progress_bar(total=len(cells), initial=len(found), desc=label, unit="cell") as bar,
        ):
            for cell, values in pool.imap_unordered(_Measured(measure), missing):
                found[cell] = values
                if out is not None:
                    line = json.dumps({**asdict(cell), "found": values})
                    records.append(cells_file(out), line.encode() + b"\n")
                bar.update()
    return {cell: found[cell] for cell in cells}


@dataclass(frozen=True)
class _Measured:
    measure: Callable[[Cell], Found]

    def __call__(self, cell: Cell) -> tuple[Cell, Found]:
        return cell, self.measure(cell)


def _read(path: Path) -> dict[Cell, Found]:
    """Returns the cells of a file; a line that a kill cut off is left out."""
    cells = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            continue
        found = values.pop("found")
        cells[Cell(**values)] = found
    return cells
