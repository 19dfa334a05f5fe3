"""The tables of the page: rates, progress by task, paired differences, time and attribution, as JSON values.

Every number is computed by `wambench.analysis` and `wambench.attribution`; here they are only put in order.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wambench.analysis import compare, latency_plot, leaderboard
from wambench.analysis.agreement import kappa, right
from wambench.analysis.plots import best_first
from wambench.attribution import plots as attribution_plots
from wambench.conventions import CONVENTIONS
from wambench.progress_bar import progress_bar
from wambench.records import ROWS, RUN
from wambench.tasks import SPLITS

if TYPE_CHECKING:
    import pandas

Json = dict[str, Any]
OF_ROBOT = ("action", "control_hz", "gripper")  # fields of a control convention that tell robots apart
COMPARED = 16  # policies that are compared with each other at most: 120 pairs in each split and factor
DIGITS = 4


def number(value: float) -> float | None:
    """Returns a rounded number; None, which JSON has, for NaN and infinity, which it lacks."""
    return round(float(value), DIGITS) if math.isfinite(value) else None


def origin(run: Path) -> Json:
    """Returns the run.json of a run (a folder, or its rows); an empty one where there is none."""
    path = (run.parent if run.name == ROWS else run) / RUN
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):  # rows alone can be shown, too
        return {}
    return values if isinstance(values, dict) else {}


def robots(rows: Mapping[tuple[str, str], Sequence[Path]]) -> dict[tuple[str, str], str]:
    """Returns the robots that each policy and split was played with, by the names of their control conventions."""
    found = {}
    for key, runs in rows.items():
        found[key] = ", ".join(sorted({robot(origin(run)) for run in runs}))
    return found


def robot(told: Json) -> str:
    """Returns the robot that a run.json tells of: the one that was asked for, or the one of the policy's convention."""
    asked = told.get("config", {}).get("robot")
    convention = told.get("convention") or {}
    if asked or not convention:
        return str(asked or next(iter(CONVENTIONS)))
    own = [name for name, one in CONVENTIONS.items() if all(convention.get(f) == getattr(one, f) for f in OF_ROBOT)]
    return own[0] if own else str(convention.get("action"))


def splits(names: Sequence[str]) -> list[Json]:
    """Returns the splits in the order of the suite, each with its description; others follow by name."""
    known = [name for name in SPLITS if name in names]
    other = sorted(set(names) - set(known))
    return [{"name": name, "about": SPLITS[name].description if name in SPLITS else ""} for name in [*known, *other]]


def rates(rows: pandas.DataFrame, played: Mapping[tuple[str, str], Sequence[Path]]) -> tuple[list[Json], list[Json]]:
    """Returns the lines of the leaderboard by novelty and factor, and by task."""
    of_robot = robots(played)
    tables = [leaderboard.leaderboard(rows, by).to_dict("records") for by in leaderboard.GROUPINGS]
    return tuple([_rate(line, of_robot) for line in table] for table in tables)  # type: ignore[return-value]


def _rate(line: Mapping[Any, Any], of_robot: Mapping[tuple[str, str], str]) -> Json:
    def estimate(name: str) -> list[float | None]:
        return [number(line[name]), number(line[f"{name}_low"]), number(line[f"{name}_high"])]

    return {
        **{name: line[name] for name in ("policy", "split", "group", "versions")},
        "robot": of_robot.get((line["policy"], line["split"]), ""),
        "n": int(line["n"]),
        "errors": int(line["n_error"]),
        "progress": estimate("progress"),
        "end": estimate("success_end"),
        "ever": estimate("success_ever"),
        "skill": estimate("video_skill"),
        "seeds": [int(line["seeds"]), number(line["seed_lowest"]), number(line["seed_highest"])],
    }


def comparisons(rows: pandas.DataFrame) -> tuple[list[Json], list[str]]:
    """Returns the paired difference of every two policies in every split and factor, and what was left out and why.

    Runs of one policy with other weights are its training seeds, as in the leaderboard. p values are corrected within
    each table (one pair, one split, one factor).
    """
    ranked = best_first(rows)
    notes = []
    if len(ranked) > COMPARED:
        notes.append(
            f"Comparisons are of the {COMPARED} policies with the highest progress; {len(ranked) - COMPARED} more have "
            "none here, and `wambench compare` makes them."
        )
    sides, odd = _sides(rows, ranked[:COMPARED])
    pairs = [
        (place, a, b)
        for place, found in sides.items()
        for a, b in itertools.combinations([name for name in ranked if name in found], 2)
    ]
    tables = []
    with progress_bar(total=len(pairs), unit="pair", desc="comparisons", disable=len(pairs) < 20) as bar:
        for (split, factor), a, b in pairs:
            bar.update()
            try:
                table = compare.paired(sides[split, factor][a], sides[split, factor][b], a, b)
            except ValueError as error:
                odd.append(f"{a} and {b} on {split}: {error}")
                continue
            lines = [_difference(line) for line in table.to_dict("records")]
            tables.append({"split": split, "factor": factor, "a": a, "b": b, "lines": lines})
    if odd:
        more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
        notes.append(f"No comparison was possible for {odd[0]}{more}.")
    return tables, notes


