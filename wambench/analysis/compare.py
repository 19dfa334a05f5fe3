"""Two policies on the same episodes: the paired difference of progress, its interval, a test, and what n can show.

Pure functions on rows; the scenes are paired, so what differs is the policy (and its own noise) alone. A side may be
several runs of one method, such as its training seeds: an episode then counts with their mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wambench import records
from wambench.analysis.intervals import SEED, Z95, Estimate, stratified_bootstrap
from wambench.analysis.leaderboard import groups

if TYPE_CHECKING:
    import pandas

KEY = ["split", "task", "factor", "episode"]
FLIPS = 50_000  # random sign flips of the test; all of them if there are no more
FLIPS_AT_ONCE = 4_000_000
Z80 = 0.8416212335729143  # 80 % quantile of the normal distribution: the power of the minimum detectable effect


class Line(NamedTuple):
    """One group of episodes: means of both sides, their difference A - B, and how far it can be believed.

    `n_left_out` counts shared episodes with an error on either side; `p_holm` is corrected over all lines of a table;
    `detectable` is the difference that this n finds with 80 % power at an (uncorrected) level of 5 %.
    """

    group: str
    n: int
    n_left_out: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    detectable: float


def sign_flip_p(differences: NDArray[np.float64], rng: np.random.Generator, flips: int = FLIPS) -> float:
    """Returns the two-sided p of paired differences (n,): how often random signs move their sum as far from 0.

    If both sides are alike, each difference could as well have had the other sign (Fisher 1935). Few differences are
    flipped in every way, more at random, the observed signs being one of the draws.
    """
    moved = differences[differences != 0.0]
    if not len(moved):
        return 1.0 if len(differences) else math.nan
    far = abs(moved.sum()) - 1e-9  # sums of equal terms in another order are equal
    if 2 ** len(moved) <= flips:
        signs = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1
        return float((np.abs((2 * signs - 1) @ moved) >= far).mean())
    hits, block = 0, max(1, FLIPS_AT_ONCE // len(moved))
    for start in range(0, flips, block):
        signs = rng.integers(2, size=(min(block, flips - start), len(moved)), dtype=np.int8)
        hits += int((np.abs((2 * signs - 1) @ moved) >= far).sum())
    return (1 + hits) / (1 + flips)


def holm(p: Sequence[float]) -> list[float]:
    """Returns p values corrected for their number (Holm 1979); a NaN stays one and is not counted."""
    known = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    corrected, largest = [math.nan] * len(p), 0.0
    for rank, (value, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        corrected[i] = largest
    return corrected


def detectable(differences: NDArray[np.float64]) -> float:
    """Returns the mean difference that as many episodes find with 80 % power at a level of 5 %.

    (1.96 + 0.84) standard errors; NaN where nothing varies, because then there is nothing to judge chance by.
    """
    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    return (Z95 + Z80) * spread / math.sqrt(len(differences)) if spread else math.nan


def side(runs: Sequence[Path]) -> pandas.DataFrame:
    """Returns the episodes of a side, one row each; progress is the mean over runs, an error in any run is one.

    Raises:
        ValueError: The runs are of different scenes, or have no episode in common.
    """
    tables = [records.load([run]).set_index(KEY) for run in runs]
    first, name = tables[0], runs[0]
    for run, table in zip(runs[1:], tables[1:], strict=True):
        shared = _shared(first, table, str(name), str(run))
        first, table = first.loc[shared], table.loc[shared]
        first = first.assign(
            progress=first["progress"] + table["progress"],
            status=np.where(table["status"] == "ok", first["status"], table["status"]),
        )
    return first.assign(progress=first["progress"] / len(tables))


def _shared(a: pandas.DataFrame, b: pandas.DataFrame, name_a: str, name_b: str) -> pandas.Index:
    """Returns the episodes that both have; none, or other scenes under the same name, raise ValueError."""
    shared = a.index.intersection(b.index)
    if not len(shared):
        about = [
            f"{name} has {len(rows)} of split {', '.join(sorted(set(rows.index.get_level_values('split'))))}"
            for name, rows in ((name_a, a), (name_b, b))
        ]
        raise ValueError(f"no episodes in common: {'; '.join(about)}")
    other = shared[(a.loc[shared, "spec_hash"] != b.loc[shared, "spec_hash"]).to_numpy()]
    if len(other):
        raise ValueError(
            f"{name_a} and {name_b} are of different scenes in {len(other)} of {len(shared)} episodes, e.g. episode "
            f"{other[0][3]} of {other[0][1]}: were both run with the same seed, visual profile and version?"
        )
    return shared


def compare(a: Sequence[Path], b: Sequence[Path]) -> pandas.DataFrame:
    """Returns one `Line` per group: everything, each novelty, each single factor, each task.

    Args:
        a, b: Runs of each side.

    Raises:
        ValueError: The sides share no episodes, or not their scenes.
    """
    import pandas

    ours, theirs = side(a), side(b)
    names = ["+".join(map(str, runs)) for runs in (a, b)]
    shared = _shared(ours, theirs, *names)
    both = ours.loc[shared].assign(other=theirs.loc[shared, "progress"])
    both["fine"] = (ours.loc[shared, "status"] == "ok") & (theirs.loc[shared, "status"] == "ok")
    lines = [_line(name, rows) for name, rows in _groups(both.reset_index())]
    corrected = holm([line.p for line in lines])
    return pandas.DataFrame(
        [line._replace(p_holm=p) for line, p in zip(lines, corrected, strict=True)], columns=list(Line._fields)
    )


def _groups(rows: pandas.DataFrame) -> Iterator[tuple[str, pandas.DataFrame]]:
    """Yields the leaderboard's groups of each split, then the tasks of its first group."""
    several = rows["split"].nunique() > 1
    for split, part in rows.groupby("split", sort=True):
        mark = f"{split} " if several else ""
        found = list(groups(part))
        yield from ((mark + name, group) for name, group in found)
        yield from ((mark + str(task), group) for task, group in found[0][1].groupby("task", sort=True))


