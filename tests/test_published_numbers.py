"""Numbers in the docs are those of the published rows and measurements, and the published table is that of its rows.

Tables are made anew from results/ and looked for, line by line, in the document; every estimate with an interval in the
other text must be one that can be made from the rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from wambench import records
from wambench.analysis.compare import compare
from wambench.analysis.intervals import Estimate, bounded_mean, text
from wambench.analysis.leaderboard import leaderboard, to_csv
from wambench.attribution import plots, shapley

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
SPLITS = ("seen", "unseen-envs", "unseen-tasks")
NOVELTIES = ("word", "pairing", "motion")
FACTORS = ("camera", "lighting", "background", "table", "object", "distractors", "robot")
OPPONENTS = ("pi0", "pi05", "ki", "groot", "l1")
SEEDS = {"no_video_loss": 3, "no_test_time_video": 3, "separate": 1, "bidirectional": 3, "no_key_points": 1}
PLANNER = ("head", "refined", "lots", "rest")  # runs of docs/dreamzero.md, "A pilot of the planner"
LOOKAHEAD = {
    "one": "`candidates=1`",
    "random": "`choose=random`",
    "agreement": "`choose=agreement`",
    "goal": "`choose=goal`",
    "simulator-goal": "simulator, `judge=goal`",
    "simulator": "simulator",
}
AN_ESTIMATE = re.compile(r"([+-]?\d\.\d+) \[([+-]?\d\.\d+), ([+-]?\d\.\d+)\]")


def missing(document: str, lines: Iterable[str]) -> list[str]:
    """Returns the lines that a document does not have; several spaces are as good as one."""
    there = {" ".join(line.split()) for line in (ROOT / document).read_text().splitlines()}
    return [line for line in lines if " ".join(line.split()) not in there]


@cache
def board() -> pd.DataFrame:
    """Returns the leaderboard of the published runs."""
    runs = sorted([*(RESULTS / "reference").iterdir(), *(RESULTS / "ablations").iterdir()])
    return leaderboard(records.load(runs))


def interval(one: Any, name: str) -> Estimate:
    """Returns an estimate from the columns of a line of a table."""
    low, high = ("low", "high") if name == "difference" else (f"{name}_low", f"{name}_high")
    return Estimate(float(one[name]), float(one[low]), float(one[high]))


def line(policy: str, split: str, group: str = "all") -> dict[str, Any]:
    table = board()
    found = table[(table["policy"] == policy) & (table["split"] == split) & (table["group"] == group)]
    return dict(found.iloc[0])


def cell(policy: str, split: str, name: str = "progress", group: str = "all", digits: int = 2) -> str:
    one = line(policy, split, group)
    return text(interval(one, name), digits)


def means(policy: str) -> str:
    return " | ".join(f"{line(policy, 'unseen-tasks', group)['progress']:.2f}" for group in NOVELTIES)


def runs(policy: str, split: str, seeds: int = 3) -> list[Path]:
    """Returns the published runs of a policy at equal compute, or of the shipped dreamzero."""
    if policy == "dreamzero":
        return [RESULTS / "reference" / f"dreamzero-{split}"]
    folder, name = ("reference", policy) if policy in OPPONENTS else ("ablations", policy.removesuffix("-1.6e14"))
    return [RESULTS / folder / f"{name}-{seed}-{split}" for seed in range(seeds)]


@cache
def difference(a: tuple[Path, ...], b: tuple[Path, ...]) -> pd.DataFrame:
    return compare(a, b).set_index("group")


def estimate(one: Any) -> str:
    return text(interval(one, "difference"), 2, sign=True)


def test_the_published_table_is_that_of_the_published_rows() -> None:
    assert (RESULTS / "leaderboard.csv").read_text() == to_csv(board())


def equal_compute() -> Iterator[str]:
    for policy in ("dreamzero-1.6e14", *OPPONENTS):
        shown = [f"`{policy}`"]
        for split in SPLITS:
            one = line(policy, split)
            seeds = f" ({one['seed_lowest']:.2f} to {one['seed_highest']:.2f})"
            shown += [cell(policy, split) + seeds, cell(policy, split, "success_end")]
        yield f"| {' | '.join(shown)} | {means(policy)} |"


def shipped_and_baselines() -> Iterator[str]:
    for name, policy in (("`dreamzero` as shipped", "dreamzero"), ("`random`", "random"), ("`noop`", "noop")):
        shown = [cell(policy, split, rate) for split in SPLITS for rate in ("progress", "success_end")]
        yield f"| {name} | {' | '.join(shown)} | {means(policy)} |"


def ablations() -> Iterator[str]:
    for name, seeds in SEEDS.items():
        label = f"`{name}`" + (" (`mode=no_video`)" if name == "no_test_time_video" else "")
        shown, differences = [], []
        for split in SPLITS:
            pair = (tuple(runs(side, split, seeds)) for side in ("dreamzero-1.6e14", name))
            one = difference(*pair).loc["all"]
            spread = f" ({one['b_lowest']:.2f} to {one['b_highest']:.2f})" if seeds > 1 else ""
            shown.append(f"{one['b']:.2f}{spread}")
            differences.append(estimate(one))
        yield f"| {label} | {seeds} | {' | '.join(shown)} | {' | '.join(differences)} |"


def single_factors() -> Iterator[str]:
    for policy in ("dreamzero", "dreamzero-1.6e14", *OPPONENTS):
        ends = [f"{line(policy, split)['progress']:.2f}" for split in ("seen", "unseen-envs")]
        if policy != "dreamzero":
            first = {split: records.load(runs(policy, split, 1)) for split in ("seen", "unseen-envs")}
            ends = [f"{rows['progress'][rows['factor'].isin(('none', 'all'))].mean():.2f}" for rows in first.values()]
        alone = [f"{line(policy, 'unseen-envs', factor)['progress']:.2f}" for factor in FACTORS]
        yield f"| `{policy}`{' as shipped' * (policy == 'dreamzero')} | {' | '.join((ends[0], *alone, ends[1]))} |"


def told() -> Iterator[str]:
    for policy in ("dreamzero", *OPPONENTS):
        label = f"`{policy}`{' as shipped' * (policy == 'dreamzero')}"
        one = difference(tuple(runs(policy, "seen", 1)), (RESULTS / "controls" / f"{policy}-told",)).loc["all"]
        assert one["n"] == 90 and one["p"] < 0.001
        yield f"| {label} | {one['a']:.2f} | {one['b']:.2f} | {estimate(one).replace('+', '')} |"


@pytest.mark.parametrize("table", [equal_compute, shipped_and_baselines, ablations, single_factors, told])
def test_tables_of_the_leaderboard(table: Any) -> None:
    there = (ROOT / "docs" / "leaderboard.md").read_text().replace("**", "")
    bare = {" ".join(one.split()) for one in there.splitlines()}
    assert [one for one in table() if " ".join(one.split()) not in bare] == []


@cache
def known() -> set[tuple[str, str, str]]:
    """Returns every estimate that the docs may quote, at two and three digits, signs left out where they are plus."""
    found: list[Estimate] = []
    for one in board().to_dict("records"):
        found += [interval(one, name) for name in ("progress", "success_end", "success_ever")]
    for split in SPLITS:
        first = leaderboard(records.load(runs("dreamzero-1.6e14", split, 1))).iloc[0]
        found.append(interval(first, "progress"))
    pairs = [(a, b, split, 3) for a in ("dreamzero-1.6e14", "dreamzero") for b in OPPONENTS for split in SPLITS]
    pairs += [("dreamzero-1.6e14", name, split, seeds) for name, seeds in SEEDS.items() for split in SPLITS]
    for a, b, split, seeds in pairs:
        table = difference(tuple(runs(a, split, seeds)), tuple(runs(b, split, seeds)))
        found += [interval(one, "difference") for _, one in table.iterrows()]
    for policy in ("dreamzero", *OPPONENTS):
        control = difference(tuple(runs(policy, "seen", 1)), (RESULTS / "controls" / f"{policy}-told",)).loc["all"]
        found.append(interval(control, "difference"))
    for name in LOOKAHEAD:
        found.append(interval(leaderboard(records.load([RESULTS / "lookahead" / name])).iloc[0], "progress"))
        found += [interval(chosen(name, other), "difference") for other in ("one", "random")]
    for name in PLANNER:
        found.append(interval(leaderboard(records.load([RESULTS / "planner" / name])).iloc[0], "progress"))
        for other in ("head", "lots"):
            found.append(interval(planned(name, other), "difference"))
    both = {tuple(f"{value:.{digits}f}" for value in one) for one in found for digits in (2, 3)}
    return {(a, b, c) for a, b, c in both}


@pytest.mark.parametrize("document", ["README.md", "docs/leaderboard.md", "docs/dreamzero.md"])
def test_estimates_in_the_text_come_from_the_rows(document: str) -> None:
    quoted = AN_ESTIMATE.findall(" ".join((ROOT / document).read_text().split()))
    stale = [one for one in quoted if tuple(value.removeprefix("+") for value in one) not in known()]
    assert quoted and not stale


def planned(a: str, b: str) -> Any:
    """Returns the paired difference of two conditions of the planner's pilot, all tasks together."""
    return difference((RESULTS / "planner" / a,), (RESULTS / "planner" / b,)).loc["all"]


