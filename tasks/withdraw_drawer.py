"""Withdraw the drawer: the motion of OpenDrawer under a word no demonstration has."""

from __future__ import annotations

import dataclasses

from wambench.tasks import open_drawer

TASK = dataclasses.replace(
    open_drawer.TASK,
    name="WithdrawDrawer",
    verb="withdraw",
    novelty="word",
    about="A word that no demonstration uses, for a motion that many show.",
    nearest="OpenDrawer",
    instruction="withdraw the drawer",
)
