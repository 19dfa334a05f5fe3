"""Compiled scene families, and setting an episode in one of them without recompiling.

A family is the tuple of objects on the table. Its model holds the robot, table, all textures, all distractors and those
objects; `Scene.reset` restores every field that an episode may change to its compiled value and applies the episode's
poses, sizes, colours, lights and cameras in place. Nothing of an earlier episode can leak into a later one.
"""

from __future__ import annotations

import colorsys
import copy
import functools
import math
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from wambench.conventions import BODIES
from wambench.conventions import find as find_convention
from wambench.envs import appearance, kinematics, meshes, robot, robotiq
from wambench.envs.arm import GRIP_SITE, Arm
from wambench.envs.colours import NAMED, keep_name, named_colour, shade
from wambench.envs.factors import ELSEWHERE, TRAIN, UNSEEN, is_elsewhere
from wambench.envs.joint_arm import JointArm
from wambench.envs.objects import DISTRACTORS, OBJECTS, PARKED, SceneObject
from wambench.envs.script import Drive, Motions, Pose
from wambench.interface import EpisodeSpec

TABLE_Z = 0.8
CAMERAS = robot.ROBOTS["libero"].cameras

# Fields an episode changes; `Scene` keeps their compiled values.
EPISODE_FIELDS = (
    "body_pos", "body_quat", "body_mass", "body_inertia", "body_ipos", "body_gravcomp",
    "geom_size", "geom_pos", "geom_rgba", "geom_rbound", "geom_aabb", "bvh_aabb", "geom_contype", "geom_conaffinity",
    "site_pos", "cam_pos", "cam_quat", "light_pos", "light_dir", "light_diffuse", "light_ambient", "geom_matid",
)  # fmt: skip

SHOWN = meshes.Detail(factor=12.0)  # of the profile "show": at 512 pixels the arm's outline is still round

AGENTVIEW_TARGET = np.array([-0.03, 0.0, TABLE_Z + 0.05])
AGENTVIEW_DISTANCE, AGENTVIEW_ELEVATION, AGENTVIEW_FOVY = 0.95, 48.0, 43.0


# Material in robosuite's arena -> (factor, value) that chooses its texture.
SURFACES = {
    "floorplane": ("background", "floor"),
    "walls_mat": ("background", "wall"),
    "table_ceramic": ("table", "top"),
}


def _textures() -> dict[str, tuple[str, ...]]:
    """Returns, for every surface, the names of all textures an episode may ask for."""
    tables = (TRAIN, UNSEEN, ELSEWHERE)
    return {
        surface: tuple(dict.fromkeys(v for table in tables for v in table[factor][name].values))  # type: ignore[union-attr]
        for surface, (factor, name) in SURFACES.items()
    }


def _add_object(spec: mujoco.MjSpec, item: SceneObject, pos: np.ndarray) -> None:
    for name, shell in item.meshes.items():
        spec.add_mesh(name=name, uservert=shell.vertices.ravel().tolist(), userface=shell.faces.ravel().tolist())
    body = spec.worldbody.add_body(name=item.name, pos=list(pos), mocap=item.puppet)
    if item.free:
        body.add_freejoint(name=f"{item.name}_free")
    item.build(body)
    # MuJoCo lets a moving part collide with a parent that does not move; the joint already keeps the two apart.
    for part in body.bodies:
        spec.add_exclude(bodyname1=body.name, bodyname2=part.name)
        spec.add_exclude(bodyname1="table", bodyname2=part.name)
    for i, part in enumerate(body.bodies):
        for other in body.bodies[:i]:
            spec.add_exclude(bodyname1=other.name, bodyname2=part.name)


def _drop_unused_textures(spec: mujoco.MjSpec) -> None:
    """Deletes stock textures that no episode shows: uploading them was most of what opening a renderer took."""
    shown = {geom.material for geom in spec.geoms} - set(SURFACES)
    for material in spec.materials:
        if material.name not in shown and ":" not in material.name:
            material.textures = [""] * len(material.textures)
    needed = {name for material in spec.materials for name in material.textures}
    for texture in list(spec.textures):
        if texture.name not in needed and texture.type != mujoco.mjtTexture.mjTEXTURE_SKYBOX:
            spec.delete(texture)


