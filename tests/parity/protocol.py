"""The data protocol against `preprocessing`, `prompts.json` and `chunk_sampling.json`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.result import Result, compare
from wambench.policies.dreamzero.official import droid

UNEQUAL, NUMBERS, EXACT = 1e-3, 1e-6, 0.0


def check_preprocessing(folder: Path) -> list[Result]:
    """Crop, resize, truncation, stitching, normalisation of pixels and actions."""
    t = load_file(folder / "preprocessing.safetensors")
    return [*_canvas(t), *_grids(t), *_q99(t), *_relative(t)]


def _canvas(t: dict[str, Tensor]) -> list[Result]:
    names = ("exterior_image_1_left", "exterior_image_2_left", "wrist_image_left")
    views = [t[f"in.video.{name}"] for name in names]
    expected, crop = t["out.canvas_uint8"], t["mid.center_crop_first_view_uint8"]
    size = (expected.shape[1] // 2, expected.shape[2] // 2)
    canvas = droid.canvas_droid(views[0], views[1], views[2], size)
    rows, corner = t["mid.resized_first_view_rows_0_7"], t["out.canvas_normalised_corner_24x24"]
    top, left = (side - n // 2 for side, n in zip(size, corner.shape[-2:], strict=True))
    patch = droid.pixels(expected)[..., top : top + corner.shape[-2], left : left + corner.shape[-1]]
    resized = droid.resize(droid.centre_crop(views[0]), size)[:, :, : rows.shape[2]]
    return [
        compare("centre crop", droid.centre_crop(views[0]), crop, EXACT),
        compare("resized rows", resized, rows, NUMBERS),
        compare("canvas, largest difference", canvas, expected, 1.0),
        Result("canvas, share unequal", float((canvas != expected).double().mean()), UNEQUAL),
        compare("normalised corner", patch.movedim(1, 0), corner, NUMBERS),
    ]


def _grids(t: dict[str, Tensor]) -> list[Result]:
    first, second, third = t["in.grid_views"].unbind(1)
    return [
        compare("grid of DROID", droid.stitch_droid(first, second, third), t["out.grid_droid"], EXACT),
        compare("grid of AgiBot", droid.stitch_grid(first, second, third), t["out.grid_2x2_agibot"], EXACT),
    ]


def _q99(t: dict[str, Tensor]) -> list[Result]:
    x, q01, q99 = (t[f"q99.in.{name}"].numpy() for name in ("x", "q01", "q99"))
    inside = droid.normalise(x, q01, q99)
    back = droid.unnormalise(inside, q01, q99)
    return [
        compare("q99", torch.from_numpy(inside), t["q99.out.normalised"], NUMBERS),
        compare("q99, inverse", torch.from_numpy(back), t["q99.out.inverse_of_normalised"], NUMBERS),
    ]


def _relative(t: dict[str, Tensor]) -> list[Result]:
    action, state, indices = (t[f"relative.in.{name}"].numpy() for name in ("action", "state", "sampled_indices"))
    q01, q99 = t["relative.in.q01"].numpy(), t["relative.in.q99"].numpy()
    joints = slice(0, q01.shape[0])
    chunks = indices.reshape(-1, droid.ACTIONS_PER_CHUNK)
    starts = state[chunks[:, 0]]
    relative = droid.to_relative(action[chunks], starts, joints)[..., joints]
    normal = droid.normalise(relative, q01, q99)
    absolute = droid.to_absolute(droid.unnormalise(normal, q01, q99), starts, joints)
    pairs = {"relative_joint_action": relative, "normalised": normal, "absolute_after_round_trip": absolute}
    return [
        compare(name, torch.from_numpy(values).flatten(0, 1), t[f"relative.out.{name}"], NUMBERS)
        for name, values in pairs.items()
    ]


def check_prompts(folder: Path) -> list[Result]:
    """The tokenizer's input, character by character, and its arguments."""
    stored = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    pairs = [
        (f"{case['embodiment']} {case['instruction']!r}", droid.prompt(case["instruction"], case["embodiment"]), case)
        for case in stored["prompts"]
    ]
    results = [_same(name, text, case["tokenizer_input"]) for name, text, case in pairs]
    lengths = {case["tokenizer_kwargs"]["max_length"] for case in stored["prompts"]}
    ids = {(case["embodiment"], case["embodiment_id"]) for case in stored["prompts"]}
    return [
        *results,
        _same("text length", {str(droid.TEXT_LENGTH)}, lengths),
        _same("embodiment ids", {(name, droid.EMBODIMENTS[name].id) for name, _ in ids}, ids),
        _same("negative prompt", droid.NEGATIVE_PROMPT, stored["negative_prompt_source_text"]),
        _same("negative prompt, cleaned", droid.clean(droid.NEGATIVE_PROMPT), stored["negative_prompt_after_cleaning"]),
    ]


def check_chunks(folder: Path) -> list[Result]:
    """Frames, states and actions of every stored case."""
    return [_chunk(case) for case in json.loads((folder / "chunk_sampling.json").read_text())["cases"]]


def _chunk(case: dict[str, Any]) -> Result:
    length, segments = case["trajectory_length"], case["language_segments"]
    language = np.zeros(length, dtype=int)
    for number, (start, end) in enumerate(segments):
        language[start:end] = number
    sample = droid.sample_chunks(length, case["anchor"], language.tolist(), case["max_chunks"])
    got = [list(sample.frames), list(sample.starts), list(sample.starts), len(sample.starts) * droid.ACTIONS_PER_CHUNK]
    names = ("video_frame_indices", "state_indices", "action_chunk_starts", "n_action_rows")
    return _same(f"length {length}, anchor {case['anchor']}", got, [case[name] for name in names])


def _same(name: str, got: object, expected: object) -> Result:
    return Result(name, float(got != expected), 0.0)


CHECKS: dict[str, Callable[[Path], list[Result]]] = {
    "preprocessing.safetensors": check_preprocessing,
    "prompts.json": check_prompts,
    "chunk_sampling.json": check_chunks,
}
