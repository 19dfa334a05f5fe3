"""`wambench run --config FILE`: several policies on several splits from one TOML or YAML file.

A key of the file is an option of `wambench run` without its dashes, and its value is what stands behind the option, so
that the file can say whatever the command line can, and is checked by the same parser. What stands at the top holds for
every run; what stands with a policy holds for its runs. Options given beside --config come last and win.

    episodes = 10
    splits = ["seen", "unseen-tasks"]

    [[policies]]
    policy = "dreamzero"

    [[policies]]
    policy = "pi0"
    policy-args = {weights = "pi0.safetensors"}
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wambench.interface import unknown_name

AT_THE_TOP = ("policies", "splits", "out")
UNTOLD = ("help", "config", "dry_run", "quiet", "out", "task_module")  # what is no matter of a single run
READERS = ("toml", "yaml", "yml")
Words = list[str]


def words_of(path: Path, options: Sequence[argparse.Action], given: Sequence[str]) -> list[Words]:
    """Returns the words behind `wambench run` of every run that a file asks for, in its order.

    Args:
        path: The file.
        options: Those of `wambench run`.
        given: Words of the command line, which hold for every run.

    Raises:
        ValueError: The file cannot be read, has a key that is no option, or asks for no run.
    """
    by_key = {one.removeprefix("--"): option for option in options for one in option.option_strings if one[:2] == "--"}
    by_key = {key: option for key, option in by_key.items() if option.dest not in UNTOLD}
    told = _keys(read(path), path, (*by_key, *AT_THE_TOP))
    shared = {key: value for key, value in told.items() if key not in AT_THE_TOP}
    entries = told.get("policies") or ([shared] if "policy" in told else [])
    if not isinstance(entries, list) or not entries:
        raise ValueError(
            f'{path}: names no policy: it needs policies = ["noop", ...], or [[policies]] with policy = ...'
        )
    runs = []
    for entry in entries:
        own = _keys(entry if isinstance(entry, dict) else {"policy": entry}, path, (*by_key, "splits"))
        both = {**shared, **({} if "split" in own or "splits" not in told else {"splits": told["splits"]}), **own}
        if "policy" not in both:
            raise ValueError(f"{path}: an entry of policies has no policy: {own}")
        splits = both.pop("splits", None) or [both.get("split")]
        if not isinstance(splits, list) or not all(isinstance(split, str) for split in splits):
            raise ValueError(f'{path}: names no split: it needs splits = ["seen", ...], or split = "seen"')
        for split in splits:
            asked = {**both, "split": split}
            words = [word for key, value in asked.items() for word in _words(by_key[key], key, value, path)]
            runs.append([*words, *given])
    return runs


def out_of(path: Path) -> Path | None:
    """Returns the folder that a file wants its runs in, None if it says nothing."""
    out = read(path).get("out")
    return None if out is None else Path(str(out))


def read(path: Path) -> dict[str, Any]:
    """Returns what a TOML or YAML file says.

    Raises:
        ValueError: It is neither, or it is not what its name says.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in READERS:
        raise ValueError(f"{path}: a configuration is a file .toml, .yaml or .yml")
    text = path.read_text(encoding="utf-8")
    try:
        told = tomllib.loads(text) if kind == "toml" else _yaml(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path}: a configuration has keys, such as policies and splits")
    return told


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ValueError("YAML needs PyYAML (pip install pyyaml); TOML needs nothing") from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error


def _keys(told: Mapping[str, Any], path: Path, known: Sequence[str]) -> dict[str, Any]:
    """Returns keys as options are spelled (`time_limit` is `time-limit`); refuses what is none."""
    spelled = {str(key).replace("_", "-"): value for key, value in told.items()}
    for key in spelled:
        if key not in known:
            raise unknown_name(f"key in {path}:", key, known)
    return spelled


def _words(option: argparse.Action, key: str, value: Any, path: Path) -> Words:
    """Returns the words of the command line that say the same as a key and its value."""
    if option.nargs == 0:
        if not isinstance(value, bool):
            raise ValueError(f"{path}: {key} is true or false, not {value!r}")
        return [f"--{key}"] if value else []
    if isinstance(value, dict):
        return [f"--{key}", *(f"{name}={json.dumps(one)}" for name, one in value.items())] if value else []
    if isinstance(value, list):
        return [f"--{key}={','.join(map(str, value))}"]
    if value is None or isinstance(value, bool):
        raise ValueError(f"{path}: {key} cannot be {value!r}")
    return [f"--{key}={value}"]
