"""Stages and success: what an episode has reached so far.

Progress is 1 exactly while the task has succeeded, by construction: the last stage of every task is its success
predicate, it counts only while it holds, and it can hold only once every other stage has been reached.
"""

from __future__ import annotations

from typing import Any

from wambench.envs.task import Stage, Task, View

# A stage counts once it has held this long, 4 steps at 20 Hz: longer than a graze or a bounce, which last a step or
# two, and shorter than any stage of an expert's work lasts.
HOLD_S = 0.2
EVER_S = 0.5  # success counts as "ever" when it has held this long
SETTLED_S = 1.0  # and ends the episode when it has held this long


class ProgressTracker:
    """Follows one episode of a task: call `update` once after reset and after every control step."""

    def __init__(self, task: Task, control_hz: float) -> None:
        self._stages = task.stages
        self._last = task.stages[-1].name
        milestones = tuple(stage.name for stage in task.stages[:-1])
        self._needed = {stage.name: tuple(filter(None, [stage.after])) for stage in task.stages}
        self._needed[self._last] = milestones
        self._hold_steps = max(1, round(HOLD_S * control_hz))
        self._ever_steps = round(EVER_S * control_hz)
        self._settled_steps = round(SETTLED_S * control_hz)
        self._reached: list[str] = []  # never the last one
        self._held = {stage.name: 0 for stage in task.stages}  # for how many steps a stage has held
        self._failed = {stage.name: 0 for stage in task.stages}  # for how many steps its `meanwhile` has failed
        self.success_ever = False

    def update(self, view: View) -> None:
        """Counts for how long stages have held, latches those that have long enough, and undoes what was not kept."""
        for stage in self._stages:
            if stage.name not in self._reached:
                self._watch(stage, view)
        self.success_ever = self.success_ever or self._held[self._last] >= self._ever_steps

    def _watch(self, stage: Stage, view: View) -> None:
        name, ready = stage.name, all(needed in self._reached for needed in self._needed[stage.name])
        holds = ready and stage.reached(view)
        kept = holds or not ready or stage.meanwhile is None or stage.meanwhile(view)
        self._held[name] = self._held[name] + 1 if holds else 0
        self._failed[name] = 0 if kept else self._failed[name] + 1
        if self._held[name] >= self._hold_steps and name != self._last:
            self._reached.append(name)
        elif self._failed[name] >= self._hold_steps and stage.after is not None:
            self._reached.remove(stage.after)
            self._held[stage.after] = self._failed[name] = 0

    @property
    def progress(self) -> float:
        """Weight of the stages reached, in [0, 1]; 1 exactly while the task has succeeded."""
        if self.success:
            return 1.0
        return round(sum(stage.weight for stage in self._stages if stage.name in self._reached), 6)

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages reached, in the order of the task; the last one only while the task has succeeded."""
        latched = tuple(stage.name for stage in self._stages if stage.name in self._reached)
        return (*latched, self._last) if self.success else latched

    @property
    def success(self) -> bool:
        """The success predicate has held long enough to count, after all other stages."""
        return self._held[self._last] >= self._hold_steps

    @property
    def settled(self) -> bool:
        """The success predicate has held long enough to end the episode."""
        return self._held[self._last] >= self._settled_steps

    def get_state(self) -> dict[str, Any]:
        """Returns the latches as JSON values."""
        counts = {"held": dict(self._held), "failed": dict(self._failed)}
        return {"reached": list(self._reached), **counts, "success_ever": self.success_ever}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what `get_state` returned."""
        self._reached = list(state["reached"])
        self._held = dict(state["held"])
        self._failed = dict(state["failed"])
        self.success_ever = bool(state["success_ever"])
