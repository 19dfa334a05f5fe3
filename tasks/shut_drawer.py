"""Shut the drawer: the motion of CloseDrawer under a word no demonstration has."""

from __future__ import annotations

import dataclasses

from wambench.tasks import close_drawer

TASK = dataclasses.replace(
    close_drawer.TASK,
    name="ShutDrawer",
    version=0,
    verb="shut",
    novelty="word",
    instruction="shut the drawer",
    nearest="CloseDrawer",
)
