"""Headless OpenGL: which library draws, and manners towards other users of OpenGL in the same process.

OpenGL draws into whichever context is current in a thread. Stock robosuite makes its own context current once and takes
it for granted from then on, so whoever draws in between must put the former context back (`former_context_kept`).
A process that was forked after its parent had drawn hangs for ever at its first context, because the threads of the
rasterizer are not copied; here it gets an error instead (`open_context`).
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_LINUX_BACKENDS = ("egl", "osmesa")
INSTALL = (
    "headless OpenGL needs the Debian packages libegl1 and libgl1-mesa-dri (EGL), or libosmesa6 (OSMesa), "
    "e.g. apt-get install libegl1 libgl1-mesa-dri"
)
FORKED = (
    "this process was forked from one that had used OpenGL already, and would hang for ever in its first frame: start "
    "workers with spawn, e.g. gymnasium.make_vec(..., vectorization_mode='async', "
    "vector_kwargs={'context': 'spawn'}), or make them before the parent renders"
)
_EGL_PLATFORM_DEVICE_EXT = 0x313F
_EGL_OPENGL_API = 0x30A2
_EGL_DRAW, _EGL_READ = 0x3059, 0x305A
_GL_FLOAT = 0x1406
_OSMESA_LIBRARIES = ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")

PutBack = Callable[[], object]


def _requested_backend() -> str:
    """Returns the backend the user asked for, "" if none."""
    requested = os.environ.get("MUJOCO_GL", "").lower().strip()
    # robosuite writes "egl" on import, which is then nobody's wish.
    return "" if requested == "egl" and "robosuite" in sys.modules else requested


_REQUESTED = _requested_backend()
_used = False  # a context has been made in this process
_forked_after_use = False


def open_context(width: int, height: int) -> Any:
    """Returns a new context of the chosen backend (it has `make_current` and `free`), which is not current yet.

    Raises:
        RuntimeError: There is no usable OpenGL (the message names the packages to install), or this process was
            forked from one that had used OpenGL.
    """
    global _used
    if _forked_after_use:
        raise RuntimeError(FORKED)
    backend = choose_backend()
    try:
        context = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
    except Exception as error:  # PyOpenGL raises AttributeError, ImportError and its own errors for a broken library
        raise RuntimeError(f"OpenGL by {backend} does not start ({error}); {INSTALL}") from error
    _used = True
    return context


def gl_backend() -> str:
    """Returns the OpenGL backend and device, e.g. "egl: llvmpipe (LLVM 15.0.6, 256 bits)".

    Raises:
        RuntimeError: As `open_context`.
    """
    with former_context_kept():
        context = open_context(16, 16)
        context.make_current()
        device = importlib.import_module("OpenGL.GL").glGetString(0x1F01)  # GL_RENDERER
        context.free()
    if not device:
        raise RuntimeError(f"OpenGL by {choose_backend()} gives no context; {INSTALL}")
    return f"{choose_backend()}: {device.decode()}"


def choose_backend() -> str:
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
        raise RuntimeError(f"no OpenGL was found by {' or '.join(candidates)}; {INSTALL}")
    os.environ["MUJOCO_GL"] = backend
    return backend


@contextmanager
def former_context_kept(ending: int | None = None) -> Iterator[None]:
    """Makes current again, at the end, the context that was current in this thread at the beginning.

    If there was none, ours stays current until it is freed: nobody misses it, and taking it away after every
    picture cost about 3 % of one (90 us of 3.4 ms, Mesa).

    Meanwhile no garbage is collected: it may hold an old context of somebody (robosuite leaves one behind at every hard
    reset), and MuJoCo's and robosuite's way of freeing it takes the current context away from the thread, whoever's it
    is. On macOS nothing is put back.

    Args:
        ending: Handle (`current_handle`) of a context that is freed meanwhile and must not be put back.

    Raises:
        RuntimeError: As `open_context`.
    """
    if _forked_after_use:
        raise RuntimeError(FORKED)
    remember = {"egl": _egl_context, "osmesa": _osmesa_context, "glfw": _glfw_context}.get(_backend())
    former = current_handle()
    put_back: PutBack = remember() if remember and former not in (None, ending) else (lambda: None)
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        put_back()
        if collects:
            gc.enable()


def current_handle() -> int | None:
    """Returns a number that stands for the context that is current in this thread, None if there is none."""
    if _backend() == "egl":
        egl = _libegl()
        handle: int | None = egl.eglGetCurrentContext()
        if handle is None and (api := egl.eglQueryAPI()) != _EGL_OPENGL_API:
            egl.eglBindAPI(_EGL_OPENGL_API)  # OpenGL ES and OpenGL have a current context each
            handle = egl.eglGetCurrentContext()
            egl.eglBindAPI(api)
        return handle
    if _backend() == "osmesa":
        handle = _libosmesa().OSMesaGetCurrentContext()
        return handle
    if _backend() == "glfw":
        window = importlib.import_module("glfw").get_current_context()
        return ctypes.cast(window, ctypes.c_void_p).value if window else None
    return None


@functools.cache
def _backend() -> str:
    """Returns `choose_backend()`, which asks the devices, once."""
    return choose_backend()


def _egl_context() -> PutBack:
    """Returns what makes the present context of EGL current again."""
    egl, context = _libegl(), current_handle()
    api, display = egl.eglQueryAPI(), egl.eglGetCurrentDisplay()
    surfaces = egl.eglGetCurrentSurface(_EGL_DRAW), egl.eglGetCurrentSurface(_EGL_READ)

    def put_back() -> None:
        if egl.eglGetCurrentContext() != context:
            egl.eglMakeCurrent(display, *surfaces, context)
        egl.eglBindAPI(api)

    return put_back


def _osmesa_context() -> PutBack:
    """Returns what makes the present context of OSMesa current again, with its buffer; MuJoCo's are of floats."""
    osmesa, context = _libosmesa(), current_handle()
    width, height, kind, buffer = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
    osmesa.OSMesaGetColorBuffer(context, *map(ctypes.byref, (width, height, kind, buffer)))
    return lambda: osmesa.OSMesaMakeCurrent(context, buffer, _GL_FLOAT, width, height)


