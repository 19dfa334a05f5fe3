"""The Gymnasium environment of every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import mujoco
import numpy as np

from wambench.conventions import BODIES, ROBOT
from wambench.conventions import find as find_convention
from wambench.envs import snapshot
from wambench.envs.contacts import ContactLog
from wambench.envs.episodes import episode_spec
from wambench.envs.objects import OBJECTS
from wambench.envs.privileged_view import SceneView
from wambench.envs.progress import ProgressTracker
from wambench.envs.rendering import Renderer
from wambench.envs.robot import find_arm, robot_named
from wambench.envs.scene import Scene
from wambench.envs.scene_poser import ScenePoser
from wambench.envs.script import Moment
from wambench.envs.task import Task
from wambench.envs.window import Window
from wambench.interface import (
    ControlConvention,
    EpisodeSpec,
    Observation,
    Outcome,
    SimulationDiverged,
    unknown_name,
)

MAX_SPEED = 100.0  # m/s or rad/s: no sane state of these scenes is near it
RENDER_MODES = ("rgb_array", "human")
WINDOW_VIEW = (480, 480)  # pixels of a view in the window of render mode "human"
OPTIONS = ("spec",)  # of reset
UNPICKLED = (
    "_scene",
    "_view",
    "_tracker",
    "_contacts",
    "_diverged",
    "_renderer",
    "_window",
)  # made anew from spec and snapshot
# MuJoCo's counters of positions, velocities, accelerations and controls that are not finite or huge. Counting one up,
# it resets itself to the model's zero pose and goes on, so that nothing else would show.
BAD_NUMBERS = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADCTRL) + 1)
NO_BAD_NUMBERS = bytes(4 * np.dtype(np.int32).itemsize)  # compared as bytes, in a twentieth of the time of `any`
BAD_KINDS = ("positions", "velocities", "accelerations", "controls")


class TabletopEnv(gymnasium.Env[dict[str, np.ndarray], np.ndarray]):
    """A Panda at a table, one task.

    Observation: dict of one (h, w, 3) uint8 upright RGB image per camera ("agentview", "wrist") and "state", (8,)
    float64: end-effector position in m (3), axis-angle in rad (3), finger positions in m (2). The hand hangs at half a
    turn, where axis-angle is not continuous: its three numbers change sign together, several times in an episode.
    With `rotation="rotation_6d"` the state is (11,): the first two columns of the rotation matrix (6) stand instead,
    which are continuous. The arrays that `reset` and `step` return belong to the caller.

    Action: (7,) in [-1, 1]: end-effector displacement (+-0.05 m per axis), rotation (axis-angle, +-0.5 rad), gripper
    (+1 closes). Carried out by robosuite's OSC_POSE at 20 Hz.

    With `robot="droid"` the observation is that of `conventions.DROID`: three views of 180x320, and a state (14,) of
    joints in rad (7), gripper 0 open to 1 closed (1), position of the grip site in m (3) and its axis-angle in rad (3).
    The action is (8,), joint positions in rad and the gripper, at 15 Hz; with "droid-velocity", joint velocities in
    [-1, 1]. See docs/droid.md.

    Reward: the increase of the task's progress, so that an episode's return is its progress in [0, 1].

    End: `terminated` when the success predicate has held for one second, `truncated` at the horizon, which is also
    `spec.max_episode_steps`; both can be true in the last step. A step after the end raises
    `gymnasium.error.ResetNeeded`.

    Info: "instruction", "progress" in [0, 1], "stages" reached (joined by ";"), "success" and "is_success" now,
    "success_ever"; after a reset also "spec".

    Randomisation: poses and the environment factors of `envs.factors`, all from the seed; the `EpisodeSpec` in
    `env.unwrapped.episode` (and `info["spec"]` after reset) says everything, and `reset(options={"spec": spec})`
    repeats it.

    Copies: `pickle` and `copy.deepcopy` take the spec and a snapshot of the running episode along, so that a copy goes
    on bitwise equal. Changes made by hand to the MuJoCo model, and open windows, are not copied.

    Args:
        task: What should happen. `wambench.registration.make` finds it by name and checks split and factor.
        split: Name of the split whose environments are used.
        factor: "all", "none", one of `envs.factors.FACTORS` or "lookalike".
        image_size: (height, width) of the cameras in pixels; None for the robot's: (96, 96), of DROID (180, 320).
        visual: "fast" or "full", see `envs.rendering`.
        render_mode: "rgb_array"; "human", which shows both views in a window in every reset and step and needs
            `wambench[view]` and a display; or None.
        video_hz: Observations per second that `step_chunk` returns; divides the control rate.
        arm: Which arm stands at the table, a name of `envs.robot.ARMS`. Every split is played by the Panda; the others
            are for action-free video, which its `EpisodeSpec` therefore does not tell.
        cameras: Which views an observation has, in this order; None for all of the robot's.
        rotation: Of the state: "axis_angle" or "rotation_6d", see `ControlConvention.rotation`.
        robot: A name of `conventions.CONVENTIONS`: what stands at the table and what its actions mean.

    Raises:
        ValueError: An argument is out of its range or unknown; the message says what exists.
        RuntimeError: Render mode "human" without a display.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 20}  # noqa: RUF012 (Gymnasium's own convention)

    def __init__(
        self,
        task: Task,
        split: str,
        factor: str,
        image_size: tuple[int, int] | None = None,
        visual: str = "fast",
        render_mode: str | None = None,
        video_hz: float = 5.0,
        arm: str = "Panda",
        cameras: Sequence[str] | None = None,
        rotation: str = "axis_angle",
        robot: str = ROBOT,
    ) -> None:
        if render_mode not in (None, *RENDER_MODES):
            raise unknown_name("render mode", str(render_mode), RENDER_MODES)
        own = find_convention(robot)
        known = robot_named(robot).cameras
        for camera in cameras or ():
            if camera not in known:
                raise unknown_name("camera", str(camera), known)
        if rotation not in ROTATIONS:
            raise unknown_name("rotation of the state", str(rotation), ROTATIONS)
        self.task = task
        self.split = split
        self.factor = factor
        if rotation != own.rotation and robot != ROBOT:
            raise ValueError(f"the state of {robot} has its rotation as {own.rotation}, not {rotation}")
        if arm != "Panda" and robot != ROBOT:
            raise ValueError(f"{robot} is a Panda, not a {arm}")
        self.robot = robot
        self.convention = replace(
            own,
            cameras=own.cameras if cameras is None else tuple(cameras),
            image_size=image_size or own.image_size,
            video_hz=video_hz,
            rotation=rotation,
            state=() if robot == ROBOT else own.state,
        )
        self.visual = visual
        self.arm = find_arm(arm)
        self.render_mode = render_mode
        self._scene: Scene | None = None
        self._renderer: Renderer | None = None
        self._window = Window(task.id, own.control_hz) if render_mode == "human" else None
        self.episode: EpisodeSpec | None = None
        self.observation_space = _observation_space(self.convention)
        low, high = (limit.astype(np.float32) for limit in self.convention.limits())
        self.action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)

    # -- Gymnasium ---------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode; `options={"spec": EpisodeSpec or its JSON}` decides everything, else the seed does.

        Raises:
            ValueError: An option is unknown, or the spec is none or that of another task.
        """
        super().reset(seed=seed)
        for name in options or {}:
            if name not in OPTIONS:
                raise unknown_name("reset option", str(name), OPTIONS)
        episode = (options or {}).get("spec")
        if isinstance(episode, str):
            episode = EpisodeSpec.from_json(episode)
        if episode is None:
            draw = int(self.np_random.integers(2**31 - 1))
            episode = episode_spec(self.task, self.split, self.factor, 0, draw, self.visual, robot=self.robot)
        if not isinstance(episode, EpisodeSpec):
            raise ValueError(f"the spec of an episode is an EpisodeSpec or its JSON, not {type(episode).__name__}")
        outcome = self.begin(episode, render=False)
        self._show()
        return self._observe_dict(), {**self._info(outcome), "spec": episode.to_json()}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Carries out one (A,) action.

        Raises:
            gymnasium.error.ResetNeeded: The episode has not begun, or is over.
            SimulationDiverged: Positions, velocities or accelerations left every sane range.
        """
        self._require_running()
        before = self._tracker.progress
        outcome = self.advance(action)
        self._show()
        reward = outcome.progress - before
        return self._observe_dict(), reward, outcome.terminated, outcome.truncated, self._info(outcome)

    def render(self) -> np.ndarray | None:
        """Returns the first view as (h, w, 3) uint8 in render mode "rgb_array", else None; "human" shows it."""
        if self.render_mode == "rgb_array":
            first = next(iter(self._cameras))
            return self._images((first,), self.convention.image_size)[first]
        self._show()
        return None

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        if self._window is not None:
            self._window.close()

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in vars(self).items() if name not in UNPICKLED}
        if self.episode is None:
            return kept | {"snapshot": None, "noted": None}
        return kept | {"snapshot": self.snapshot(), "noted": self._contacts.noted}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._scene, self._renderer = None, None
        self._window = Window(self.task.id, self.convention.control_hz) if self.render_mode == "human" else None
        snapshot, noted = vars(self).pop("snapshot"), vars(self).pop("noted")
        if self.episode is not None:
            self.begin(self.episode, render=False)
            self.restore(snapshot)
            self._contacts.noted = noted

    # -- interface.Simulator ---------------------------------------------------------------------------------------

    def begin(self, episode: EpisodeSpec, render: bool = True) -> Outcome:
        """Resets to the episode; the first observation is in the outcome unless `render` is False."""
        if episode.task != self.task.id:
            raise ValueError(f"this environment plays {self.task.id}, the episode spec is for {episode.task}")
        if episode.robot != BODIES[self.robot]:
            raise ValueError(f"this environment has the robot {self.robot}, the episode spec is for {episode.robot}")
        scene = self._family(episode)
        scene.reset(episode)
        self._contacts.begin()
        self.episode = episode
        self._steps = 0
        self._check_finite()
        self._tracker = ProgressTracker(self.task, episode.control_hz)
        self._view.moment = Moment(episode, 0, self.task.script.start if self.task.script else {})
        if self.task.script:
            scene.move(self.task.script.motions(self._view.moment))
        self._tracker.update(self._view)
        return self._outcome((self.observe(),) if render else ())

    def advance(self, action: np.ndarray) -> Outcome:
        """Carries out one (A,) action without rendering, also beyond the end of the episode.

        Raises:
            SimulationDiverged: Positions, velocities or accelerations left every sane range.
        """
        self._advance(np.asarray(action, dtype=np.float64))
        return self._outcome(())

    def step_chunk(self, actions: np.ndarray) -> Outcome:
        """Carries out (n, A) actions; renders at the video rate and at the last step only.

        Raises:
            gymnasium.error.ResetNeeded: The episode has not begun, or is over.
            SimulationDiverged: Positions, velocities or accelerations left every sane range.
        """
        self._require_running()
        stride, seen = self.convention.frame_stride, []
        for i, action in enumerate(np.asarray(actions, dtype=np.float64)):
            self._advance(action)
            ended = self._over()
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
        """Continues from a snapshot of the same episode, bitwise equal to the original.

        Raises:
            ValueError: It is no snapshot, or one of another scene.
            SimulationDiverged: It holds numbers that are not finite.
        """
        scene = self.scene
        physics, arm, latches = snapshot.unpack(state)
        size = mujoco.mj_stateSize(scene.model, mujoco.mjtState.mjSTATE_INTEGRATION)
        if len(physics) != size:
            raise ValueError(f"a snapshot of another scene: it has {len(physics)} numbers, {self.task.id} has {size}")
        self._diverged[:] = 0  # what happened before this call is over
        mujoco.mj_setState(scene.model, scene.data, physics, mujoco.mjtState.mjSTATE_INTEGRATION)
        scene.arm.set_state(arm)
        # step1 recomputes what depends on position and velocity and leaves the warm start alone
        mujoco.mj_step1(scene.model, scene.data)
        self._steps = latches.pop("steps")
        self._check_finite()
        self._contacts.drop_after(self._steps)
        if self.task.script:
            self._view.moment = Moment(self._loaded(), self._steps, latches.pop("memory"))
        self._tracker.set_state(latches)

    # -- for experts, recorders and tests ------------------------------------------------------------------------

    @property
    def scene(self) -> Scene:
        """The compiled scene, set to the current episode."""
        return self._family(self._loaded())

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
        """Returns the (A,) action of the task's expert in the current state.

        Experts speak of displacements of the hand; where actions are joints, inverse kinematics makes the one of the
        other.

        Args:
            believed: The episode that the expert takes this one for; None: it knows the truth. An expert without memory
                believes in one of the episodes that look like this one (`Script.alternatives`).
        """
        view = self.view
        truth = view.moment
        try:
            if believed is not None:
                view.moment = replace(truth, episode=believed)
            return self.hand_action(np.clip(self.task.expert(view), -1.0, 1.0))
        finally:
            view.moment = truth

    def hand_action(self, wanted: np.ndarray) -> np.ndarray:
        """Returns the (A,) action that moves the hand as (7,) of OSC_POSE would, where it acts otherwise."""
        return self.scene.arm.action_for(self.scene.data, wanted, self.view.eef())

    def observe(self) -> Observation:
        """Renders all cameras of the convention now; what is returned cannot be written into."""
        convention = self.convention
        images = self._images(convention.cameras, convention.image_size)
        return Observation(step=self._steps, images=images, state=self.proprioception())

    def proprioception(self) -> np.ndarray:
        """Returns the state vector of the convention without rendering; a fresh array."""
        return np.concatenate([STATE[word](self._view) for word in self.convention.state])

    @property
    def _cameras(self) -> Mapping[str, str]:
        """Name of a view -> camera of the model."""
        return robot_named(self.robot).cameras

    # -- private -----------------------------------------------------------------------------------------------

    def _over(self) -> bool:
        return self._tracker.settled or self._steps >= self._loaded().horizon

    def _require_running(self) -> None:
        """Raises ResetNeeded unless an episode is running."""
        episode = self._loaded()
        if self._over():
            why = f"success at step {self._steps}" if self._tracker.settled else f"horizon of {episode.horizon} steps"
            raise gymnasium.error.ResetNeeded(f"the episode is over ({why}): call reset() first")

    def _loaded(self) -> EpisodeSpec:
        if self.episode is None:
            raise gymnasium.error.ResetNeeded("call reset() before anything else")
        return self.episode

    def _family(self, episode: EpisodeSpec) -> Scene:
        """Returns the scene of an episode: the task's objects, and whatever else the episode places beside them."""
        objects = (*self.task.objects, *sorted(set(episode.poses) - set(self.task.objects)))
        if self._scene is None or (episode.visual, objects) != (self._scene.visual, self._scene.objects):
            for name in objects:
                if name not in OBJECTS:
                    raise unknown_name("object", name, OBJECTS)
            if self._renderer is not None:
                self._renderer.close()
                self._renderer = None
            self._scene = Scene(objects, episode.visual, self.arm, self.robot)
            self._view = SceneView(self._scene)
            self._contacts = ContactLog(self._scene, self._view)
            self._diverged = self._scene.data.warning.number[BAD_NUMBERS]  # a view
        return self._scene

    def _advance(self, action: np.ndarray) -> None:
        scene, script = self.scene, self.task.script
        if script:
            if self._steps < script.release(self._loaded()):
                action = self.convention.hold_action(None, self.proprioception())
            scene.move(script.motions(self._view.moment))
        scene.arm.step(scene.data, action)
        self._steps += 1
        self._check_finite()
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
        self._contacts.note(self._steps)

    def _check_finite(self) -> None:
        """Raises SimulationDiverged if MuJoCo has met a number that is not finite or huge since the last reset."""
        if self._diverged.tobytes() != NO_BAD_NUMBERS:
            kinds = " and ".join(kind for kind, count in zip(BAD_KINDS, self._diverged, strict=True) if count)
            raise SimulationDiverged(
                f"the simulation diverged at step {self._steps}: {kinds} that are not finite or above 1e10"
            )

    def _outcome(self, observations: tuple[Observation, ...]) -> Outcome:
        tracker, noted = self._tracker, self._contacts.noted[-1]
        return Outcome(
            observations=observations,
            steps=self._steps,
            progress=tracker.progress,
            stages=tracker.stages,
            success=tracker.success,
            success_ever=tracker.success_ever,
            terminated=tracker.settled,
            truncated=self._steps >= self._loaded().horizon,
            first_touched=noted.first_touched,
            nearest=noted.nearest,
        )

    def _images(self, cameras: tuple[str, ...], size: tuple[int, int]) -> dict[str, np.ndarray]:
        images = self.renderer.render(self.scene.data, [self._cameras[name] for name in cameras], size)
        return {name: images[self._cameras[name]] for name in cameras}

    def _observe_dict(self) -> dict[str, np.ndarray]:
        """Returns an observation as Gymnasium has it: fresh arrays, which belong to whoever asked."""
        images = self._images(self.convention.cameras, self.convention.image_size)
        return {**images, "state": self.proprioception()}

    def _info(self, outcome: Outcome) -> dict[str, Any]:
        return {
            "instruction": self._loaded().instruction,
            "progress": outcome.progress,
            "stages": ";".join(outcome.stages),
            "success": outcome.success,
            "is_success": outcome.success,
            "success_ever": outcome.success_ever,
        }

    def _show(self) -> None:
        """Shows all views side by side in the window of render mode "human"."""
        if self._window is not None:
            views = self._images(tuple(self._cameras), WINDOW_VIEW)
            self._window.show(np.concatenate(list(views.values()), axis=1))


