"""Which object the robot touches first, and which one its hand comes nearest to: recorded, and never shown to a policy.

What is noted decides nothing, so that snapshots need not carry it: restoring one drops what came after its step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wambench.envs.naming import movable
from wambench.envs.objects import DISTRACTORS, KEYPOINTS, OBJECTS
from wambench.envs.privileged_view import SceneView
from wambench.envs.scene import Scene

ROBOT = ("robot0_", "gripper0_")  # begin the names of the robot's bodies


class Noted(NamedTuple):
    """What is known after a control step.

    Attributes:
        step: Its number.
        first_touched: Name of the object that the robot has touched first, "" if none.
        nearest: Name of the object that the hand has come nearest to.
        distance: How near in m.
    """

    step: int
    first_touched: str
    nearest: str
    distance: float


START = Noted(0, "", "", np.inf)


class ContactLog:
    """Follows one episode: call `note` after every control step.

    Objects are those that can be moved: free ones, mechanisms and distractors. The distance is that of the grip site
    from the bounding box of a free object, and from the handle of a mechanism (its key point, or its origin). Contacts
    are looked for at the end of every control step: a graze between two is not seen.
    """

    def __init__(self, scene: Scene, view: SceneView) -> None:
        model, own = scene.model, tuple(name for name in scene.objects if movable(name))
        self._data, self._scene, self._view = scene.data, scene, view
        self.names = (*own, *(item.name for item in DISTRACTORS))
        self._object = np.full(model.ngeom, -1)
        for i, name in enumerate(self.names):
            self._object[scene.geoms(name)] = i
        bodies = [model.body(i).name.startswith(ROBOT) for i in range(model.nbody)]
        self._robot = np.array(bodies)[model.geom_bodyid]
        handles = {point.split("/")[0]: point for point in KEYPOINTS if "/" in point}
        fixed = [i for i, name in enumerate(own) if not OBJECTS[name].free]
        self._handles = [(i, model.site(handles[own[i]]).id) for i in fixed if own[i] in handles]
        self._bodies = [model.body(name).id for name in self.names]
        own_half = [OBJECTS[name].half if OBJECTS[name].free else (0.0, 0.0, 0.0) for name in own]
        self._own_half = np.array(own_half).reshape(-1, 3)
        self._others_half = np.array([item.half for item in DISTRACTORS])
        self.noted = [START]

    def begin(self) -> None:
        """Forgets everything; the scene has been reset."""
        self.noted = [START]
        self._half = np.concatenate([self._own_half * self._scene.scale, self._others_half])

    def note(self, step: int) -> None:
        """Notes what is touched and near now, after control step `step`."""
        before, gaps = self.noted[-1], self._gaps()
        near = int(gaps.argmin())
        closer = gaps[near] < before.distance
        self.noted.append(
            Noted(
                step,
                before.first_touched or self._touched(gaps),
                self.names[near] if closer else before.nearest,
                float(gaps[near]) if closer else before.distance,
            )
        )

    def drop_after(self, step: int) -> None:
        """Forgets what was noted after a control step."""
        while self.noted[-1].step > step:
            self.noted.pop()

    def _gaps(self) -> np.ndarray:
        """Returns the (n,) distances in m of the hand from the objects."""
        data, eef = self._data, self._view.eef()
        local = np.einsum("nji,nj->ni", data.xmat[self._bodies].reshape(-1, 3, 3), eef - data.xpos[self._bodies])
        outside = np.maximum(np.abs(local) - self._half, 0.0)
        gaps = np.sqrt((outside * outside).sum(axis=1))
        for i, site in self._handles:
            apart = eef - data.site_xpos[site]
            gaps[i] = np.sqrt(apart @ apart)
        return gaps

    def _touched(self, gaps: np.ndarray) -> str:
        """Returns the object that the robot touches, the nearest of several, "" if there is none."""
        pairs = self._data.contact.geom[: self._data.ncon]
        objects, robot = self._object[pairs], self._robot[pairs]
        touched = objects[(objects >= 0) & robot[:, ::-1]]
        return self.names[min(touched, key=lambda i: gaps[i])] if len(touched) else ""
