"""The line of `tests.stubs` under the DROID convention: three cameras, joint positions, a gripper from 0 to 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tests.stubs import LineSim
from wambench.conventions import DROID, DROID_VELOCITY
from wambench.evaluation.config import RunConfig
from wambench.interface import ControlConvention, Observation, Plan

SMALL_DROID = dataclasses.replace(DROID, image_size=(18, 32))


class DroidLine(LineSim):
    """A point whose place is also that of the first joint."""

    def _observation(self) -> Observation:
        seen = super()._observation()
        images = {camera: (image // (i + 1)) for i, (camera, image) in enumerate(seen.images.items())}
        state = np.zeros(14)
        state[:7], state[7] = 0.1 * np.arange(7) + self.at, 0.25
        state[8:11], state[11:] = (0.4, self.at, 0.2), (np.pi - 0.01, 0.02, 0.03)
        return Observation(seen.step, images, state)


class Watcher:
    """Answers what it saw: brightness of each camera, joints, gripper and step, so that any lost number shows."""

    def __init__(self, velocity: bool = False) -> None:
        self.convention = dataclasses.replace(DROID_VELOCITY, image_size=(18, 32)) if velocity else SMALL_DROID

    def reset(self, instruction: str, seed: int) -> None:
        self.seed = seed

    def act(self, history: Sequence[Observation]) -> Plan:
        now = history[-1]
        actions = np.full((8, 8), 0.5)
        actions[:, 1:4] = [now.images[camera].mean() / 255 for camera in self.convention.cameras]
        actions[:, 4] = sum(o.state[0] for o in history) / 100
        actions[:, 5:7] = now.state[6] / 10, self.seed % 97 / 97
        actions[:, 7] = now.state[7]
        frames = np.stack([np.concatenate([now.images[c] for c in self.convention.cameras], axis=1)] * 2)
        steps = np.array([3, 6]) + now.step // 3 * 3
        return Plan(actions, 6, frames, steps)


def droid_line(task: str, config: RunConfig, convention: ControlConvention) -> DroidLine:
    """Returns a line whatever the task."""
    own = DROID_VELOCITY if convention.action == "joint_velocity" else DROID
    return DroidLine(dataclasses.replace(own, image_size=convention.image_size, video_hz=convention.video_hz))
