"""Writes the page: data from runs, films of recorded episodes, and the files that show them.

    OUT/index.html  report.css  *.js      the page
    OUT/data.js                           everything it shows: a script, because a page from disk may not fetch JSON
    OUT/films/<hash>.mp4, .jpg            one film and its last frame per recorded episode

Nothing is loaded from elsewhere, so that the folder works from disk and from any static host.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wambench
from wambench.attribution import plots as attribution_plots
from wambench.attribution import table as attribution_table
from wambench.attribution.table import AttributionRow
from wambench.progress_bar import progress_bar
from wambench.records import ROWS, Row, episode_stem, find_runs, load, load_episode, provenance, read_rows, write_whole
from wambench.report import MAX_MB, recordings, tables
from wambench.report.tables import Json, number
from wambench.tasks import SPLITS

if TYPE_CHECKING:
    from jinja2 import Environment

Tell = Callable[[str], None]
PAGE = Path(__file__).parent / "page"
STATIC = ("report.css", "base.js", "leaderboard.js", "results.js", "episodes.js", "main.js")
DATA = "data.js"
FILMS = "films"
MAX_EPISODES = 5000  # that the browser lists
MAX_TEXT = 400  # letters of a prompt or an error
SWEEP = "sweep.csv"


@dataclass(frozen=True)
class Inputs:
    """What the folders of a command line hold."""

    runs: tuple[Path, ...]
    sweeps: tuple[Path, ...]
    self_tests: tuple[Path, ...]


@dataclass
class Page:
    """What has been put together so far.

    Attributes:
        episodes: One entry per recorded episode.
        notes: What the page leaves out or cuts, in sentences for its reader.
        size: Bytes of the films.
    """

    episodes: list[Json] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    size: int = 0


def sort_inputs(paths: Sequence[Path], tell: Tell = lambda _: None) -> Inputs:
    """Returns which of some folders are sweeps, self-tests, and runs (or folders of runs).

    Raises:
        ValueError: A path does not exist, or none of them holds anything.
    """
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise ValueError(f"no run at {missing[0]}: there is no such folder")
    sweeps = tuple(path for path in paths if (path / SWEEP).is_file())
    self_tests = tuple(path for path in paths if (path / attribution_plots.SELF_TEST).is_file())
    rest = [path for path in paths if path not in (*sweeps, *self_tests)]
    if not rest:
        if not sweeps and not self_tests:
            raise ValueError("give at least one run")
        return Inputs((), sweeps, self_tests)
    return Inputs(tuple(find_runs(rest, tell)), sweeps, self_tests)


def report(
    paths: Sequence[Path], out: Path, title: str = "", max_mb: float = MAX_MB, tell: Tell = lambda _: None
) -> Path:
    """Writes the page of some runs, sweeps and self-tests, and returns the path of its index.html.

    Args:
        paths: Folders of runs, or of several runs, of sweeps and of self-tests.
        out: Folder of the page: a new one, an empty one, or one with an earlier page, which is replaced.
        title: Its heading; "" for a usual one.
        max_mb: What the folder may hold, in megabytes; films beyond it are left out, and the page says so.
        tell: Is told, line by line, what is left out.

    Raises:
        ValueError: There is nothing to show, or `out` holds something else.
    """
    if not max_mb > 0:
        raise ValueError(f"max-mb must be positive, not {max_mb:g}")
    inputs = sort_inputs(paths, tell)
    _check_folder(out)
    page = Page()
    data = _data(inputs, page, tell)
    (out / FILMS).mkdir(parents=True, exist_ok=True)
    _add_films(page, out, int(max_mb * 1e6) - len(json.dumps(data)) - 500_000)
    data |= {"episodes": page.episodes, "notes": page.notes}
    for note in page.notes:
        tell(note)
    data["title"] = title or "wambench report"
    write_whole(out / DATA, f"const WAMBENCH = {_script(data)};\n")
    for name in STATIC:
        write_whole(out / name, (PAGE / name).read_bytes())
    write_whole(out / "index.html", _environment().get_template("index.html.jinja").render(data=data, scripts=STATIC))
    return out / "index.html"


def _check_folder(out: Path) -> None:
    """Raises ValueError if a folder holds something that is no page of ours: nothing of others is overwritten."""
    if out.is_file():
        raise ValueError(f"{out} is a file, and the page needs a folder")
    own = {"index.html", DATA, FILMS, *STATIC}
    others = sorted(path.name for path in out.iterdir() if path.name not in own) if out.is_dir() else []
    if others:
        raise ValueError(f"{out} holds other files than a report, e.g. {others[0]}: give another --out")


def _data(inputs: Inputs, page: Page, tell: Tell) -> Json:
    """Returns the tables of the page, and puts its episodes and notes into `page`."""
    data: Json = {
        "version": wambench.__version__,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "sweeps": tables.sweeps(inputs.sweeps),
        "parts": tables.parts(),
        "verdict_colours": dict(attribution_plots.VERDICTS),
        "definitions": {**attribution_plots.DEFINITIONS, "behaviour": "how it failed"},
        "self_tests": tables.self_tests(inputs.self_tests),
        "attributions": tables.attributions(inputs.runs),
        **{name: [] for name in ("splits", "rates", "task_rates", "comparisons", "runs")},
        "counts": {"episodes": 0, "errors": 0, "policies": 0},
    }
    if not inputs.runs:
        return data
    rows = load(inputs.runs, tell)
    if rows.empty:
        raise ValueError(f"no episodes in {', '.join(map(str, inputs.runs[:3]))}")
    played: dict[tuple[str, str], list[Path]] = {}
    for run in inputs.runs:
        own = read_rows(run / ROWS if run.is_dir() else run)
        for key in dict.fromkeys((row.policy, row.split) for row in own):
            played.setdefault(key, []).append(run)
        data["runs"].append(_run(run, own))
        page.episodes += _episodes(run, own)
    data["splits"] = tables.splits([str(name) for name in rows["split"].unique()])
    data["rates"], data["task_rates"] = tables.rates(rows, played)
    data["comparisons"], notes = tables.comparisons(rows)
    page.notes += notes
    errors = int((rows["status"] != "ok").sum())
    data["counts"] = {"episodes": len(rows), "errors": errors, "policies": rows["policy"].nunique()}
    return data


def _run(run: Path, rows: Sequence[Row]) -> Json:
    """Returns where a run comes from, as far as its run.json says."""
    told = tables.origin(run)
    convention = told.get("convention") or {}
    return {
        "name": run.parent.name if run.name == ROWS else run.name,
        "policies": sorted({row.policy for row in rows}),
        "splits": sorted({row.split for row in rows}),
        "n": len(rows),
        "errors": sum(row.status != "ok" for row in rows),
        "versions": {name: str(value) for name, value in (told.get("versions") or {}).items()},
        **{name: told.get(name) for name in ("date", "commit", "renderer", "device", "weights_hash", "corpus")},
        "split_hash": told.get("split_hash"),
        "control_hz": convention.get("control_hz"),
    }


def _episodes(run: Path, rows: Sequence[Row]) -> list[Json]:
    """Returns an entry for every episode of a run that was recorded, without its film."""
    if not run.is_dir():
        return []
    config = tables.origin(run).get("config", {})
    attributed = _attributed(run)
    changed = _has_changed(run)
    found = []
    for row in rows:
        path = run / "episodes" / f"{episode_stem(row.key)}.npz"
        if not path.is_file():
            continue
        found.append(
            {
                "id": f"{run.name}/{episode_stem(row.key)}",
                "path": str(path),
                **{name: getattr(row, name) for name in ("policy", "split", "task", "novelty", "factor", "episode")},
                **{name: getattr(row, name) for name in ("seed", "spec_hash", "status", "queries")},
                "length": row.steps,
                "prompt": clip(row.prompt),
                "error": clip(row.error),
                "progress": number(row.progress),
                "success": row.success_end,
                "success_ever": row.success_ever,
                "reached": [name for name in row.stages.split(";") if name],
                "latency": number(row.latency_p50_s),
                "execution": row.execution,
                "command": recordings.replay_command(config, row) if config else "",
                "changed": changed,
                "attribution": _verdicts(attributed.get(row.key)),
            }
        )
    return found


def _attributed(run: Path) -> dict[tuple[str, str, int], AttributionRow]:
    if not (run / attribution_table.TABLE).is_file():
        return {}
    return {row.key: row for row in attribution_table.read(run)}


def _has_changed(run: Path) -> bool:
    """Returns whether the split of a run is no longer what it was, so that its command plays something else now."""
    told = tables.origin(run)
    split = told.get("config", {}).get("split")
    return split not in SPLITS or told.get("split_hash") != provenance.split_hash(split)


def _verdicts(row: AttributionRow | None) -> Json | None:
    """Returns what the definitions of attribution say of an episode; None if it was not asked."""
    if row is None:
        return None
    said = {
        name: {"verdict": getattr(row, name), "confidence": number(getattr(row, f"{name}_confidence"))}
        for name in attribution_plots.DEFINITIONS
        if getattr(row, name)
    }
    lost = {name: number(getattr(row, name)) for name in ("video", "action", "timing", "unattributed")}
    return {
        "verdicts": said,
        "lost": {name: value for name, value in lost.items() if value is not None},
        "behaviour": row.behaviour,
        "no_return": row.no_return,
        "missing": clip(row.missing),
        "error": clip(row.error),
    }


def clip(text: str) -> str:
    """Returns a text that is cut at `MAX_TEXT` letters, and says how many are missing."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text) - MAX_TEXT} more letters)"


