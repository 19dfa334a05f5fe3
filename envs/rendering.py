"""Offscreen camera images of a MuJoCo model, fast enough for a CPU.

On a software rasterizer the cost of a frame is triangles times passes; pixels hardly matter. The "fast" profile draws
the scene once per camera: no shadow maps, no reflections, no multisampling, and no sky, which walls hide anyway. The
"full" profile draws robosuite's own meshes with multisampling and soft shadows (see `envs.appearance`): the scene is
drawn once from each of a few points of a lamp, and the mean of these is the picture. Which meshes are in the model is
decided by whoever compiles it (see `envs.meshes`).
"""

from __future__ import annotations

import atexit
import difflib
import hashlib
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np

from wambench.envs import opengl
from wambench.envs.opengl import gl_backend as gl_backend

PROFILES = ("fast", "full", "show")

_FAST_FLAGS_OFF = ("mjRND_SHADOW", "mjRND_REFLECTION", "mjRND_SKYBOX", "mjRND_HAZE")
# No shadow map, no multisampling, and round and flat primitives of as many triangles as a small image can show.
_FAST_QUALITY = {"shadowsize": 0, "offsamples": 0, "numslices": 20, "numstacks": 10, "numquads": 2}

# A lamp 0.5 m wide, 2.6 m away: the half-shadow of a cube's upper edge is 1 cm wide. It is seen as a few points,
# more of them in a picture large enough to show them one by one.
_LAMP_RADIUS, _LAMP_DISTANCE = 0.1, 2.6
_LAMP_POINTS, _LAMP_POINTS_LARGE, _LARGE = 4, 16, 300

_open_renderers: weakref.WeakSet[Renderer] = weakref.WeakSet()
_abandoned: list[Any] = []
_close_at_exit_registered = False


