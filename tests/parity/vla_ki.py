"""Which tokens an insulated action expert reads, against `ki_mask`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file

from tests.parity.result import Result, compare
from wambench.policies.vla.knowledge_insulation import visible_to_expert


def check_mask(folder: Path) -> list[Result]:
    """Spans between marks, a start without an end, an end without a start, end of sequence, padding."""
    path = folder / "ki_mask.safetensors"
    with safe_open(str(path), framework="pt") as file:
        marks = json.loads(file.metadata()["config"])
    t = load_file(path)
    seen = visible_to_expert(t["ids"], t["valid"].bool(), marks["start"], marks["end"], marks["eos"])
    return [compare("visible to the expert", seen.to(t["visible_to_expert"].dtype), t["visible_to_expert"], 0.0)]


CHECKS: dict[str, Callable[[Path], list[Result]]] = {"ki_mask.safetensors": check_mask}
