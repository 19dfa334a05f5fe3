"""From the name of a task to its environment: the one place that looks names up, and the Gymnasium ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wambench import tasks

if TYPE_CHECKING:
    from wambench.envs.tabletop import TabletopEnv


def make(task: str, split: str | None = None, factor: str | None = None, **options: Any) -> TabletopEnv:
    """Returns the environment of a task; the entry point of `gymnasium.make("wambench/PressButton-v1")`.

    Args:
        task: Name ("PressButton") or id ("PressButton-v1").
        split: A split that has the task; its environments are used. None: the first that has it.
        factor: "all", "none", one of `envs.factors.FACTORS` or "lookalike". None: "none" for training environments,
            else "all".
        options: Further arguments of `envs.tabletop.TabletopEnv`, such as `robot="droid"`.

    Raises:
        ValueError: There is no such task, split or factor, or they do not go together.
    """
    from wambench.envs.tabletop import TabletopEnv

    found = tasks.find(task)
    split = split or tasks.default_split(found.name)
    factor = factor or tasks.default_factor(split)
    tasks.check(found.name, split, factor)
    return TabletopEnv(found, split, factor, **options)


def register_all() -> None:
    """Registers "wambench/<Task>-v<version>" for every task; importing wambench does it.

    `spec.max_episode_steps` is the task's horizon, so `gymnasium.make` adds its TimeLimit, which truncates in the same
    step as the environment itself.
    """
    import gymnasium

    for task in tasks.TASKS.values():
        name = f"wambench/{task.id}"
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="wambench.registration:make",
                max_episode_steps=task.horizon,
                kwargs={"task": task.name},
            )
