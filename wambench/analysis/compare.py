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
from wambench.analysis.intervals import (
    FEWEST_SEEDS,
    INTERVALS,
    SCENES,
    SCENES_AND_SEEDS,
    SEED,
    Z95,
    bounded_mean,
    over_seeds,
    text,
)
from wambench.analysis.leaderboard import groups
from wambench.interface import unknown_name

if TYPE_CHECKING:
    import pandas

KEY = ["split", "task", "factor", "episode"]
FLIPS = 50_000  # random sign flips of the test; all of them if there are no more
FLIPS_AT_ONCE = 4_000_000
Z80 = 0.8416212335729143  # 80 % quantile of the normal distribution: the power of the minimum detectable effect


class Line(NamedTuple):
    """One group of episodes: means of both sides, their difference A - B, and how far it can be believed.

    `n_left_out` counts shared episodes with an error on either side; `p_holm` is corrected over all lines of a table
    that are of different episodes; `detectable` is the difference that this n finds with 80 % power at an (uncorrected)
    level of 5 %; `a_unpaired` and `b_unpaired` count episodes that a side (or one of its runs) has alone, which are in
    no number; `a_lowest` to `b_highest` are the means of the worst and the best run of a side (its training seeds);
    `interval` says what `low` and `high` are over: `intervals.INTERVALS`. The test is over scenes.
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
    a_unpaired: int
    b_unpaired: int
    a_lowest: float
    a_highest: float
    b_lowest: float
    b_highest: float
    interval: str = SCENES


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
    """Returns the episodes of the runs of a side as `pooled` does."""
    return pooled([records.load([run]) for run in runs], [str(run) for run in runs])


def pooled(runs: Sequence[pandas.DataFrame], names: Sequence[str]) -> pandas.DataFrame:
    """Returns the episodes of a side, one row each, indexed by `KEY`.

    `progress` is the mean over runs, `run0`, `run1`, ... that of each; an error in any run is one of the episode.
    `complete` says whether every run has it; if not, progress and status are those of one run that has. `trainings` is
    the number of runs if each has other weights, and else 1: runs of the same weights are no training seeds.

    Args:
        runs: Rows of each run, as `records.load` returns them.
        names: What the runs are called in an error.

    Raises:
        ValueError: The runs are of different scenes, or have no episode in common.
    """
    import pandas

    tables = [run.set_index(KEY) for run in runs]
    for name, table in zip(names[1:], tables[1:], strict=True):
        _shared(tables[0], table, names[0], name)
    every = pandas.concat(tables)
    every = every[~every.index.duplicated()]
    progress = pandas.DataFrame({f"run{i}": table["progress"].reindex(every.index) for i, table in enumerate(tables)})
    status = [table["status"].reindex(every.index) for table in tables]
    has = np.array([one.notna() for one in status])
    bad = np.array([one.notna() & (one != "ok") for one in status])
    worst = np.where(bad.any(axis=0), np.array(status, dtype=object)[bad.argmax(axis=0), np.arange(len(every))], "ok")
    every = every.assign(progress=progress.mean(axis=1, skipna=False), status=worst, complete=has.all(axis=0))
    weights = {str(run["weights"].iloc[0]) for run in runs if len(run)}
    every = every.assign(trainings=len(runs) if len(weights) == len(runs) else 1)
    if not every["complete"].any():
        raise ValueError(f"no episode is in all of {', '.join(names)}")
    return every.join(progress)


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


def compare(a: Sequence[Path], b: Sequence[Path], interval: str = SCENES) -> pandas.DataFrame:
    """Returns the lines of `paired` for the runs of each side."""
    names = ["+".join(map(str, runs)) for runs in (a, b)]
    return paired(side(a), side(b), names[0], names[1], interval)


def paired(
    ours: pandas.DataFrame, theirs: pandas.DataFrame, name_a: str, name_b: str, interval: str = SCENES
) -> pandas.DataFrame:
    """Returns one `Line` per group: everything, each novelty, each single factor, each task.

    A group of which nothing is shared has a line with n = 0, so that what was left out is seen.

    Args:
        ours, theirs: The sides, as `pooled` returns them.
        name_a, name_b: What they are called in an error.
        interval: One of `intervals.INTERVALS`. Over seeds as well if both sides have `FEWEST_SEEDS` training seeds.

    Raises:
        ValueError: The sides share no episodes, or not their scenes; or there is no such interval.
    """
    import pandas

    if interval not in INTERVALS:
        raise unknown_name("interval", interval, INTERVALS)
    enough = all(len(one) and one["trainings"].iloc[0] >= FEWEST_SEEDS for one in (ours, theirs))
    _shared(ours[ours["complete"]], theirs[theirs["complete"]], name_a, name_b)
    both = pandas.concat([ours, theirs])
    both = both[~both.index.duplicated()][["novelty"]]
    for name, one in (("a", ours), ("b", theirs)):
        found = one.reindex(both.index)
        both[f"{name}_complete"] = found["complete"].eq(True)
        both[f"{name}_has"] = found["status"].notna()
        both[f"{name}_ok"] = found["status"].eq("ok")
        runs = [column for column in found if str(column).startswith("run")]
        both = both.join(found[["progress", *runs]].add_prefix(f"{name}_"))
    parts = list(_groups(both.reset_index()))
    lines = [_line(name, rows, interval == SCENES_AND_SEEDS and enough) for name, rows in parts]
    tests = {tuple(rows.index): line.p for (_, rows), line in zip(parts, lines, strict=True)}
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    holms = [corrected[tuple(rows.index)] for _, rows in parts]
    return pandas.DataFrame(
        [line._replace(p_holm=p) for line, p in zip(lines, holms, strict=True)], columns=list(Line._fields)
    )


def _groups(rows: pandas.DataFrame) -> Iterator[tuple[str, pandas.DataFrame]]:
    """Yields the leaderboard's groups of each split, then the tasks of its first group."""
    several = rows["split"].nunique() > 1
    for split, part in rows.groupby("split", sort=True):
        mark = f"{split} " if several else ""
        found = list(groups(part))
        yield from ((mark + name, group) for name, group in found)
        for task, group in found[0][1].groupby("task", sort=True):
            if (group["a_complete"] & group["b_complete"]).any():
                yield mark + str(task), group


