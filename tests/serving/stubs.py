"""Stubs of this folder, which worker processes and servers import by name.

A policy whose answers show whatever it saw, and the line of `tests.stubs` under the DROID convention: three cameras,
joint positions, a gripper from 0 to 1.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from tests.stubs import LineSim
from wambench.conventions import CONVENTIONS, DROID, DROID_VELOCITY
from wambench.evaluation.config import RunConfig
from wambench.interface import ControlConvention, Observation, Plan


class DroidLine(LineSim):
    """A point whose place is also that of the first joint."""

    def _observation(self) -> Observation:
        seen = super()._observation()
        images = {camera: (image // (i + 1)).astype(np.uint8) for i, (camera, image) in enumerate(seen.images.items())}
        state = np.zeros(14)
        state[:7], state[7] = 0.1 * np.arange(7) + self.at, 0.25
        state[8:11], state[11:] = (0.4, self.at, 0.2), (np.pi - 0.01, 0.02, 0.03)
        return Observation(seen.step, images, state)


class Watcher:
    """Answers what it saw: brightness of each camera, state, seed and history, so that any lost number shows.

    Args:
        robot: A name of `CONVENTIONS`.
    """

    def __init__(self, robot: str = "libero") -> None:
        self.convention = dataclasses.replace(CONVENTIONS[robot], image_size=(18, 32))

    def reset(self, instruction: str, seed: int) -> None:
        self.seed, self.asked = seed, 0

    def act(self, history: Sequence[Observation]) -> Plan:
        now, cameras = history[-1], self.convention.cameras
        self.asked += 1
        share = np.full((8, self.convention.action_dim), 0.7)  # of the way from the least to the largest action
        share[:, 1] = self.seed % 97 / 97
        share[:, 2] = np.mean([now.images[camera][:, : 8 + i].mean() / 255 for i, camera in enumerate(cameras)])
        share[:, 3] = sum(o.state[0] + o.state[7] for o in history) / 100 + 0.2
        share[:, 4] = now.state.sum() / 100
        share[:, 5] = sum(o.step for o in history) / 1000
        share[:, -1] = 0.3 if self.asked % 2 else 0.7
        low, high = self.convention.limits()
        stride = self.convention.frame_stride
        frames = np.stack([np.concatenate([now.images[camera] for camera in cameras], axis=1)] * 2)
        return Plan(low + share * (high - low), 6, frames, now.step // stride * stride + stride * np.array([1, 2]))


def droid_line(task: str, config: RunConfig, convention: ControlConvention) -> DroidLine:
    """Returns a line whatever the task."""
    own = DROID_VELOCITY if convention.action == "joint_velocity" else DROID
    return DroidLine(dataclasses.replace(own, image_size=convention.image_size, video_hz=convention.video_hz))


class Imaginer(Watcher):
    """Can be asked for its actions for a given future and for a chunk that goes on; `session` says it can be copied."""

    session = True

    def extract(self, history: Sequence[Observation], frames: np.ndarray) -> np.ndarray:
        return np.full((8, 7), frames.mean() / 255) + self.act(history).actions / 1e6

    def act_guided(self, history: Sequence[Observation], previous: np.ndarray, delay: int) -> Plan:
        return Plan(previous[delay:] / 2 + self.act(history).actions[0] / 2)


class Sleeper(Watcher):
    """Takes half a minute to answer."""

    def act(self, history: Sequence[Observation]) -> Plan:
        time.sleep(30.0)
        return super().act(history)
