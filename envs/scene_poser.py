"""A scene as a stage: shows any posture of robot and objects, and says how pixels move with every joint.

A piece is what moves as one: the bodies that hang on the same joints. Piece 0 does not move. A degree of freedom is one
of MuJoCo's, of the robot's joints and those of the task's objects; distractors rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from wambench.envs import kinematics
from wambench.envs.arm import GRIP_SITE
from wambench.envs.objects import OBJECTS
from wambench.envs.rendering import Renderer
from wambench.envs.scene import Scene

NEAR_M, REACH_M = 0.12, 0.25  # an object, or the joint of one, no further from the hand may be moved by it
# How far a joint may be expected to move: arm and hinges, fingers, and what slides or flies.
TURN_RAD, FINGER_M, SLIDE_M = 0.5, 0.001, 0.1  # fingers: around what was read


@dataclass(frozen=True)
class ViewGeometry:
    """What is where in a view: depth (h, w) in m, piece (h, w); where the camera is; its focal length in pixels."""

    depth: np.ndarray
    piece: np.ndarray
    position: np.ndarray
    rotation: np.ndarray
    focal: float


class ScenePoser:
    """Shows postures of a scene; whoever uses it restores the state afterwards.

    Args:
        scene: Set to an episode.
        renderer: Of its model.
        cameras: Names of the views.
        size: (height, width) of each.

    Attributes:
        member: (P, D) whether a piece moves with a degree of freedom.
        carriers: (V,) the piece that each camera hangs on.
        spread: (D,) how far each degree of freedom may be expected to move.
        objects: (D,) whether it is one of an object.
    """

    def __init__(self, scene: Scene, renderer: Renderer, cameras: tuple[str, ...], size: tuple[int, int]) -> None:
        self._model, self._data, self._renderer, self._size = scene.model, scene.data, renderer, size
        self._scene, model = scene, scene.model
        self._names = [scene.robot.cameras[name] for name in cameras]
        self._cameras = [model.camera(name).id for name in self._names]
        self._site = model.site(GRIP_SITE).id
        self._free = [model.joint(f"{name}_free").id for name in scene.objects if OBJECTS[name].free]
        self._jointed = [model.joint(name).id for name in scene.objects if OBJECTS[name].joint_range is not None]
        hanging: list[tuple[int, ...]] = [()]
        self._joints: list[tuple[int, int]] = []  # of each degree of freedom: joint, and which of the joint's
        for body in range(1, model.nbody):
            own = list(hanging[model.body_parentid[body]])
            for joint in range(model.body_jntadr[body], model.body_jntadr[body] + model.body_jntnum[body]):
                count = 6 if model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE else 1
                if count == 6 and joint not in self._free:
                    continue
                own += range(len(self._joints), len(self._joints) + count)
                self._joints += [(joint, i) for i in range(count)]
            hanging.append(tuple(own))
        self._dofs = np.array([model.jnt_dofadr[joint] + i for joint, i in self._joints])
        pieces = list(dict.fromkeys(hanging))
        bodies = np.array([pieces.index(dofs) for dofs in hanging])
        self._piece = np.append(bodies[model.geom_bodyid], 0)  # of every geom; the last one: of nothing
        self.carriers = bodies[model.cam_bodyid[self._cameras]]
        self.member = np.zeros((len(pieces), len(self._dofs)))
        for piece, dofs in enumerate(pieces):
            self.member[piece, list(dofs)] = 1.0
        self.objects = np.array([joint in (*self._free, *self._jointed) for joint, _ in self._joints])
        self.spread = np.array([self._expected(joint, i) for joint, i in self._joints])

    def _expected(self, joint: int, i: int) -> float:
        if self._model.jnt_qposadr[joint] in self._scene.finger_qpos:
            return FINGER_M
        return SLIDE_M if self._slides(joint, i) else TURN_RAD

    def _slides(self, joint: int, i: int) -> bool:
        kind = self._model.jnt_type[joint]
        return bool(kind == mujoco.mjtJoint.mjJNT_SLIDE or (kind == mujoco.mjtJoint.mjJNT_FREE and i < 3))

    def posture(self) -> np.ndarray:
        """Returns the posture now."""
        return self._data.qpos.copy()

    def set(self, posture: np.ndarray) -> None:
        """Takes a posture: positions, not velocities, are up to date then."""
        self._data.qpos[:] = posture
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def move(self, posture: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Returns a posture moved by (D,) in m and rad."""
        all_dofs, moved = np.zeros(self._model.nv), posture.copy()
        all_dofs[self._dofs] = step
        mujoco.mj_integratePos(self._model, moved, all_dofs, 1.0)
        return moved

    def pose_difference(self, start: np.ndarray, posture: np.ndarray) -> np.ndarray:
        """Returns the (D,) step from one posture to another."""
        step = np.empty(self._model.nv)
        mujoco.mj_differentiatePos(self._model, step, 1.0, start, posture)
        return step[self._dofs]

    def reach(self, start: np.ndarray, position: np.ndarray, rotation: np.ndarray, width: float) -> np.ndarray:
        """Returns a posture near `start` with the hand at a pose and the fingers so far open, objects as they were."""
        self.set(start)
        fingers = self._scene.finger_qpos
        grown = width - abs(float(self._data.qpos[fingers[0]] - self._data.qpos[fingers[1]]))
        self._data.qpos[fingers] += grown / 2 * np.array([1.0, -1.0])
        kinematics.reach(self._model, self._data, self._site, self._scene.arm_joints, position, rotation)
        return self.posture()

    def poses_with_carried_object(self, start: np.ndarray, posture: np.ndarray) -> list[np.ndarray]:
        """Returns postures in which the hand took along the nearest free object, or a joint, since `start`."""
        self.set(start)
        hand, turn = self._hand()
        anchors, axes = self._data.xanchor.copy(), self._data.xaxis.copy()
        self.set(posture)
        there, turned = self._hand()
        change, found = turned @ turn.T, []
        near = sorted(self._free, key=lambda joint: float(np.linalg.norm(anchors[joint] - hand)))
        for joint in near[:1]:
            if np.linalg.norm(anchors[joint] - hand) < NEAR_M:
                taken, address, quat = posture.copy(), self._model.jnt_qposadr[joint], np.empty(4)
                taken[address : address + 3] = there + change @ (anchors[joint] - hand)
                mujoco.mju_mat2Quat(quat, change.ravel())
                mujoco.mju_mulQuat(taken[address + 3 : address + 7], quat, start[address + 3 : address + 7])
                found.append(taken)
        for joint in self._jointed:
            if min(np.linalg.norm(anchors[joint] - place) for place in (hand, there)) < REACH_M:
                slides = self._model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE
                way = axes[joint] if slides else np.cross(axes[joint], hand - anchors[joint])
                taken, address = posture.copy(), self._model.jnt_qposadr[joint]
                moved = start[address] + way @ (there - hand) / max(1e-4, float(way @ way))
                taken[address] = np.clip(moved, *self._model.jnt_range[joint])
                found.append(taken)
        return found

    def with_objects_at_rest(self, start: np.ndarray, posture: np.ndarray) -> np.ndarray:
        """Returns a posture of the robot with objects where they were in `start`."""
        rested, robot = start.copy(), [*self._scene.arm_qpos, *self._scene.finger_qpos]
        rested[robot] = posture[robot]
        return rested

    def with_hand_turned(self, posture: np.ndarray, angle: float) -> np.ndarray:
        """Returns a posture whose hand is turned about the vertical, where it is."""
        self.set(posture)
        position, rotation = self._hand()
        c, s = np.cos(angle), np.sin(angle)
        around = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        kinematics.reach(self._model, self._data, self._site, self._scene.arm_joints, position, around @ rotation)
        return self.posture()

    def _hand(self) -> tuple[np.ndarray, np.ndarray]:
        return self._data.site_xpos[self._site].copy(), self._data.site_xmat[self._site].reshape(3, 3).copy()

    def twists(self) -> np.ndarray:
        """Returns (6, D): velocity at the origin of the world, and angular velocity, per degree of freedom."""
        joints, number = np.array(self._joints).T
        axes, free = self._data.xaxis[joints], np.isin(joints, self._free)
        # a free joint moves along the world's axes and turns about the body's own
        frames = self._data.xmat[self._model.jnt_bodyid[joints]].reshape(-1, 3, 3).transpose(0, 2, 1)
        axes = np.where(free[:, None], np.where((number < 3)[:, None], np.eye(3)[number % 3], 0.0), axes)
        turns = free & (number >= 3)
        axes[turns] = frames[turns, number[turns] - 3]
        slides = np.array([self._slides(*pair) for pair in self._joints])[:, None]
        moved = np.where(slides, axes, np.cross(self._data.xanchor[joints], axes))
        return np.concatenate([moved, np.where(slides, 0.0, axes)], axis=1).T

    def colours(self, posture: np.ndarray) -> list[np.ndarray]:
        """Returns (h, w, 3) in [0, 1] of each view of a posture."""
        self.set(posture)
        images = self._renderer.render(self._data, self._names, self._size)
        return [images[name].astype(np.float32) / 255.0 for name in self._names]

    def survey(self, posture: np.ndarray) -> list[ViewGeometry]:
        """Returns what is where in each view of a posture."""
        self.set(posture)
        sights = []
        for name, camera in zip(self._names, self._cameras, strict=True):
            depth, geom = self._renderer.survey(self._data, name, self._size)
            focal = self._size[0] / 2 / np.tan(np.radians(self._model.cam_fovy[camera]) / 2)
            place = self._data.cam_xpos[camera].copy(), self._data.cam_xmat[camera].reshape(3, 3).copy()
            sights.append(ViewGeometry(depth, self._piece[geom], *place, float(focal)))
        return sights
