"""Planted faults: world action models built on the experts, whose error is known by construction.

They imagine by playing an expert in a branch of the simulator and rendering it, and they know whose future a video
shows: `extract` compares it with the futures that they can think of and takes the actions of the most similar one. So a
video is carried out exactly, whoever imagined it, without the tracker that the instrument uses. Then comes the fault:

    right video, wrong actions   noise, gain, gripper_sign, time_shift, frozen_gripper
    wrong video, carried out     other_object, other_verb, stops_short, hallucinated
    both                         both (stops short, and noise), frozen (a still picture, and no motion)
    latency                      latency (right video, right actions, each chunk carried out eight steps late)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from wambench import tasks
from wambench.interface import Observation, Plan, canvas, unknown_name

if TYPE_CHECKING:
    from wambench.envs.tabletop import TabletopEnv
    from wambench.envs.task import View

OFFSETS = (8, 16)  # control steps from a query to each imagined frame, as the paths expect them
LENGTH = 16  # actions of a plan
EXECUTE = 8  # of which so many are carried out
FAULTS: Mapping[str, str] = MappingProxyType(  # fault -> what is to blame
    {
        "noise": "action",
        "gain": "action",
        "gripper_sign": "action",
        "time_shift": "action",
        "frozen_gripper": "action",
        "other_object": "video",
        "other_verb": "video",
        "stops_short": "video",
        "hallucinated": "video",
        "both": "both",
        "frozen": "both",
        "latency": "timing",
    }
)
# Whose expert is imagined instead, in the same scene; by another verb something else is reached.
OTHER_VERB = MappingProxyType(
    {
        "PlaceInBin": "StackCubes",
        "StackCubes": "PlaceInBin",
        "PlaceOnPlate": "PushCube",
        "PushCube": "PlaceOnPlate",
        "OpenDrawer": "PressButton",
        "CloseDrawer": "PressButton",
        "PressButton": "OpenDrawer",
        "DepressButton": "OpenDrawer",
        "WithdrawDrawer": "DepressButton",
        "PullBlock": "PlaceOnPlate",
        "TurnDial": "FlipLever",
        "FlipLever": "TurnDial",
    }
)
OTHER_OBJECT = MappingProxyType({"red_cube": "blue_cube", "blue_cube": "red_cube"})
STOP_S = (0.5, 1.0)  # when the video of `stops_short` stops
SHIFT_M = (0.07, 0.10)  # how far off a hallucinated object stands
# How large the faults are: so that nearly all episodes fail (345 of 360, docs/instrument.md).
MOVE_NOISE = 0.9  # added to each axis of the displacement or taken away, of a largest action of 1
GAIN = 0.2  # of displacement and rotation
SHIFT_STEPS = 8  # control steps that the actions are ahead
LATENCY_STEPS = 8  # control steps that they come late
OPEN_AND_STILL = (0.0,) * 6 + (-1.0,)  # the action that does nothing, fingers open


class MisplacedView:
    """A view (`envs.task.View`) in which objects have the place of others, or stand somewhere else.

    Args:
        view: The true one.
        named: Name -> the object that is meant.
        shift: Object -> (3,) displacement in m.
    """

    def __init__(self, view: View, named: Mapping[str, str], shift: Mapping[str, np.ndarray]) -> None:
        self.table_z = view.table_z
        self.moment = view.moment
        self._view = view
        self._named = named
        self._shift = shift

    def _meant(self, name: str) -> str:
        return self._named.get(name, name)

    def pos(self, name: str) -> np.ndarray:
        name = self._meant(name)
        return np.asarray(self._view.pos(name) + self._shift.get(name.split("/")[0], 0.0))

    def start(self, name: str) -> np.ndarray:
        return self._view.start(self._meant(name))

    def rot(self, name: str) -> np.ndarray:
        return self._view.rot(self._meant(name))

    def vel(self, name: str) -> np.ndarray:
        return self._view.vel(self._meant(name))

    def joint(self, name: str) -> float:
        return self._view.joint(self._meant(name))

    def size(self, name: str) -> np.ndarray:
        return self._view.size(self._meant(name))

    def eef(self) -> np.ndarray:
        return self._view.eef()

    def eef_rot(self) -> np.ndarray:
        return self._view.eef_rot()

    def eef_vel(self) -> np.ndarray:
        return self._view.eef_vel()

    def width(self) -> float:
        return self._view.width()

    def touching(self, a: str, b: str) -> bool:
        return self._view.touching(self._meant(a), self._meant(b))

    def grasped(self, name: str) -> bool:
        return self._view.grasped(self._meant(name))


class FaultyPolicy:
    """An expert with a fault, as a world action model.

    Args:
        sim: The simulator it acts in.
        fault: A name of `FAULTS`, or "none".
        latency_steps: Control steps by which its chunks are carried out late; the instrument sets it to 0 to ask what
            the policy would have done in time. Default: of the fault.
    """

    def __init__(self, sim: TabletopEnv, fault: str, latency_steps: int | None = None) -> None:
        if fault not in (*FAULTS, "none"):
            raise unknown_name("fault", fault, FAULTS)
        self.sim = sim
        self.fault = fault
        self.convention = sim.convention
        late = LATENCY_STEPS if fault == "latency" else 0
        self.latency_steps = late if latency_steps is None else latency_steps
        self.execute = EXECUTE

    @property
    def wrong_video(self) -> bool:
        """Whether its video is at fault."""
        return FAULTS.get(self.fault) in ("video", "both")

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode; what is random about the fault depends on the seed alone."""
        self.seed = seed
        rng = np.random.default_rng([seed, 77])
        hz = self.convention.control_hz
        self._stop = int(rng.uniform(*STOP_S) * hz)
        angle = rng.uniform(-np.pi, np.pi)
        far = rng.uniform(*SHIFT_M)
        self._shift = far * np.array([np.cos(angle), np.sin(angle), 0.0])
        self._late: np.ndarray | None = None
        self._known: tuple[bytes, tuple[np.ndarray, np.ndarray]] | None = None

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns its plan: what it imagines, and the actions that its fault makes of it."""
        now = history[-1]
        frames, wanted = self._imagined(now)
        actions = self._spoil(wanted, now.step)
        if self.latency_steps:
            before = np.tile(OPEN_AND_STILL, (LENGTH, 1)) if self._late is None else self._late
            self._late, actions = actions, before
        return Plan(actions, self.execute, frames, np.array([now.step + ahead for ahead in OFFSETS]))

    def imagine(self, history: Sequence[Observation]) -> np.ndarray:
        """Returns (2, h, w, 3) frames."""
        return self._imagined(history[-1])[0]

    def extract(self, history: Sequence[Observation], frames: np.ndarray) -> np.ndarray:
        """Returns the actions (H, A) of the likest future it can think of, spoilt by its fault."""
        own, wanted = self._imagined(history[-1])
        if self.wrong_video and not np.array_equal(own, frames):
            right, actions = self._future(lambda step: self.sim.expert_action())
            apart = [float(np.abs(one.astype(np.int16) - frames).mean()) for one in (own, right)]
            wanted = actions if apart[1] < apart[0] else wanted
        return self._spoil(wanted, history[-1].step)

    def _imagined(self, now: Observation) -> tuple[np.ndarray, np.ndarray]:
        """Returns frames and actions of the future that it imagines, remembered until the simulator moves on."""
        state = self.sim.snapshot()
        if self._known is None or state != self._known[0]:
            self._known = state, self._play_dream(now)
        return self._known[1]

    def _play_dream(self, now: Observation) -> tuple[np.ndarray, np.ndarray]:
        if self.fault == "frozen":
            still = canvas(now, self.convention.cameras)
            return np.stack([still] * len(OFFSETS)), np.zeros((LENGTH, 7))
        if self.wrong_video:
            return self._future(self._mistaken_expert(now.step), self.fault == "hallucinated")
        return self._future(lambda step: self.sim.expert_action())

    def _future(self, expert: Callable[[int], np.ndarray], shifted: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Returns frames and actions of an expert in a branch; the simulator is left as it was."""
        sim = self.sim
        frames = []
        actions = []
        state = sim.snapshot()
        for step in range(1, LENGTH + 1):
            actions.append(np.clip(expert(step), -1.0, 1.0))
            sim.advance(actions[-1])
            if step in OFFSETS:
                before = sim.snapshot()
                if shifted:
                    self._displace()
                frames.append(canvas(sim.observe(), self.convention.cameras))
                if shifted:
                    sim.restore(before)
        sim.restore(state)
        return np.stack(frames), np.stack(actions)

    def _mistaken_expert(self, begun: int) -> Callable[[int], np.ndarray]:
        """Returns the expert of the wrong video: step within the chunk, which begins at a step -> action."""
        sim = self.sim
        task = sim.task
        if self.fault in ("stops_short", "both"):
            last = np.array(OPEN_AND_STILL)

            def stop(step: int) -> np.ndarray:
                if begun + step > self._stop:
                    return np.array([0.0] * 6 + [1.0 if sim.view.width() < 0.06 else -1.0])
                last[:] = sim.expert_action()
                return last.copy()

            return stop
        if self.fault == "other_verb":
            expert = tasks.find(OTHER_VERB[task.name]).expert
            return lambda step: expert(sim.view)
        named = OTHER_OBJECT if self.fault == "other_object" else {}
        shift = {name: self._shift for name in self._goals()} if self.fault == "hallucinated" else {}
        return lambda step: task.expert(MisplacedView(sim.view, named, shift))

    def _goals(self) -> tuple[str, ...]:
        """Returns the object that the hallucination moves: the first of the scene that the instruction names."""
        task = self.sim.task
        words = task.instruction.replace(" ", "_")
        return next(((name,) for name in task.objects if name in words), (task.objects[0],))

    def _displace(self) -> None:
        """Moves the hallucinated object for a picture, if it can be moved."""
        import mujoco

        scene = self.sim.scene
        for name in self._goals():
            joint = mujoco.mj_name2id(scene.model, mujoco.mjtObj.mjOBJ_JOINT, f"{name}_free")
            if joint >= 0:
                address = scene.model.jnt_qposadr[joint]
                scene.data.qpos[address : address + 3] += self._shift
        mujoco.mj_forward(scene.model, scene.data)

    def _spoil(self, actions: np.ndarray, step: int) -> np.ndarray:
        """Returns actions with the fault in them; the noise depends on (seed, step) alone: rollouts are paired."""
        out = actions.copy()
        if self.fault in ("noise", "both"):
            rng = np.random.default_rng([self.seed, step])
            out[:, :3] += MOVE_NOISE * rng.choice((-1.0, 1.0), 3)
        elif self.fault == "gain":
            out[:, :6] *= GAIN
        elif self.fault == "gripper_sign":
            out[:, 6] *= -1.0
        elif self.fault == "time_shift":
            out = np.concatenate([out[SHIFT_STEPS:], np.tile(out[-1:], (SHIFT_STEPS, 1))])
        elif self.fault == "frozen_gripper":
            out[:, 6] = -1.0
        elif self.fault == "frozen":
            out = np.zeros_like(out)
        return np.clip(out, -1.0, 1.0)


def fits(fault: str, task: str) -> bool:
    """Returns whether a fault can make a task fail, for example because its scene has another object."""
    if fault == "other_verb":
        return task in OTHER_VERB
    objects = tasks.find(task).objects
    if fault == "other_object":
        return set(OTHER_OBJECT) <= set(objects)
    if fault in ("gripper_sign", "frozen_gripper"):
        return task in ("LiftCube", "PlaceInBin", "PlaceOnPlate", "StackCubes", "OpenDrawer", "HoistCube")
    return True
