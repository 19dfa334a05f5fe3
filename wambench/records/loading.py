"""Several runs as one table: which folders are runs, and which of their rows can stand in one table."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wambench.records.rows import COLUMNS, ROWS, RUN, Row, read_rows

if TYPE_CHECKING:
    import pandas

Tell = Callable[[str], None]
MEASURED = ("latency_p50_s", "latency_p95_s", "wall_s")  # columns in which no two plays of an episode agree


@dataclass(frozen=True)
class Origin:
    """Who played a run, as far as its run.json says.

    Attributes:
        path: Of its rows.
        policy: What `--policy` named.
        source: SHA-256 of the file of a policy of one's own, "" if it is not known or there is none.
        weights: Hash of the policy's weights, "" if there are none.
    """

    path: Path
    policy: str = ""
    source: str = ""
    weights: str = ""

    def is_another_policy(self, other: Origin) -> bool:
        """Returns whether the policies are two; the same file in two places is one."""
        if not self.policy or not other.policy or os.path.normpath(self.policy) == os.path.normpath(other.policy):
            return False
        return not self.source or self.source != other.source


def find_runs(paths: Sequence[Path], tell: Tell = lambda _: None) -> list[Path]:
    """Returns the runs that some paths stand for.

    A folder with an episodes.csv is a run, and so is such a file. A folder without one that has runs directly inside
    stands for these. Anything else is left out, and `tell` is told so.

    Raises:
        ValueError: A path does not exist, or none of them leads to a run.
    """
    runs: list[Path] = []
    left_out: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ValueError(f"no run at {path}: there is no such folder")
        inside = sorted(file.parent for file in path.glob(f"*/{ROWS}")) if path.is_dir() else []
        if (path / ROWS).is_file() or path.name == ROWS:
            runs.append(path)
        elif inside:
            runs += inside
        else:
            left_out.append(path)
    if not runs:
        raise ValueError(f"no run at {', '.join(map(str, paths))}: a run is a folder with an {ROWS}")
    for path in left_out:
        tell(f"{path} is no run: left out")
    return list(dict.fromkeys(runs))


def load(runs: Iterable[Path], tell: Tell = lambda _: None) -> pandas.DataFrame:
    """Returns the rows of several runs (folders, or paths of episodes.csv) as one typed DataFrame.

    Beside the `COLUMNS` it has `weights`, the hash of the policy's weights in `run.json` ("" if there is none). The
    order is that of the rows' values, whatever the order of the runs. An episode that two runs hold with the same
    outcome counts once, and `tell` is told how many there are.

    Raises:
        ValueError: Two runs hold another outcome of the same episode of the same policy and weights, or call two
            policies by one name.
    """
    import pandas

    rows: dict[tuple[Any, ...], tuple[Row, Origin]] = {}
    players: dict[str, Origin] = {}
    copies = 0
    for path in dict.fromkeys(_rows_file(run).resolve() for run in runs):
        origin = _origin(path)
        for row in read_rows(path):
            _check_player(row.policy, origin, players)
            identity = (row.policy, row.split, *row.key, row.seed, origin.weights)
            if identity not in rows:
                rows[identity] = (row, origin)
                continue
            first, other = rows[identity]
            if _outcome(first) != _outcome(row):
                what = f"episode {row.episode} of {row.task} ({row.factor}) by {row.policy}, {row.split}"
                raise ValueError(f"{other.path} and {path} both hold {what}, with another outcome: leave one out")
            copies += 1
    if copies:
        tell(f"{copies} episodes are there more than once, with the same outcome: each counts once")
    found = sorted(rows.values(), key=_place)
    values = [(*dataclasses.astuple(row), origin.weights) for row, origin in found]
    types = {column.name: column.dtype for column in COLUMNS} | {"weights": "object"}
    return pandas.DataFrame(values, columns=list(types)).astype(types)


def _place(found: tuple[Row, Origin]) -> tuple[Any, ...]:
    row, origin = found
    return row.policy, row.split, row.key, row.seed, origin.weights


def _check_player(label: str, origin: Origin, players: dict[str, Origin]) -> None:
    """Raises ValueError if another policy goes by the same label: its rows would count as those of training seeds."""
    other = players.setdefault(label, origin)
    if origin.is_another_policy(other):
        raise ValueError(
            f"{other.path.parent} and {origin.path.parent} both call their policy {label!r}, but one is {other.policy} "
            f"and the other {origin.policy}: run one of them with another --name"
        )


def _outcome(row: Row) -> str:
    """Returns everything that two plays of an episode agree in; as text, in which one NaN equals another."""
    values = dataclasses.asdict(row)
    return repr([value for name, value in values.items() if name not in MEASURED])


def _origin(path: Path) -> Origin:
    try:
        values = json.loads((path.parent / RUN).read_text())
        policy, source, weights = values["config"].get("policy"), values.get("policy_hash"), values.get("weights_hash")
    except (OSError, ValueError, AttributeError, KeyError, TypeError):  # rows alone can be read, too
        return Origin(path)
    return Origin(path, str(policy or ""), str(source or ""), str(weights or ""))


def _rows_file(run: Path) -> Path:
    path = run / ROWS if run.is_dir() else run
    if not path.is_file():
        raise ValueError(f"no run at {run}: there is no {path}")
    return path
