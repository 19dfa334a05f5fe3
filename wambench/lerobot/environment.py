"""One task as LeRobot's rollout wants an environment to be, and a vector of it that starts when it is needed.

LeRobot (0.6.1, `envs/utils.py` and `scripts/lerobot_eval.py`) asks for observations named `pixels` and `agent_pos`, for
the attributes `task`, `task_description` and `_max_episode_steps`, and takes a success from the info of any step that
has `is_success`. This module needs Gymnasium alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np

from wambench import registration
from wambench.envs.episodes import episode_spec

Seen = dict[str, Any]  # "pixels": camera -> (h, w, 3) uint8; "agent_pos": (S,) float64
SEEDS = 2**31 - 1


class LeRobotEnv(gymnasium.Env[Seen, np.ndarray]):
    """A task with LeRobot's names.

    Seed: `reset(seed=k)` begins episode k of the run seed, the one that `wambench run --seed RUN_SEED` plays as number
    k: `lerobot-eval --seed=0` and `wambench run` play the same episodes. LeRobot counts its seeds up from one episode
    to the next, so that no two are the same; without a seed k is drawn.

    Reward: the increase of the task's progress, so that LeRobot's `sum_reward` is the progress in [0, 1].

    Info: "progress" and "is_success". The latter is whether the success predicate holds at the end of the episode
    (our `success_end`) and False before it, because LeRobot counts an episode as solved if any step of it said so.

    Args:
        task: Name or versioned id.
        split, factor: As for `registration.make`.
        run_seed: Run seed of the episodes.
        options: Further arguments of `envs.tabletop.TabletopEnv`, such as `image_size`.

    Raises:
        ValueError: As `registration.make`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (Gymnasium's own convention)
    render_mode = "rgb_array"

    def __init__(
        self, task: str, split: str | None = None, factor: str | None = None, run_seed: int = 0, **options: Any
    ) -> None:
        self._env = registration.make(task, split, factor, **options)
        self._run_seed = run_seed
        found, script = self._env.task, self._env.task.script
        self.task = found.name
        self.task_description = found.instruction
        self._max_episode_steps = found.horizon + (script.longer.get(self._env.factor, 0) if script else 0)
        space: Any = self._env.observation_space
        pixels = gymnasium.spaces.Dict({name: space[name] for name in self._env.convention.cameras})
        self.observation_space: Any = gymnasium.spaces.Dict({"pixels": pixels, "agent_pos": space["state"]})
        self.action_space = self._env.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Seen, dict[str, Any]]:
        """Begins episode `seed`; LeRobot's options (it says there that a new rollout begins) change nothing."""
        super().reset(seed=seed)
        number = int(self.np_random.integers(SEEDS)) if seed is None else seed
        env = self._env
        spec = episode_spec(env.task, env.split, env.factor, number, self._run_seed, env.visual)
        seen, info = env.reset(options={"spec": spec})
        self.task_description = spec.instruction
        return self._named(seen), {"progress": info["progress"], "is_success": False}

    def step(self, action: np.ndarray) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """Carries out one (7,) action; values outside [-1, 1] are clipped."""
        seen, reward, terminated, truncated, info = self._env.step(action)
        success = bool(info["success"]) and (terminated or truncated)
        return self._named(seen), reward, terminated, truncated, {"progress": info["progress"], "is_success": success}

    def render(self) -> np.ndarray:
        """Returns the views of the last observation side by side, (h, w * cameras, 3) uint8; nothing is drawn anew."""
        return np.concatenate(list(self._pixels.values()), axis=1)

    def close(self) -> None:
        self._env.close()

    def _named(self, seen: dict[str, np.ndarray]) -> Seen:
        self._pixels = {name: seen[name] for name in self._env.convention.cameras}
        return {"pixels": self._pixels, "agent_pos": seen["state"]}


class LazyVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """A vector environment that is made at its first reset and forgotten when it is closed.

    LeRobot makes the environments of all tasks before the first episode and plays one task after the other. Made at
    once, a split of 20 tasks in batches of 10 would be 200 processes, or as many scenes in the memory of one.

    Args:
        make: Makes the vector environment.
        count: How many environments it holds.
        one: An environment like those, for its spaces.
    """

    def __init__(self, make: Callable[[], Any], count: int, one: gymnasium.Env[Any, Any]) -> None:
        self._make, self._inner = make, None
        self.num_envs = count
        self.metadata = {**one.metadata, "autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
        self.render_mode = one.render_mode
        self.single_observation_space, self.single_action_space = one.observation_space, one.action_space
        self.observation_space = gymnasium.vector.utils.batch_space(one.observation_space, count)
        self.action_space = gymnasium.vector.utils.batch_space(one.action_space, count)

    @property
    def inner(self) -> Any:
        """The vector environment itself; made now if it is not there."""
        if self._inner is None:
            self._inner = self._make()
        return self._inner

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.inner.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        return self.inner.step(actions)

    def render(self) -> Any:
        return self.inner.render()

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Returns what every environment has or answers under a name."""
        return self.inner.call(name, *args, **kwargs)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Returns an attribute of every environment."""
        return self.inner.get_attr(name)

    def close(self, **kwargs: Any) -> None:
        if self._inner is not None:
            self._inner.close(**kwargs)
            self._inner = None


def vector_of(
    makers: Sequence[Callable[[], gymnasium.Env[Any, Any]]], one: gymnasium.Env[Any, Any], processes: bool
) -> LazyVectorEnv:
    """Returns a vector environment with same-step autoreset, the only mode in which `final_info` holds the success.

    Args:
        makers: One function an environment; it must be picklable with `processes`.
        one: An environment like those, for its spaces.
        processes: Give each environment a process, started by a clean server: a process that was forked from one that
            has drawn hangs in its first frame.
    """
    mode = gymnasium.vector.AutoresetMode.SAME_STEP

    def make() -> Any:
        if processes:
            return gymnasium.vector.AsyncVectorEnv(makers, context="forkserver", autoreset_mode=mode)
        return gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=mode)

    return LazyVectorEnv(make, len(makers), one)