def _line(name: str, rows: pandas.DataFrame, crossed: bool) -> Line:
    paired = rows["a_complete"] & rows["b_complete"]
    fine = rows[paired & rows["a_ok"] & rows["b_ok"]]
    difference = (fine["a_progress"] - fine["b_progress"]).to_numpy()
    strata = [difference[(fine["task"] == task).to_numpy()] for task in sorted(set(fine["task"]))]
    p = sign_flip_p(difference, np.random.default_rng(SEED))
    estimate = bounded_mean(strata, -1.0, 1.0)
    ours, theirs = _run_means(fine, "a"), _run_means(fine, "b")
    if crossed:
        estimate = over_seeds(estimate, [ours, theirs], -1.0, 1.0)
    return Line(
        group=name,
        n=len(fine),
        n_left_out=int(paired.sum()) - len(fine),
        a=float(fine["a_progress"].mean()),
        b=float(fine["b_progress"].mean()),
        difference=estimate.mean,
        low=estimate.low,
        high=estimate.high,
        p=p,
        p_holm=math.nan,
        detectable=detectable(difference),
        a_unpaired=int((rows["a_has"] & ~paired).sum()),
        b_unpaired=int((rows["b_has"] & ~paired).sum()),
        a_lowest=min(ours),
        a_highest=max(ours),
        b_lowest=min(theirs),
        b_highest=max(theirs),
        interval=SCENES_AND_SEEDS if crossed else SCENES,
    )


def _run_means(fine: pandas.DataFrame, one: str) -> list[float]:
    """Returns the mean of each run of a side."""
    return [float(fine[column].mean()) for column in fine if str(column).startswith(f"{one}_run")]


def to_csv(table: pandas.DataFrame) -> str:
    """Returns the table as CSV, five decimals."""
    return table.to_csv(index=False, float_format="%.5f", lineterminator="\n")


def _p(value: float) -> str:
    return "-" if math.isnan(value) else "<0.0001" if value < 1e-4 else f"{value:.4f}"


def to_text(table: pandas.DataFrame, a: str, b: str) -> str:
    """Returns the table for people; `a` and `b` name the sides."""
    header: tuple[str, ...] = ("group", "n", "errors", "A", "B", "A - B", "p", "p Holm", "detectable", "unpaired A, B")
    lines: list[tuple[str, ...]] = [header]
    for line in (Line(*values) for values in table.itertuples(index=False, name=None)):
        means = (_mean(line.a, line.a_lowest, line.a_highest), _mean(line.b, line.b_lowest, line.b_highest))
        span = text((line.difference, line.low, line.high), sign=True)
        tail = (_p(line.p), _p(line.p_holm), text((line.detectable, math.nan, math.nan)))
        left = f"{line.a_unpaired}, {line.b_unpaired}" if line.a_unpaired or line.b_unpaired else ""
        lines.append((line.group, str(line.n), str(line.n_left_out), *means, span, *tail, left))
    if not any(line[-1] for line in lines[1:]):
        lines = [line[:-1] for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    body = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    crossed = (table["interval"] == SCENES_AND_SEEDS).any()
    seeds, test = (" and over training seeds", " over scenes") if crossed else ("", "")
    note = (
        f"progress on the same episodes [95% interval over scenes of the same tasks{seeds}], "
        f"(worst to best run of a side); two-sided sign-flip test{test}, corrected over all lines of different "
        "episodes (Holm); detectable: the difference found with 80% power at 5%, uncorrected"
    )
    if len(lines[0]) == len(header):
        note += "; unpaired: episodes that only one side, or not every run of a side, has: they are in no number here"
    return "\n".join([f"A: {a}", f"B: {b}", *body, note])


def _mean(mean: float, lowest: float, highest: float) -> str:
    spread = f" ({lowest:.3f} to {highest:.3f})" if lowest < highest else ""
    return text((mean, math.nan, math.nan)) + spread
