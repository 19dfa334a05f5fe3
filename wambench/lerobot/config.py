"""The environment type "wambench" of LeRobot; importing this module registers it.

    lerobot-eval --env.type=wambench --env.task=PressButton,PushCube --policy.path=DIR --seed=0

LeRobot imports it by itself where the distribution `lerobot_env_wambench` is installed, and without that distribution
with `--env.discover_packages_path=wambench.lerobot`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.envs.utils import freeze_after_episode_end
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE

from wambench import tasks
from wambench.lerobot.environment import LazyVectorEnv, LeRobotEnv, vector_of


@EnvConfig.register_subclass("wambench")
@dataclass
class WambenchEnv(EnvConfig):
    """What `--env.NAME=VALUE` can say.

    Attributes:
        task: Names of tasks, separated by commas; None: all tasks of the split.
        split: A split that has the tasks; its environments are used.
        factor: Which environment factor varies; None: "none" in training environments, else "all".
        run_seed: Run seed of the episodes, that of `wambench run --seed`. LeRobot's own `--seed` is the number of the
            first episode (see `LeRobotEnv`).
        observation_height, observation_width: Of both cameras, in pixels; those of the data that a policy was trained
            on.
        rotation: Of the state, "axis_angle" or "rotation_6d".
        visual: "fast" or "full".
        fps: Control rate in Hz, which is that of the simulator.
    """

    task: str | None = None
    split: str = "seen"
    factor: str | None = None
    run_seed: int = 0
    observation_height: int = 96
    observation_width: int = 96
    rotation: str = "axis_angle"
    visual: str = "fast"
    fps: int = 20

    def __post_init__(self) -> None:
        one = self._environment(self.names[0])
        if self.fps != one.metadata["render_fps"]:
            raise ValueError(f"fps is that of the simulator, {one.metadata['render_fps']}, not {self.fps}")
        for name in self.names:
            tasks.check(name, self.split, self.factor or tasks.default_factor(self.split))
        space = one.observation_space.spaces
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, one.action_space.shape),
            "agent_pos": PolicyFeature(FeatureType.STATE, space["agent_pos"].shape),
        }
        self.features_map = {ACTION: ACTION, "agent_pos": OBS_STATE}
        for camera, image in space["pixels"].items():
            self.features[f"pixels/{camera}"] = PolicyFeature(FeatureType.VISUAL, image.shape)
            self.features_map[f"pixels/{camera}"] = f"{OBS_IMAGES}.{camera}"

    @property
    def names(self) -> list[str]:
        """Names of the tasks that are played; an unknown one raises ValueError with the nearest match."""
        if self.task is None:
            tasks.default_factor(self.split)  # raises if there is no such split
            return list(tasks.SPLITS[self.split].tasks)
        return [tasks.find(name.strip()).name for name in self.task.split(",")]

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """The arguments of `LeRobotEnv` besides the task."""
        return {
            "split": self.split,
            "factor": self.factor,
            "run_seed": self.run_seed,
            "image_size": (self.observation_height, self.observation_width),
            "rotation": self.rotation,
            "visual": self.visual,
        }

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, LazyVectorEnv]]:
        """Returns task name -> {0: its vector environment}, so that `per_group` of LeRobot's result is per task.

        Once an episode has ended its environment stays at the last frame until the batch is over. LeRobot would
        otherwise count the reward of one step of the next episode, which the automatic reset began.
        """
        processes = use_async_envs and n_envs > 1
        found = {}
        for name in self.names:
            maker = freeze_after_episode_end(partial(LeRobotEnv, name, **self.gym_kwargs))
            found[name] = {0: vector_of([maker] * n_envs, self._environment(name), processes)}
        return found

    def _environment(self, name: str) -> LeRobotEnv:
        return LeRobotEnv(name, **self.gym_kwargs)
