"""The simulator: the robot, the scenes, their environment factors, and the Gymnasium ids of all tasks."""


def register_all() -> None:
    """Registers "wambench/<Task>-v<version>" for every task; importing wambench does it."""
    import gymnasium

    from wambench import tasks

    for task in tasks.TASKS.values():
        name = f"wambench/{task.id}"
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point="wambench.envs.tabletop:TabletopEnv", kwargs={"task": task.name})
