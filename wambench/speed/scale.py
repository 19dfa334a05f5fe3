"""`wambench bench scale`: episodes an hour by who plays them, in turns: the pool, one policy for all, a Ray cluster.

Machines are noisy, so what counts is a ratio within a round, where every variant plays the same episodes. On a machine
with other work even that says little, so the processor time of all processes of a variant is measured, too: where
processors are what is short, episodes an hour are as the inverse of it. Both count from when each worker has played two
episodes, because what comes before is startup and the compilation of scenes.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wambench.evaluation.config import RunConfig
from wambench.evaluation.inference_process import InferenceProcess
from wambench.evaluation.run import run
from wambench.evaluation.worker import Make
from wambench.interface import Batched, ControlConvention, Observation, Policy

TASK = "LiftCube"
POLICY = "random"  # costs nothing, so that everything else is seen
QUERIES = 300
BATCHED = ("dreamzero", "pi0", "pi05", "ki", "groot", "l1")
BATCH = 8
LOOK_S = 0.1
NODE_STORE_BYTES = 150 * 2**20
# name -> options of the run, and CPUs of each node of a cluster for W workers, as divisors of W
VARIANTS: Mapping[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "pool": ({}, ()),
    "pool, one policy": ({"policy_device": "cpu"}, ()),
    "Ray, 1 node": ({"cluster": "auto"}, (1,)),
    "Ray, 2 nodes": ({"cluster": "auto"}, (2, 2)),
}


@dataclass
class Played:
    """What the rounds of a variant took: seconds to the first worker, episodes an hour, processor s an episode."""

    startup_s: list[float] = field(default_factory=list)
    per_hour: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


class Watch(threading.Thread):
    """Watches a run: how many episodes are recorded when, and what its processes have taken by then.

    Args:
        episodes: Folder of the recordings.
        warm: So many are not counted.
    """

    def __init__(self, episodes: Path, warm: int) -> None:
        super().__init__(daemon=True)
        self._episodes, self._warm, self._over = episodes, warm, threading.Event()
        self._seen: list[tuple[int, float, float]] = []  # episodes, seconds, processor seconds

    def run(self) -> None:
        """Looks again and again, until `rates` is asked for."""
        while not self._over.wait(LOOK_S):
            count = len(list(self._episodes.glob("*.npz")))
            if count >= self._warm and (not self._seen or count > self._seen[-1][0]):
                self._seen.append((count, time.perf_counter(), processor_s(os.getpid())))

    def rates(self) -> tuple[float, float]:
        """Returns episodes an hour and processor seconds an episode."""
        self._over.set()
        self.join()
        (first, began, had), (last, ended, has) = self._seen[0], self._seen[-1]
        return 3600 * (last - first) / (ended - began), (has - had) / (last - first)


def processor_s(process: int) -> float:
    """Returns the processor seconds that a process and all that come from it have taken, those that ended included.

    What ended is counted by its parent once that has waited for it (`man 5 proc`, cutime and cstime), and by itself
    until then, so that the sum never falls.
    """
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone by now
            fields = path.read_text().rsplit(")", 1)[1].split()
            parents[int(path.parent.name)] = int(fields[1])
            ticks[int(path.parent.name)] = sum(int(one) for one in fields[11:15])

    def comes_from(one: int) -> bool:
        while one in parents:
            if one == process:
                return True
            one = parents[one]
        return False

    return sum(ticks[one] for one in parents if comes_from(one)) / os.sysconf("SC_CLK_TCK")


def scale(rounds: int = 3, episodes: int = 16, workers: int = 2, device: str = "cpu") -> dict[str, Any]:
    """Returns the measurements; keys as printed by `wambench bench scale --json`.

    Args:
        rounds: Turns each variant gets; their order is reversed from round to round.
        episodes: Of one variant in one round, more than two for each worker.
        workers: Processes that simulate; even, so that two nodes have equally many.
        device: Where batches are measured.

    Raises:
        ValueError: Workers cannot be shared by two nodes, or Ray is not installed.
    """
    if workers < 2 or workers % 2:
        raise ValueError(f"workers must be an even number, not {workers}: two nodes share them")
    if episodes <= 2 * workers:
        raise ValueError(
            f"episodes must be more than {2 * workers}, two for each worker, which warm up, not {episodes}"
        )
    RunConfig.resolve(POLICY, "seen", (TASK,), cluster="auto")  # is Ray there?
    played = {name: Played() for name in VARIANTS}
    for number in range(rounds):
        for name in list(VARIANTS)[:: -1 if number % 2 else 1]:
            _play(VARIANTS[name], episodes, workers, played[name])
    pool = played["pool"]
    return {
        "task": TASK,
        "policy": POLICY,
        "rounds": rounds,
        "episodes": episodes,
        "workers": workers,
        "variants": {
            name: {
                "episodes_per_hour": round(float(np.median(one.per_hour))),
                "cpu_s_per_episode": round(float(np.median(one.cpu_s)), 3),
                "rate_of_pool": _ratios(one.per_hour, pool.per_hour),
                "cpu_of_pool": _ratios(one.cpu_s, pool.cpu_s),
                "startup_s": round(float(np.median(one.startup_s)), 1),
            }
            for name, one in played.items()
        },
        "query_ms": round(1e3 * _query_s(), 3),
        "device": device,
        "batch_of_singles": {name: round(_batch_ratio(name, device, rounds), 3) for name in BATCHED},
    }


def _play(variant: tuple[dict[str, Any], tuple[int, ...]], episodes: int, workers: int, played: Played) -> None:
    options, shares = variant
    begun: list[float] = []
    with tempfile.TemporaryDirectory() as folder, _cluster([workers // share for share in shares]):
        config = RunConfig.resolve(
            POLICY, "seen", (TASK,), episodes=episodes, workers=workers, out=Path(folder, "run"), **options
        )
        start = time.perf_counter()
        watch = Watch(config.folder / "episodes", 2 * workers)
        watch.start()
        with contextlib.redirect_stderr(io.StringIO()):
            rows = run(
                config, tell=lambda _: begun.append(time.perf_counter())
            )  # the first line comes with the first worker
        if any(row.status != "ok" for row in rows):
            raise RuntimeError(f"an episode of the bench failed: {next(row.error for row in rows if row.error)}")
        per_hour, cpu_s = watch.rates()
    played.startup_s.append(begun[0] - start)
    played.per_hour.append(per_hour)
    played.cpu_s.append(cpu_s)


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [round(a / b, 3) for a, b in zip(ours, theirs, strict=True)]


@contextlib.contextmanager
def _cluster(cpus: list[int]) -> Iterator[None]:
    """Starts a cluster of nodes on this machine, each with so many CPUs, for `--cluster auto`; none for no nodes."""
    if not cpus:
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for count in cpus:
        cluster.add_node(num_cpus=count, object_store_memory=NODE_STORE_BYTES, include_dashboard=False)
    before = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        yield
    finally:
        cluster.shutdown()
        del os.environ["RAY_ADDRESS"]
        if before is not None:
            os.environ["RAY_ADDRESS"] = before


def _query_s() -> float:
    """Returns the seconds that a query of one worker takes longer because its policy is in another process."""
    make = Make("noop", {})
    with InferenceProcess(make, batch=8) as process:
        elsewhere, here = process.connect(), make()
        took = {policy: _asked(policy) for policy in (elsewhere, here)}
    return took[elsewhere] - took[here]


def _batch_ratio(name: str, device: str, rounds: int) -> float:
    """Returns what a batch of `BATCH` first queries takes, as a share of what they take one by one; median of rounds.

    On "cpu" the shipped policies would answer one by one; "cpu:0" is the same device, and a batch is one.
    """
    from wambench import policies

    policy = policies.load(name, {"device": "cpu:0" if device == "cpu" else device})
    assert isinstance(policy, Batched)
    histories = [[one] for one in _observations(policy.convention, BATCH)]
    ratios = []
    for _ in range(rounds + 1):
        clock = [time.perf_counter()]
        for step in (BATCH, 1):
            sessions = [policy.session("press the button", seed) for seed in range(BATCH)]
            for first in range(0, BATCH, step):
                policy.act_batch(sessions[first : first + step], histories[first : first + step])
            clock.append(time.perf_counter())  # actions are on the host by then
        ratios.append((clock[1] - clock[0]) / (clock[2] - clock[1]))
    return float(np.median(ratios[1:]))  # the first one warms up


def _observations(convention: ControlConvention, count: int) -> list[Observation]:
    images = {camera: np.zeros((*convention.image_size, 3), np.uint8) for camera in convention.cameras}
    return [Observation(i * convention.frame_stride, images, np.zeros(8)) for i in range(count)]


def _asked(policy: Policy) -> float:
    """Returns the median seconds of a query with the frames of one second, two views."""
    seen = _observations(policy.convention, 5)
    policy.reset("", 0)
    seconds = []
    for _ in range(QUERIES):
        start = time.perf_counter()
        policy.act(seen)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def text(result: dict[str, Any]) -> str:
    """Returns the table for people."""
    lines = [f"{'':18s}{'episodes/h':>12s}{'of the pool':>22s}{'CPU s':>8s}{'of the pool':>22s}{'startup, s':>12s}"]
    for name, one in result["variants"].items():
        rate, cpu = (" ".join(f"{x:.2f}" for x in one[ratio]) for ratio in ("rate_of_pool", "cpu_of_pool"))
        taken = f"{one['cpu_s_per_episode']:8.2f}{cpu:>22s}{one['startup_s']:12.1f}"
        lines.append(f"{name:18s}{one['episodes_per_hour']:12d}{rate:>22s}{taken}")
    r = result
    lines.append(
        f"{r['rounds']} rounds of {r['episodes']} episodes of {r['task']}, {r['workers']} workers, {r['policy']}"
    )
    lines.append(f"a query of a policy in another process takes {r['query_ms']:.2f} ms longer")
    lines.append(f"{BATCH} first queries in a batch on {r['device']}, as a share of one by one:")
    lines += [f"{name:18s}{ratio:12.3f}" for name, ratio in r["batch_of_singles"].items()]
    return "\n".join(lines)
