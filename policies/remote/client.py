"""A policy whose answers come from a server.

A server that is `wambench serve` says so in its metadata, under the key `wambench`. With it comes the adapter to use,
and its clients then send an extension under the same key (seed, episode, the env step of every frame, our own states),
so that its policy sees what it would see in our process. Other servers are sent nothing that they do not know.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from wambench.interface import Observation, Plan, mismatches
from wambench.policies.remote import adapter as adapters
from wambench.policies.remote import translation
from wambench.policies.remote.adapter import Adapter

EXTENSION = "wambench"  # the key of ours in metadata, requests and answers
VERSION = 1  # of the extension
REMOTE = "remote"
# What our own servers may offer beside `act`: real-time chunking and, for attribution, actions for a given future.
OFFERED = ("act_guided", "extract")
FIRST_PAUSE_S = 0.1  # before the second attempt to connect; each further one is twice as long
LONGEST_PAUSE_S = 5.0
REMEMBERED = 64  # frames, for adapters that send some of the past


class NoServer(ConnectionError):
    """Nobody answers at the address."""


class LostConnection(ConnectionError):
    """The server closed the connection."""


class TooLate(TimeoutError):
    """The server did not answer in time."""


class ServerFailed(RuntimeError):
    """The server answered with an error; what it said is a note of the exception."""

    def __init__(self, said: str) -> None:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        super().__init__(f"the server failed: {lines[-1] if lines else 'it did not say why'}")
        self.add_note(f"The server said:\n{said}")


class ChangedServer(RuntimeError):
    """Behind the address is another server than at the beginning."""


@dataclass(frozen=True)
class Episode:
    """What a server may be told when an episode begins; `id` is different for every episode of every client."""

    id: str
    instruction: str
    seed: int


class Link(Protocol):
    """A connection that speaks a protocol. Its methods raise the errors above, and ValueError for a foreign message."""

    def open(self) -> Mapping[str, Any]:
        """Connects and returns what the server says of itself."""

    def fitted(self, adapter: Adapter, metadata: Mapping[str, Any]) -> Adapter:
        """Returns the adapter with what this protocol's servers say themselves; ValueError names a mismatch."""

    def begin(self, episode: Episode, extension: Mapping[str, Any] | None) -> None:
        """Tells the server that an episode begins, if the protocol has a word for it; LostConnection if it has gone."""

    def ask(self, message: dict[str, Any], extension: Mapping[str, Any] | None) -> Any:
        """Returns the answer to a message, by flat keys, with our extension among them if the server sent one."""

    def close(self) -> None:
        """Closes the connection."""


@dataclass(frozen=True)
class Patience:
    """How long a client waits: seconds for an answer, and in all for a server to be there."""

    answer_s: float = 300.0
    server_s: float = 10.0

    def __post_init__(self) -> None:
        if not (self.answer_s > 0 and self.server_s >= 0):
            asked = f"{self.answer_s:g} and {self.server_s:g}"
            raise ValueError(f"timeout_s must be positive and wait_s not negative, not {asked}")


