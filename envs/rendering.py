"""Offscreen camera images of a MuJoCo model, fast enough for a CPU.

On a software rasterizer the cost of a frame is triangles times passes; pixels hardly matter. The "fast" profile draws
the scene once per camera: no shadow maps, no reflections, no multisampling, and no sky, which walls hide anyway. The
"full" profile draws what robosuite draws. Which meshes are in the model is decided by whoever compiles it (see
`envs.meshes`).
"""

from __future__ import annotations

import atexit
import ctypes
import difflib
import hashlib
import importlib
import os
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np

PROFILES = ("fast", "full")

_FAST_FLAGS_OFF = ("mjRND_SHADOW", "mjRND_REFLECTION", "mjRND_SKYBOX", "mjRND_HAZE")
# No shadow map, no multisampling, and round and flat primitives of as many triangles as a small image can show.
_FAST_QUALITY = {"shadowsize": 0, "offsamples": 0, "numslices": 20, "numstacks": 10, "numquads": 2}

_LINUX_BACKENDS = ("egl", "osmesa")
_INSTALL = (
    "headless OpenGL needs the Debian packages libegl1 and libgl1-mesa-dri (EGL), or libosmesa6 (OSMesa), "
    "e.g. apt-get install libegl1 libgl1-mesa-dri"
)
_EGL_PLATFORM_DEVICE_EXT = 0x313F

_open_renderers: weakref.WeakSet[Renderer] = weakref.WeakSet()
_abandoned: list[Any] = []
_close_at_exit_registered = False


def _requested_backend() -> str:
    """Returns the backend the user asked for, "" if none."""
    requested = os.environ.get("MUJOCO_GL", "").lower().strip()
    # robosuite writes "egl" on import, which is then nobody's wish.
    return "" if requested == "egl" and "robosuite" in sys.modules else requested


_REQUESTED = _requested_backend()


class Renderer:
    """Renders cameras of one model in one thread.

    The OpenGL context is created on the first use and belongs to that thread, because Mesa silently returns wrong
    images to any other.

    Args:
        model: Compiled model; the meshes and textures it has at the first use are uploaded.
        profile: "fast" or "full".

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
        context, scene = self._ready(height, width)
        rect = mujoco.MjrRect(0, 0, width, height)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        images: dict[str, np.ndarray] = {}
        for name in cameras:
            self._camera.fixedcamid = self._cameras[name]
            # The headlight and infinite planes follow the camera, so `mjv_updateCamera` alone would not do for the
            # second camera. Infinite planes follow the camera of the scene as it was before the update: hence both.
            mujoco.mjv_updateCamera(self.model, data, self._camera, scene)
            mujoco.mjv_updateScene(self.model, data, self._option, None, self._camera, everything, scene)
            mujoco.mjr_render(rect, scene, context)
            images[name] = _pixels(context, size)
        return images

    def survey(self, data: mujoco.MjData, camera: str, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Returns what is where in a view: (h, w) depth in m along the camera's axis, and ids of geoms, -1 for none."""
        context, scene = self._ready(*size)
        self._camera.fixedcamid = self._cameras[camera]
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateCamera(self.model, data, self._camera, scene)
        mujoco.mjv_updateScene(self.model, data, self._option, None, self._camera, everything, scene)
        flags = [int(mujoco.mjtRndFlag.mjRND_SEGMENT), int(mujoco.mjtRndFlag.mjRND_IDCOLOR)]
        scene.flags[flags] = 1
        rect = mujoco.MjrRect(0, 0, size[1], size[0])
        mujoco.mjr_render(rect, scene, context)
        scene.flags[flags] = 0
        colours, buffer = np.empty((*size, 3), np.uint8), np.empty(size, np.float32)
        mujoco.mjr_readPixels(colours, buffer, rect, context)
        numbers = colours[::-1].astype(np.int64) @ np.array([1, 256, 65536])
        geoms = np.full(scene.ngeom + 1, -1)
        for shown in scene.geoms[: scene.ngeom]:
            if shown.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                geoms[shown.segid + 1] = shown.objid
        near, far = (limit * self.model.stat.extent for limit in (self.model.vis.map.znear, self.model.vis.map.zfar))
        return near / (1.0 - buffer[::-1].astype(float) * (1.0 - near / far)), geoms[numbers]

    def read(self, size: tuple[int, int]) -> np.ndarray:
        """Returns a copy of the picture drawn last, (h, w, 3) uint8 RGB, row 0 at the top; waits until it is drawn."""
        return _pixels(self._ready(*size)[0], size)

    def upload_textures(self, texture_ids: Sequence[int] | None = None) -> None:
        """Copies textures of the model, changed in place in `model.tex_data`, to the renderer (None: all)."""
        if self._context is None and not self._closed:
            return  # the first render uploads everything
        context, _ = self._ready(1, 1)
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

    def _ready(self, height: int, width: int) -> tuple[mujoco.MjrContext, mujoco.MjvScene]:
        """Returns context and scene, current in this thread, with a frame buffer of at least the size."""
        if self._closed:
            raise RuntimeError("this renderer is closed")
        if self._owner not in (None, _here()):
            raise RuntimeError("a renderer belongs to the process and thread of its first use; make one for each")
        if self._context is None or self._scene is None:
            self._open(height, width)
            assert self._context is not None and self._scene is not None
        self._gl.make_current()
        context = self._context
        if width > context.offWidth or height > context.offHeight:
            mujoco.mjr_resizeOffscreen(max(width, context.offWidth), max(height, context.offHeight), context)
        return context, self._scene

    def _open(self, height: int, width: int) -> None:
        self._gl = _gl_context(width, height)
        self._gl.make_current()
        self._owner = _here()
        with _context_quality(self.model, self.profile, height, width):
            try:
                self._context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_50)
            except mujoco.FatalError as error:
                raise RuntimeError(f"OpenGL does not start ({error}); {_INSTALL}") from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(self.model, maxgeom=2 * self.model.ngeom + 100)
        if self.profile == "fast":
            for flag in _FAST_FLAGS_OFF:
                self._scene.flags[getattr(mujoco.mjtRndFlag, flag)] = 0
        _close_at_exit(self)


