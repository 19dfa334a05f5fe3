from __future__ import annotations

from pathlib import Path

import pytest

from wambench.evaluation.latency import delay_steps, parse


@pytest.mark.parametrize(
    ("latency_s", "steps"),
    [(0.0, 0), (1e-6, 1), (0.05, 1), (0.051, 2), (0.1, 2), (0.15, 3), (0.35, 7), (0.55, 11), (0.56, 12), (1.1, 22)],
)
def test_a_delay_is_rounded_up_to_whole_steps(latency_s: float, steps: int) -> None:
    assert delay_steps(latency_s, 20.0) == steps


def test_sources() -> None:
    assert parse("0.20").label == "0.2" and parse("0.2").seconds("any", 7, 9.0) == 0.2
    assert parse("measured").label == "measured" and parse("measured").seconds("any", 7, 9.0) == 9.0


def test_a_plain_trace_is_every_episodes_and_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("latency_s\n0.1\n0.2\n0.3\n")
    trace = parse(str(path))
    assert [trace.seconds(stem, query, 9.0) for stem in "ab" for query in (0, 2, 3, 4)] == [0.1, 0.3, 0.1, 0.2] * 2
    assert trace.wraps("a", 4) and not trace.wraps("a", 3) and not parse("0.1").wraps("a", 4)
    trace.check(["a", "b"])
    path.write_text("latency_s\n0.1\n0.2\n0.4\n")
    assert parse(str(path)).label != trace.label  # another trace is another run


def test_a_trace_of_a_run_tells_its_episodes_apart(tmp_path: Path) -> None:
    path = tmp_path / "latency.csv"
    path.write_text("task,factor,episode,query,latency_s\nA-v0,none,0,0,0.1\nA-v0,none,1,0,0.2\nA-v0,none,1,1,0.3\n")
    trace = parse(str(path))
    assert [trace.seconds("A-v0.none.1", query, 9.0) for query in range(3)] == [0.2, 0.3, 0.2]
    trace.check(["A-v0.none.0", "A-v0.none.1"])
    with pytest.raises(ValueError, match=r"no latencies for 1 episodes of the run, e\.g\. A-v0\.none\.2"):
        trace.check(["A-v0.none.0", "A-v0.none.2"])


@pytest.mark.parametrize("text", ["-0.1", "61", "nan", "inf"])
def test_absurd_latencies_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="latency must be between 0 and 60 seconds"):
        parse(text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("seconds\n1\n", "a trace has a column latency_s, this one has seconds"),
        ("latency_s\n", "an empty trace"),
        ("latency_s\n0.1\nfast\n", "line 3: latency_s: 'fast' is no number"),
        ("latency_s\n0.1\n-1\n", "line 3: latency_s must be between 0 and 60 seconds, not -1"),
        (None, "cannot read a trace"),
    ],
)
def test_what_is_wrong_with_a_trace(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "trace.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=said):
        parse(str(path))


def test_a_word_that_is_no_latency() -> None:
    with pytest.raises(ValueError, match="did you mean 'measured'"):
        parse("mesured")
