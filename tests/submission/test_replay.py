from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from wambench.evaluation.config import RunConfig
from wambench.evaluation.run import run
from wambench.submission import pack as packing
from wambench.submission.pack import Pack
from wambench.submission.replay import replay

pytestmark = pytest.mark.slow


def test_actions_come_out_as_the_row_says_and_a_forged_row_does_not(tmp_path: Path) -> None:
    config = RunConfig.resolve("expert", "seen", ("PressButton",), episodes=1, out=tmp_path / "run")
    run(config, tell=lambda line: None)
    submitted, files = packing._read_folder(tmp_path / "run", [])
    pack = Pack((submitted,), {}, files)
    found = list(replay(pack, 3, 0))
    assert [(one.stem, one.found, one.same) for one in found] == [("PressButton-v1.none.0", 1.0, True)]
    forged = dataclasses.replace(submitted.rows[0], progress=0.5, stages="reach")
    found = list(replay(dataclasses.replace(pack, runs=(dataclasses.replace(submitted, rows=(forged,)),)), 1, 0))
    assert [(one.told, one.found, one.same) for one in found] == [(0.5, 1.0, False)]