@functools.lru_cache(maxsize=16)
def compile_family(objects: tuple[str, ...], visual: str, arm: str = "Panda", body: str = "libero") -> mujoco.MjModel:
    """Returns the model of a scene family; it takes about a second, once per process.

    Args:
        objects: Names from `OBJECTS`.
        visual: "fast" (simplified robot meshes), "full" (robosuite's own), or "show" (simplified ones, not as far, and
            all else as in "full"), which is for films and never for a policy.
        arm: A name of `robot.ARMS`.
        body: A name of `robot.ROBOTS`.
    """
    spec = robot.tabletop_spec(arm, body)
    # robosuite takes inertia from group 0 only; our objects are visible and solid at once, in group 1. The robot's
    # links state their inertia, so nothing else that moves is changed.
    spec.compiler.inertiagrouprange = [0, 1]
    if visual == "fast":
        # robosuite gives Kinova3 and IIWA the meshes that are seen, tens of thousands of triangles, to collide with
        meshes.simplify(spec, meshes.Detail(solid=arm != "Panda"))
    elif visual == "show":
        meshes.simplify(spec, SHOWN)
    robot.add_materials(spec, _textures())
    _drop_unused_textures(spec)
    camera = next(c for c in spec.cameras if c.name == "agentview")
    camera.fovy = AGENTVIEW_FOVY
    for i, name in enumerate(objects):
        _add_object(spec, OBJECTS[name], np.array([0.1 * i, 0.0, TABLE_Z + 0.1]))
    for i, item in enumerate(DISTRACTORS):
        _add_object(spec, item, PARKED + [0.5 * i, 0, 0])
        spec.body(item.name).gravcomp = 1.0
    if visual in ("full", "show"):
        appearance.add_finishes(spec, (*objects, *(item.name for item in DISTRACTORS)))
        appearance.furnish(spec)
        appearance.cast_shadows(spec)
    return spec.compile()


def _yaw_quat(yaw: float) -> np.ndarray:
    return np.array([math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)])


