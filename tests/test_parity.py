"""The command `python -m tests.parity`: what counts as a failure."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.parity import __main__ as parity
from tests.parity import protocol
from tests.parity.result import Result

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden" / "dreamzero"


def verdicts(folder: Path, checks: dict[str, parity.Check]) -> list[tuple[bool, str]]:
    return [(passed, line.split()[0]) for passed, line in parity.lines(folder, checks)]


def test_every_kind_of_line(tmp_path: Path) -> None:
    for name in ("good", "good2", "bad", "broken", "stranger"):
        (tmp_path / name).touch()
    (tmp_path / "README.md").touch()
    (tmp_path / "dit_weights.safetensors").touch()
    checks: dict[str, parity.Check] = {
        "good": lambda folder: [Result("a", 1.0, 2.0), Result("b", 0.0, 0.0)],
        "bad": lambda folder: [Result("a", 1.0, 2.0), Result("b", float("nan"), 1.0)],
        "broken": lambda folder: [Result("a", 1 / 0, 1.0)],
        "gone": lambda folder: [Result("a", 0.0, 1.0)],
        "good2": lambda folder: [],
    }
    assert verdicts(tmp_path, checks) == [
        (False, "FAILED"),
        (False, "ERROR"),
        (False, "MISSING"),
        (True, "ok"),
        (False, "EMPTY"),
        (False, "NO"),  # NO CHECK stranger; README and weights need none
    ]
    lines = [line for _, line in parity.lines(tmp_path, checks)]
    assert "error 1, tolerance 2 (a)" in lines[3] and "b: error nan" in lines[0] and "ZeroDivisionError" in lines[1]


def test_a_wrong_number_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for file in protocol.CHECKS:
        shutil.copy(GOLDEN / file, tmp_path)
    monkeypatch.setattr(parity, "SETS", {"dreamzero": ("protocol",)})
    assert parity.main([str(tmp_path)]) == 0
    tensors = load_file(tmp_path / "preprocessing.safetensors")
    tensors["q99.out.normalised"] += torch.tensor(1e-4)
    save_file(tensors, tmp_path / "preprocessing.safetensors")
    assert parity.main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "FAILED   preprocessing.safetensors" in printed and "all within tolerance" in printed


@pytest.mark.parametrize("name", parity.SETS)
def test_every_golden_file_has_a_check(name: str) -> None:
    checks, folder = parity.checks_of(parity.SETS[name]), GOLDEN.parent / name
    assert parity.set_of(folder) == checks
    assert not parity.unchecked(folder, checks)
    assert {path.name for path in folder.iterdir()} >= set(checks)
