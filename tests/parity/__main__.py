"""Checks this implementation against a folder of golden files, and says how far off each file is.

    python -m tests.parity tests/golden/dreamzero

One line a file: the largest error in units of its tolerance, with both. The exit status is 1 if anything is beyond its
tolerance, a known file is missing, or a file has no check (weights and README excepted: others read them).
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from tests.parity.result import Result

Check = Callable[[Path], list[Result]]
# Every module of a set has CHECKS: file name -> check. A folder belongs to the set that knows most of its files.
SETS = {
    "dreamzero": ("dit", "sampler", "head", "encoders", "protocol"),
    "vla": ("vla_pi", "vla_data", "vla_fast", "vla_groot", "vla_ki", "rtc"),
}


def checks_of(names: tuple[str, ...]) -> dict[str, Check]:
    """Returns the checks of some modules of `tests.parity`, by file name."""
    found: dict[str, Check] = {}
    for name in names:
        found |= importlib.import_module(f"tests.parity.{name}").CHECKS
    return found


def set_of(folder: Path) -> dict[str, Check]:
    """Returns the checks of the set that knows most files of a folder."""
    there = {path.name for path in folder.iterdir()}
    return max((checks_of(names) for names in SETS.values()), key=lambda checks: len(there & set(checks)))


def unchecked(folder: Path, checks: dict[str, Check]) -> list[str]:
    """Returns the files of a folder that no check reads."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in checks and path.name != "README.md" and not path.name.endswith("_weights.safetensors")
    )


def lines(folder: Path, checks: dict[str, Check]) -> Iterator[tuple[bool, str]]:
    """Yields for each file whether it passed, and its line."""
    width = max(map(len, checks)) if checks else 0
    for file, check in sorted(checks.items()):
        if not (folder / file).is_file():
            yield False, f"MISSING  {file:{width}}"
            continue
        start = time.perf_counter()
        try:
            results = check(folder)
        except Exception:  # one broken file must not hide the others
            yield False, f"ERROR    {file:{width}}  {traceback.format_exc(limit=-2)}"
            continue
        if not results:
            yield False, f"EMPTY    {file:{width}}  nothing was compared"
            continue
        yield _line(file, results, width, time.perf_counter() - start)
    for file in unchecked(folder, checks):
        yield False, f"NO CHECK {file:{width}}"


def _line(file: str, results: list[Result], width: int, seconds: float) -> tuple[bool, str]:
    top, passed = max(results, key=_severity), all(result.passed for result in results)
    figures = f"error {top.error:.2g}, tolerance {top.tolerance:.2g} ({top.name})"
    note = f"{len(results)} comparisons, {seconds:.1f} s"
    text = f"{'ok' if passed else 'FAILED':8} {file:{width}}  {figures}; {note}"
    beyond = [f"\n         {r.name}: error {r.error:.3g}, tolerance {r.tolerance:.2g}" for r in results if not r.passed]
    return passed, text + "".join(beyond)


def _severity(result: Result) -> float:
    """Returns the error in units of its tolerance; NaN, and any error where none is allowed, count as infinite."""
    if result.tolerance > 0 and not math.isnan(result.error):
        return result.error / result.tolerance
    return 0.0 if result.passed else math.inf


def main(arguments: list[str] | None = None) -> int:
    """Runs the checks of a folder and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    if not folder.is_dir():
        parser.error(f"no folder {folder}")
    torch.set_num_threads(1)
    failed = 0
    for passed, line in lines(folder, set_of(folder)):
        print(line, flush=True)
        failed += not passed
    print(f"{failed} failed" if failed else "all within tolerance")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
