"""Who goes for what was named: which object is touched first, alone and beside distractors or a look-alike.

Pure functions on rows. An episode without any contact says nothing of selection: it is left out of the shares, and
counted. Scenes with and without something in the way are pairs: equal task, episode and seed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wambench.analysis.intervals import Estimate, bounded_mean, text

if TYPE_CHECKING:
    import pandas

ALONE = "none"  # the factor of episodes in which nothing stands in the way
PAIR = ["task", "episode", "seed"]
TOLD = 3  # names in the column of what else was touched
HEADER = ("policy", "split", "condition", "n", "touched", "progress", "named first", "named nearest", "instead")
CHANGES = ("policy", "with - without", "n", "progress", "touched", "named first")


class Line(NamedTuple):
    """A policy under one condition: factor "none", "distractors", "lookalike" or any other that was played.

    Attributes:
        policy: Its name in the rows, with a number where several weights go by it.
        split: The split.
        condition: The factor.
        n: Episodes without errors whose prompt names an object.
        n_touched: Those in which the robot touched any.
        progress: Mean progress of the n, with an interval over scenes.
        named_first: Share of the n_touched in which the first object touched is the named one.
        named_nearest: Share of the n in which the hand came nearest to the named one.
        instead: What was touched first instead, with counts, the most frequent first.
    """

    policy: str
    split: str
    condition: str
    n: int
    n_touched: int
    progress: Estimate
    named_first: Estimate
    named_nearest: Estimate
    instead: str


class Difference(NamedTuple):
    """What a condition changes on the same scenes: with it minus without it.

    Attributes:
        policy: As of `Line`.
        condition: The factor.
        n: Scenes that were played both ways without errors.
        progress: Mean difference of progress over these, with an interval over scenes.
        n_touched: Those in which an object was touched both ways.
        named_first: Mean difference of "the first object touched is the named one" over these.
    """

    policy: str
    condition: str
    n: int
    progress: Estimate
    n_touched: int
    named_first: Estimate


def judged(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Returns the rows that say something of selection, with the columns `touched`, `first` and `nearer` (bool).

    These have no error, a prompt that names an object, and a record of what the hand came nearest to.

    Args:
        rows: Episodes as `records.load` returns them.

    Raises:
        ValueError: There is none.
    """
    told = rows[(rows["status"] == "ok") & (rows["named"] != "") & (rows["nearest"] != "")]
    if not len(told):
        raise ValueError(
            "no row tells which object was touched: rows of before it was recorded do not, and prompts must name one"
        )
    player = told["policy"]
    for policy, weights in told.groupby("policy")["weights"].unique().items():
        if len(weights) > 1:
            of_it = player == policy
            numbers = {one: f"{policy} ({i})" for i, one in enumerate(sorted(weights))}
            player = player.mask(of_it, told["weights"].map(numbers))
    return told.assign(
        policy=player,
        touched=told["first_touched"] != "",
        first=told["first_touched"] == told["named"],
        nearer=told["nearest"] == told["named"],
    )


def conditions(rows: pandas.DataFrame) -> list[Line]:
    """Returns one line for each policy, split and condition of rows as `judged` returns them."""
    return [_line(part) for _, part in rows.groupby(["policy", "split", "factor"], sort=True)]


def differences(rows: pandas.DataFrame) -> list[Difference]:
    """Returns what each condition changes for each policy, where the same scenes were played alone as well.

    A scene that was played alone in several splits counts once: its episodes are the same.

    Args:
        rows: As `judged` returns them.
    """
    return list(_differences(rows))


def _differences(rows: pandas.DataFrame) -> Iterator[Difference]:
    for policy, part in rows.groupby("policy", sort=True):
        alone = part[part["factor"] == ALONE].drop_duplicates(PAIR)
        for condition in sorted(set(part["factor"]) - {ALONE}):
            both = (
                part[part["factor"] == condition].drop_duplicates(PAIR).merge(alone, on=PAIR, suffixes=("", "_alone"))
            )
            if not len(both):
                continue
            touched = both[both["touched"] & both["touched_alone"]]
            yield Difference(
                policy=str(policy),
                condition=condition,
                n=len(both),
                progress=_mean(both, both["progress"] - both["progress_alone"], -1.0),
                n_touched=len(touched),
                named_first=_mean(touched, touched["first"].astype(float) - touched["first_alone"].astype(float), -1.0),
            )


def _line(part: pandas.DataFrame) -> Line:
    one, touched = part.iloc[0], part[part["touched"]]
    others = Counter(touched["first_touched"][~touched["first"]]).most_common()
    said = [f"{name} {count}" for name, count in sorted(others, key=lambda pair: (-pair[1], pair[0]))]
    return Line(
        policy=one["policy"],
        split=one["split"],
        condition=one["factor"],
        n=len(part),
        n_touched=len(touched),
        progress=_mean(part, part["progress"]),
        named_first=_mean(touched, touched["first"]),
        named_nearest=_mean(part, part["nearer"]),
        instead=", ".join(said[:TOLD]) + (", ..." if len(said) > TOLD else ""),
    )


def _mean(part: pandas.DataFrame, values: pandas.Series, lowest: float = 0.0) -> Estimate:
    """Returns the mean of a value of each row and its interval, tasks being strata."""
    tasks = part["task"].to_numpy()
    numbers = values.to_numpy(dtype=np.float64)
    return bounded_mean([numbers[tasks == task] for task in sorted(set(tasks))], lowest)


def to_csv(lines: Sequence[Line]) -> str:
    """Returns the lines of `conditions` as CSV with three decimals; an estimate has three columns."""
    import pandas

    rows = [_flat(line) for line in lines]
    return pandas.DataFrame(rows).to_csv(index=False, float_format="%.3f", lineterminator="\n")


def _flat(line: Line) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in line._asdict().items():
        if isinstance(value, Estimate):
            values |= {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
        else:
            values[name] = value
    return values


def to_text(lines: Sequence[Line], changes: Sequence[Difference]) -> str:
    """Returns both tables for people."""
    told = _table([HEADER, *(_cells(line) for line in lines)])
    if changes:
        told += "\n\n" + _table([CHANGES, *(_changes(one) for one in changes)])
    return told + (
        "\nmean [95% interval over scenes of the same tasks]; named first: share of the episodes with any contact in "
        "which the robot touched the named object first"
    )


def _cells(line: Line) -> tuple[str, ...]:
    shares = (_text(one) for one in (line.progress, line.named_first, line.named_nearest))
    return (line.policy, line.split, line.condition, str(line.n), str(line.n_touched), *shares, line.instead)


def _changes(one: Difference) -> tuple[str, ...]:
    progress, first = _text(one.progress, sign=True), _text(one.named_first, sign=True)
    return (one.policy, one.condition, str(one.n), progress, str(one.n_touched), first)


def _text(estimate: Estimate, sign: bool = False) -> str:
    return "-" if math.isnan(estimate.mean) else text(estimate, 2, sign)


def _table(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
