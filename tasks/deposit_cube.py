"""Deposit the red cube in the bin: the motion of PlaceInBin under a word no demonstration has."""

from __future__ import annotations

import dataclasses

from wambench.tasks import place_in_bin

TASK = dataclasses.replace(
    place_in_bin.TASK,
    name="DepositCube",
    version=0,
    verb="deposit",
    novelty="word",
    instruction="deposit the red cube in the bin",
    nearest="PlaceInBin",
)
