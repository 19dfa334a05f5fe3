"""From rows to rates with n and intervals; pure functions, and one small table.

Errors (`status` other than "ok") are no failures: they are left out of every rate and counted beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wambench.analysis.intervals import (
    FEWEST_SEEDS,
    INTERVALS,
    SCENES,
    SCENES_AND_SEEDS,
    Estimate,
    bounded_mean,
    over_seeds,
    share_of,
    text,
    wilson,
)
from wambench.interface import unknown_name

if TYPE_CHECKING:
    import pandas

WHOLE = ("all", "none")  # factors of episodes that belong to the split itself, not to one factor of it
COLUMNS = (
    *("policy", "split", "group", "n", "n_error"),
    *("progress", "progress_low", "progress_high"),
    *("success_end", "success_end_low", "success_end_high"),
    *("success_ever", "success_ever_low", "success_ever_high"),
    *("seeds", "seed_lowest", "seed_highest", "versions"),
    *("video_frames", "video_skill", "video_skill_low", "video_skill_high"),
    "interval",
)
RATES = ("progress", "success_end", "success_ever")
SCENE = ["task", "factor", "episode"]

VIDEO = ("video_frames", "video_error", "kept_error")
OPTIONAL = ("training seeds", "video skill")  # shown if any line has them
GROUPINGS = ("novelty", "task")  # what `wambench leaderboard --by` takes


def leaderboard(rows: pandas.DataFrame, by: str = "novelty", interval: str = SCENES) -> pandas.DataFrame:
    """Returns one row per policy, split and group, sorted, with the columns `COLUMNS`.

    Groups by novelty: "all" (the split as it is), each kind of novelty in it, and each single factor, whose episodes
    are counted nowhere else. Groups by task: each task of the split as it is, and each task under each single factor,
    as "factor: task". Runs of one policy with other weights are its training seeds: an episode then counts once, with
    the mean over them; `seeds` is their number, and `seed_lowest` and `seed_highest` are the least and the greatest
    progress of a single one. What the intervals of a line speak of stands in `interval`: new scenes, or new scenes and
    new trainings, which takes three training seeds (`intervals.over_seeds`). `versions` are those of
    the tasks that were played ("v0", or "v0 v1" where tasks of a split differ): rates of other versions of a task are
    of another task, and cannot be compared. `video_skill` is that of imagined video 0.4 s ahead where the hand moves
    (see `video_skill`), over `video_frames` frames; nothing for policies without video and for rows from before it was
    recorded.

    Args:
        rows: Episodes as `records.load` returns them.
        by: One of `GROUPINGS`.
        interval: One of `intervals.INTERVALS`: what intervals shall be over where there are training seeds enough.

    Raises:
        ValueError: The seeds of a policy have played different episodes, a policy has played two versions of one task
            in a split, or there is no such grouping or interval.
    """
    import pandas

    if by not in GROUPINGS:
        raise unknown_name("grouping", by, GROUPINGS)
    if interval not in INTERVALS:
        raise unknown_name("interval", interval, INTERVALS)
    lines = []
    for (policy, split), run in rows.groupby(["policy", "split"], sort=True):
        for name, group in groups(run) if by == "novelty" else task_groups(run):
            lines.append((policy, split, name, *_line(group, interval)))
    return pandas.DataFrame(lines, columns=list(COLUMNS))


def _line(group: pandas.DataFrame, interval: str) -> tuple[Any, ...]:
    """Returns the columns of a group's line from `n` on."""
    counted, n_error = episodes(group)
    single = [float(one["progress"].mean()) for _, one in group[group["status"] == "ok"].groupby("weights")]
    seeds = (len(single), min(single, default=math.nan), max(single, default=math.nan))
    parts = trainings(group, counted) if interval == SCENES_AND_SEEDS else []
    crossed = len(parts) >= FEWEST_SEEDS
    return (
        *(len(counted), n_error),
        *_rates(counted, parts),
        *seeds,
        versions(group),
        *_video(counted, parts),
        SCENES_AND_SEEDS if crossed else SCENES,
    )


def trainings(group: pandas.DataFrame, counted: pandas.DataFrame) -> list[pandas.DataFrame]:
    """Returns the counted episodes of a policy (`episodes`) as each of its training seeds played them."""
    kept = group.merge(counted[SCENE], on=SCENE)
    return [one for _, one in kept.groupby("weights", sort=True)]


def episodes(group: pandas.DataFrame) -> tuple[pandas.DataFrame, int]:
    """Returns the episodes of a policy without errors, each once with its mean over training seeds, and the others.

    The others are counted: episodes in which any seed had an error.
    """
    if group["weights"].nunique() <= 1:
        fine = group[group["status"] == "ok"]
        return fine, len(group) - len(fine)
    seeds = group["weights"].nunique()
    table = group.assign(fine=group["status"] == "ok").groupby(SCENE, sort=True)
    sizes = table.size()
    if not (sizes == seeds).all():
        task, factor, episode = sizes.index[sizes != seeds][0]
        raise ValueError(
            f"{group['policy'].iloc[0]} on {group['split'].iloc[0]}: its {seeds} training seeds have not all played "
            f"episode {episode} of {task} ({factor}): give them the same episodes, or another --name"
        )
    means = table[[*RATES, *VIDEO]].mean()
    right = table["fine"].all().to_numpy(dtype=bool)
    return means[right].reset_index(), int(np.count_nonzero(~right))


