"""A run on the machines of a Ray cluster: the same jobs, rows and guarantees as on one machine.

Simulation workers are actors of one CPU each, policies that are shared are actors of one GPU each (replicas), and an
episode is one call. Only the driver, the process of `wambench run`, writes the folder, and only it decides that an
episode is played again: Ray itself repeats nothing (`max_task_retries=0`), so that no episode is played twice at the
same time. Ray runs what it is sent, pickled: a cluster must be reachable by its users only (docs/scaling.md).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import socket
import sys
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from wambench import __version__
from wambench.evaluation.failures import RelayedError, full, reason
from wambench.evaluation.inference_process import check_device
from wambench.evaluation.process_pool import GRACE_S, TICK_S, LostJob, Setup, WorkerFailed, in_one_line
from wambench.evaluation.query_service import Answer, Query, QueryService
from wambench.evaluation.shared_policy import LOST, SharedPolicy
from wambench.interface import Policy
from wambench.records.rows import MACHINE

RETRIES = 2  # of an episode that went down with its worker, its policy or its machine
START_S = 600.0  # a worker or policy that is not ready by then never will be: loading 46 GB of weights takes minutes
LATE_S = GRACE_S + 120.0
PROBE_S = 5.0
STORE_BYTES = 200 * 2**20  # of a local cluster: what is under way, a few episodes of about 1 MB
TASK_MODULE = "WAMBENCH_TASK_MODULE"


@dataclass(frozen=True)
class Replicas:
    """How the policy of a run is shared on a cluster: the arguments of `PolicyActor`."""

    make: Callable[[], Policy]
    batch: int
    device: str

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")


@contextlib.contextmanager
def connected(address: str, workers: int, replicas: Replicas | None) -> Iterator[Any]:
    """Connects to a cluster, or starts one here, and yields the module `ray`.

    Args:
        address: "local", "auto" or "ray://HOST:PORT".
        workers, replicas: What a local cluster must have room for; its GPUs are those of this machine.

    Raises:
        ValueError: Ray is not installed, or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = _ray()
    if address.startswith("ray://"):
        _probe(address)
    cpus = workers + (replicas is not None and not replicas.on_gpu)
    size = {"num_cpus": cpus, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    given = {name: os.environ[name] for name in (TASK_MODULE, "MUJOCO_GL") if name in os.environ}
    try:
        ray.init(
            address=address,
            namespace=f"wambench-{uuid.uuid4().hex}",
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", **given}},
            log_to_driver=False,
            logging_level="ERROR",
            **(size if address == "local" else {}),
        )
    except Exception as error:
        raise ValueError(f"no Ray cluster answers at {address!r}: {in_one_line(error)}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ValueError("--cluster needs Ray: pip install 'wambench[ray]'") from None
    return ray


def _probe(address: str) -> None:
    """Raises ValueError if nobody listens there: Ray itself tries for half a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), PROBE_S).close()
    except OSError as error:
        raise ValueError(f"no Ray cluster answers at {address!r}: {error.strerror or error}") from None


class SimulationActor:
    """A simulation worker, in a process of its own on some machine.

    Args:
        setup, payload: As of `process_pool.Pool`.
    """

    def __init__(self, setup: Setup, payload: Any) -> None:
        self._failed = ""
        try:
            self._info, self._handle = setup(payload)
            if torch := sys.modules.get("torch"):
                torch.set_num_threads(1)
        except (Exception, SystemExit) as error:
            self._failed = in_one_line(error)

    def ready(self) -> tuple[str, Any]:
        """Returns why it could not be set up, or "", and what the driver should know."""
        return self._failed, None if self._failed else (self._info, __version__)

    def play(self, job: Any) -> Any:
        """Returns the result of a job, or a LostJob if it raised."""
        try:
            return self._handle(job)
        except (Exception, SystemExit) as error:
            return LostJob(reason(error), traceback=full(error))


class PolicyActor:
    """A replica of the policy, on a GPU if there is one: answers the queries of its simulation workers.

    Args:
        make, batch: As of `query_service.QueryService`.
        device: As of `inference_process.check_device`.
    """

    def __init__(self, make: Callable[[], Policy], batch: int, device: str) -> None:
        self._failed = ""
        self._waiting: queue.SimpleQueue[tuple[Query, Future[Answer]]] = queue.SimpleQueue()
        try:
            check_device(device)
            self._service = QueryService(make, batch)
            if torch := sys.modules.get("torch"):
                torch.set_num_threads(1)
        except (Exception, SystemExit) as error:
            self._failed = in_one_line(error)
            return
        threading.Thread(target=self._serve, daemon=True).start()

    def ready(self) -> tuple[str, Any]:
        """Returns why it could not be set up, or ""."""
        return self._failed, None

    def ask(self, client: int, method: str, arguments: tuple[Any, ...]) -> Answer:
        """Returns the answer to a query; called from many threads, one for each client."""
        promise: Future[Answer] = Future()
        self._waiting.put((Query(client, method, arguments), promise))
        return promise.result()

    def _serve(self) -> None:
        while True:
            now = [self._waiting.get()]
            with contextlib.suppress(queue.Empty):
                while len(now) < self._service.batch:
                    now.append(self._waiting.get_nowait())
            newest = {query.client: (query, promise) for query, promise in now}
            for query, promise in now:
                if newest[query.client][1] is not promise:  # of a worker that is dead, and has a successor
                    promise.cancel()
            for client, answer in self._service.answers([query for query, _ in newest.values()]):
                newest[client][1].set_result(answer)


class AskByRay:
    """Asks a replica. One that is being started anew on another machine is waited for, at the start of an episode.

    Args:
        name: Of the replica.
        client: Number of whoever asks.
    """

    def __init__(self, name: str, client: int) -> None:
        self._actor, self._client = _ray().get_actor(name), client

    def __call__(self, method: str, arguments: tuple[Any, ...]) -> Answer:
        """Returns the answer; the death of the replica is an error of the machine."""
        ray = _ray()
        until = time.monotonic() + (START_S if method in ("facts", "reset") else 0.0)
        while True:
            try:
                return ray.get(self._actor.ask.remote(self._client, method, arguments))
            except ray.exceptions.RayTaskError as error:  # what the policy answered cannot be pickled
                raise RelayedError(reason(error), full(error), machine=False) from error
            except ray.exceptions.RayError as error:
                waits = isinstance(error, ray.exceptions.ActorUnavailableError) and time.monotonic() < until
                if not waits:
                    raise RelayedError(LOST, full(error), machine=True) from error
            time.sleep(TICK_S)


@dataclass(frozen=True)
class ConnectByRay:
    """Makes the client of a replica, in whatever process it is called."""

    name: str
    client: int

    def __call__(self) -> Policy:
        return SharedPolicy(AskByRay(self.name, self.client))


class RayPool:
    """A context of actors that takes one job after another, as `process_pool.Pool` does.

    Args:
        ray: Of `connected`.
        setup: As of `Pool`.
        payload: Its argument, for a worker that gets its policy by what it is given (None: it makes its own).
        workers: How many actors; as many of them work as the cluster has CPUs for.
        replicas: How the policy is shared; None: every worker has its own.
        called: Returns how a job is called.
        again: Returns why a result should be played again ("" for one that stands).
        tell: Is told what is played again.

    Attributes:
        info: What the first worker's setup told.
    """

    def __init__(
        self,
        ray: Any,
        setup: Setup,
        payload: Callable[[ConnectByRay | None], Any],
        workers: int,
        replicas: Replicas | None,
        called: Callable[[Any], str],
        again: Callable[[Any], str],
        tell: Callable[[str], None],
    ) -> None:
        self._ray, self._setup, self._payload, self._count = ray, setup, payload, workers
        self._replicas, self._called, self._again, self._tell = replicas, called, again, tell
        self._policies: list[Any] = []
        self._names: list[str] = []
        self._starting: dict[Any, tuple[int, Any]] = {}  # what `ready` promised -> number of the worker, actor
        self._idle: deque[tuple[int, Any]] = deque()
        self._busy: dict[Any, tuple[int, Any, int, float]] = {}  # result -> number, actor, job, since when
        self.info: Any = None
        self._first: Any = None

    def __enter__(self) -> RayPool:
        cpus = int(self._ray.cluster_resources().get("CPU", 0))
        if self._count < cpus:
            self._tell(f"{self._count} workers on a cluster of {cpus} CPUs; --workers says how many")
        if self._replicas is not None:
            self._start_policies(self._replicas)
        for number in range(self._count):
            self._start(number)
        until = time.monotonic() + START_S
        while not self._idle:
            self._greet(until)
        return self

    def __exit__(self, *exception: object) -> None:
        """Ends all actors; the cluster stays."""
        actors = [actor for _, actor in (*self._starting.values(), *self._idle)]
        for actor in (*actors, *(busy[1] for busy in self._busy.values()), *self._policies):
            with contextlib.suppress(Exception):
                self._ray.kill(actor)

    def results(self, jobs: Sequence[Any], limit_s: float) -> Iterator[tuple[int, Any]]:
        """Yields (index of the job, its result or LostJob) as they come in; see `Pool.results`.

        A job goes down with its worker, or its result asks for it (`again`): it is played again, `RETRIES` times.
        Compiling a scene counts, here, as part of the job: a worker that hangs is killed `LATE_S` after its time.
        """
        waiting, tries, left = deque(range(len(jobs))), Counter[int](), len(jobs)
        until = time.monotonic() + START_S
        while left:
            while self._idle and waiting:
                number, actor = self._idle.popleft()
                job = waiting.popleft()
                self._busy[actor.play.remote(jobs[job])] = number, actor, job, time.monotonic()
            if self._busy or self._idle:
                until = time.monotonic() + START_S
            self._greet(until)
            for job, result, why in self._finished(limit_s):
                tries[job] += bool(why)
                if why and tries[job] <= RETRIES:
                    self._tell(f"{self._called(jobs[job])} is played again: {why}")
                    waiting.appendleft(job)
                else:
                    left -= 1
                    yield job, result

    def _finished(self, limit_s: float) -> Iterator[tuple[int, Any, str]]:
        """Yields job, result and why it should be played again, of workers that are done, dead or late."""
        done, _ = self._ray.wait(list(self._busy), timeout=TICK_S) if self._busy else ([], [])
        late = time.monotonic() - limit_s - LATE_S
        for ref in [*done, *(ref for ref, busy in self._busy.items() if busy[3] < late and ref not in done)]:
            number, actor, job, _ = self._busy.pop(ref)
            if ref not in done:
                self._replace(number, actor)
                if self._policies:  # which may be what hangs: Ray starts it anew
                    self._ray.kill(self._policies[number % len(self._policies)], no_restart=False)
                yield job, LostJob(f"no answer after {limit_s + LATE_S:g} s", timeout=True), ""
                continue
            try:
                result = self._ray.get(ref, timeout=START_S)
            except self._ray.exceptions.RayError as error:
                self._replace(number, actor)
                why = f"the worker, or its machine, died: {type(error).__name__}"
                yield job, LostJob(MACHINE + why), why
            else:
                self._idle.append((number, actor))
                yield job, result, self._again(result)

    def _start(self, number: int) -> None:
        connect = ConnectByRay(self._names[number % len(self._names)], number) if self._names else None
        options = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}
        actor = self._ray.remote(SimulationActor).options(**options).remote(self._setup, self._payload(connect))
        self._starting[actor.ready.remote()] = number, actor

    def _replace(self, number: int, actor: Any) -> None:
        """Starts another worker for one that is dead, or cannot be reached: then it is ended, if it still lives."""
        with contextlib.suppress(Exception):
            self._ray.kill(actor)
        self._start(number)

    def _greet(self, until: float) -> None:
        """Takes in the workers that have become ready.

        Raises:
            WorkerFailed: One could not be set up, is not like the others, or there is none for too long.
        """
        if time.monotonic() > until:
            has = self._ray.available_resources()
            raise WorkerFailed(f"no worker became ready in {START_S:g} s; the cluster has left: {has}")
        if not self._starting:
            return
        done, _ = self._ray.wait(list(self._starting), timeout=0.0 if self._busy else TICK_S)
        for ref in done:
            number, actor = self._starting.pop(ref)
            try:
                failed, told = self._ray.get(ref)
            except self._ray.exceptions.RayError:  # its machine died meanwhile
                self._start(number)
                continue
            if failed:
                raise WorkerFailed(failed)
            self._first = self._first or told
            if told != self._first:
                raise WorkerFailed(f"the machines of the cluster differ: {_difference(self._first, told)}")
            self.info = told[0]
            self._idle.append((number, actor))

    def _start_policies(self, replicas: Replicas) -> None:
        """Starts a replica for every GPU of the cluster, or one on a CPU, and waits until all are ready.

        Raises:
            WorkerFailed: The policy cannot be made, or the cluster has no GPU though one is asked for.
        """
        gpus = int(self._ray.cluster_resources().get("GPU", 0))
        if replicas.on_gpu and not gpus:
            raise WorkerFailed(f"there is no GPU in the cluster for policy_device={replicas.device}")
        needs = {"num_gpus": 1, "num_cpus": 0} if replicas.on_gpu else {"num_cpus": 1}
        for number in range(gpus if replicas.on_gpu else 1):
            options = {"name": f"policy-{number}", "scheduling_strategy": "SPREAD", "max_restarts": -1, **needs}
            actor = self._ray.remote(PolicyActor).options(
                max_task_retries=0, max_concurrency=self._count + 2, **options
            )  # a thread for each client
            self._policies.append(actor.remote(replicas.make, replicas.batch, replicas.device))
            self._names.append(f"policy-{number}")
        for failed, _ in self._ray.get([actor.ready.remote() for actor in self._policies], timeout=START_S):
            if failed:
                raise WorkerFailed(failed)


def _difference(first: Any, other: Any) -> str:
    """Returns in what two workers differ; each is (what its setup told, version of wambench)."""
    pairs = itertools.chain(
        ((name, first[0].get(name), other[0].get(name)) for name in first[0]), [("wambench", first[1], other[1])]
    )
    return "; ".join(f"{name} is {a!r} on one and {b!r} on another" for name, a, b in pairs if a != b)
