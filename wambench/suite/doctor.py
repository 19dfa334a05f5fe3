"""Checks that this machine can run the simulator, and says what it runs them with."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.records import provenance

RESETS = 50
MIB = 2**20


def report() -> Iterator[tuple[str, str]]:
    """Yields (what, finding), each as soon as it is known.

    Raises:
        RuntimeError: There is no usable OpenGL; names the packages to install.
    """
    yield from provenance.versions().items()
    yield "processor", f"{provenance.cpu()}, {os.cpu_count()} cores"

    from wambench.envs import rendering

    yield "OpenGL", rendering.gl_backend()
    task = next(iter(tasks.TASKS.values()))
    split = tasks.default_split(task.name)
    env = registration.make(task.name, split=split)
    episodes = [episode_spec(task, split, tasks.default_factor(split), index, 0) for index in range(RESETS)]
    first = env.begin(episodes[0])
    for camera, image in first.observations[0].images.items():
        yield f"frame hash, {task.id}, {camera}", rendering.frame_hash(image)
    before = resident()
    for episode in episodes:
        env.begin(episode)
    yield f"memory after {RESETS} resets", f"{resident() / MIB:.0f} MiB ({(resident() - before) / MIB:+.1f} MiB)"
    env.close()


def resident() -> int:
    """Returns the bytes of memory this process holds now, or where that is unknown, the most it ever held."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