def _glfw_context() -> PutBack:
    """Returns what makes the present context of GLFW current again."""
    glfw = importlib.import_module("glfw")
    context = glfw.get_current_context()
    return lambda: glfw.make_context_current(context)


@functools.cache
def _libegl() -> ctypes.CDLL:
    """Returns EGL with the types of what is called here; raises OSError if there is none."""
    egl, handle = ctypes.CDLL("libEGL.so.1"), ctypes.c_void_p
    egl.eglQueryAPI.restype = egl.eglBindAPI.restype = egl.eglMakeCurrent.restype = ctypes.c_uint
    egl.eglBindAPI.argtypes, egl.eglMakeCurrent.argtypes = [ctypes.c_uint], [handle] * 4
    egl.eglGetCurrentContext.restype = egl.eglGetCurrentDisplay.restype = handle
    egl.eglGetCurrentSurface.restype, egl.eglGetCurrentSurface.argtypes = handle, [ctypes.c_int]
    egl.eglInitialize.argtypes = [handle, handle, handle]
    return egl


def _egl_works() -> bool:
    """Returns whether an EGL device can be initialized.

    Asked through ctypes and before PyOpenGL is imported, because PyOpenGL settles on one platform per process.
    """
    try:
        egl = _libegl()
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
    for device in devices[: count.value]:
        display = display_type(platform_display)(_EGL_PLATFORM_DEVICE_EXT, device, None)
        if display and egl.eglInitialize(display, None, None):
            return True
    return False


@functools.cache
def _libosmesa() -> ctypes.CDLL:
    """Returns OSMesa with the types of what is called here; raises OSError if there is none."""
    for name in _OSMESA_LIBRARIES:
        try:
            osmesa = ctypes.CDLL(name)
        except OSError:
            continue
        handle, number = ctypes.c_void_p, ctypes.c_int
        osmesa.OSMesaGetCurrentContext.restype = handle
        osmesa.OSMesaGetColorBuffer.argtypes = [handle] * 5
        osmesa.OSMesaMakeCurrent.argtypes = [handle, handle, ctypes.c_uint, number, number]
        return osmesa
    raise OSError(f"none of {', '.join(_OSMESA_LIBRARIES)} can be loaded")


def _osmesa_works() -> bool:
    try:
        _libosmesa()
    except OSError:
        return False
    return True


def _foreign_context_is_current() -> bool:
    """Returns whether somebody else has a context of EGL in this thread."""
    try:
        return sys.platform.startswith("linux") and _libegl().eglGetCurrentContext() is not None
    except OSError:
        return False


def _after_fork_in_child() -> None:
    global _forked_after_use
    _forked_after_use = _forked_after_use or _used or _foreign_context_is_current()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