def chosen(a: str, b: str) -> Any:
    """Returns the paired difference of two choices of the pilot, all tasks together."""
    return difference((RESULTS / "lookahead" / a,), (RESULTS / "lookahead" / b,)).loc["all"]


def test_the_pilot_on_choosing_among_futures() -> None:
    lines = []
    for name, label in LOOKAHEAD.items():
        table = leaderboard(records.load([RESULTS / "lookahead" / name]), by="task").set_index("group")
        one, all_of = chosen(name, "one"), leaderboard(records.load([RESULTS / "lookahead" / name])).iloc[0]
        tasks = " | ".join(f"{float(table['progress'][task]):.2f}" for task in ("HoistCube-v1", "TurnDial-v1"))
        against = "" if name == "one" else f"{estimate(one)}, p = {one['p']:.2f}"
        lines.append(f"| {label} | {text(interval(all_of, 'progress'), 2)} | {tasks} | {against} |")
        assert one["n"] == all_of["n"] == 10 and all_of["n_error"] == 0
    assert missing("docs/dreamzero.md", lines) == []


def video_table() -> Iterator[str]:
    for name, label in (("0-minutes", "no video"), ("10-minutes", "10 minutes"), ("20-minutes", "20 minutes")):
        table = leaderboard(records.load(sorted((RESULTS / "video").glob(f"{name}-*")))).set_index("group")
        one: Any = table.loc["all"]
        mean = text(interval(one, "progress"))
        parts = " | ".join(f"{float(value):.3f}" for value in table["progress"][list(NOVELTIES)])
        yield f"| {label} | {mean} | {one['seed_lowest']:.3f}, {one['seed_highest']:.3f} | {parts} |"


