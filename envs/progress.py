"""Stage latches and success: what an episode has reached so far."""

from __future__ import annotations

from typing import Any

from wambench.envs.task import Task, View

EVER_S = 0.5  # success counts as "ever" when it has held this long
SETTLED_S = 1.0  # and ends the episode when it has held this long


class ProgressTracker:
    """Follows one episode of a task: call `update` once after reset and after every control step."""

    def __init__(self, task: Task, control_hz: float) -> None:
        self._task = task
        self._ever_steps = round(EVER_S * control_hz)
        self._settled_steps = round(SETTLED_S * control_hz)
        self._reached: list[str] = []
        self._held = 0
        self.success_ever = False

    def update(self, view: View) -> None:
        """Latches every stage that holds now and whose predecessor is latched; counts how long success has held."""
        success = self._task.success(view)
        for stage in self._task.stages:
            ready = stage.after is None or stage.after in self._reached
            if ready and stage.name not in self._reached:
                # the last stage often is success itself, which need not be asked twice
                reached = success if stage.reached is self._task.success else stage.reached(view)
                if reached:
                    self._reached.append(stage.name)
        self._held = self._held + 1 if success else 0
        self.success_ever = self.success_ever or self._held >= self._ever_steps

    @property
    def progress(self) -> float:
        """Weight of the stages reached, in [0, 1]."""
        return min(1.0, round(sum(stage.weight for stage in self._task.stages if stage.name in self._reached), 6))

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages reached, in the order of the task."""
        return tuple(stage.name for stage in self._task.stages if stage.name in self._reached)

    @property
    def success(self) -> bool:
        """The success predicate holds now."""
        return self._held > 0

    @property
    def settled(self) -> bool:
        """The success predicate has held long enough to end the episode."""
        return self._held >= self._settled_steps

    def get_state(self) -> dict[str, Any]:
        """Returns the latches as JSON values."""
        return {"reached": list(self._reached), "held": self._held, "success_ever": self.success_ever}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned."""
        self._reached = list(state["reached"])
        self._held = int(state["held"])
        self.success_ever = bool(state["success_ever"])
