"""The privileged state of a scene, as tasks and experts read it (`envs.task.View`)."""

from __future__ import annotations

import mujoco
import numpy as np

from wambench.envs import robotiq
from wambench.envs.objects import OBJECTS
from wambench.envs.scene import CAMERAS, TABLE_Z, Scene
from wambench.envs.script import Moment

PREFIX = "gripper0_right_"
FINGERS = ("left_finger", "right_finger")


class SceneView:
    """Reads a `Scene`; all positions in world coordinates (m), as of the last `mj_step1`."""

    table_z = TABLE_Z
    moment: Moment

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        model, data = scene.model, scene.data
        # Views into the data, whose arrays never move, so that nothing is looked up again.
        self._xpos, self._xmat, self._qpos, self._qvel = data.xpos, data.xmat, data.qpos, data.qvel
        self._site_xpos, self._site_xmat, self._geom_xpos = data.site_xpos, data.site_xmat, data.geom_xpos
        self._grip_site = model.site("gripper0_right_grip_site").id
        # What can touch, one bit each; "fingers" are two.
        self._bit = {name: 1 << i for i, name in enumerate([*scene.objects, *FINGERS, "table"])}
        self._geom_bit = np.zeros(model.ngeom, np.int64)
        for name in scene.objects:
            self._geom_bit[scene.geoms(name)] = self._bit[name]
        gripper = scene.robot.gripper
        for finger, bodies in gripper.fingers.items():
            ids = [model.body(f"{PREFIX}{body}").id for body in bodies]
            self._geom_bit[np.isin(model.geom_bodyid, ids)] = self._bit[finger]
        self._geom_bit[model.geom("table_collision").id] = self._bit["table"]
        self._bit["fingers"] = self._bit["left_finger"] | self._bit["right_finger"]
        self._half = {name: np.array(OBJECTS[name].half) for name in scene.objects}
        self._body = {name: model.body(name).id for name in scene.objects}
        self._pad = {name: model.geom(f"{PREFIX}{geom}").id for name, geom in gripper.pads.items()}
        self._pads, self._tip = list(self._pad.values()), gripper.tip
        self._site = {model.site(i).name: i for i in range(model.nsite) if "/" in model.site(i).name}
        self._joint = {model.joint(i).name: model.joint(i).qposadr[0] for i in range(model.njnt)}

    def pos(self, name: str) -> np.ndarray:
        if "/" in name:
            return self._site_xpos[self._site[name]].copy()
        return self._xpos[self._body[name]].copy()

    def start(self, name: str) -> np.ndarray:
        """Returns the (2,) horizontal position at which an object stood when the episode began."""
        placed = self._scene.poses[name]
        return np.array([placed["x"], placed["y"]])

    def point(self, name: str) -> np.ndarray:
        """Returns the (3,) position of a key point: one of the hand's (`objects.HAND_POINTS`), or as in `pos`."""
        if name == "hand":
            return self.eef()
        if name in self._pad:
            return self._geom_xpos[self._pad[name]].copy()
        return self.pos(name)

    def rot(self, name: str) -> np.ndarray:
        return self._xmat[self._body[name]].reshape(3, 3).copy()

    def vel(self, name: str) -> np.ndarray:
        if not OBJECTS[name].free:
            return np.zeros(3)
        address = self._scene.model.joint(f"{name}_free").dofadr[0]
        return self._qvel[address : address + 3].copy()

    def joint(self, name: str) -> float:
        return float(self._qpos[self._joint[name]])

    def size(self, name: str) -> np.ndarray:
        return self._half[name] * (self._scene.scale if OBJECTS[name].free else 1.0)

    def eef(self) -> np.ndarray:
        if self._tip is None:
            return self._site_xpos[self._grip_site].copy()
        middle: np.ndarray = self._geom_xpos[self._pads].mean(axis=0)
        return middle + self._tip * self._site_xmat[self._grip_site, 2::3]

    def site(self) -> np.ndarray:
        """Returns the (3,) position of the grip site, which is fixed to the hand; of a PandaGripper as `eef`."""
        return self._site_xpos[self._grip_site].copy()

    def eef_rot(self) -> np.ndarray:
        return self._site_xmat[self._grip_site].reshape(3, 3).copy()

    def eef_vel(self) -> np.ndarray:
        velocity = np.empty(6)
        scene = self._scene
        mujoco.mj_objectVelocity(scene.model, scene.data, mujoco.mjtObj.mjOBJ_SITE, self._grip_site, velocity, 0)
        return velocity[3:]

    def width(self) -> float:
        if self._tip is not None:
            between = self._geom_xpos[self._pads[0]] - self._geom_xpos[self._pads[1]]
            return float(max(0.0, abs(between @ self._site_xmat[self._grip_site, 0::3]) - robotiq.PAD_THICKNESS))
        fingers = self._qpos[self._scene.finger_qpos]
        return float(abs(fingers[0] - fingers[1]))

    def fingers(self) -> np.ndarray:
        """Returns the finger joint positions: (2,) in m of a PandaGripper, (6,) in rad of a Robotiq 2F-85."""
        return self._qpos[self._scene.finger_qpos]

    def joints(self) -> np.ndarray:
        """Returns the (7,) positions of the arm's joints in rad."""
        return self._qpos[self._scene.arm_qpos]

    def closed(self) -> float:
        """Returns how far a Robotiq 2F-85 is closed, 0 to 1: the mean of its two fingers."""
        return float(np.clip(self.fingers()[:2].mean() / robotiq.CLOSED_RAD, 0.0, 1.0))

    def project(self, camera: str, points: np.ndarray) -> np.ndarray:
        """Returns where (n, 3) world points appear in a square view: (n, 2), right and down in [-1, 1], NaN outside."""
        data, model = self._scene.data, self._scene.model
        index = model.camera(CAMERAS[camera]).id
        local = (points - data.cam_xpos[index]) @ data.cam_xmat[index].reshape(3, 3)  # x right, y up, -z ahead
        reach = np.tan(np.radians(model.cam_fovy[index]) / 2)
        ahead = np.where(local[:, 2] < -1e-6, -local[:, 2], np.nan)
        seen = np.stack([local[:, 0], -local[:, 1]], axis=1) / (ahead * reach)[:, None]
        return np.where(np.abs(seen).max(axis=1, keepdims=True) <= 1.0, seen, np.nan)

    def touching(self, a: str, b: str) -> bool:
        return _touch(self._pairs(), self._bits(a), self._bits(b))

    def grasped(self, name: str) -> bool:
        pairs, bits = self._pairs(), self._bits(name)
        return all(_touch(pairs, self._bits(finger), bits) for finger in FINGERS)

    def _pairs(self) -> list[list[int]]:
        """Returns what touches what, as bits."""
        data = self._scene.data
        pairs: list[list[int]] = self._geom_bit[data.contact.geom[: data.ncon]].tolist()
        return pairs

    def _bits(self, name: str) -> int:
        if name not in self._bit:
            raise KeyError(f"{name!r} is not in this scene; there are: {', '.join(self._bit)}")
        return self._bit[name]


def _touch(pairs: list[list[int]], one: int, other: int) -> bool:
    """Returns whether the two are among the pairs, in either order; there are few: a loop is faster than numpy."""
    return any((x & one and y & other) or (x & other and y & one) for x, y in pairs)