class Scene:
    """One compiled family with its data and arm, set to one episode at a time.

    Attributes:
        model, data: The MuJoCo model and data; after `reset` all position-dependent quantities are up to date.
        arm: The controller.
        arm_name: Which arm it drives.
        robot: Whose arm and gripper they are.
        arm_joints, arm_qpos: Ids of its joints, and where their positions are in `qpos`.
        objects: Names of the objects of the family.
        scale: Relative size of the free objects in this episode.
        poses: Where the episode placed the objects, by name.
    """

    def __init__(
        self, objects: tuple[str, ...], visual: str = "fast", arm: str = "Panda", convention: str = "libero"
    ) -> None:
        # A private copy: environments of one process must not share the fields that episodes change.
        self.model = copy.copy(compile_family(objects, visual, arm, BODIES[convention]))
        self.data = mujoco.MjData(self.model)
        self.objects = objects
        self.visual = visual
        self.scale = 1.0
        self.poses: Mapping[str, Mapping[str, float]] = {}
        self.arm_name = arm
        parts = robot.ARMS[arm]
        self.robot, control = robot.robot_named(convention), find_convention(convention)
        self.arm: Arm = (
            Arm(self.model, joints=parts.joints, motors=parts.motors)
            if control.action == "osc_pose_delta"
            else JointArm(self.model, control.control_hz, velocity=control.action == "joint_velocity")
        )
        self.arm_joints = np.array([self.model.joint(name).id for name in parts.joints])
        self.arm_qpos = self.model.jnt_qposadr[self.arm_joints]
        fingers = self.robot.gripper.joints
        self.finger_qpos = np.array([self.model.joint(f"gripper0_right_{name}").qposadr[0] for name in fingers])
        self._pristine = {name: getattr(self.model, name).copy() for name in EPISODE_FIELDS}
        self._scratch = mujoco.MjData(self.model)
        names = objects + tuple(item.name for item in DISTRACTORS)
        self._geoms = {name: np.flatnonzero(np.isin(self.model.geom_bodyid, self._subtree(name))) for name in names}
        self._named = {
            geom: named_colour(self.model.geom_rgba[geom, :3], NAMED.get(name, ()))
            for name in objects
            for geom in self._geoms[name]
        }

    def _subtree(self, name: str) -> np.ndarray:
        """Returns the ids of an object's body and of the bodies hanging on it."""
        root = self.model.body(name).id
        ids = [root]
        for body in range(root + 1, self.model.nbody):
            if self.model.body_parentid[body] in ids:
                ids.append(body)
        return np.array(ids)

    def geoms(self, name: str) -> np.ndarray:
        """Returns the ids of all geoms of an object."""
        return self._geoms[name]

    def reset(self, episode: EpisodeSpec) -> None:
        """Sets the scene to the start of an episode."""
        for name, value in self._pristine.items():
            getattr(self.model, name)[...] = value
        look, self.poses = episode.look, episode.poses
        self.scale = 1.0 + look["object"]["scale"]
        self._apply_object_look(look["object"], None if is_elsewhere(look) else look["lighting"]["level"])
        self._apply_surfaces(look)
        self._apply_lighting(look["lighting"])
        self._apply_camera(look["camera"])
        mujoco.mj_setConst(self.model, self._scratch)
        mujoco.mj_resetData(self.model, self.data)
        self._place_things(episode.poses)
        self._place_distractors(look["distractors"]["placed"])
        self._place_arm(look["robot"])
        mujoco.mj_step1(self.model, self.data)
        self.arm.reset(self.data)

    def _place_arm(self, values: Mapping[str, float]) -> None:
        self.data.qpos[self.finger_qpos] = self.robot.gripper.open
        if self.arm_name == "Panda":
            self.data.qpos[self.arm_qpos] = robot.initial_qpos(values, self.robot.initial)
        else:
            self.place_hand(robot.initial_hand(values), robot.DOWN)

    def place_hand(self, pos: np.ndarray, rot: np.ndarray) -> bool:
        """Moves the arm, from its initial pose, until the grip site is at a pose; whether it got there.

        Args:
            pos: (3,) in m.
            rot: (3, 3), hand to world.
        """
        self.data.qpos[self.arm_qpos] = robot.ARMS[self.arm_name].initial
        site = self.model.site(GRIP_SITE).id
        return kinematics.reach(self.model, self.data, site, self.arm_joints, pos, rot)

    def _place_things(self, poses: Mapping[str, Mapping[str, float]]) -> None:
        m, d = self.model, self.data
        for name in self.objects:
            item, p = OBJECTS[name], poses[name]
            lift = p["z"] * (self.scale if item.free else 1.0)  # so that stacks of any scale stand without a gap
            lift += p.get("surface", 0.0)
            base = np.array([p["x"], p["y"], TABLE_Z + lift])
            if item.free:
                base[2] += item.half[2] * self.scale
                address = m.joint(f"{name}_free").qposadr[0]
                d.qpos[address : address + 3] = base
                d.qpos[address + 3 : address + 7] = _yaw_quat(p["yaw"])
            else:
                body = m.body(name).id
                m.body_pos[body] = base
                m.body_quat[body] = _yaw_quat(p["yaw"])
                if item.puppet:
                    d.mocap_pos[m.body_mocapid[body]] = base
                    d.mocap_quat[m.body_mocapid[body]] = _yaw_quat(p["yaw"])
            if item.joint_range is not None:
                d.qpos[m.joint(name).qposadr[0]] = p["joint"]

    def move(self, motions: Motions) -> None:
        """Puts things where a script wants them, and brings everything that depends on it up to date."""
        for name, motion in motions.items():
            if isinstance(motion, Drive):
                joint = self.model.joint(name)
                self.data.qpos[joint.qposadr[0]] = motion.position
                self.data.qvel[joint.dofadr[0]] = motion.speed
            else:
                self._put(name, motion)
        if motions:
            mujoco.mj_step1(self.model, self.data)

    def _put(self, name: str, pose: Pose) -> None:
        m, d = self.model, self.data
        pos, quat = np.array([pose.x, pose.y, TABLE_Z + pose.z]), _yaw_quat(pose.yaw)
        if OBJECTS[name].puppet:
            puppet = m.body_mocapid[m.body(name).id]
            d.mocap_pos[puppet], d.mocap_quat[puppet] = pos, quat
            return
        joint = m.joint(f"{name}_free")
        at, speed = joint.qposadr[0], joint.dofadr[0]
        d.qpos[at : at + 3], d.qpos[at + 3 : at + 7] = pos, quat
        d.qvel[speed : speed + 3], d.qvel[speed + 3 : speed + 6] = pose.velocity, pose.spin

    def _place_distractors(self, placed: list[dict[str, Any]]) -> None:
        m, d = self.model, self.data
        used = {chosen["kind"]: chosen for chosen in placed}
        for kind, distractor in enumerate(DISTRACTORS):
            body, geoms = m.body(distractor.name).id, self.geoms(distractor.name)
            chosen = used.get(kind)
            m.body_gravcomp[body] = 1.0 if chosen is None else 0.0
            if chosen is None:
                m.geom_contype[geoms] = m.geom_conaffinity[geoms] = 0
                continue
            address = m.joint(f"{distractor.name}_free").qposadr[0]
            d.qpos[address : address + 3] = chosen["x"], chosen["y"], TABLE_Z + distractor.half[2]
            d.qpos[address + 3 : address + 7] = _yaw_quat(chosen["yaw"])

    def _apply_object_look(self, values: Mapping[str, float], level: float | None) -> None:
        """Scales the free objects and recolours all objects; mass goes with volume, inertia with scale to the fifth.

        Args:
            values: Of the factor "object".
            level: Of the light in which colours keep their names; None: they need not.
        """
        m, s = self.model, self.scale
        for name in self.objects:
            geoms = self.geoms(name)
            for geom in geoms:
                rgb, named = shade(m.geom_rgba[geom, :3], values["value"], values["hue"]), self._named[geom]
                m.geom_rgba[geom, :3] = rgb if named is None or level is None else keep_name(rgb, named, level)
            if not OBJECTS[name].free:
                continue
            body = m.body(name).id
            for field in ("geom_size", "geom_pos", "geom_rbound", "geom_aabb"):
                getattr(m, field)[geoms] *= s
            # MuJoCo looks for contacts only where the boxes of its tree of bodies meet; these do not follow the geoms
            nodes = slice(m.body_bvhadr[body], m.body_bvhadr[body] + m.body_bvhnum[body])
            m.bvh_aabb[nodes] *= s
            m.body_mass[body] *= s**3
            m.body_inertia[body] *= s**5
            m.body_ipos[body] *= s
            m.site_pos[m.site_bodyid == body] *= s

    def _apply_surfaces(self, look: Mapping[str, Mapping[str, Any]]) -> None:
        # The renderer reads a material's texture once, when it starts; which material a geom has it reads every time.
        pristine = self._pristine["geom_matid"]
        for surface, (factor, name) in SURFACES.items():
            geoms = pristine == self.model.mat(surface).id
            self.model.geom_matid[geoms] = self.model.mat(f"{surface}:{look[factor][name]}").id
            if f"{name}_hue" in look[factor]:  # other rooms only: a colour of its own multiplies the texture
                tint = [look[factor][f"{name}_{key}"] for key in ("hue", "saturation", "brightness")]
                self.model.geom_rgba[geoms, :3] = colorsys.hsv_to_rgb(*tint)

    def _apply_lighting(self, values: Mapping[str, float]) -> None:
        m, angle, warmth = self.model, math.radians(values["azimuth"]), values["warmth"]
        tint = np.array([1 + warmth, 1.0, 1 - warmth])
        m.light_diffuse[0] = np.clip(0.6 * values["level"] * tint, 0, 1)
        m.light_ambient[0] = np.clip(0.25 * values["level"] * tint, 0, 1)
        eye = np.array([1.2 * math.cos(angle), 1.2 * math.sin(angle), 3.0])
        m.light_pos[0] = eye
        m.light_dir[0] = (AGENTVIEW_TARGET - eye) / np.linalg.norm(AGENTVIEW_TARGET - eye)

    def _apply_camera(self, values: Mapping[str, float]) -> None:
        self._look("agentview", AGENTVIEW_TARGET, (0.0, AGENTVIEW_ELEVATION, AGENTVIEW_DISTANCE), values)
        for name, orbit in robotiq.EXTERIOR.items():
            if name in self.robot.cameras:
                self._look(name, np.array(robotiq.EXTERIOR_TARGET), orbit, values)

    def _look(
        self, name: str, target: np.ndarray, orbit: tuple[float, float, float], values: Mapping[str, float]
    ) -> None:
        """Puts a camera where an episode has it: azimuth and elevation in degrees, distance in m, about a target."""
        azimuth = math.radians(orbit[0] + values["azimuth"])
        elevation = math.radians(orbit[1] + values["elevation"])
        distance = orbit[2] * (1 + values["distance"])
        direction = [
            math.cos(elevation) * math.cos(azimuth),
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ]
        eye = target + distance * np.array(direction)
        camera = self.model.camera(name).id
        self.model.cam_pos[camera] = eye
        self.model.cam_quat[camera] = appearance.look_at(eye, target)
