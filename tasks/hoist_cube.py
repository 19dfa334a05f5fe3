"""Hoist the red cube: what `lift_cube` asks for, in a word that no demonstration uses."""

from __future__ import annotations

import dataclasses

from wambench.tasks import lift_cube

TASK = dataclasses.replace(
    lift_cube.TASK,
    name="HoistCube",
    verb="hoist",
    novelty="word",
    about="A word that no demonstration uses, for a motion that many show.",
    nearest="LiftCube",
    instruction="hoist the red cube",
)
