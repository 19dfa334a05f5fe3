"""Policies that LeRobot trained: `--policy lerobot:PATH`, in process and with LeRobot's own code.

PATH is a local folder with `config.json`, `model.safetensors` and the two processors that `lerobot-train` writes beside
them, or the output folder of `lerobot-train`, whose last checkpoint is then meant. What a policy is given follows from
its configuration: cameras, image size and state. LeRobot's own pre-processor normalises, its post-processor
unnormalises.

A policy that reads one observation and answers a chunk is asked once a chunk, as `lerobot-eval` asks it. Any other
(several observations, or a temporal ensemble of its own) is asked at every control step through `select_action`, so
that it sees what it sees in `lerobot-eval`.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wambench.interface import ControlConvention, Observation, Plan, unknown_name
from wambench.policies.weight_files import digest

IMAGES, STATE, ACTION = "observation.images.", "observation.state", "action"
OWN = ControlConvention()
ROTATIONS = {8: "axis_angle", 11: "rotation_6d"}  # numbers of the state -> its rotation
LAST = ("pretrained_model", "checkpoints/last/pretrained_model")  # where lerobot-train leaves what it trained
INSTALL = "lerobot is not installed here: docs/lerobot.md has the command that installs it beside wambench"


class LeRobotPolicy:
    """A policy of LeRobot.

    Args:
        path: Folder, see above.
        device: Where it computes, as torch names it.

    Raises:
        ValueError: lerobot is not installed, the folder is none of a policy, or the policy reads or answers what this
            suite does not have.
    """

    def __init__(self, path: str, device: str = "cpu") -> None:
        folder = checkpoint(path)
        config = read_config(folder)
        self.convention = convention_of(config)
        self._chunks = asked_by_chunks(config)
        if importlib.util.find_spec("lerobot") is None:
            raise ValueError(INSTALL)
        self._policy, self._before, self._after = _load(folder, device)
        self._execute = int(config.get("n_action_steps", 1))
        self.device = torch.device(device)
        self.weights_hash = digest(folder / "model.safetensors")
        self._instruction = ""

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode; what a policy of LeRobot samples comes from torch's global generator, seeded here."""
        torch.manual_seed(seed)
        self._instruction = instruction
        self._policy.reset()

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns a chunk, of which as much is played as LeRobot would play before it asks again, or one action."""
        started = time.perf_counter()
        with torch.inference_mode():
            if self._chunks:
                answer = self._policy.predict_action_chunk(self._batch(history[-1]))
            else:
                answer = [self._policy.select_action(self._batch(one)) for one in history][-1][:, None]
            actions = torch.stack([self._after(action) for action in answer.unbind(1)], dim=1)
        commands = np.clip(actions[0].cpu().numpy(), -1.0, 1.0)  # the controller would clip them
        return Plan(commands, min(self._execute, len(commands)), timings={"policy": time.perf_counter() - started})

    def _batch(self, seen: Observation) -> dict[str, Any]:
        """Returns a batch of one, in LeRobot's names and units and through its pre-processor."""
        batch: dict[str, Any] = {"task": [self._instruction]}
        for camera in self.convention.cameras:
            image = torch.from_numpy(seen.images[camera].copy()).permute(2, 0, 1)[None]
            batch[IMAGES + camera] = image.contiguous().type(torch.float32) / 255
        batch[STATE] = torch.from_numpy(seen.state.copy()).float()[None]
        return self._before(batch)


def checkpoint(path: str) -> Path:
    """Returns the folder of a policy, given it or the output folder of the training; raises ValueError if neither."""
    folder = Path(path)
    for place in (folder, *(folder / last for last in LAST)):
        if (place / "config.json").is_file():
            return place
    if not folder.is_dir():
        raise ValueError(f"no such folder: {folder} (of a LeRobot policy; nothing is fetched from a hub)")
    raise ValueError(f"{folder} holds no LeRobot policy: config.json is neither there nor in {' or '.join(LAST)}")


def read_config(folder: Path) -> dict[str, Any]:
    """Returns a policy's configuration; a file that is none, or is an adapter's, raises ValueError."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if not isinstance(config, dict) or not {"type", "input_features", "output_features"} <= set(config):
        raise ValueError(f"{file} is no configuration of a LeRobot policy: type and features are missing")
    if config.get("use_peft"):
        raise ValueError(f"{folder} holds an adapter (PEFT): merge it into its policy and save that")
    missing = [name for name in ("model.safetensors", "policy_preprocessor.json") if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} has no {missing[0]}; checkpoints of lerobot 0.4 and later have one")
    return config


def convention_of(config: Mapping[str, Any]) -> ControlConvention:
    """Returns what a policy expects of an environment.

    Raises:
        ValueError: It reads a camera, a state or another feature that this suite does not have, or answers other
            actions.
    """
    read = {name: tuple(feature["shape"]) for name, feature in (config["input_features"] or {}).items()}
    images = {name.removeprefix(IMAGES): shape for name, shape in read.items() if name.startswith(IMAGES)}
    other = [name for name in read if not name.startswith(IMAGES) and name != STATE]
    if other:
        raise ValueError(f"the policy reads {other[0]!r}; there are {STATE} and {IMAGES}CAMERA")
    for camera in images:
        if camera not in OWN.cameras:
            raise unknown_name("camera of the policy", camera, OWN.cameras)
    sizes = sorted({shape[-2:] for shape in images.values()})
    if len(sizes) != 1:
        raise ValueError(f"all cameras of a policy must have one size; this one has {sizes or 'no camera'}")
    (numbers,) = read.get(STATE, (8,))
    if numbers not in ROTATIONS:
        raise ValueError(
            f"the policy reads a state of {numbers} numbers; there are 8 (axis angle) and 11 (rotation 6d)"
        )
    answered = tuple((config["output_features"] or {}).get(ACTION, {}).get("shape", ()))
    if answered != (OWN.action_dim,):
        raise ValueError(f"the policy answers actions of shape {answered}; they have {OWN.action_dim} numbers")
    cameras = tuple(camera for camera in OWN.cameras if camera in images)
    rate = OWN.video_hz if asked_by_chunks(config) else OWN.control_hz
    return ControlConvention(cameras, sizes[0], video_hz=rate, rotation=ROTATIONS[numbers])


def asked_by_chunks(config: Mapping[str, Any]) -> bool:
    """Returns whether a policy can be asked once a chunk: it reads one observation and blends nothing itself."""
    return config.get("n_obs_steps", 1) == 1 and config.get("temporal_ensemble_coeff") is None


def _load(folder: Path, device: str) -> tuple[Any, Any, Any]:
    """Returns a policy with its pre- and post-processor, as LeRobot loads them."""
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    config = PreTrainedConfig.from_pretrained(folder, local_files_only=True)
    config.device = device
    policy = get_policy_class(config.type).from_pretrained(folder, config=config, local_files_only=True)
    before, after = make_pre_post_processors(
        config, str(folder), preprocessor_overrides={"device_processor": {"device": device}}
    )
    return policy.to(device).eval(), before, after
