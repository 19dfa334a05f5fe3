"""What the shell is offered behind TAB, asked as the shell asks, in a process of its own: argcomplete closes files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wambench import cli

pytest.importorskip("argcomplete", reason="completion is an extra: pip install argcomplete")
ROOT = Path(__file__).parents[2]
OFFERED = {
    "wambench leader": {"leaderboard"},
    "wambench run --policy dream": {"dreamzero"},
    "wambench run --split unseen-": {"unseen-envs", "unseen-tasks"},
    "wambench run --execution a": {"async"},
    "wambench run --tasks LiftCube,PressB": {"LiftCube,PressButton"},
    "wambench run --factor li": {"lighting"},
    "wambench run --dry": {"--dry-run"},
}
ASK = """
import io, json, os, sys
import argcomplete
from wambench import cli
def leave(code): raise SystemExit(code)
told = {}
for line in json.loads(sys.argv[1]):
    os.environ.update(COMP_LINE=line, COMP_POINT=str(len(line)))
    stream = io.StringIO()
    try: argcomplete.CompletionFinder()(cli.parser(), exit_method=leave, output_stream=stream)
    except SystemExit: told[line] = stream.getvalue().split("|")
print(json.dumps(told))
"""


def test_names_are_completed() -> None:
    shell = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "|", "COMP_TYPE": "9", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ASK, json.dumps(list(OFFERED))]
    done = subprocess.run(command, env={**os.environ, **shell}, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    told = {line: {word.strip() for word in words} for line, words in json.loads(done.stdout).items()}
    assert told == OFFERED


def test_the_script_is_marked_for_the_shell() -> None:
    assert "PYTHON_ARGCOMPLETE_OK" in Path(cli.__file__).read_text()[:1024]
