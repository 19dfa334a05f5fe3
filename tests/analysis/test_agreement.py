from __future__ import annotations

import numpy as np
import pytest

from wambench.analysis.agreement import confusion, kappa, right

VIDEO, ACTION = "video", "action"


def test_confusion_counts_what_was_given_by_what_was_found() -> None:
    given = [VIDEO] * 3 + [ACTION] * 2
    found = [VIDEO, ACTION, "abstain", ACTION, ACTION]
    counts = confusion(given, found, (VIDEO, ACTION), (VIDEO, ACTION, "abstain"))
    assert counts.tolist() == [[1, 1, 1], [0, 2, 0]]
    assert right(given, found).mean == pytest.approx(0.6)
    with pytest.raises(ValueError, match="no place for 'video' found as 'both'"):
        confusion([VIDEO], ["both"], (VIDEO,), (VIDEO,))


def test_kappa_of_the_textbook_table() -> None:
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: p = 0.7, e = 0.5, kappa = 0.4."""
    one = ["yes"] * 25 + ["no"] * 25
    other = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    found = kappa(one, other)
    assert found.value == pytest.approx(0.4) and found.n == 50
    assert found.low < 0.4 < found.high
    assert found == kappa(other, one)


def test_perfect_agreement_keeps_an_honest_interval() -> None:
    labels = [VIDEO, ACTION] * 5
    found = kappa(labels, labels)
    assert found.value == pytest.approx(1.0) and found.high == pytest.approx(1.0)
    assert 0.2 < found.low < 0.7  # ten episodes do not prove much
    assert kappa(labels * 20, labels * 20).low > 0.95


def test_abstentions_are_left_out_of_kappa() -> None:
    found = kappa([VIDEO, ACTION, VIDEO, "abstain"], [VIDEO, ACTION, "", ACTION])
    assert found.n == 2 and found.value == pytest.approx(1.0)
    assert np.isnan(kappa(["abstain"], [VIDEO]).value)
    assert np.isnan(kappa([VIDEO] * 9, [VIDEO] * 9).value)  # nothing to disagree about


def test_chance_agreement_is_worth_nothing() -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.choice([VIDEO, ACTION], 4000).tolist() for _ in range(2))
    found = kappa(one, other)
    assert found.low < 0 < found.high
