"""The tasks as an environment of LeRobot: `lerobot-eval --env.type=wambench`.

Importing this package imports nothing; `wambench.lerobot.config`, which needs lerobot, registers the environment type.
"""