def _sides(
    rows: pandas.DataFrame, policies: Sequence[str]
) -> tuple[dict[tuple[str, str], dict[str, pandas.DataFrame]], list[str]]:
    """Returns the episodes of each policy by split and factor, as `compare.paired` takes them, and what is odd."""
    sides: dict[tuple[str, str], dict[str, pandas.DataFrame]] = {}
    odd = []
    for (split, factor, policy), part in rows.groupby(["split", "factor", "policy"], sort=True):
        if policy not in policies:
            continue
        seeds = [one for _, one in part.groupby("weights", sort=True)]
        if any(one.duplicated(compare.KEY).any() for one in seeds):
            odd.append(f"{policy} on {split}: it has played episodes of one number with several run seeds")
            continue
        try:
            pooled = compare.pooled(seeds, [f"training seed {i} of {policy}" for i in range(len(seeds))])
        except ValueError as error:
            odd.append(f"{policy} on {split}: {error}")
            continue
        sides.setdefault((str(split), str(factor)), {})[str(policy)] = pooled
    return sides, odd


def _difference(line: Mapping[Any, Any]) -> Json:
    return {
        "group": line["group"],
        "n": int(line["n"]),
        "errors": int(line["n_left_out"]),
        "unpaired": [int(line["a_unpaired"]), int(line["b_unpaired"])],
        "a": number(line["a"]),
        "b": number(line["b"]),
        "difference": [number(line[name]) for name in ("difference", "low", "high")],
        "p": number(line["p"]),
        "holm": number(line["p_holm"]),
        "detectable": number(line["detectable"]),
    }


def sweeps(folders: Sequence[Path]) -> list[Json]:
    """Returns the points of each policy of some sweeps: executor, latency, and progress by steps and by time."""
    if not folders:
        return []
    table = latency_plot.load(folders)
    found = []
    for policy, part in table.groupby("policy", sort=False):
        points = [
            {
                "execution": line["execution"],
                "latency": number(line["latency_s"]),
                "n": int(line["n"]),
                "errors": int(line["n_error"]) if "n_error" in line else 0,
                "steps": [number(line.get(f"progress{end}", math.nan)) for end in ("", "_low", "_high")],
                "time": [number(line.get(f"progress_wall{end}", math.nan)) for end in ("", "_low", "_high")],
            }
            for line in part.to_dict("records")
        ]
        found.append({"policy": str(policy), "own": number(part["own_latency_s"].iloc[0]), "points": points})
    return found


def attributions(runs: Sequence[Path]) -> list[Json]:
    """Returns, for every attributed run, what was reached and to what the rest was lost, and the verdicts."""
    found = []
    for run in runs:
        for one in attribution_plots.read([run] if run.is_dir() else []):
            estimates = attribution_plots.shares(one.episodes, one.known)
            found.append(
                {
                    "policy": one.name.partition("\n")[0],
                    "split": one.split,
                    "run": run.name,
                    "n": len(one.episodes),
                    "attributed": len(one.known),
                    "failed": len(one.rows),
                    "parts": {name: [number(value) for value in values] for name, values in estimates.items()},
                    "verdicts": {
                        name: _counts(one.rows, name) for name in (*attribution_plots.DEFINITIONS, "behaviour")
                    },
                    "kappa": _kappas([vars(row) for row in one.rows]),
                }
            )
    return sorted(found, key=lambda one: (one["split"], one["policy"]))


def _counts(rows: Sequence[Any], column: str) -> dict[str, int]:
    said = Counter(getattr(row, column) for row in rows if getattr(row, column))
    return dict(sorted(said.items(), key=lambda item: (-item[1], item[0])))


def parts() -> list[Json]:
    """Returns the parts of a bar of attribution: key, label and colour, which are those of the figures."""
    return [{"key": key, "label": label, "colour": colour} for key, (label, colour) in attribution_plots.PARTS.items()]


def self_tests(folders: Sequence[Path]) -> list[Json]:
    """Returns, for each self-test of the instrument, what every definition said of each planted fault."""
    found = []
    for folder in folders:
        rows = attribution_plots.read_self_test(folder / attribution_plots.SELF_TEST)
        rows = [row for row in rows if any(row[key] for key in attribution_plots.DEFINITIONS)]
        faults = sorted({(row["truth"], row["fault"]) for row in rows})
        table = [
            {
                "truth": truth,
                "fault": fault,
                "verdicts": {
                    key: dict(Counter(row[key] for row in rows if row["fault"] == fault and row[key]).most_common())
                    for key in attribution_plots.DEFINITIONS
                },
            }
            for truth, fault in faults
        ]
        found.append({"name": folder.name, "faults": table, "right": _right(rows), "kappa": _kappas(rows)})
    return found


def _right(rows: Sequence[Mapping[str, str]]) -> Json:
    shares: Json = {}
    for key in attribution_plots.DEFINITIONS:
        asked = [row for row in rows if row[key]]
        estimate = right([row["truth"] for row in asked], [row[key] for row in asked])
        shares[key] = {"n": len(asked), "share": [number(value) for value in estimate]}
    return shares


def _kappas(rows: Sequence[Mapping[str, str]]) -> list[Json]:
    """Returns Cohen's kappa of every two definitions."""
    return [
        {"of": [one, other], "n": n, "kappa": [number(value), number(low), number(high)]}
        for one, other in itertools.combinations(attribution_plots.DEFINITIONS, 2)
        for value, low, high, n in [kappa([row[one] for row in rows], [row[other] for row in rows])]
    ]
