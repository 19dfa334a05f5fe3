"""A toy world for the policies' tests: coloured squares on a table, a hand that goes to the named one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from wambench.interface import Observation
from wambench.policies.training import config as train_config
from wambench.policies.training import train

POINTS = ("red_cube", "blue_cube", "hand")
COLOURS = np.array([[220, 40, 40], [40, 60, 220]], np.uint8)
TABLE_M = 0.3


def draw(cubes: np.ndarray, present: np.ndarray, hand: np.ndarray) -> np.ndarray:
    """Returns a (96, 192, 3) canvas: the table from above, and the same centred on the hand."""
    frame = np.full((96, 192, 3), 120, np.uint8)
    for origin, left in [(np.zeros(2), 0), (hand[:2], 96)]:
        marks = [(cubes[c, :2], COLOURS[c], 6) for c in range(2) if present[c]] + [(hand[:2], (240, 240, 240), 3)]
        for place, colour, half in marks:
            u, v = np.round((place - origin) / TABLE_M * 40 + 48).astype(int)
            box = np.clip([v - half, v + half, u - half, u + half], 0, 96)
            frame[box[0] : box[1], left + box[2] : left + box[3]] = colour
    return frame


def state_of(hand: np.ndarray) -> np.ndarray:
    """Returns an (8,) robot state with the gripper pointing down."""
    return np.concatenate([hand, [np.pi, 0.0, 0.0, 0.04, -0.04]])


def observe(step: int, cubes: np.ndarray, hand: np.ndarray) -> Observation:
    """Returns an observation of the toy world."""
    frame = draw(cubes, np.ones(2, bool), hand)
    return Observation(step, {"agentview": frame[:, :96], "wrist": frame[:, 96:]}, state_of(hand))


def write_demo(folder: Path, index: int, rng: np.random.Generator, steps: int = 40, acted: bool = True) -> None:
    """Writes an episode in which the hand goes to the named cube and closes; video has no actions and states."""
    target = int(rng.integers(2))
    cubes = np.concatenate([rng.uniform(-0.25, 0.25, (2, 2)), np.zeros((2, 1))], axis=1)
    hand, hands, actions = rng.uniform(-0.25, 0.25, 3) * [1, 1, 0], [], []
    for _ in range(steps):
        hands.append(hand)
        ahead = np.clip((cubes[target] - hand) / 0.05, -1.0, 1.0)
        actions.append(np.concatenate([ahead, np.zeros(3), [1.0 if np.abs(ahead).max() < 0.3 else -1.0]]))
        hand = hand + 0.02 * ahead
    hands.append(hand)
    frame_steps = np.arange(0, steps + 1, 2, dtype=np.int32)
    robot = {
        "actions": np.array(actions, np.float32),
        "executed": np.array(actions, np.float32),
        "states": np.array([state_of(h) for h in hands], np.float32),
    }
    points = [np.concatenate([cubes, hands[s][None]]) for s in frame_steps]
    np.savez(
        folder / f"Reach-v0.{index:05d}.npz",
        frames=np.stack([draw(cubes, np.ones(2, bool), hands[s]) for s in frame_steps]),
        frame_steps=frame_steps,
        **(robot if acted else {}),
        points=np.stack(points).astype(np.float32),
        present=np.ones((len(frame_steps), 3), bool),
        instruction=np.array(f"reach the {('red', 'blue')[target]} cube"),
        task=np.array("Reach-v0"),
    )


def write_renders(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Writes frames of random layouts."""
    cubes = np.concatenate([rng.uniform(-0.25, 0.25, (count, 2, 2)), np.zeros((count, 2, 1))], axis=2)
    hands = rng.uniform(-0.25, 0.25, (count, 3)) * [1, 1, 0]
    present = np.concatenate([rng.random((count, 2)) < 0.8, np.ones((count, 1), bool)], axis=1)
    points = np.concatenate([cubes, hands[:, None]], axis=1)
    seen = np.stack([points[..., :2], points[..., :2] - hands[:, None, :2]], axis=2) / TABLE_M * 40 / 48
    pixels = np.where((np.abs(seen) <= 1.0).all(axis=3, keepdims=True), seen, np.nan)
    np.savez(
        folder / "renders.0.npz",
        frames=np.stack([draw(cubes[i], present[i], hands[i]) for i in range(count)]),
        states=np.array([state_of(h) for h in hands], np.float32),
        points=np.where(present[..., None], points, np.nan).astype(np.float32),
        present=present,
        pixels=np.where(present[..., None, None], pixels, np.nan).astype(np.float32),
    )


def make_corpus(folder: Path, corpus: str, count: int) -> Path:
    """Writes a folder as `wambench collect` does."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    if corpus != "renders":
        for index in range(count):
            write_demo(folder, index, rng, acted=corpus == "demos")
    else:
        write_renders(folder, count, rng)
    manifest = {"points": POINTS, "spec": {}, "corpus": corpus, "frame_every": 2}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Threads that wait for each other make small networks slower."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of demonstrations of the toy world."""
    return make_corpus(tmp_path_factory.mktemp("toy") / "demos", "demos", 30)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of video of the toy world: no actions, no states."""
    return make_corpus(tmp_path_factory.mktemp("toy") / "video", "video", 26)


@pytest.fixture(scope="session")
def renders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of renders of the toy world."""
    return make_corpus(tmp_path_factory.mktemp("toy") / "renders", "renders", 200)


@pytest.fixture(scope="session")
def encoder_file(demos: Path, renders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a tiny encoder trained for a few seconds."""
    out = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    folders = (str(demos), str(renders))
    return train.train(train_config.TrainConfig("encoder", "tiny", folders, str(out), steps=60, lr=3e-3, ema=0.9))


@pytest.fixture(scope="session")
def dreamzero_file(demos: Path, video: Path, encoder_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a tiny world action model trained for a few seconds."""
    out = tmp_path_factory.mktemp("weights") / "dreamzero.safetensors"
    config = train_config.TrainConfig(
        "dreamzero", "tiny", (str(demos), str(video)), str(out), encoder=str(encoder_file), steps=150, lr=3e-3
    )
    return train.train(config)
