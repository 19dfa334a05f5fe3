"""The tasks of wambench for LeRobot's EnvHub: this file goes to the root of a hub repository.

    from lerobot.envs.factory import make_env
    envs = make_env("user/repo", n_envs=2, trust_remote_code=True)

wambench must be installed where it is used.
"""

from __future__ import annotations

from typing import Any

from wambench.lerobot.config import WambenchEnv


def make_env(n_envs: int = 1, use_async_envs: bool = False, cfg: Any = None) -> dict[str, dict[int, Any]]:
    """Returns task name -> {0: vector environment}: the tasks that `cfg.task` names, else all of the split `seen`."""
    return WambenchEnv(task=getattr(cfg, "task", None)).create_envs(n_envs, use_async_envs)
