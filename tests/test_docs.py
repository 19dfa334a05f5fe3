"""What the docs point to is there: links and named files are in git, and published figures are fit to be looked at."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path, PurePosixPath

import pytest
from PIL import Image

from wambench.records.figures import LARGEST

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
FENCE = re.compile(r"^```.*?^```", flags=re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"`([\w./-]+)`")
FOLDERS = ("docs", "envs", "integrations", "policies", "results", "tasks", "tests", "tools", "wambench")
ELSEWHERE = {
    "my_policy.py",
    "my_task.py",
    "utils.py",
    "latency.csv",
    "l1-tiny.safetensors.csv",
    "rank.csv",
    "horizon.csv",
}  # a user's, a run's
KINDS = (".csv", ".md", ".png", ".py")


def tracked() -> list[PurePosixPath]:
    """Returns the files in git, relative to the root; those on disk where there is no git."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return [PurePosixPath(name) for name in listed.stdout.splitlines()]
    return [PurePosixPath(path.relative_to(ROOT).as_posix()) for path in ROOT.rglob("*") if path.is_file()]


FILES = tracked()
THERE = {str(path) for file in FILES for path in (file, *file.parents)}
THERE |= {f"wambench/{path}" for path in THERE if path.split("/")[0] in ("envs", "policies", "tasks")}  # links to them
PAGES = [
    str(file)
    for file in FILES
    if file.suffix == ".md" and (file.parts[0] in ("docs", "results") or len(file.parts) == 1)
]


def relative(page: str, target: str) -> str:
    """Returns the path that a page's link means, relative to the root."""
    return (ROOT / page).parent.joinpath(target).resolve().relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_in_git(page: str) -> None:
    targets = [target for target in LINK.findall(FENCE.sub("", (ROOT / page).read_text())) if "://" not in target]
    assert [
        target for target in targets if not target.startswith("mailto:") and relative(page, target) not in THERE
    ] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("CHANGELOG.md", "DECISIONS.md")])
def test_named_paths_exist(page: str) -> None:
    """Names in code that look like a path of this repository are one; CHANGELOG and DECISIONS name what was."""
    names = set(NAMED.findall(FENCE.sub("", (ROOT / page).read_text())))
    paths = {name for name in names if "/" in name and name.split("/")[0] in FOLDERS}
    assert sorted(name for name in paths if name.rstrip("/") not in THERE) == []
    alone = {name for name in names if "/" not in name and name.endswith(KINDS) and not re.search("[A-Z]{3}", name)}
    known = {file.name for file in FILES} | ELSEWHERE
    assert sorted(alone - known) == []


@pytest.mark.parametrize(
    "figure", [str(file) for file in FILES if file.parts[0] == "results" and file.suffix == ".png"]
)
def test_published_figures_have_all_their_colours_and_are_small(figure: str) -> None:
    with Image.open(ROOT / figure) as image:
        assert image.mode in ("RGB", "RGBA"), "quantised: a blue cube was grey with 256 colours"
    assert (ROOT / figure).stat().st_size <= LARGEST


@pytest.mark.parametrize("page", PAGES)
def test_no_table_is_still_missing(page: str) -> None:
    """A line that is one word in capitals was to be replaced by something measured."""
    text = FENCE.sub("", (ROOT / page).read_text())
    assert re.findall(r"^(?:[A-Z]{4,}|TODO.*|TBD.*)$", text, flags=re.MULTILINE) == []
