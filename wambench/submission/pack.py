"""The file that carries a row of the leaderboard: a ZIP with rows, provenance, digests of recordings, and actions.

    pack.json                       format, version, explanations, SHA-256 of every other file
    runs/<name>/run.json            as the run left it
    runs/<name>/episodes.csv        likewise
    runs/<name>/recordings.jsonl    one `Digest` per line
    runs/<name>/actions.npz         what was carried out, (N, A) float64 per episode: an episode can be played again

Nothing is unpickled, and names in a pack are no paths: its files are read by name and written under names of letters.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import wambench
from wambench.interface import Episode
from wambench.progress_bar import progress_bar
from wambench.records import ROWS, RUN, Row, episode_stem, find_runs, load_episode, read_rows, write_whole
from wambench.submission import is_pack
from wambench.submission.rules import Digest, SubmittedRun, violations

FORMAT = 1
INDEX = "pack.json"
DIGESTS, ACTIONS = "recordings.jsonl", "actions.npz"
LARGEST = 2_000_000_000  # bytes of all files of a pack, unpacked
SHOWN = 5  # broken rules in one message
Tell = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Pack:
    """A pack that was read: its runs, the reasons of its errors, and the actions of each run by episode."""

    runs: tuple[SubmittedRun, ...]
    explained: Mapping[str, str]
    files: Mapping[str, bytes]

    def actions(self, run: str) -> dict[str, NDArray[np.float64]]:
        """Returns what was carried out in the episodes of a run, by the stem of their files."""
        with np.load(io.BytesIO(self.files[f"runs/{run}/{ACTIONS}"]), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def submit(
    paths: Sequence[Path], out: Path, explained: Mapping[str, str] | None = None, tell: Tell = lambda _: None
) -> Path:
    """Checks some runs against the rules and packs what a row needs; returns the path of the pack.

    Args:
        paths: Folders of runs with their recordings.
        out: The file; ".zip" is added if it has no ending.
        explained: As of `rules.violations`.
        tell: Is told which paths are no runs.

    Raises:
        ValueError: The runs break a rule: names them all.
    """
    explained = dict(explained or {})
    out = out if out.suffix else out.with_suffix(".zip")
    if out.is_dir():
        raise ValueError(f"{out} is a folder, and a pack is a file: give another --out")
    files: dict[str, bytes] = {}
    runs: list[SubmittedRun] = []
    for folder in find_runs(paths, tell):
        run, own = _read_folder(folder if folder.is_dir() else folder.parent, [run.name for run in runs])
        runs.append(run)
        files |= own
    _refuse(violations(runs, explained), "these runs make no row of the leaderboard")
    index = {
        "format": FORMAT,
        "wambench": wambench.__version__,
        "explained": explained,
        "files": {name: _sha256(content) for name, content in sorted(files.items())},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, _zipped({INDEX: json.dumps(index, indent=1).encode(), **files}))
    return out


def _read_folder(folder: Path, taken: Sequence[str]) -> tuple[SubmittedRun, dict[str, bytes]]:
    """Returns a run and the files that a pack has of it."""
    try:
        origin = json.loads((folder / RUN).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder}: a row needs its {RUN}: {error}") from error
    rows = tuple(read_rows(folder / ROWS))
    digests: dict[str, Digest] = {}
    actions: dict[str, NDArray[np.float64]] = {}
    with progress_bar(total=len(rows), unit="recording", desc=folder.name, disable=len(rows) < 200) as bar:
        for row in rows:
            bar.update()
            path = folder / "episodes" / f"{episode_stem(row.key)}.npz"
            if path.is_file():
                digests[path.stem], actions[path.stem] = digest(path)
    name = folder.name if folder.name not in taken else f"{folder.name}-{len(taken)}"
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **actions)
    lines = [json.dumps({"stem": stem, **dataclasses.asdict(one)}) for stem, one in digests.items()]
    files = {
        RUN: (folder / RUN).read_bytes(),
        ROWS: (folder / ROWS).read_bytes(),
        DIGESTS: "".join(f"{line}\n" for line in lines).encode(),
        ACTIONS: buffer.getvalue(),
    }
    return SubmittedRun(name, origin, rows, digests), {
        f"runs/{name}/{file}": content for file, content in files.items()
    }


def digest(path: Path) -> tuple[Digest, NDArray[np.float64]]:
    """Returns the digest of a recording, and the actions that it holds, (N, A) float64."""
    content = path.read_bytes()
    episode = load_episode(path)
    actions = executed(episode)
    first = [image.tobytes() for image in episode.observations[0].images.values()] if episode.observations else []
    return (
        Digest(
            recording=_sha256(content),
            actions=_sha256(actions.tobytes()),
            first_frame=_sha256(b"".join(first)) if first else "",
            spec_hash=episode.spec.hash,
            status=episode.status,
            progress=float(episode.progress),
            success_end=bool(episode.success_end),
            stages=tuple(episode.stages),
            steps=int(episode.steps),
        ),
        actions,
    )


def executed(episode: Episode) -> NDArray[np.float64]:
    """Returns the actions that an episode carried out, (N, A), float64."""
    parts = [np.asarray(chunk.executed, np.float64) for chunk in episode.chunks if len(chunk.executed)]
    return np.concatenate(parts) if parts else np.zeros((0, 0))


def read_pack(path: Path) -> Pack:
    """Returns a pack after checking it: its files against their hashes, its runs against the rules.

    Raises:
        ValueError: It is damaged, has been changed, or breaks a rule.
    """
    files = _unzipped(path)
    try:
        index = json.loads(files.pop(INDEX))
        told, explained = dict(index["files"]), {str(k): str(v) for k, v in dict(index["explained"]).items()}
        version = int(index["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no pack of `wambench submit`: {error!r}") from error
    if version > FORMAT:
        raise ValueError(f"{path}: packed by a newer wambench: format {version}, this one reads up to {FORMAT}")
    if set(told) != set(files):
        odd = sorted(set(told) ^ set(files))
        raise ValueError(f"{path}: files are missing or were added: {', '.join(odd[:SHOWN])}")
    changed = [name for name, content in files.items() if _sha256(content) != told[name]]
    if changed:
        raise ValueError(f"{path}: changed after it was packed: {', '.join(sorted(changed)[:SHOWN])}")
    names = sorted({name.split("/")[1] for name in files if name.count("/") == 2 and name.startswith("runs/")})
    pack = Pack(tuple(_run_of(path, name, files) for name in names), explained, files)
    _refuse([*_actions_fit(pack), *violations(pack.runs, explained)], f"{path} makes no row of the leaderboard")
    return pack


def _run_of(path: Path, name: str, files: Mapping[str, bytes]) -> SubmittedRun:
    try:
        own = {file: files[f"runs/{name}/{file}"] for file in (RUN, ROWS, DIGESTS, ACTIONS)}
        digests: dict[str, Digest] = {}
        for line in own[DIGESTS].decode().splitlines():
            values = json.loads(line)
            stem = str(values.pop("stem"))
            digests[stem] = Digest(**values | {"stages": tuple(values["stages"])})
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / ROWS).write_bytes(own[ROWS])
            rows = tuple(read_rows(Path(folder) / ROWS))
        return SubmittedRun(name, json.loads(own[RUN]), rows, digests)
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise ValueError(f"{path}: run {name} is damaged: {error}") from error


def _actions_fit(pack: Pack) -> Iterator[str]:
    """Yields the runs whose actions are not those that the digests tell of."""
    for run in pack.runs:
        try:
            actions = pack.actions(run.name)
        except (ValueError, OSError, zipfile.BadZipFile, KeyError) as error:
            yield f"{run.name}: its actions are damaged: {error}"
            continue
        odd = [stem for stem, one in run.digests.items() if _hash_of(actions.get(stem)) != one.actions]
        if odd or set(actions) != set(run.digests):
            yield f"{run.name}: the actions of {max(1, len(odd))} episodes do not fit their hashes, e.g. {odd[:1]}"
        long = [stem for stem, one in run.digests.items() if stem in actions and len(actions[stem]) != one.steps]
        if long:
            yield f"{run.name}: {len(long)} episodes have another number of actions than of steps, e.g. {long[0]}"


def _hash_of(actions: NDArray[np.float64] | None) -> str:
    return "" if actions is None else _sha256(np.ascontiguousarray(actions, np.float64).tobytes())


@contextlib.contextmanager
def unpacked(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Gives some paths with every pack among them replaced by folders of its runs, for as long as they are needed."""
    with contextlib.ExitStack() as stack:
        found = []
        for path in paths:
            if not is_pack(path):
                found.append(path)
                continue
            pack = read_pack(path)
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wambench-")))
            for i, run in enumerate(pack.runs):
                folder = root / f"{i}-{re.sub(r'[^A-Za-z0-9_=-]+', '-', run.name)[:80]}"
                folder.mkdir()
                for file in (RUN, ROWS):
                    (folder / file).write_bytes(pack.files[f"runs/{run.name}/{file}"])
                found.append(folder)
        yield found


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """Returns a ZIP of some files; equal files give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _unzipped(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(one.file_size for one in archive.infolist())
            if size > LARGEST:
                raise ValueError(f"it would unpack to {size / 1e9:.1f} GB")
            return {one.filename: archive.read(one) for one in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path}: damaged: {error}") from error


def _refuse(broken: Sequence[str], what: str) -> None:
    if broken:
        more = f"; and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        raise ValueError(f"{what}: {'; '.join(broken[:SHOWN])}{more}")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def summary(pack: Pack) -> str:
    """Returns what a pack holds, a line for each run."""
    lines = []
    for run in pack.runs:
        first: Row = run.rows[0]
        errors = sum(row.status != "ok" for row in run.rows)
        lines.append(f"{first.policy} on {first.split}: {len(run.rows)} episodes, {errors} errors")
    return "\n".join(lines)