def _add_films(page: Page, out: Path, room: int) -> None:
    """Adds film and marks to the episodes, as many as there is room for, and removes films of an earlier page.

    Every task of every run gets its first episodes before any gets a further one; attributed ones come first.
    """
    order = sorted(range(len(page.episodes)), key=lambda i: (_rank(page.episodes[i]), i))
    kept: list[Json] = []
    names: set[str] = set()
    with progress_bar(total=len(order), unit="film", disable=len(order) < 5) as bar:
        for i in order[:MAX_EPISODES]:
            entry = page.episodes[i]
            added = _add_film(entry, out)
            if page.size + added > room:
                break
            page.size += added
            names |= {Path(entry[kind]).name for kind in ("film", "poster") if entry[kind]}
            kept.append(entry)
            bar.update()
    for path in (out / FILMS).iterdir():
        if path.name not in names and path.suffix in (".mp4", ".jpg"):
            path.unlink()
    if len(kept) < len(order):
        page.notes.append(
            f"{len(kept)} of {len(order)} recorded episodes are shown, the first of every task; with the others the "
            "page would be larger than its limit (--max-mb raises it)."
        )
    page.episodes = sorted(kept, key=lambda e: (e["policy"], e["split"], e["task"], e["factor"], e["episode"], e["id"]))