def _line(name: str, rows: pandas.DataFrame) -> Line:
    fine = rows[rows["fine"]]
    difference = (fine["progress"] - fine["other"]).to_numpy()
    strata = [difference[(fine["task"] == task).to_numpy()] for task in sorted(set(fine["task"]))]
    estimate = stratified_bootstrap(strata, np.random.default_rng(SEED)) if strata else Estimate(*[math.nan] * 3)
    p = sign_flip_p(difference, np.random.default_rng(SEED))
    means = float(fine["progress"].mean()), float(fine["other"].mean())
    return Line(name, len(fine), len(rows) - len(fine), *means, *estimate, p, math.nan, detectable(difference))


def to_csv(table: pandas.DataFrame) -> str:
    """Returns the table as CSV, five decimals."""
    return table.to_csv(index=False, float_format="%.5f", lineterminator="\n")


def _p(value: float) -> str:
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def to_text(table: pandas.DataFrame, a: str, b: str) -> str:
    """Returns the table for people; `a` and `b` name the sides."""
    header = ("group", "n", "errors", "A", "B", "A - B", "p", "p Holm", "detectable")
    lines = [header]
    for line in (Line(*values) for values in table.itertuples(index=False, name=None)):
        span = f"{line.difference:+.3f} [{line.low:+.3f}, {line.high:+.3f}]"
        tail = (_p(line.p), _p(line.p_holm), f"{line.detectable:.3f}")
        lines.append((line.group, str(line.n), str(line.n_left_out), f"{line.a:.3f}", f"{line.b:.3f}", span, *tail))
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    body = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    note = (
        "progress on the same episodes; 95% task-stratified bootstrap interval; two-sided sign-flip test, corrected "
        "over all lines (Holm); detectable: the difference found with 80% power at 5%, uncorrected"
    )
    return "\n".join([f"A: {a}", f"B: {b}", *body, note])
