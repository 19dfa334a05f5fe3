"""The FAST action tokenizer against `fast`.

Merges are over integers here and over bytes there, so ids differ; what they decode to, and into what, does not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.parity.result import Result, compare
from wambench.policies.actions import fast_tokenizer

FLOATS, EXACT = 1e-6, 0.0


def check_fast(folder: Path) -> list[Result]:
    """Normalised values, frequencies, integers and reconstructions of every case; round trips through merges."""
    path = folder / "fast.safetensors"
    with safe_open(str(path), framework="pt") as file:
        config = json.loads(file.metadata()["config"])
    t = {name: tensor.numpy() for name, tensor in load_file(path).items()}
    cases = sorted({name.split(".")[0] for name in t})
    return [result for case in cases for result in _case(case, t, config)]


def _same(name: str, got: np.ndarray, expected: np.ndarray, tolerance: float = FLOATS) -> Result:
    return compare(name, torch.from_numpy(np.asarray(got)), torch.from_numpy(np.asarray(expected)), tolerance)


def _case(case: str, t: dict[str, np.ndarray], config: dict[str, int]) -> list[Result]:
    own = {name.removeprefix(f"{case}."): values for name, values in t.items() if name.startswith(f"{case}.")}
    scale, smallest = float(config["scale"]), int(own["min_token"][0])
    numbers = fast_tokenizer.quantise(own["normalised"], scale)
    kit = fast_tokenizer.Fast(own["raw"].shape[1], tuple(own["q01"]), tuple(own["q99"]), smallest, 10_000, (), scale)
    return [
        _same(f"{case} normalised", kit.normal(own["raw"]), own["normalised"]),
        _same(f"{case} frequencies", fast_tokenizer.dct(own["normalised"], axis=1, norm="ortho"), own["dct"]),
        _same(f"{case} integers", numbers, own["quantised"], EXACT),
        _same(f"{case} order", numbers.reshape(len(numbers), -1), own["flat"], EXACT),
        _same(f"{case} tokens before merging", kit.to_letters(own["raw"]), own["shifted"], EXACT),
        _same(f"{case} reconstruction", fast_tokenizer.restore(numbers, scale), own["reconstruction"]),
        *(_merged(case, own, kit, config["vocab_size"]) if "bpe.ids" in own else []),
    ]


def _merged(case: str, own: dict[str, np.ndarray], kit: fast_tokenizer.Fast, size: int) -> list[Result]:
    """Returns what a tokenizer fitted on the stored data decodes its own ids to, a cut-off row included."""
    unit = replace(kit, low=(-1.0,) * len(kit.low), high=(1.0 - 1e-6,) * len(kit.low))  # the data is normalised already
    integers = fast_tokenizer.quantise(own["bpe.fit_data"], unit.scale)
    smallest, letters = int(integers.min()), int(np.ptp(integers)) + 1
    merges = fast_tokenizer.learn(integers.reshape(len(integers), -1) - smallest, letters, size)
    unit = replace(unit, smallest=smallest, letters=letters, merges=merges)
    ids = unit.encode(own["normalised"])
    decoded = np.stack([unit.decode(row) for row in ids])
    return [
        _same(f"{case} smallest of the fit", np.array([smallest]), own["bpe.min_token"], EXACT),
        _same(f"{case} decoded", decoded, own["bpe.decoded"]),
        _same(
            f"{case} cut off",
            unit.decode(ids[0][ids[0] != fast_tokenizer.END][:-1])[None],
            own["bpe.truncated_decoded"],
        ),
        Result(f"{case} merges shorten", float(len(merges) == 0 or ids.shape[1] >= own["flat"].shape[1]), EXACT),
    ]


CHECKS: dict[str, Callable[[Path], list[Result]]] = {"fast.safetensors": check_fast}
