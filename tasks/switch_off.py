"""Switch off: push down the red half of the rocker."""

from __future__ import annotations

from wambench.tasks import switch_on

TASK = switch_on.task("SwitchOff", "off", "red")