class Renderer:
    """Renders cameras of one model in one thread.

    The OpenGL context is created on the first use and belongs to that thread, because Mesa silently returns wrong
    images to any other. After every method the context is current that was current before, if there was one.

    Args:
        model: Compiled model; the meshes and textures it has at the first use are uploaded.
        profile: "fast", "full" or "show", as the model was compiled (`scene.compile_family`).

    Raises:
        ValueError: Unknown profile.
    """

    def __init__(self, model: mujoco.MjModel, profile: str = "fast") -> None:
        if profile not in PROFILES:
            raise ValueError(_no_such("visual profile", profile, PROFILES))
        self.model = model
        self.profile = profile
        self._cameras = {model.camera(i).name: i for i in range(model.ncam)}
        self._option = _visual_option()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._gl: Any = None
        self._context: mujoco.MjrContext | None = None
        self._scene: mujoco.MjvScene | None = None
        self._owner: tuple[int, int] | None = None
        self._handle: int | None = None
        self._closed = False

    def render(self, data: mujoco.MjData, cameras: Sequence[str], size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Returns camera name -> (h, w, 3) uint8 RGB, row 0 at the top.

        Args:
            data: State after `mj_forward` (or at least `mj_kinematics`, `mj_camlight`).
            cameras: Names of cameras of the model.
            size: (height, width) in pixels.

        Raises:
            ValueError: Unknown camera or a size that is not positive.
            RuntimeError: Called from another thread than before, after `close`, or without any usable OpenGL.
        """
        height, width = size
        if height < 1 or width < 1:
            raise ValueError(f"image size must be positive, got {height} x {width}")
        for name in cameras:
            if name not in self._cameras:
                raise ValueError(_no_such("camera", name, list(self._cameras)))
        rect = mujoco.MjrRect(0, 0, width, height)
        images: dict[str, np.ndarray] = {}
        with self._current(height, width) as (context, scene):
            for name in cameras:
                self._look_through(name, data, scene)
                images[name] = self._picture(rect, scene, context)
        return images

    def _picture(self, rect: mujoco.MjrRect, scene: mujoco.MjvScene, context: mujoco.MjrContext) -> np.ndarray:
        """Draws the scene; with soft shadows, once from every point of the lamp, and returns the mean."""
        size = rect.height, rect.width
        shadowing = [light for light in scene.lights[: scene.nlight] if light.castshadow]
        if self.profile == "fast" or not shadowing:
            mujoco.mjr_render(rect, scene, context)
            return _pixels(context, size)
        centres = [(light.pos.copy(), light.dir.copy()) for light in shadowing]
        total = np.zeros((*size, 3), np.uint16)
        few = rect.height < _LARGE or self.profile == "show"  # a film is made of many pictures
        tilts = _lamp_points(_LAMP_POINTS if few else _LAMP_POINTS_LARGE)
        for tilt in tilts:
            for light, (pos, direction) in zip(shadowing, centres, strict=True):
                light.dir = direction + tilt
                light.pos = pos - _LAMP_DISTANCE * tilt
            mujoco.mjr_render(rect, scene, context)
            total += _pixels(context, size)
        return np.round(total / len(tilts)).astype(np.uint8)

    def _look_through(self, camera: str, data: mujoco.MjData, scene: mujoco.MjvScene) -> None:
        """Sets the scene as a camera sees it."""
        self._camera.fixedcamid = self._cameras[camera]
        # The headlight and infinite planes follow the camera, so `mjv_updateCamera` alone would not do for the
        # second camera. Infinite planes follow the camera of the scene as it was before the update: hence both.
        mujoco.mjv_updateCamera(self.model, data, self._camera, scene)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self.model, data, self._option, None, self._camera, everything, scene)

    def survey(self, data: mujoco.MjData, camera: str, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns what is where in a view: (h, w) depth in m along the camera's axis, and ids of geoms, -1 for none."""
        flags = [int(mujoco.mjtRndFlag.mjRND_SEGMENT), int(mujoco.mjtRndFlag.mjRND_IDCOLOR)]
        rect = mujoco.MjrRect(0, 0, size[1], size[0])
        colours, buffer = np.empty((*size, 3), np.uint8), np.empty(size, np.float32)
        with self._current(*size) as (context, scene):
            self._look_through(camera, data, scene)
            scene.flags[flags] = 1
            mujoco.mjr_render(rect, scene, context)
            scene.flags[flags] = 0
            mujoco.mjr_readPixels(colours, buffer, rect, context)
            geoms = np.full(scene.ngeom + 1, -1)
            for shown in scene.geoms[: scene.ngeom]:
                if shown.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                    geoms[shown.segid + 1] = shown.objid
        numbers = colours[::-1].astype(np.int64) @ np.array([1, 256, 65536])
        near, far = (limit * self.model.stat.extent for limit in (self.model.vis.map.znear, self.model.vis.map.zfar))
        return near / (1.0 - buffer[::-1].astype(float) * (1.0 - near / far)), geoms[numbers]

    def read(self, size: tuple[int, int]) -> np.ndarray:
        """Returns a copy of the picture drawn last, (h, w, 3) uint8 RGB, row 0 at the top; waits until it is drawn."""
        with self._current(*size) as (context, _):
            return _pixels(context, size)

    def upload_textures(self, texture_ids: Sequence[int] | None = None) -> None:
        """Copies textures of the model, changed in place in `model.tex_data`, to the renderer (None: all)."""
        if self._context is None and not self._closed:
            return  # the first render uploads everything
        with self._current(1, 1) as (context, _):
            for i in range(self.model.ntex) if texture_ids is None else texture_ids:
                mujoco.mjr_uploadTexture(self.model, context, i)

    def close(self) -> None:
        """Frees the OpenGL context; the renderer cannot be used afterwards."""
        self._closed = True
        context, gl = self._context, self._gl
        self._context = self._gl = self._scene = None
        if gl is None:
            return
        if _here() != self._owner:
            # Freeing here would delete the objects of whichever context this thread or process uses.
            _abandoned.append((context, gl))
            return
        with opengl.former_context_kept(ending=self._handle):
            gl.make_current()
            if context is not None:
                context.free()
            gl.free()

    def __del__(self) -> None:
        if getattr(self, "_gl", None) is not None:
            self.close()

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def _current(self, height: int, width: int) -> Iterator[tuple[mujoco.MjrContext, mujoco.MjvScene]]:
        """Gives context and scene, current in this thread for a while, with a frame buffer of at least the size."""
        if self._closed:
            raise RuntimeError("this renderer is closed")
        if self._owner not in (None, _here()):
            raise RuntimeError("a renderer belongs to the process and thread of its first use; make one for each")
        with opengl.former_context_kept():
            if self._context is None or self._scene is None:
                self._open(height, width)
            assert self._context is not None and self._scene is not None
            self._gl.make_current()
            context = self._context
            if width > context.offWidth or height > context.offHeight:
                mujoco.mjr_resizeOffscreen(max(width, context.offWidth), max(height, context.offHeight), context)
            yield context, self._scene

    def _open(self, height: int, width: int) -> None:
        self._gl = opengl.open_context(width, height)
        self._gl.make_current()
        self._owner, self._handle = _here(), opengl.current_handle()
        with _context_quality(self.model, self.profile, height, width):
            try:
                self._context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_50)
            except mujoco.FatalError as error:
                raise RuntimeError(f"OpenGL does not start ({error}); {opengl.INSTALL}") from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(self.model, maxgeom=2 * self.model.ngeom + 100)
        if self.profile == "fast":
            for flag in _FAST_FLAGS_OFF:
                self._scene.flags[getattr(mujoco.mjtRndFlag, flag)] = 0
        _close_at_exit(self)


