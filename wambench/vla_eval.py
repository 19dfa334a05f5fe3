"""wambench as a benchmark of vla-eval: `benchmark: "wambench.vla_eval:WambenchBenchmark"` in its YAML.

Every model server of vla-eval can then play our splits in vla-eval's own harness, which reports progress beside
success. Episodes are those of `wambench run` with the same split, factor and seed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.specs import (
    GRIPPER_CLOSE_POS,
    IMAGE_RGB,
    LANGUAGE,
    POSITION_DELTA,
    ROTATION_AA,
    STATE_EEF_POS_AA_GRIP,
    DimSpec,
)

from wambench import registration, tasks
from wambench.conventions import LIBERO
from wambench.envs.episodes import episode_spec
from wambench.interface import Observation, Outcome, unknown_name

SOFTWARE = {"MUJOCO_GL": "egl", "LIBGL_ALWAYS_SOFTWARE": "1"}  # Mesa draws on the CPU


class WambenchBenchmark(StepBenchmark):
    """A split of wambench.

    Args:
        split: A name of `wambench list splits`.
        tasks: Names of its tasks; none for all.
        factor: Environment factor; None for the split's default.
        seed: Of the run.
        visual: Visual profile, "fast" or "full".
        image_size: Height and width of the pictures in pixels.
        send_wrist_image, send_state: What a server asks for beside the front picture.
        mirror: Left and right are exchanged, as in vla-eval's LIBERO benchmark, whose servers expect it.

    Raises:
        ValueError: There is no such split, task or factor, or they do not go together.
    """

    render_backends = frozenset({"gpu", "cpu"})
    _ALL_RECORD_FIELDS = frozenset({"reward", "done", "success", "action", "state"})

    def __init__(
        self,
        split: str = "seen",
        tasks: Sequence[str] = (),
        factor: str | None = None,
        seed: int = 0,
        visual: str = "fast",
        image_size: int = 256,
        send_wrist_image: bool = False,
        send_state: bool = False,
        mirror: bool = True,
    ) -> None:
        super().__init__()
        self.split, self.seed, self.visual, self.mirror = split, seed, visual, mirror
        self.convention = dataclasses.replace(LIBERO, image_size=(image_size, image_size))
        self.send_wrist_image, self.send_state = send_wrist_image, send_state
        self.names, self.factor = _resolved(split, tasks, factor)
        self._sim: Any = None
        self._outcome: Outcome | None = None
        self._last: np.ndarray | None = None

    @classmethod
    def configure_render(cls, mode: str) -> dict[str, str]:
        """Sets the environment of the renderer before the simulator is imported, and returns what was set."""
        wanted = SOFTWARE if mode == "cpu" else {}
        os.environ.update(wanted)
        return dict(wanted)

    def get_tasks(self) -> list[dict[str, Any]]:
        """Returns the tasks by name."""
        found = [tasks.find(name) for name in self.names]
        return [{"name": task.name, "suite": self.split, "instruction": task.instruction} for task in found]

    def reset(self, task: dict[str, Any]) -> Observation:
        """Starts the episode of a number."""
        found, index = tasks.find(task["name"]), int(task.get("episode_idx", 0))
        if self._sim is None or self._sim.task.name != found.name:
            self.cleanup()
            options = {"image_size": self.convention.image_size, "visual": self.visual}
            self._sim = registration.make(found.name, self.split, self.factor, **options)
        self._last = None
        spec = episode_spec(found, self.split, self.factor, index, self.seed, self.visual)
        self.instruction = spec.instruction
        return self._seen(self._sim.begin(spec))

    def step(self, action: dict[str, Any]) -> StepResult:
        """Carries out one action (7,), cut to [-1, 1]; one that is none raises ValueError."""
        raw = action.get("actions", action.get("action"))
        values = np.asarray(raw, np.float64).reshape(-1)
        if values.shape != (self.convention.action_dim,) or not np.isfinite(values).all():
            raise ValueError(f"an action must be {self.convention.action_dim} finite numbers, not {raw!r}")
        self._last = values.clip(-1.0, 1.0)
        outcome = self._sim.step_chunk(self._last[None])
        now = self._seen(outcome)
        done = outcome.terminated or outcome.truncated
        said = {"reward": float(outcome.progress), "done": bool(done), "success": bool(outcome.success)}
        self._recorder.record_step(**said, action=self._last.astype(np.float32), state=now.state.astype(np.float32))
        return StepResult(obs=now, reward=outcome.progress, done=done, info={})

    def make_obs(self, raw_obs: Observation, task: dict[str, Any]) -> dict[str, Any]:
        """Returns what a server is sent."""
        cameras = self.convention.cameras if self.send_wrist_image else self.convention.cameras[:1]
        views = {name: raw_obs.images[name][:, ::-1] if self.mirror else raw_obs.images[name] for name in cameras}
        images = {name: np.ascontiguousarray(view) for name, view in views.items()}
        sent = {"images": images, "task_description": self.instruction}
        return {**sent, "states": raw_obs.state.copy()} if self.send_state else sent

    def get_step_result(self, step_result: StepResult) -> dict[str, Any]:
        """Returns success at the end, success at any time, and progress in [0, 1]."""
        assert self._outcome is not None
        return {
            "success": bool(self._outcome.success),
            "success_ever": bool(self._outcome.success_ever),
            "progress": float(self._outcome.progress),
        }

    def get_metric_keys(self) -> dict[str, str]:
        """Says what is averaged."""
        return {"success": "mean", "success_ever": "mean", "progress": "mean"}

    def get_metadata(self) -> dict[str, Any]:
        """Returns the longest horizon of the tasks; each ends at its own."""
        return {"max_steps": max(tasks.find(name).horizon for name in self.names), "suite": self.split}

    def get_action_spec(self) -> dict[str, DimSpec]:
        """Says what an action is."""
        return {"position": POSITION_DELTA, "rotation": ROTATION_AA, "gripper": GRIPPER_CLOSE_POS}

    def get_observation_spec(self) -> dict[str, DimSpec]:
        """Says what is sent."""
        spec = {"agentview": IMAGE_RGB, "language": LANGUAGE}
        spec |= {"wrist": IMAGE_RGB} if self.send_wrist_image else {}
        return spec | ({"state": STATE_EEF_POS_AA_GRIP} if self.send_state else {})

    def get_hold_action(self, last_action: dict[str, Any] | None) -> dict[str, Any]:
        """Returns what keeps the arm still: no displacement, and the gripper's last command."""
        last = None if last_action is None else np.asarray(last_action["actions"], np.float64)
        return {"actions": self.convention.hold_action(last)}

    def render(self) -> np.ndarray | None:
        """Returns the front picture, upright."""
        return None if self._outcome is None else self._outcome.observations[-1].images["agentview"]

    def cleanup(self) -> None:
        """Closes the simulator."""
        if self._sim is not None:
            self._sim.close()
            self._sim = None

    def _seen(self, outcome: Outcome) -> Observation:
        self._outcome = outcome
        self._recorder.record_video(outcome.observations[-1].images["agentview"])
        return outcome.observations[-1]


def _resolved(split: str, names: Sequence[str], factor: str | None) -> tuple[tuple[str, ...], str]:
    """Returns task names and factor of what was asked; what does not exist or fit raises ValueError."""
    if split not in tasks.SPLITS:
        raise unknown_name("split", split, tasks.SPLITS)
    found = tuple(tasks.find(name).name for name in names) or tasks.SPLITS[split].tasks
    factor = factor or tasks.default_factor(split)
    for name in found:
        tasks.check(name, split, factor)
    return found, factor
