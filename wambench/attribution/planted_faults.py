"""Planted faults: world action models built on the experts, whose error is known by construction.

They imagine by playing an expert in a branch of the simulator and rendering it, and they know whose future a video
shows: `extract` compares it with the futures that they can think of and takes the actions of the likest. So a video is
carried out exactly, whoever imagined it, without the tracker that the instrument uses. Then the fault:

    right video, wrong actions   noise, gain, gripper_sign, time_shift, frozen_gripper
    wrong video, carried out     other_object, other_verb, stops_short, hallucinated
    both                         both (stops short, and noise), frozen (a still picture, and no motion)
    latency                      latency (right video, right actions, each chunk carried out eight steps late)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from wambench import tasks
from wambench.attribution.oracle import OracleSim
from wambench.interface import Observation, Plan, canvas, unknown_name

OFFSETS = (8, 16)
LENGTH, EXECUTE = 16, 8
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
MOVE_NOISE, GAIN, SHIFT_STEPS, LATENCY_STEPS = 0.9, 0.2, 8, 8


class MisplacedView:
    """A view in which objects have the place of others, or stand somewhere else.

    Args:
        view: The true one.
        named: Name -> the object that is meant.
        shift: Object -> (3,) displacement in m.
    """

    def __init__(self, view: Any, named: Mapping[str, str], shift: Mapping[str, np.ndarray]) -> None:
        self._view, self._named, self._shift = view, named, shift

    def pos(self, name: str) -> np.ndarray:
        """Returns the (3,) position that is believed."""
        name = self._named.get(name, name)
        return np.asarray(self._view.pos(name) + self._shift.get(name.split("/")[0], 0.0))

    def __getattr__(self, name: str) -> Any:
        known = getattr(self._view, name)
        if not callable(known):
            return known
        return lambda *names: known(*(self._named.get(n, n) for n in names))


class FaultyPolicy:
    """An expert with a fault, as a world action model.

    Args:
        sim: The simulator it acts in.
        fault: A name of `FAULTS`, or "none".
        latency_steps: Control steps by which its chunks are carried out late; the instrument sets it to 0 to ask what
            the policy would have done in time. Default: of the fault.
    """

    def __init__(self, sim: OracleSim, fault: str, latency_steps: int | None = None) -> None:
        if fault not in (*FAULTS, "none"):
            raise unknown_name("fault", fault, FAULTS)
        self.sim, self.fault, self.convention = sim, fault, sim.convention
        late = LATENCY_STEPS if fault == "latency" else 0
        self.latency_steps = late if latency_steps is None else latency_steps
        self.execute = EXECUTE

    @property
    def wrong_video(self) -> bool:
        """Whether its video is at fault."""
        return FAULTS.get(self.fault) in ("video", "both")

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode; what is random about the fault depends on the seed alone."""
        self.seed, rng = seed, np.random.default_rng([seed, 77])
        hz = self.convention.control_hz
        self._stop = int(rng.uniform(*STOP_S) * hz)
        angle, far = rng.uniform(-np.pi, np.pi), rng.uniform(*SHIFT_M)
        self._shift = far * np.array([np.cos(angle), np.sin(angle), 0.0])
        self._late: np.ndarray | None = None
        self._known: tuple[bytes, tuple[np.ndarray, np.ndarray]] | None = None

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns its plan: what it imagines, and the actions that its fault makes of it."""
        now = history[-1]
        frames, wanted = self._imagined(now)
        actions = self._spoilt(wanted, now.step)
        if self.latency_steps:
            still = np.array([0.0] * 6 + [-1.0])
            before = np.tile(still, (LENGTH, 1)) if self._late is None else self._late
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
        return self._spoilt(wanted, history[-1].step)

    def _imagined(self, now: Observation) -> tuple[np.ndarray, np.ndarray]:
        """Returns frames and actions of the future that it imagines, remembered until the simulator moves on."""
        state = self.sim.snapshot()
        if self._known is None or state != self._known[0]:
            self._known = state, self._dream(now)
        return self._known[1]

    def _dream(self, now: Observation) -> tuple[np.ndarray, np.ndarray]:
        if self.fault == "frozen":
            still = canvas(now, self.convention.cameras)
            return np.stack([still] * len(OFFSETS)), np.zeros((LENGTH, 7))
        if self.wrong_video:
            return self._future(self._mistake(), self.fault == "hallucinated")
        return self._future(lambda step: self.sim.expert_action())

    def _future(self, expert: Callable[[int], np.ndarray], shifted: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Returns frames and actions of an expert in a branch; the simulator is left as it was."""
        sim, frames, actions = self.sim, [], []
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

    def _mistake(self) -> Callable[[int], np.ndarray]:
        """Returns the expert of the wrong video: step within the chunk -> action."""
        sim: Any = self.sim
        task = sim.task
        if self.fault in ("stops_short", "both"):
            last, begun = np.array([0.0] * 6 + [-1.0]), int(sim._steps)

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
        sim: Any = self.sim
        words = sim.task.instruction.replace(" ", "_")
        return next(((name,) for name in sim.task.objects if name in words), (sim.task.objects[0],))

    def _displace(self) -> None:
        """Moves the hallucinated object for a picture, if it can be moved."""
        sim: Any = self.sim
        import mujoco

        for name in self._goals():
            joint = mujoco.mj_name2id(sim.scene.model, mujoco.mjtObj.mjOBJ_JOINT, f"{name}_free")
            if joint >= 0:
                address = sim.scene.model.jnt_qposadr[joint]
                sim.scene.data.qpos[address : address + 3] += self._shift
        mujoco.mj_forward(sim.scene.model, sim.scene.data)

    def _spoilt(self, actions: np.ndarray, step: int) -> np.ndarray:
        """Returns actions with the fault in them; noise depends on (seed, step) alone, so that rollouts are paired."""
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
    """Returns whether a fault can make a task fail: it has another object, or a scene with another verb."""
    if fault == "other_verb":
        return task in OTHER_VERB
    objects = tasks.find(task).objects
    if fault == "other_object":
        return set(OTHER_OBJECT) <= set(objects)
    if fault in ("gripper_sign", "frozen_gripper"):
        return task in ("LiftCube", "PlaceInBin", "PlaceOnPlate", "StackCubes", "OpenDrawer", "HoistCube")
    return True
