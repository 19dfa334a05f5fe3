from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.report.conftest import HOSTILE, attribute, data_of, play
from wambench import cli
from wambench.report import report as page
from wambench.report.report import MAX_TEXT, report

pytestmark = pytest.mark.slow


def test_page_holds_everything_and_needs_nothing_else(site: Path) -> None:
    data = data_of(site)
    assert data["counts"] == {"episodes": 12, "errors": 1, "policies": 3}
    assert {line["policy"] for line in data["rates"]} == {"steady", "slow", HOSTILE}
    assert len(data["episodes"]) == 12 and data["notes"] == []
    assert data["sweeps"][0]["points"][1]["time"] == [0.4, 0.3, 0.5]
    names = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    assert {entry[kind] for entry in data["episodes"] for kind in ("film", "poster")} <= names
    for name in ("index.html", "report.css", *(name for name in page.STATIC if name.endswith(".js"))):
        text = (site / name).read_text().replace(f"'{'http://www.w3.org/2000/svg'}'", "")
        assert not re.search(r"(src|href)=\"(https?:)?//|@import|url\(|fetch\(|import\(|innerHTML|eval\(", text), name


def test_text_of_runs_is_escaped(site: Path) -> None:
    assert "<script>window" not in (site / "index.html").read_text()
    assert "<img" not in (site / "index.html").read_text()
    assert "A &lt;b&gt;title" in (site / "index.html").read_text()
    assert "<" not in (site / "data.js").read_text()


def test_long_text_is_cut_aloud(site: Path) -> None:
    error = next(entry["error"] for entry in data_of(site)["episodes"] if entry["error"])
    assert error.endswith(f"… ({len(HOSTILE) + 901 - MAX_TEXT} more letters)")


def test_films_play_in_every_browser(site: Path) -> None:
    import imageio_ffmpeg

    entry = next(e for e in data_of(site)["episodes"] if e["policy"] == "steady")
    film = site / entry["film"]
    done = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(film)], capture_output=True, text=True)
    assert "h264" in done.stderr and "yuv420p" in done.stderr
    content = film.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # it plays while it loads
    reader = imageio_ffmpeg.count_frames_and_secs(str(film))
    assert reader[0] == len(entry["steps"])


def test_page_is_replaced_and_stale_films_go(site: Path, played: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    report([played / "runs"], out)
    films = sorted((out / "films").glob("*.mp4"))
    before = films[0].stat().st_mtime_ns
    report([played / "runs"], out)
    assert films[0].stat().st_mtime_ns == before  # a film that is there is the right one
    report([played / "runs" / "elsewhere"], out)
    assert len(list((out / "films").iterdir())) == 4  # two films and their posters
    assert len(data_of(out)["episodes"]) == 2


def test_a_limit_is_said_aloud(played: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(played / "runs" / name) for name in ("steady", "slow")]
    assert cli.main(["report", *runs, "--out", str(tmp_path / "site"), "--max-mb", "0.55"]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(tmp_path / "site" / "index.html")
    data = data_of(tmp_path / "site")
    shown = len(data["episodes"])
    assert 0 < shown < 8 and f"{shown} of 8 recorded episodes are shown" in printed.err
    assert data["notes"][0] in printed.err.replace("wambench: ", "")
    assert any(entry["attribution"] for entry in data["episodes"])  # those that say most come first
    size = sum(path.stat().st_size for path in (tmp_path / "site").rglob("*") if path.is_file())
    assert size < 0.55e6


def test_folders_of_others_stay(played: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds other files than a report, e\.g\. thesis\.tex"):
        report([played / "runs"], tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        report([tmp_path / "runs"], tmp_path / "site")
    with pytest.raises(ValueError, match="must be positive"):
        report([played / "runs"], tmp_path / "site", max_mb=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_rows_alone_make_a_page(played: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    for name in ("run.json", "episodes.csv"):
        (folder / name).write_bytes((played / "runs" / "steady" / name).read_bytes())
    data = data_of(report([folder], tmp_path / "site").parent)
    assert data["episodes"] == [] and len(data["rates"]) > 0


def test_verdicts_stand_with_their_episode(tmp_path: Path) -> None:
    folder = play("tests.stubs:Steady", tmp_path / "run", 1)
    attribute(folder)
    entries = data_of(report([folder], tmp_path / "site").parent)["episodes"]
    about = [entry["attribution"] for entry in entries]
    assert about[1] is None and about[0]["verdicts"]["d2"] == {"verdict": "video", "confidence": 1.0}
    assert about[0]["lost"] == {"video": 0.5, "action": 0.0, "timing": 0.0, "unattributed": 0.0}
    assert about[0]["no_return"] == 1


def test_a_run_of_errors_makes_a_page(tmp_path: Path) -> None:
    runs = [
        play("tests.stubs:Listener", tmp_path / "runs" / "listener", 1),
        play("tests.stubs:Steady", tmp_path / "runs" / "steady", 1),
    ]
    data = data_of(report(runs, tmp_path / "site").parent)
    line = next(line for line in data["rates"] if line["policy"] == "tests.stubs:Listener")
    assert (line["n"], line["errors"], line["progress"]) == (0, 2, [None, None, None])
    assert data["comparisons"][0]["lines"][0]["n"] == 0
    assert {entry["status"] for entry in data["episodes"]} == {"ok", "policy_error"}
