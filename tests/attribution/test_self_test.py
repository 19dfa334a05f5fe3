"""The self-test counts what was right, on constructed rows, and repairs a file that a kill left torn."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from wambench.attribution import self_test
from wambench.attribution.table import AttributionRow


def row(fault: str, truth: str, d1: str, d2: str, d3: str, **values: float) -> dict[str, str]:
    """Returns a row of self-test.csv as it is read."""
    found = AttributionRow("planted", "seen", "LiftCube-v0", "seen", "none", 0, 1, "h", 0.0, d1=d1, d2=d2, d3=d3)
    found = dataclasses.replace(found, placebo=0.0, oracle_oracle=1.0, abstained=0.0)
    fields = self_test._csv(dataclasses.replace(found, **values)).split(",")  # type: ignore[arg-type]
    return dict(zip(self_test.NAMES, [fault, truth, *fields], strict=True))


ROWS = [
    row("noise", "action", "action", "action", "action"),
    row("noise", "action", "video", "action", "action", oracle_oracle=0.5),
    row("other_object", "video", "video", "video", "video"),
    row("other_object", "video", "abstain", "video", "video", abstained=1.0),
    row("both", "both", "both", "both", "video", placebo=-0.2),
    row("gain", "action", "", "", ""),  # it succeeded in spite of its fault
]


def test_shares_of_right_verdicts_are_counted_over_failed_episodes() -> None:
    found = self_test.summary(ROWS)
    assert (found["played"], found["failed"], found["errors"]) == (6, 5, 0)
    assert {d: (v[0], v[3]) for d, v in found["single"].items()} == {"d1": (0.5, 4), "d2": (1.0, 4), "d3": (1.0, 4)}
    assert {d: (v[0], v[3]) for d, v in found["all"].items()} == {"d1": (0.6, 5), "d2": (1.0, 5), "d3": (0.8, 5)}
    assert found["fault"]["noise"] == {"d1": 0.5, "d2": 1.0, "d3": 1.0, "n": 2}
    assert list(found["kappa"]) == ["d1,d2", "d1,d3", "d2,d3"]
    assert found["placebo"] == {"mean": pytest.approx(0.04), "largest": pytest.approx(0.2)}
    assert found["ceiling"] == {"LiftCube-v0": [0.9, 5]} and found["abstained"] == 0.2
    assert json.loads(json.dumps(found)) == found


def test_the_summary_calls_the_definitions_by_their_names() -> None:
    lines = self_test.text(self_test.summary(ROWS)).splitlines()
    assert lines[0] == "5 failed of 6 played, 0 errors"
    assert lines[1].startswith("right on single faults: read-out 0.50 [") and "first divergence 1.00 [" in lines[1]
    assert any("read-out and intervention" in line for line in lines if line.startswith("kappa: "))


def test_a_torn_last_line_is_cut_off_and_a_foreign_file_refused(tmp_path: Path) -> None:
    path = tmp_path / self_test.ROWS
    whole = self_test._line(self_test.NAMES) + self_test._line(list(ROWS[0].values()))
    path.write_text(whole + "noise,action,pla")
    assert self_test.read(path) == [ROWS[0]]
    assert path.read_text() == whole
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not a self-test of this version"):
        self_test.read(path)