def _rank(entry: Mapping[str, Any]) -> tuple[bool, int]:
    return entry["attribution"] is None, entry["episode"]


def _add_film(entry: Json, out: Path) -> int:
    """Adds film and marks to an entry and returns their size in bytes.

    A film is called after its recording, so that one that is there already is the right one.
    """
    path = Path(entry.pop("path"))
    episode = load_episode(path)
    frames, asked = recordings.film(episode)
    marks = recordings.marks(episode)
    stem = hashlib.sha256(path.read_bytes() + recordings.LOOK.encode()).hexdigest()[:16]
    film, poster = out / FILMS / f"{stem}.mp4", out / FILMS / f"{stem}.jpg"
    if frames and not (film.is_file() and poster.is_file()):
        write_whole(film, recordings.mp4(frames, episode))
        write_whole(poster, recordings.poster(frames))
    size = sum(one.stat().st_size for one in (film, poster) if frames)
    entry |= {
        **marks,
        "film": f"{FILMS}/{film.name}" if frames else "",
        "poster": f"{FILMS}/{poster.name}" if frames else "",
        "size": [frames[0].shape[1], frames[0].shape[0]] if frames else [0, 0],
        "asked": asked if any(step is not None for step in asked) else [],
        "cameras": list(episode.observations[0].images) if episode.observations else [],
        "hz": episode.spec.control_hz,
        "horizon": episode.spec.horizon,
        "instruction": clip(episode.spec.instruction),
    }
    return size + len(json.dumps(entry))


def _script(data: Json) -> str:
    """Returns JSON that is a script as well: no "</script>", no line ends that JavaScript has and JSON has not."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _environment() -> Environment:
    """Returns the templates; everything that is put into them is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made.filters |= {"estimate": estimate, "count_of": count_of}
    return made


def count_of(n: int, one: str, several: str) -> str:
    """Returns "1,234 episodes"."""
    return f"{n:,} {one if n == 1 else several}"


def estimate(values: Sequence[float | None]) -> str:
    """Returns "mean [low, high]" for the table that is there without scripts."""
    mean, low, high = (math.nan if value is None else value for value in values)
    return "-" if math.isnan(mean) else f"{mean:.2f} [{low:.2f}, {high:.2f}]"