def axis_angle(rotation: np.ndarray) -> np.ndarray:
    """Returns the (3,) rotation vector in rad of a (3, 3) rotation, with an angle in [0, pi]."""
    quat, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quat, rotation.reshape(9))
    mujoco.mju_quat2Vel(vector, quat, 1.0)
    return vector


def rotation_6d(rotation: np.ndarray) -> np.ndarray:
    """Returns the first two columns of a (3, 3) rotation matrix, one after the other, (6,) in [-1, 1].

    Continuous in the rotation, which three or four numbers cannot be (Zhou et al., arXiv 1812.07035).
    """
    return rotation[:, :2].T.ravel()


ROTATIONS = {"axis_angle": axis_angle, "rotation_6d": rotation_6d}
# Word of a convention's state -> how it is read, and the largest magnitude of its numbers, rounding included.
STATE: Mapping[str, Callable[[SceneView], np.ndarray]] = {
    "eef_pos": SceneView.site,
    "eef_axis_angle": lambda view: axis_angle(view.eef_rot()),
    "eef_rotation_6d": lambda view: rotation_6d(view.eef_rot()),
    "gripper_qpos": SceneView.fingers,
    "joint_position": SceneView.joints,
    "gripper_position": lambda view: np.array([view.closed()]),
}
LARGEST = {
    "eef_pos": [2.0] * 3,
    "eef_axis_angle": [2 * np.pi] * 3,
    "eef_rotation_6d": [1.0 + 1e-6] * 6,
    "gripper_qpos": [0.1] * 2,
    "joint_position": [4.0] * 7,
    "gripper_position": [1.0],
}


def _observation_space(
    convention: ControlConvention,
) -> Any:  # Dict is a Space of the right dict, which its types do not say
    image = gymnasium.spaces.Box(0, 255, (*convention.image_size, 3), np.uint8)
    bound = np.concatenate([LARGEST[word] for word in convention.state])
    state = gymnasium.spaces.Box(-bound, bound, dtype=np.float64)
    return gymnasium.spaces.Dict({**{name: image for name in convention.cameras}, "state": state})