def _lamp_points(count: int) -> np.ndarray:
    """Returns (n, 3) tilts of the light's direction, spread evenly over a disc (a sunflower's pattern)."""
    order = np.arange(count)
    radius = _LAMP_RADIUS * np.sqrt((order + 0.5) / count)
    angle = order * np.pi * (3 - np.sqrt(5))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(count)], axis=1)


def _pixels(context: mujoco.MjrContext, size: tuple[int, int]) -> np.ndarray:
    bottom_up = np.empty((*size, 3), np.uint8)
    mujoco.mjr_readPixels(bottom_up, None, mujoco.MjrRect(0, 0, size[1], size[0]), context)
    return bottom_up[::-1].copy()


def _here() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def frame_hash(image: np.ndarray) -> str:
    """Returns the first 16 hex digits of the SHA-256 of the shape and the pixels of an (h, w, 3) uint8 image."""
    digest = hashlib.sha256(repr((image.shape, str(image.dtype))).encode())
    digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:16]


def _visual_option() -> mujoco.MjvOption:
    """Returns what is drawn: no collision geoms (group 0 by robosuite's convention) and no sites."""
    option = mujoco.MjvOption()
    option.geomgroup[0] = 0
    option.sitegroup[:] = 0
    return option


@contextmanager
def _context_quality(model: mujoco.MjModel, profile: str, height: int, width: int) -> Iterator[None]:
    """Sets for a while what `MjrContext` reads from the model when it is made."""
    quality, screen = model.vis.quality, model.vis.global_
    before = {name: getattr(quality, name) for name in _FAST_QUALITY}
    before_size = (screen.offwidth, screen.offheight)
    if profile == "fast":
        for name, value in _FAST_QUALITY.items():
            setattr(quality, name, value)
    # A frame buffer larger than the image costs time, because all of it is cleared.
    screen.offwidth, screen.offheight = width, height
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(quality, name, value)
        screen.offwidth, screen.offheight = before_size


def _close_at_exit(renderer: Renderer) -> None:
    """Closes renderers before the backend, which registered earlier, ends its display."""
    global _close_at_exit_registered
    _open_renderers.add(renderer)
    if not _close_at_exit_registered:
        _close_at_exit_registered = True
        atexit.register(_close_all)


def _close_all() -> None:
    for renderer in list(_open_renderers):
        renderer.close()


def _no_such(kind: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"no {kind} {name!r}; there are {', '.join(known) or 'none'}{hint}"
