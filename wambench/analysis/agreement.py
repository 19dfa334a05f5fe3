"""Do two ways to label the same episodes agree? Arithmetic on labels.

Every definition of section "attribution" may abstain; an abstention is an answer of its own in a confusion matrix, is
left out of kappa, and its number stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wambench.analysis.intervals import Estimate, wilson


class Kappa(NamedTuple):
    """Cohen's kappa of `n` episodes that both definitions labelled, and its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float
    n: int


def confusion(
    given: Sequence[str], found: Sequence[str], rows: Sequence[str], columns: Sequence[str]
) -> NDArray[np.int64]:
    """Returns the (rows, columns) counts of what was given against what was found.

    Raises:
        ValueError: A label is in neither table, or the two sequences are not of one length.
    """
    if len(given) != len(found):
        raise ValueError(f"{len(given)} labels given, {len(found)} found")
    counts = np.zeros((len(rows), len(columns)), np.int64)
    for row, column in zip(given, found, strict=True):
        if row not in rows or column not in columns:
            raise ValueError(f"no place for {row!r} found as {column!r}: {', '.join(rows)} x {', '.join(columns)}")
        counts[rows.index(row), columns.index(column)] += 1
    return counts


def right(given: Sequence[str], found: Sequence[str]) -> Estimate:
    """Returns the share of labels found as they were given, with its Wilson interval; an abstention is not right."""
    return wilson(sum(a == b for a, b in zip(given, found, strict=True)), len(given))


def kappa(one: Sequence[str], other: Sequence[str], abstained: Sequence[str] = ("abstain", "")) -> Kappa:
    """Returns Cohen's kappa of two labellings of the same episodes, those left out of which one abstained.

    kappa = (p - e) / (1 - e), where p is the share labelled equally and e what two independent labellings with the
    same margins would reach (Cohen 1960). The interval is Wilson's for p with e held fixed, as in Cohen's own standard
    error; unlike that one it does not shrink to nothing where all labels agree.

    Returns:
        NaN if nothing is left, or if both labellings say one and the same thing throughout (e = 1).
    """
    if len(one) != len(other):
        raise ValueError(f"{len(one)} labels against {len(other)}")
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a not in abstained and b not in abstained]
    names = sorted({name for pair in pairs for name in pair})
    n = len(pairs)
    if n == 0:
        return Kappa(math.nan, math.nan, math.nan, 0)
    counts = confusion([a for a, _ in pairs], [b for _, b in pairs], names, names)
    chance = float((counts.sum(axis=0) / n) @ (counts.sum(axis=1) / n))
    if chance > 1.0 - 1e-12:
        return Kappa(math.nan, math.nan, math.nan, n)
    value, low, high = ((p - chance) / (1.0 - chance) for p in wilson(int(np.trace(counts)), n))
    return Kappa(value, low, high, n)
