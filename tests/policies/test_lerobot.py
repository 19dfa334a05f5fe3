"""Policies of LeRobot: what is told of a folder before lerobot is needed, and what lerobot answers."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.lerobot.tiny_act import SIZE, save_act
from wambench import policies
from wambench.interface import Observation
from wambench.policies.lerobot import LeRobotPolicy, checkpoint, convention_of, read_config

IMAGE = {"type": "VISUAL", "shape": [3, 64, 48]}
CONFIG: dict[str, Any] = {
    "type": "act",
    "n_obs_steps": 1,
    "input_features": {
        "observation.images.wrist": IMAGE,
        "observation.images.agentview": IMAGE,
        "observation.state": {"type": "STATE", "shape": [8]},
    },
    "output_features": {"action": {"type": "ACTION", "shape": [7]}},
}
needs_lerobot = pytest.mark.skipif(importlib.util.find_spec("lerobot") is None, reason="needs lerobot: docs/lerobot.md")


def saved(folder: Path, config: Any = CONFIG) -> Path:
    """Returns a folder that looks like a checkpoint, without its weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("model.safetensors", "policy_preprocessor.json"):
        (folder / name).touch()
    return folder


def with_input(name: str, feature: dict[str, Any]) -> dict[str, Any]:
    return {**CONFIG, "input_features": {**CONFIG["input_features"], name: feature}}


def test_a_name_is_a_prefix_and_a_folder(tmp_path: Path) -> None:
    policies.check_name(f"lerobot:{tmp_path}")
    for name, said in (
        ("lerobot", "lerobot:PATH"),
        ("lerobot:", "names no folder"),
        ("lerobot:/none", "no such folder"),
        ("lerbot:/none", "not of the form"),
    ):
        with pytest.raises(ValueError, match=said):
            policies.check_name(name)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("lerobot:runs/act", "lerobot:act"),
        ("lerobot:runs/act/", "lerobot:act"),
        ("lerobot:runs/act/checkpoints/last/pretrained_model", "lerobot:act"),
        ("lerobot:runs/act/checkpoints/004000/pretrained_model", "lerobot:act-004000"),
        ("lerobot:pretrained_model", "lerobot:pretrained_model"),
        ("path/to/file.py:Class", "file.py:Class"),
        ("dreamzero", "dreamzero"),
    ],
)
def test_short_names(name: str, short: str) -> None:
    assert policies.short_name(name) == short


def test_the_folder_of_a_training_stands_for_its_last_checkpoint(tmp_path: Path) -> None:
    last = saved(tmp_path / "act" / "checkpoints" / "last" / "pretrained_model")
    assert checkpoint(str(tmp_path / "act")) == last == checkpoint(str(last.parent))
    assert checkpoint(str(last)) == last
    with pytest.raises(ValueError, match="holds no LeRobot policy"):
        checkpoint(str(tmp_path))
    with pytest.raises(ValueError, match="nothing is fetched from a hub"):
        checkpoint("lerobot/act_aloha")


def test_the_convention_follows_from_the_configuration() -> None:
    mine = convention_of(CONFIG)
    assert mine.cameras == ("agentview", "wrist") and mine.image_size == (64, 48)
    assert mine.rotation == "axis_angle" and mine.video_hz == 5
    wider = convention_of(with_input("observation.state", {"shape": [11]}))
    assert wider.rotation == "rotation_6d"
    for further in ({"n_obs_steps": 2}, {"temporal_ensemble_coeff": 0.01}):
        assert convention_of({**CONFIG, **further}).video_hz == mine.control_hz


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (with_input("observation.images.wirst", IMAGE), "did you mean 'wrist'"),
        (with_input("observation.images.wrist", {"shape": [3, 64, 64]}), "must have one size"),
        (with_input("observation.state", {"shape": [6]}), "a state of 6 numbers"),
        (with_input("observation.environment_state", {"shape": [4]}), "reads 'observation.environment_state'"),
        ({**CONFIG, "input_features": {}}, "no camera"),
        ({**CONFIG, "output_features": {"action": {"shape": [6]}}}, r"actions of shape \(6,\)"),
    ],
)
def test_what_this_suite_does_not_have_is_named(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        convention_of(config)


def test_folders_that_hold_no_policy_of_today(tmp_path: Path) -> None:
    folder = saved(tmp_path / "mine")
    assert read_config(folder) == CONFIG
    (folder / "policy_preprocessor.json").unlink()
    with pytest.raises(ValueError, match=r"no policy_preprocessor.json; checkpoints of lerobot 0.4"):
        read_config(folder)
    for content, said in (("{", "cannot be read"), ("[]", "is no configuration"), ('{"type": "act"}', "missing")):
        (folder / "config.json").write_text(content)
        with pytest.raises(ValueError, match=said):
            read_config(folder)
    with pytest.raises(ValueError, match="holds an adapter"):
        read_config(saved(tmp_path / "peft", {**CONFIG, "use_peft": True}))


def test_without_lerobot_the_way_to_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"lerobot is not installed here: docs/lerobot.md"):
        LeRobotPolicy(str(saved(tmp_path / "mine")))


# -- with lerobot ----------------------------------------------------------------------------------------------------


def seen(step: int) -> Observation:
    rng = np.random.default_rng(step)
    images = {name: rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for name in ("agentview", "wrist")}
    return Observation(step, images, rng.normal(size=8))


def asked_by_steps(policy: LeRobotPolicy, steps: int) -> np.ndarray:
    """Returns what LeRobot's own loop would carry out: one call of `select_action` a control step."""
    policy.reset("press the button", 0)
    actions = [policy._after(policy._policy.select_action(policy._batch(seen(step)))) for step in range(steps)]
    return np.clip(np.concatenate([action.numpy() for action in actions]), -1, 1)


@needs_lerobot
@pytest.mark.slow
def test_a_chunk_is_what_lerobots_queue_gives(tmp_path: Path) -> None:
    policy = policies.load(f"lerobot:{save_act(tmp_path / 'act')}")
    assert isinstance(policy, LeRobotPolicy)
    policy.reset("press the button", 0)
    plan = policy.act([seen(0)])
    assert plan.actions.shape == (12, 7) and plan.execute == 8
    assert np.array_equal(plan.actions[:8], asked_by_steps(policy, 8))
    assert len(policy.weights_hash) == 64 and str(policy.device) == "cpu"


@needs_lerobot
@pytest.mark.slow
def test_a_policy_with_an_ensemble_is_asked_at_every_step(tmp_path: Path) -> None:
    folder = save_act(tmp_path / "act", temporal_ensemble_coeff=0.01, n_action_steps=1)
    policy = LeRobotPolicy(str(folder))
    policy.reset("press the button", 0)
    plans = [policy.act([seen(step)]) for step in range(4)]
    assert all(plan.actions.shape == (1, 7) and plan.execute == 1 for plan in plans)
    assert np.array_equal(np.concatenate([plan.actions for plan in plans]), asked_by_steps(policy, 4))
    assert not np.array_equal(plans[1].actions, policy.act([seen(1)]).actions)  # it remembers