class RemotePolicy:
    """A policy behind a socket.

    An answer that fails in whatever way closes the connection, because what the server knows of the episode is then
    unknown; the next episode opens a new one.

    Args:
        link: The connection.
        url: How the user named it.
        adapter: What the server reads and answers: name or file, None for what the server or protocol says itself.
        default: Name of the protocol's adapter, used if neither the user nor the server names one; "" for none.
        execute: Actions to carry out before the next query, instead of the adapter's number.
        patience: How long to wait.

    Attributes:
        convention, weights_hash, corpus: As of any policy; of a foreign server the last two are unknown.
        server: What run.json records: address, metadata, adapter.
        sessions: Episodes that the server keeps apart, 0 for any number.
        device: "remote": what it computes on is the server's affair.

    Raises:
        NoServer: Nobody answers.
        ValueError: The server is not what the adapter expects, or no adapter is known.
    """

    def __init__(
        self,
        link: Link,
        url: str,
        adapter: str | None = None,
        default: str = "",
        execute: int | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._link, self._url, self._patience = link, url, patience or Patience()
        given = adapters.load(adapter) if adapter else None
        self._metadata = self._connect()
        try:
            ours = self._metadata.get(EXTENSION)
            self._extended = isinstance(ours, Mapping)
            self.adapter = self._adapter(given, ours if isinstance(ours, Mapping) else {}, default)
        except BaseException:
            link.close()
            raise
        ours = ours if isinstance(ours, Mapping) else {}
        self.execute = execute if execute is not None else self.adapter.execute
        self.convention = self.adapter.convention
        self.sessions = self.adapter.sessions
        self.device = REMOTE
        for name in set(OFFERED) & set(ours.get("offers", ())):  # only who has them can be asked for them
            setattr(self, name, getattr(self, f"_{name}"))
        self.weights_hash = ours.get("weights_hash")
        self.corpus = ours.get("corpus")
        self.server = {"url": url, "metadata": jsonable(self._metadata), "adapter": self.adapter.to_dict()}
        said = {name: value for name, value in self.server.items() if name != "url"}
        self.server_hash = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
        self._open, self._episode = True, Episode("", "", 0)
        self._kept: deque[Observation] = deque(maxlen=REMEMBERED)

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode, on a new connection if the last one was lost."""
        self._episode = Episode(uuid.uuid4().hex, instruction, seed)
        self._kept.clear()
        try:
            if self._open:
                with contextlib.suppress(LostConnection):  # between two episodes: nothing is lost with it
                    self._begin()
                    return
            self._reconnect()
            self._begin()
        except BaseException:
            self._lose()
            raise

    def _begin(self) -> None:
        self._link.begin(self._episode, self._extension() if self._extended else None)

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns the server's answer as a plan."""
        return self._ask(history)

    def _act_guided(self, history: Sequence[Observation], previous: np.ndarray, delay: int) -> Plan:
        """See `interface.Guided`; `act_guided` where the server offers it."""
        return self._ask(history, previous=np.asarray(previous, np.float64), delay=int(delay))

    def _extract(self, history: Sequence[Observation], frames: np.ndarray) -> np.ndarray:
        """Returns the policy's own actions (H, A) for a given future; `extract` where the server offers it."""
        return self._ask(history, future=np.ascontiguousarray(frames)).actions

    def _ask(self, history: Sequence[Observation], **more: Any) -> Plan:
        if not history:
            raise ValueError("history is empty; its last entry must be the current observation")
        if not self._open:
            raise LostConnection(f"the connection to {self._url} was lost earlier in this episode")
        began = time.perf_counter()
        frames = translation.chosen(self.adapter, history, list(self._kept))
        asked = translation.message(self.adapter, self._episode.instruction, frames)
        self._kept.extend(history)
        try:
            sent = time.perf_counter()
            told = {**self._extension(frames), **more} if self._extended else None
            answer = self._link.ask(asked, told)
            timings = {"prepare_s": sent - began, "server_s": time.perf_counter() - sent}
            return self._plan(answer, history[-1].step, timings)
        except BaseException:
            self._lose()
            raise

    def close(self) -> None:
        """Closes the connection."""
        self._lose()

    def _extension(self, frames: Sequence[Observation] = ()) -> dict[str, Any]:
        told: dict[str, Any] = {"version": VERSION, "session": self._episode.id, "seed": self._episode.seed}
        if frames:
            told["steps"] = [frame.step for frame in frames]
            told["states"] = np.stack([frame.state for frame in frames])
        return told

    def _plan(self, answer: Any, now: int, timings: Mapping[str, float]) -> Plan:
        ours = answer.get(EXTENSION) if isinstance(answer, Mapping) else None
        told = ours if isinstance(ours, Mapping) else {}
        # a protocol's numbers may be rounded on their way: GR00T's gripper is open or closed, and its arrays float32
        actions = np.asarray(told["actions"]) if "actions" in told else translation.actions(self.adapter, answer)
        execute = self.execute if self.execute is not None else told.get("execute")
        dreamed = translation.imagined(self.adapter, answer, now, told.get("video_steps"))
        frames, steps = dreamed or (None, None)
        return Plan(actions, min(int(execute), len(actions)) if execute else None, frames, steps, timings)

    def _adapter(self, given: Adapter | None, ours: Mapping[str, Any], default: str) -> Adapter:
        """Returns the adapter to use, fitted to the server; ValueError if none is known or it does not fit."""
        says = adapters.from_dict(ours["adapter"]) if "adapter" in ours else None
        if ours and ours.get("version") != VERSION:
            raise ValueError(f"{self._url} speaks version {ours.get('version')} of wambench's extension, not {VERSION}")
        adapter = given or says or (adapters.load(default) if default else None)
        if adapter is None:
            known = ", ".join(name for name in adapters.shipped() if adapters.load(name).protocol == self._protocol)
            raise ValueError(
                f"{self._url} does not say what it reads and answers: give --policy-args adapter=NAME or FILE.toml; "
                f"there are: {known}"
            )
        if adapter.protocol != self._protocol:
            raise ValueError(f"the adapter is for {adapter.protocol}, and {self._url} is not")
        if given and says:
            lines = mismatches(says.convention, given.convention)
            lines = [line for line in lines if not line.startswith(("image_size", "video_hz"))]
            if lines:
                lines = [line.replace("the environment has", "the server expects", 1) for line in lines]
                raise ValueError(f"the adapter does not fit {self._url}: {'; '.join(lines)}")
        adapter = self._link.fitted(adapter, self._metadata)
        lines = adapters.mismatched_metadata(adapter, self._metadata)
        if lines:
            raise ValueError(f"{self._url} does not fit its adapter: {'; '.join(lines)}")
        return adapter

    @property
    def _protocol(self) -> str:
        return self._url.partition("://")[0]

    def _connect(self) -> Mapping[str, Any]:
        """Returns the metadata of the server, once it is there; NoServer if it is not in time."""
        began, pause_s, tries = time.monotonic(), FIRST_PAUSE_S, 0
        while True:
            tries += 1
            try:
                return self._link.open()
            except (NoServer, LostConnection) as error:
                left_s = began + self._patience.server_s - time.monotonic()
                if left_s <= 0:
                    said = f"no server at {self._url}: {error} (tried {tries} times in {self._patience.server_s:g} s)"
                    raise NoServer(said) from error
                time.sleep(min(pause_s, left_s))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _reconnect(self) -> None:
        metadata = self._connect()
        if jsonable(metadata) != self.server["metadata"]:
            self._link.close()
            raise ChangedServer(f"the server at {self._url} now says something else of itself: start another run")
        self._open = True

    def _lose(self) -> None:
        self._open = False
        self._link.close()


def jsonable(value: Any) -> Any:
    """Returns metadata as JSON values; arrays as lists, and what JSON does not have as text."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [jsonable(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