def _pixels(context: mujoco.MjrContext, size: tuple[int, int]) -> np.ndarray:
    bottom_up = np.empty((*size, 3), np.uint8)
    mujoco.mjr_readPixels(bottom_up, None, mujoco.MjrRect(0, 0, size[1], size[0]), context)
    return bottom_up[::-1].copy()


def _here() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


def gl_backend() -> str:
    """Returns the OpenGL backend and device, e.g. "egl: llvmpipe (LLVM 15.0.6, 256 bits)".

    Raises:
        RuntimeError: No usable OpenGL; the message names the packages to install.
    """
    backend = _choose_backend()
    context = _gl_context(16, 16)
    context.make_current()
    gl = importlib.import_module("OpenGL.GL")
    device = gl.glGetString(gl.GL_RENDERER)
    context.free()
    if not device:
        raise RuntimeError(f"OpenGL by {backend} gives no context; {_INSTALL}")
    return f"{backend}: {device.decode()}"


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


def _choose_backend() -> str:
    """Returns the OpenGL backend to use and sets MUJOCO_GL, which MuJoCo's loader reads, accordingly."""
    if _REQUESTED in ("disable", "disabled", "off", "false", "0"):
        raise RuntimeError(f"rendering is switched off by MUJOCO_GL={_REQUESTED}")
    if not sys.platform.startswith("linux"):
        return _REQUESTED or {"darwin": "cgl"}.get(sys.platform, "glfw")
    if _REQUESTED in ("glfw", "glx"):
        return "glfw"
    candidates = (_REQUESTED,) if _REQUESTED in _LINUX_BACKENDS else _LINUX_BACKENDS
    works = {"egl": _egl_works, "osmesa": _osmesa_works}
    backend = next((name for name in candidates if works[name]()), None)
    if backend is None:
        raise RuntimeError(f"no OpenGL was found by {' or '.join(candidates)}; {_INSTALL}")
    os.environ["MUJOCO_GL"] = backend
    return backend


def _gl_context(width: int, height: int) -> Any:
    backend = _choose_backend()
    try:
        return importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
    except Exception as error:  # PyOpenGL raises AttributeError, ImportError and its own errors for a broken library
        raise RuntimeError(f"OpenGL by {backend} does not start ({error}); {_INSTALL}") from error


def _egl_works() -> bool:
    """Returns whether an EGL device can be initialized.

    Asked through ctypes and before PyOpenGL is imported, because PyOpenGL settles on one platform per process.
    """
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    address = egl.eglGetProcAddress
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    query, platform_display = address(b"eglQueryDevicesEXT"), address(b"eglGetPlatformDisplayEXT")
    if not query or not platform_display:
        return False
    devices, count = (ctypes.c_void_p * 64)(), ctypes.c_int(0)
    query_type = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))
    if not query_type(query)(len(devices), devices, ctypes.byref(count)):
        return False
    display_type = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p)
    egl.eglInitialize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    for device in devices[: count.value]:
        display = display_type(platform_display)(_EGL_PLATFORM_DEVICE_EXT, device, None)
        if display and egl.eglInitialize(display, None, None):
            return True
    return False


def _osmesa_works() -> bool:
    for name in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


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
