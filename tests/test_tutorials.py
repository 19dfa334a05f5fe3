"""The tutorials run as printed: every Python block and every command, page by page, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"```(python|sh)(?: title=\"([^\"]+)\")?\n(.*?)```", flags=re.DOTALL)


def commands(shell: str) -> list[list[str]]:
    """Returns the command lines of a block as words."""
    lines = shell.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if shlex.split(line, comments=True)]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs_as_printed(page: Path, tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to(ROOT / "results")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    script = ""  # blocks without a title belong together, as in a notebook
    for kind, title, text in BLOCK.findall(page.read_text()):
        if kind == "python" and title:
            (tmp_path / title).write_text(text)
            continue
        if kind == "python":
            script += text
            runs = [[sys.executable, "-c", script]]
        else:
            runs = [[sys.executable, "-m", *words] for words in commands(text)]
            assert all(run[2] == "wambench" for run in runs), "only wambench's own commands can be tried"
        for run in runs:
            done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            said = done.stdout[-1500:] + done.stderr[-1500:]
            assert done.returncode == 0, f"{page.name}: {shlex.join(run[-12:])}\n{said}"


def test_there_are_tutorials_with_something_to_run() -> None:
    assert len(PAGES) >= 4
    assert all(BLOCK.findall(page.read_text()) for page in PAGES)