def test_the_experiment_with_video() -> None:
    assert not missing("docs/video.md", video_table())
    for minutes in ("10", "20"):
        ours, theirs = ([RESULTS / "video" / f"{name}-minutes-{seed}" for seed in range(3)] for name in (minutes, "0"))
        said = text(interval(compare(ours, theirs).set_index("group").loc["all"], "difference"), sign=True)
        assert said in " ".join((ROOT / "docs" / "video.md").read_text().split())


def attribution_table() -> Iterator[str]:
    names = [("shipped", "dreamzero"), ("1.6e14", "dreamzero-1.6e14")]
    names += [(f"`{one}`", f"{one}-1.6e14") for one in ("no_video_loss", "no_key_points", "separate", "bidirectional")]
    for label, policy in names:
        for split in ("unseen-envs", "unseen-tasks"):
            [one] = plots.read([RESULTS / "attribution" / f"{policy}-{split}"])
            yield f"| {label} | {split} | {' | '.join(_attributed(one))} |"


def _attributed(one: plots.Attributed) -> Iterator[str]:
    lost = dict((1.0 - one.episodes["progress"]).groupby(one.episodes["task"]).sum())
    least, most = shapley.video_range(one.known, lost)
    unread = shapley.share(one.known, [(shapley.parts(row) or {})["unread"] for row in one.known], lost)
    yield f"{one.episodes['progress'].mean():.2f}"
    yield str(len(one.known))
    yield text(least, 2) + (f" to {text(most, 2)}" if unread.mean > 0 else "")
    yield f"{unread.mean:.2f}"
    yield text(shapley.share(one.known, [row.placebo for row in one.known], lost), 2)


def test_what_attribution_says() -> None:
    assert not missing("docs/attribution.md", attribution_table())


def test_both_visual_profiles() -> None:
    fast, full = (
        records.load([RESULTS / name]).set_index(["task", "episode"])["progress"].sort_index()
        for name in ("reference/dreamzero-seen", "controls/dreamzero-full")
    )
    sides = (fast.loc[full.index], full, full - fast.loc[full.index])
    page = " ".join((ROOT / "docs" / "simulation.md").read_text().split())
    for values, lowest in zip(sides, (0.0, 0.0, -1.0), strict=True):
        strata = [one.to_numpy() for _, one in values.groupby(level="task", sort=True)]
        assert len(values) == 90 and text(bounded_mean(strata, lowest), sign=lowest < 0.0) in page


def test_the_caption_of_the_filmstrip() -> None:
    rows = records.load([RESULTS / "reference" / "dreamzero-unseen-tasks"])
    dial = rows[rows["task"].str.startswith("TurnDial")]
    assert f"{dial['success_end'].sum()} of {len(dial)} such episodes" in (ROOT / "README.md").read_text()


def chunk_table(config: str, part: str) -> Iterator[str]:
    """Yields the lines of a table of docs/inference.md: one for each measured or unavailable variant."""
    for row in json.loads((RESULTS / "inference" / f"h200-{config}.json").read_text())[part]:
        if row["unavailable"]:
            why = row["unavailable"].partition(": ")[2]
            yield f"| {row['name'].strip()} | not measured: {why} | | | | |"
            continue
        yield _chunk_line(row, digits=0 if config == "14b" else 1)


def _chunk_line(row: dict[str, Any], digits: int) -> str:
    chunk = row["chunk_ms"]
    shares = f"{row['tflops']:.0f} ({row['fraction']:.0%})" if row["tflops"] > 1 else "under 1"
    times = (chunk["observe"], chunk["denoise"], chunk["total"])
    observe, denoise, total = (f"{milliseconds:.{digits}f}" for milliseconds in times)
    return f"| {row['name'].strip()} | {observe} | {denoise} | **{total}** | {shares} | {row['memory_mb'] / 1024:.1f} |"


@pytest.mark.parametrize("part", ["ladder", "steps"])
@pytest.mark.parametrize("config", ["14b", "nano"])
def test_measurements_on_a_gpu(config: str, part: str) -> None:
    assert not missing("docs/inference.md", chunk_table(config, part))
