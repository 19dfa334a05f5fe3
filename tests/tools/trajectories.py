"""Hashes of expert episodes, bit by bit: `python -m tests.tools.trajectories [TASK...]`.

Printed with one Python, numpy or machine and compared with what another prints (or with the golden file
`tests/golden/trajectories.txt`, which `tests/envs/test_trajectories.py` reads), they say whether results carry over. A
line is a task and three hashes: of the episode specs; of what the expert did and the snapshots on the way; of the
frames of both cameras. The first line names what the bits depend on besides our own code.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterable

import mujoco
import numpy as np

from wambench import registration, tasks
from wambench.envs import opengl
from wambench.envs.episodes import episode_spec

# A press, a push, a grasp, a drawer on a slide, a memory that a script keeps, a body that moves by itself.
TASKS = ("PressButton", "PushCube", "StackCubes", "OpenDrawer", "PressCount", "PickFromBelt")
EVERY = 20  # control steps between two snapshots and frames


def machine() -> str:
    """Returns what decides the bits of the physics: processor family, C library, simulator."""
    return f"{platform.machine()} {'-'.join(platform.libc_ver())} mujoco-{mujoco.__version__}"


def renderer() -> str:
    """Returns what decides the bits of the frames: OpenGL as it names itself."""
    return opengl.gl_backend()


def hashes(name: str) -> str:
    """Returns the line of a task: its name, and the hashes of specs, physics and frames, 16 hex digits each."""
    specs, physics, frames = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    split = tasks.default_split(name)
    env = registration.make(name, split=split)
    spec = episode_spec(tasks.TASKS[name], split, tasks.default_factor(split), 0, 0)
    specs.update(spec.to_json().encode())
    outcome = env.begin(spec, render=False)
    while not (outcome.terminated or outcome.truncated):
        if outcome.steps % EVERY == 0:
            physics.update(env.snapshot())
            seen = env.observe()
            physics.update(seen.state.tobytes())
            for image in seen.images.values():
                frames.update(np.ascontiguousarray(image).tobytes())
        action = np.round(env.expert_action(), 6)  # sums of the experts depend on the BLAS of the processor
        physics.update(action.tobytes())
        outcome = env.advance(action)
    physics.update(env.snapshot())
    env.close()
    return " ".join([name, *(one.hexdigest()[:16] for one in (specs, physics, frames))])


def report(names: Iterable[str] = TASKS) -> str:
    """Returns the whole text: machine, renderer, and one line a task."""
    lines = [hashes(name) for name in names]
    return "\n".join([f"machine {machine()}", f"renderer {renderer()}", *lines]) + "\n"


if __name__ == "__main__":
    print(report(sys.argv[1:] or TASKS), end="")
