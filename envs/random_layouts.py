"""Random layouts without physics: cheap, varied pictures for training an image encoder."""

from __future__ import annotations

import mujoco
import numpy as np

from wambench.envs import robot
from wambench.envs.arm import rotation_from_axis_angle
from wambench.envs.objects import OBJECTS
from wambench.envs.privileged_view import SceneView
from wambench.envs.scene import TABLE_Z, Scene

REACH = ((-0.26, 0.22), (-0.30, 0.30), (TABLE_Z + 0.005, TABLE_Z + 0.32))  # box of grip-site positions, m


def random_layout(scene: Scene, view: SceneView, rng: np.random.Generator) -> None:
    """Moves the arm, the fingers, all free objects and all joints of a scene to a random, possibly impossible, state.

    Nothing is simulated: objects may overlap. A fifth of the pictures have one free object between the fingers, and in
    half of them the hand is near an object, because those are the moments a policy has to see well.

    Args:
        scene: A scene that has been reset to an episode (whose look it keeps).
        view: Its view.
        rng: Source of all draws.
    """
    m, d = scene.model, scene.data
    for name in scene.objects:
        _random_thing(scene, name, rng)
    d.qpos[scene.finger_qpos] = rng.uniform(0.0, 0.04) * np.array([1.0, -1.0])
    mujoco.mj_kinematics(m, d)
    _random_hand(scene, view, rng)
    free = [name for name in scene.objects if OBJECTS[name].free]
    if free and rng.random() < 0.2:
        held = str(rng.choice(free))
        address = m.joint(f"{held}_free").qposadr[0]
        d.qpos[address : address + 3] = view.eef() + rng.normal(0, 0.004, 3)
        d.qpos[scene.finger_qpos] = min(0.04, float(view.size(held)[1])) * np.array([1.0, -1.0])
    mujoco.mj_forward(m, d)


def _random_thing(scene: Scene, name: str, rng: np.random.Generator) -> None:
    m, d, item = scene.model, scene.data, OBJECTS[name]
    x, y, yaw = rng.uniform(-0.22, 0.16), rng.uniform(-0.24, 0.24), rng.uniform(-0.5, 0.5)
    if item.free:
        address = m.joint(f"{name}_free").qposadr[0]
        lift = rng.uniform(0, 0.15) if rng.random() < 0.25 else 0.0
        d.qpos[address : address + 7] = [
            x, y, TABLE_Z + item.half[2] * scene.scale + lift, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2),
        ]  # fmt: skip
    elif item.joint_range is None:
        m.body_pos[m.body(name).id, :2] = x, y
    for joint in range(m.njnt):
        if m.joint(joint).name.split("/")[0] == name:
            low, high = m.jnt_range[joint]
            d.qpos[m.jnt_qposadr[joint]] = rng.uniform(low, high)


def _random_hand(scene: Scene, view: SceneView, rng: np.random.Generator) -> None:
    """Draws arm postures with the hand pointing down until the grip site lies in reach, half of them near an object."""
    m, d = scene.model, scene.data
    near = str(rng.choice(scene.objects)) if rng.random() < 0.5 else None
    if scene.arm_name != "Panda":
        _random_hand_of_other_arm(scene, None if near is None else view.pos(near), rng)
        return
    best, best_gap = None, np.inf
    for _ in range(12 if near else 6):
        offsets = {"pan": rng.uniform(-0.6, 0.6), "reach": rng.uniform(-0.4, 0.9), "elbow": rng.uniform(-0.4, 0.8)}
        q = robot.initial_qpos(offsets)
        q[4:] += rng.normal(0, (0.03, 0.05, 0.15))
        d.qpos[scene.arm_qpos] = q
        mujoco.mj_kinematics(m, d)
        eef = view.eef()
        if not all(low <= value <= high for value, (low, high) in zip(eef, REACH, strict=True)):
            continue
        gap = float(np.linalg.norm(eef - view.pos(near))) if near else 0.0
        if gap < best_gap:
            best, best_gap = q, gap
        if near is None:
            break
    d.qpos[scene.arm_qpos] = robot.INITIAL_QPOS if best is None else best
    mujoco.mj_kinematics(m, d)


def _random_hand_of_other_arm(scene: Scene, near: np.ndarray | None, rng: np.random.Generator) -> None:
    """Draws a hand pose in reach (around `near`, (3,) in m, if given), and bends the arm to it."""
    low, high = np.array(REACH).T
    for _ in range(6):
        pos = rng.uniform(low, high) if near is None else near + rng.normal(0, (0.05, 0.05, 0.04)) + [0, 0, 0.03]
        turn = rotation_from_axis_angle(rng.normal(0, (0.05, 0.05, 0.25)))
        if (pos >= low).all() and (pos <= high).all() and scene.place_hand(pos, turn @ robot.DOWN):
            return
    d = scene.data
    d.qpos[scene.arm_qpos] = robot.ARMS[scene.arm_name].initial
    mujoco.mj_kinematics(scene.model, d)
