from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.submission.conftest import write_run
from wambench import cli
from wambench.records import load_episode
from wambench.submission import pack as packing
from wambench.submission.pack import read_pack, submit

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def packed(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submit([good], tmp_path_factory.mktemp("pack") / "row")


def rewritten(packed: Path, out: Path, change: Callable[[Files], None], hashes: bool = False) -> Path:
    """Returns a pack with changed files; with `hashes`, by a forger who mends those of the index."""
    with zipfile.ZipFile(packed) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    if hashes:
        index = json.loads(files[packing.INDEX])
        index["files"] = {n: hashlib.sha256(c).hexdigest() for n, c in files.items() if n != packing.INDEX}
        files[packing.INDEX] = json.dumps(index).encode()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out


def test_a_pack_holds_what_a_row_needs(good: Path, packed: Path, tmp_path: Path) -> None:
    assert packed.suffix == ".zip"
    pack = read_pack(packed)
    assert [run.name for run in pack.runs] == ["noop-dynamic"] and len(pack.runs[0].rows) == 60
    path = sorted((good / "episodes").glob("*.npz"))[3]
    assert (pack.actions("noop-dynamic")[path.stem] == packing.executed(load_episode(path))).all()
    assert pack.runs[0].digests[path.stem].recording == hashlib.sha256(path.read_bytes()).hexdigest()
    assert submit([good], tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_leaderboard_reads_packs_as_it_reads_runs(
    good: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = []
    for source in (good, packed):
        assert cli.main(["leaderboard", str(source), "--out", str(tmp_path / "table.csv")]) == 0
        tables.append((tmp_path / "table.csv").read_text())
    assert tables[0] == tables[1] and "noop,dynamic,all,60" in tables[0]
    assert cli.main(["submit", "--check", str(packed)]) == 0
    assert "noop on dynamic: 60 episodes, 0 errors" in capsys.readouterr().out
    assert cli.main(["report", str(packed), "--out", str(tmp_path / "site")]) == 0
    assert '"name":"0-noop-dynamic"' in (tmp_path / "site" / "data.js").read_text()


CSV, RUN, LINES, ACTIONS = (
    f"runs/noop-dynamic/{n}" for n in ("episodes.csv", "run.json", "recordings.jsonl", "actions.npz")
)


def better(files: Files) -> None:
    """Gives the first failure of a task its success, in the row alone."""
    lines = files[CSV].decode().splitlines(keepends=True)
    done = next(line for line in lines[1:] if ",True,True," in line)
    at = next(
        i for i, line in enumerate(lines) if line.split(",")[2] == done.split(",")[2] and ",0,False,False," in line
    )
    outcome = done.split(",")[11:15]
    fields = lines[at].split(",")
    lines[at] = ",".join([*fields[:11], *outcome, *fields[15:]])
    files[CSV] = "".join(lines).encode()


def other_actions(files: Files) -> None:
    import io

    with np.load(io.BytesIO(files[ACTIONS])) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    values[next(iter(values))][0, 0] += 0.1
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **values)
    files[ACTIONS] = buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "hashes", "says"),
    [
        (better, False, "changed after it was packed: runs/noop-dynamic/episodes.csv"),
        (better, True, "rows do not fit their recordings"),
        (other_actions, True, "do not fit their hashes"),
        (lambda files: files.pop(ACTIONS), False, "files are missing or were added"),
        (lambda files: files.pop(ACTIONS), True, "run noop-dynamic is damaged"),
        (lambda files: files.update({"../evil": b"x"}), False, "files are missing or were added: ../evil"),
        (lambda files: files.pop("pack.json"), False, "no pack of `wambench submit`"),
        (lambda files: files.update({RUN: files[RUN].replace(b'"seed": 0', b'"seed": 1')}), True, "played with seed 1"),
        (lambda files: files.update({CSV: b"".join(files[CSV].splitlines(True)[:-1])}), True, "1 of 60 episodes"),
        (lambda files: files.update({LINES: b"{}\n"}), True, "is damaged"),
        (lambda files: files.update({ACTIONS: b"PK"}), True, "its actions are damaged"),
    ],
)
def test_forged_and_incomplete_packs_are_refused(
    packed: Path, tmp_path: Path, change: Callable[[Files], None], hashes: bool, says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    forged = rewritten(packed, tmp_path / "forged.zip", change, hashes)
    assert cli.main(["leaderboard", str(forged)]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path.parent / "evil").exists()


def test_a_pack_that_is_no_zip_or_a_huge_one_is_refused(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = tmp_path / "cut.zip"
    cut.write_bytes(packed.read_bytes()[:-40])
    with pytest.raises(ValueError, match="damaged"), packing.unpacked([cut]):
        pass
    monkeypatch.setattr(packing, "LARGEST", 1000)
    with pytest.raises(ValueError, match="would unpack to"):
        read_pack(packed)


def test_two_training_seeds_make_one_row(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / f"seed-{i}" / "run", weights_hash=f"{i}" * 16) for i in range(2)]
    path = submit(runs, tmp_path / "row.zip")
    assert [run.name for run in read_pack(path).runs] == ["run", "run-1"]
    assert cli.main(["leaderboard", str(path)]) == 0
    assert "2: " in capsys.readouterr().out  # training seeds