def versions(rows: pandas.DataFrame) -> str:
    """Returns the versions of the tasks in the rows of one policy and split, as in "v0 v1".

    Raises:
        ValueError: The rows hold two versions of one task.
    """
    played: dict[str, str] = {}
    for task in sorted(set(rows["task"])):
        name, dash, version = task.rpartition("-")
        other = played.setdefault(name if dash else task, version if dash else "")
        if dash and other != version:
            raise ValueError(
                f"{rows['policy'].iloc[0]} on {rows['split'].iloc[0]} has rows of {name}-{other} and {task}, which are "
                "two tasks: give the runs of each version by themselves, or another --name"
            )
    return " ".join(sorted(set(played.values()) - {""}))


def groups(rows: pandas.DataFrame) -> Iterator[tuple[str, pandas.DataFrame]]:
    """Yields the groups of the rows of one policy and split, by name."""
    whole = rows[rows["factor"].isin(WHOLE)]
    if len(whole):
        yield "all", whole
    for novelty in sorted(set(whole["novelty"]) - {"seen"}):
        yield novelty, whole[whole["novelty"] == novelty]
    for factor in sorted(set(rows["factor"]) - set(WHOLE)):
        yield factor, rows[rows["factor"] == factor]


def task_groups(rows: pandas.DataFrame) -> Iterator[tuple[str, pandas.DataFrame]]:
    """Yields each task of the rows of one policy and split, then each task under each single factor, by name."""
    for name, group in groups(rows):
        single = not set(group["factor"]) & set(WHOLE)
        if name == "all" or single:
            for task, part in group.groupby("task", sort=True):
                yield f"{name}: {task}" if single else str(task), part


def progress(rows: pandas.DataFrame) -> Estimate:
    """Returns the mean progress of the rows and its interval, tasks being strata (`intervals.bounded_mean`)."""
    return bounded_mean([task["progress"].to_numpy() for _, task in rows.groupby("task", sort=True)])


def _rates(fine: pandas.DataFrame, seeds: Sequence[pandas.DataFrame]) -> Iterator[float]:
    for name in RATES:
        if fine[name].dtype == bool:
            yield from wilson(int(fine[name].sum()), len(fine))
        else:  # shares of training seeds are no trials
            scenes = progress(fine.assign(progress=fine[name]))
            yield from over_seeds(scenes, [[float(one[name].mean()) for one in seeds]])


def video_skill(rows: pandas.DataFrame) -> Estimate:
    """Returns 1 - error of imagined frames / error of the present frame kept, with its interval, tasks being strata.

    An episode is one draw; NaN without imagined frames.
    """
    shown = rows[rows["video_frames"] > 0]
    by_task = [task for _, task in shown.groupby("task", sort=True)]
    parts, wholes = ([task[name].to_numpy(float) for task in by_task] for name in VIDEO[1:])
    share = share_of(parts, wholes)
    return Estimate(1.0 - share.mean, 1.0 - share.high, 1.0 - share.low)


def _video(fine: pandas.DataFrame, seeds: Sequence[pandas.DataFrame]) -> tuple[float, ...]:
    means = [[video_skill(one).mean for one in seeds]]
    skill = over_seeds(video_skill(fine), means, lowest=-math.inf)
    return round(float(fine["video_frames"].sum())), *skill


def to_csv(table: pandas.DataFrame) -> str:
    """Returns the leaderboard as CSV: numbers with three decimals, nothing where nothing is known."""
    return table.to_csv(index=False, float_format="%.3f", lineterminator="\n")


def to_text(table: pandas.DataFrame) -> str:
    """Returns the leaderboard for people: mean [low, high], and the range of training seeds where there are several."""
    rates = ("progress", "success at end", "success ever")
    header = ("policy", "split", "group", "n", "errors", *rates, "task versions", "training seeds", "video skill")
    told = [_text_line(line) for line in table.to_dict("records")]
    wanted = [
        i for i, name in enumerate(header) if name not in OPTIONAL or any(line[i] not in ("", "-") for line in told)
    ]
    lines = [tuple(line[i] for i in wanted) for line in (header, *told)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    body = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    note = f"mean [95% interval over scenes of the same tasks{_seeds_too(table)}]"
    note += "; training seeds: progress of the worst to the best" if "training seeds" in lines[0] else ""
    note += "; video skill: of imagined video 0.4 s ahead, 0 is a kept frame" if "video skill" in lines[0] else ""
    return "\n".join([*body, note])


def _seeds_too(table: pandas.DataFrame) -> str:
    """Returns what to add about lines whose intervals are over training seeds as well."""
    crossed = table["interval"] == SCENES_AND_SEEDS
    if not crossed.any():
        return ""
    return " and over training seeds" + ("" if crossed.all() else f" where there are {FEWEST_SEEDS} or more")


def _text_line(line: Mapping[Any, Any]) -> tuple[str, ...]:
    estimates = (text((line[name], line[f"{name}_low"], line[f"{name}_high"])) for name in RATES)
    seeds = f"{line['seeds']}: {line['seed_lowest']:.3f} to {line['seed_highest']:.3f}" if line["seeds"] > 1 else ""
    video = text((line["video_skill"], line["video_skill_low"], line["video_skill_high"]), 2)
    return (*(str(line[name]) for name in COLUMNS[:5]), *estimates, line["versions"], seeds, video)
