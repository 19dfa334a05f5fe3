"""The Robotiq 2F-85 of a DROID robot, made from robosuite's model of it.

robosuite's gripper differs from the real one in what matters here, so the spec is changed before it is compiled. Its
finger tips hang on springs and swing when they meet an object; here the four-bar linkage is kept by couplings of the
joints, so that the pads stay parallel. Its command integrates a sign; here it is a position, 0 open to 1 closed, that
the fingers approach no faster than the real ones. It is turned on the flange so that the fingers open along the
robot's y axis at the reset posture of the DROID data, in which the last joint is at 0.

Figures of the 2F-85 (Robotiq's data sheet): stroke 85 mm, 20 to 235 N, 20 to 150 mm/s.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

PREFIX = "gripper0_right_"
ROOT = f"{PREFIX}robotiq_85_adapter_link"
DRIVERS = (f"{PREFIX}finger_joint", f"{PREFIX}right_outer_knuckle_joint")
FOLLOWERS = {  # joint -> the driver that it follows, and how
    f"{PREFIX}left_inner_knuckle_joint": (DRIVERS[0], 1.0),
    f"{PREFIX}left_inner_finger_joint": (DRIVERS[0], -1.0),
    f"{PREFIX}right_inner_knuckle_joint": (DRIVERS[1], 1.0),
    f"{PREFIX}right_inner_finger_joint": (DRIVERS[1], -1.0),
}
MOTORS = (f"{PREFIX}finger_1", f"{PREFIX}finger_2")
CLOSED_RAD = 0.8  # of the drivers; 0 is open
SPEED = 1.75  # of a full stroke a second: 150 mm/s
TORQUE = 2.5  # N m at most: about 45 N at the pads
ARMATURE, DAMPING = 0.005, 0.5  # of the drivers, near critical for the motors' stiffness of 20 N m/rad
PAD_FRICTION = (2.0, 0.05, 0.0001)  # that of robosuite's PandaGripper
PAD_SOLREF = (0.01, 0.5)
PAD_THICKNESS = 0.0004  # of both in m, as they are when they hold: pressed in by 0.8 mm each
FLANGE_TURN = math.pi / 4  # from the PandaGripper's mount to DROID's

# The two exterior cameras look at a point above the table from the robot's left and right: azimuth and elevation in
# degrees and distance in m about that point.
EXTERIOR_TARGET = (-0.05, 0.0, 0.95)
EXTERIOR = {"exterior_1": (128.0, 28.0, 0.95), "exterior_2": (-128.0, 28.0, 0.95)}
EXTERIOR_FOVY, WRIST_FOVY = 71.5, 57.0  # degrees up and down: 104 and 88 across, as a ZED 2 and a ZED mini have
# The wrist camera, in the frame of the gripper: x is across the opening of the fingers, z along them. m and rad.
LOOKS_ALONG_FINGERS = np.array([0.0, 0.5**0.5, 0.5**0.5, 0.0])  # robosuite's own: a quaternion
WRIST_AT, WRIST_TILT = (0.075, 0.0, 0.0), 0.35


def prepare(spec: mujoco.MjSpec) -> None:
    """Changes, in place, a spec of a Panda with robosuite's Robotiq85Gripper into the gripper described above."""
    root = spec.body(ROOT)
    root.quat = _about((0.0, 0.0, 1.0), FLANGE_TURN)
    for tendon in list(spec.tendons):
        if tendon.name.startswith(PREFIX):
            spec.delete(tendon)
    for name in DRIVERS:
        spec.joint(name).armature = ARMATURE
        spec.joint(name).damping = [DAMPING, 0.0, 0.0]  # the higher orders are of no use here
    for name, (driver, ratio) in FOLLOWERS.items():
        spec.joint(name).armature = ARMATURE / 10
        spec.joint(name).range = [-1.0, 1.0]
        coupling = spec.add_equality(name1=name, name2=driver, objtype=mujoco.mjtObj.mjOBJ_JOINT)
        coupling.type = mujoco.mjtEq.mjEQ_JOINT
        coupling.data[:5] = [0.0, ratio, 0.0, 0.0, 0.0]
        coupling.solref = [0.005, 1.0]
    for actuator in spec.actuators:
        if actuator.name in MOTORS:
            actuator.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
            actuator.forcerange = [-TORQUE, TORQUE]
    _soften_pads(spec)
    _exclude_own_contacts(spec, root)


def add_cameras(spec: mujoco.MjSpec) -> None:
    """Adds the two exterior cameras, which a scene puts in place, and moves the wrist camera onto the gripper."""
    for name in EXTERIOR:
        spec.worldbody.add_camera(name=name, fovy=EXTERIOR_FOVY)
    wrist = next(camera for camera in spec.cameras if camera.name == "robot0_eye_in_hand")
    wrist.fovy = WRIST_FOVY
    turn = _about((0.0, 0.0, 1.0), FLANGE_TURN)
    mujoco.mju_rotVecQuat(wrist.pos, np.array(WRIST_AT), turn)
    wrist.quat = _product(turn, _about((0.0, 1.0, 0.0), -WRIST_TILT), LOOKS_ALONG_FINGERS)


def _about(axis: tuple[float, float, float], angle: float) -> np.ndarray:
    quat = np.empty(4)
    mujoco.mju_axisAngle2Quat(quat, np.array(axis), angle)
    return quat


def _product(*quats: np.ndarray) -> np.ndarray:
    out = np.array([1.0, 0.0, 0.0, 0.0])
    for quat in quats:
        mujoco.mju_mulQuat(out, out.copy(), quat)
    return out


def _soften_pads(spec: mujoco.MjSpec) -> None:
    """Gives the pads the grip of rubber; the finger tips behind them, which push, slide as the other links do."""
    for geom in spec.geoms:
        if geom.name.endswith("fingerpad_collision"):
            geom.friction, geom.solref = list(PAD_FRICTION), list(PAD_SOLREF)


def _exclude_own_contacts(spec: mujoco.MjSpec, root: mujoco.MjsBody) -> None:
    """Keeps the links of the gripper from colliding with each other: the couplings say where they are."""
    links = [root, *_below(root)]
    for i, one in enumerate(links):
        for other in links[:i]:
            spec.add_exclude(bodyname1=one.name, bodyname2=other.name)


def _below(body: mujoco.MjsBody) -> list[mujoco.MjsBody]:
    return [found for child in body.bodies for found in (child, *_below(child))]
