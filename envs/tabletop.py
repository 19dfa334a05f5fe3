"""The Gymnasium environment of every task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium
import mujoco
import numpy as np

from wambench.envs import snapshot
from wambench.envs.episodes import episode_spec
from wambench.envs.privileged_view import SceneView
from wambench.envs.progress import ProgressTracker
from wambench.envs.rendering import Renderer
from wambench.envs.robot import find_arm
from wambench.envs.scene import CAMERAS, Scene
from wambench.envs.scene_poser import ScenePoser
from wambench.envs.script import Moment
from wambench.envs.task import Task
from wambench.interface import ControlConvention, EpisodeSpec, Observation, Outcome, SimulationDiverged

MAX_SPEED = 100.0  # m/s or rad/s: no sane state of these scenes is near it


class TabletopEnv(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """A Panda at a table, one task.

    Observation: dict of one (h, w, 3) uint8 upright RGB image per camera ("agentview", "wrist") and "state", (8,)
    float64: end-effector position in m (3), axis-angle in rad (3), finger positions in m (2).

    Action: (7,) in [-1, 1]: end-effector displacement (+-0.05 m per axis), rotation (axis-angle, +-0.5 rad), gripper
    (+1 closes). Carried out by robosuite's OSC_POSE at 20 Hz.

    Reward: the increase of the task's progress, so that an episode's return is its progress in [0, 1].

    End: `terminated` when the success predicate has held for one second, `truncated` at the horizon.

    Randomisation: poses and the environment factors of `envs.factors`, all from the seed; the `EpisodeSpec` in
    `env.unwrapped.episode` (and `info["spec"]` after reset) says everything, and `reset(options={"spec": spec})`
    repeats it.

    Args:
        task: What should happen. `wambench.registration.make` finds it by name and checks split and factor.
        split: Name of the split whose environments are used.
        factor: "all", "none" or one of `envs.factors.FACTORS`.
        image_size: (height, width) of both cameras in pixels.
        visual: "fast" or "full", see `envs.rendering`.
        render_mode: "rgb_array" or None.
        video_hz: Observations per second that `step_chunk` returns.
        arm: Which arm stands at the table, a name of `envs.robot.ARMS`. Every split is played by the Panda; the others
            are for action-free video, which its `EpisodeSpec` therefore does not tell.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012 (Gymnasium's own convention)

    def __init__(
        self,
        task: Task,
        split: str,
        factor: str,
        image_size: tuple[int, int] = (96, 96),
        visual: str = "fast",
        render_mode: str | None = None,
        video_hz: float = 5.0,
        arm: str = "Panda",
    ) -> None:
        self.task = task
        self.split = split
        self.factor = factor
        self.convention = ControlConvention(image_size=(image_size[0], image_size[1]), video_hz=video_hz)
        self.visual = visual
        self.arm = find_arm(arm)
        self.render_mode = render_mode
        self._scene: Scene | None = None
        self._renderer: Renderer | None = None
        self.episode: EpisodeSpec | None = None
        self.observation_space = _observation_space(self.convention)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (7,), np.float32)

    # -- Gymnasium ---------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode; `options={"spec": EpisodeSpec or its JSON}` decides everything, else the seed does."""
        super().reset(seed=seed)
        episode = (options or {}).get("spec")
        if isinstance(episode, str):
            episode = EpisodeSpec.from_json(episode)
        if episode is None:
            draw = int(self.np_random.integers(2**31 - 1))
            episode = episode_spec(self.task, self.split, self.factor, 0, draw, self.visual)
        outcome = self.begin(episode)
        return self._as_dict(outcome.observations[-1]), {**_info(outcome), "spec": episode.to_json()}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        before = self._tracker.progress
        outcome = self.advance(action)
        return (
            self._as_dict(self.observe()),
            outcome.progress - before,
            outcome.terminated,
            outcome.truncated,
            _info(outcome),
        )

    def render(self) -> np.ndarray | None:
        """Returns the agentview as (h, w, 3) uint8 in render mode "rgb_array", else None."""
        if self.render_mode != "rgb_array":
            return None
        return self._images(("agentview",), self.convention.image_size)["agentview"]

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    # -- interface.Simulator ---------------------------------------------------------------------------------------

    def begin(self, episode: EpisodeSpec, render: bool = True) -> Outcome:
        """Resets to the episode; the first observation is in the outcome unless `render` is False."""
        if episode.task != self.task.id:
            raise ValueError(f"this environment plays {self.task.id}, the episode spec is for {episode.task}")
        scene = self._family(episode.visual)
        scene.reset(episode)
        self.episode = episode
        self._tracker = ProgressTracker(self.task, episode.control_hz)
        self._steps = 0
        self._view.moment = Moment(episode, 0, self.task.script.start if self.task.script else {})
        if self.task.script:
            scene.move(self.task.script.motions(self._view.moment))
        self._tracker.update(self._view)
        return self._outcome((self.observe(),) if render else ())

    def advance(self, action: np.ndarray) -> Outcome:
        """Carries out one (7,) action without rendering."""
        self._advance(np.asarray(action, dtype=np.float64))
        return self._outcome(())

    def step_chunk(self, actions: np.ndarray) -> Outcome:
        """Carries out (n, 7) actions; renders at the video rate and at the last step only."""
        stride, horizon, seen = self.convention.frame_stride, self._loaded().horizon, []
        for i, action in enumerate(np.asarray(actions, dtype=np.float64)):
            self._advance(action)
            ended = self._tracker.settled or self._steps >= horizon
            if ended or self._steps % stride == 0 or i == len(actions) - 1:
                seen.append(self.observe())
            if ended:
                break
        return self._outcome(tuple(seen))

    def snapshot(self) -> bytes:
        """Returns the exact state: physics, controller, gripper, step count and stage latches."""
        scene = self.scene
        physics = np.empty(mujoco.mj_stateSize(scene.model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(scene.model, scene.data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
        latches = {"steps": self._steps, **self._tracker.get_state()}
        if self.task.script:
            latches["memory"] = dict(self._view.moment.memory)
        return snapshot.pack(physics, scene.arm.get_state(), latches)

    def restore(self, state: bytes) -> None:
        """Continues from a snapshot of the same episode, bitwise equal to the original."""
        scene = self.scene
        physics, arm, latches = snapshot.unpack(state)
        mujoco.mj_setState(scene.model, scene.data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
        scene.arm.set_state(arm)
        # step1 recomputes what depends on position and velocity and leaves the warm start alone
        mujoco.mj_step1(scene.model, scene.data)
        self._steps = latches.pop("steps")
        if self.task.script:
            self._view.moment = Moment(self._loaded(), self._steps, latches.pop("memory"))
        self._tracker.set_state(latches)

    # -- for experts, recorders and tests ------------------------------------------------------------------------

    @property
    def scene(self) -> Scene:
        """The compiled scene, set to the current episode."""
        self._loaded()
        return self._family()

    @property
    def renderer(self) -> Renderer:
        """What draws the current episode."""
        if self._renderer is None:
            self._renderer = Renderer(self.scene.model, self._loaded().visual)
        return self._renderer

    @property
    def view(self) -> SceneView:
        """The privileged state; policies never see it."""
        self._loaded()
        return self._view

    def scene_poser(self) -> ScenePoser:
        """Returns what shows postures of the current episode; restore a snapshot after using it."""
        return ScenePoser(self.scene, self.renderer, self.convention.cameras, self.convention.image_size)

    def expert_action(self, believed: EpisodeSpec | None = None) -> np.ndarray:
        """Returns the (7,) action of the task's expert in the current state.

        Args:
            believed: The episode that the expert takes this one for; None: it knows the truth. An expert without memory
                believes in one of the episodes that look like this one (`Script.alternatives`).
        """
        view = self.view
        truth = view.moment
        try:
            if believed is not None:
                view.moment = replace(truth, episode=believed)
            return np.clip(self.task.expert(view), -1.0, 1.0)
        finally:
            view.moment = truth

    def observe(self) -> Observation:
        """Renders both cameras now."""
        convention = self.convention
        images = self._images(convention.cameras, convention.image_size)
        return Observation(step=self._steps, images=images, state=self.proprioception())

    def proprioception(self) -> np.ndarray:
        """Returns the (8,) state vector without rendering."""
        state = np.empty(8)
        state[:3], state[3:6], state[6:] = self._view.eef(), axis_angle(self._view.eef_rot()), self._view.fingers()
        return state

    # -- private -----------------------------------------------------------------------------------------------

    def _loaded(self) -> EpisodeSpec:
        if self.episode is None:
            raise gymnasium.error.ResetNeeded("call reset() before anything else")
        return self.episode

    def _family(self, visual: str | None = None) -> Scene:
        if self._scene is None or (visual is not None and visual != self._scene.visual):
            self.close()
            self._scene = Scene(self.task.objects, visual or self.visual, self.arm)
            self._view = SceneView(self._scene)
        return self._scene

    def _advance(self, action: np.ndarray) -> None:
        scene, script = self.scene, self.task.script
        if script:
            if self._steps < script.release(self._loaded()):
                action = self.convention.hold_action(None)
            scene.move(script.motions(self._view.moment))
        scene.arm.step(scene.data, action)
        self._steps += 1
        speeds = scene.data.qvel
        if not speeds @ speeds < MAX_SPEED**2:  # quicker than the largest, which cannot be more than the root of it
            fastest = np.abs(speeds).max()
            if not fastest < MAX_SPEED:
                raise SimulationDiverged(f"the simulation diverged at step {self._steps}: speed {fastest:.3g}")
        if script:
            self._view.moment = replace(self._view.moment, step=self._steps)
            if script.notice:
                self._view.moment = replace(self._view.moment, memory=script.notice(self._view))
        self._tracker.update(self._view)

    def _outcome(self, observations: tuple[Observation, ...]) -> Outcome:
        tracker = self._tracker
        return Outcome(
            observations=observations,
            steps=self._steps,
            progress=tracker.progress,
            stages=tracker.stages,
            success=tracker.success,
            success_ever=tracker.success_ever,
            terminated=tracker.settled,
            truncated=self._steps >= self._loaded().horizon and not tracker.settled,
        )

    def _images(self, cameras: tuple[str, ...], size: tuple[int, int]) -> dict[str, np.ndarray]:
        images = self.renderer.render(self.scene.data, [CAMERAS[name] for name in cameras], size)
        return {name: images[CAMERAS[name]] for name in cameras}

    def _as_dict(self, observation: Observation) -> dict[str, np.ndarray]:
        return {**observation.images, "state": observation.state}


def axis_angle(rotation: np.ndarray) -> np.ndarray:
    """Returns the (3,) rotation vector in rad of a (3, 3) rotation, with an angle in [0, pi]."""
    quat, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quat, rotation.reshape(9))
    mujoco.mju_quat2Vel(vector, quat, 1.0)
    return vector


def _observation_space(
    convention: ControlConvention,
) -> Any:  # Dict is a Space of the right dict, which its types do not say
    image = gymnasium.spaces.Box(0, 255, (*convention.image_size, 3), np.uint8)
    bound = np.array([2.0] * 3 + [2 * np.pi] * 3 + [0.1] * 2)
    state = gymnasium.spaces.Box(-bound, bound, dtype=np.float64)
    return gymnasium.spaces.Dict({**{name: image for name in convention.cameras}, "state": state})


def _info(outcome: Outcome) -> dict[str, Any]:
    values: Mapping[str, Any] = {
        "progress": outcome.progress,
        "stages": ";".join(outcome.stages),
        "success": outcome.success,
        "is_success": outcome.success,
        "success_ever": outcome.success_ever,
    }
    return dict(values)
