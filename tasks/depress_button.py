"""Depress the button: the motion of PressButton under a word no demonstration has."""

from __future__ import annotations

import dataclasses

from wambench.tasks import press_button

TASK = dataclasses.replace(
    press_button.TASK,
    name="DepressButton",
    verb="depress",
    novelty="word",
    about="A word that no demonstration uses, for a motion that many show.",
    nearest="PressButton",
    instruction="depress the button",
)
