"""What one client has said so far, whatever its protocol: its episode, its steps, and the policy's answers."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wambench.interface import Observation
from wambench.policies.remote import translation
from wambench.policies.remote.adapter import Adapter
from wambench.policies.remote.client import EXTENSION
from wambench.serving.host import PolicyHost


@dataclass(frozen=True)
class Reply:
    """An answer, in the client's terms.

    Attributes:
        actions: Key -> (H, n) float64; "" where the answer is the array itself.
        execute: How many of the H actions the policy wants carried out.
        video: (T, h, w * cameras, 3) uint8 imagined canvases, or None.
        video_steps: Control steps from the query to each of them.
        infer_ms: Milliseconds that it took.
        own: (H, A) the actions in our own numbers, for our own clients; None for others.
    """

    actions: Mapping[str, np.ndarray]
    execute: int
    video: np.ndarray | None
    video_steps: tuple[int, ...]
    infer_ms: float
    own: np.ndarray | None

    @property
    def extension(self) -> dict[str, Any]:
        """What our own clients are told beside actions and video."""
        told = {"execute": self.execute, "video_steps": list(self.video_steps)}
        return told if self.own is None else {**told, "actions": self.own}


class Conversation:
    """One client.

    A new episode begins with the first message, with another session or instruction, or when the protocol says so.
    A client that does not tell its step is believed to have carried out what the plan before asked for.

    Args:
        host: Of the policy.
        adapter: Of the client.
        seed: Of the first episode of a client that does not tell one; each further one has the next.
    """

    def __init__(self, host: PolicyHost, adapter: Adapter, seed: int) -> None:
        self._adapter, self._seed = adapter, seed
        self._seat = host.enter()
        self._begun: tuple[Any, str] | None = None
        self._step = 0
        self._frames: list[Observation] = []
        self._rest: list[Reply] = []

    def close(self) -> None:
        """Ends it."""
        self._seat.leave()

    def forget(self) -> None:
        """Ends the episode; the next message begins another."""
        self._begun = None

    def reply(self, asked: Mapping[str, Any], session: Any = None, ours: Mapping[str, Any] | None = None) -> Reply:
        """Returns the policy's answer to a message.

        Args:
            asked: By flat keys.
            session: Whatever the protocol has to tell episodes apart.
            ours: Our extension, from our own clients.

        Raises ValueError if the message is none.
        """
        reply = self._ask(self._seen(asked, session, ours), ours if isinstance(ours, Mapping) else {})
        self._step += reply.execute
        return reply

    def step(self, asked: Mapping[str, Any], session: Any = None, ours: Mapping[str, Any] | None = None) -> Reply:
        """Returns the answer for one control step: of a client that asks at every one, and leaves chunks to us.

        The policy is asked when the actions of its last answer are carried out, and is then shown what it would have
        been shown in a run: the frames of the video rate since, and the present one.
        """
        self._frames += self._seen(asked, session, ours)
        self._step += 1
        if not self._rest:
            now, stride = self._frames[-1].step, self._adapter.convention.frame_stride
            seen = [o for o in self._frames if o.step % stride == 0 or o.step == now]
            whole = self._ask(seen, {} if ours is None else {EXTENSION: True})
            self._frames.clear()
            self._rest = [_row(whole, i) for i in range(whole.execute)]
            self._rest[0] = dataclasses.replace(self._rest[0], video=whole.video, video_steps=whole.video_steps)
        return self._rest.pop(0)

    def _seen(self, asked: Mapping[str, Any], session: Any, ours: Mapping[str, Any] | None) -> list[Observation]:
        """Returns what a client saw; another session or instruction begins an episode."""
        told = ours if isinstance(ours, Mapping) else {}
        instruction = self._instruction(asked)
        session = told.get("session", session)
        if self._begun != (session, instruction):
            self._seat.begin(instruction, _whole(told.get("seed", self._seed), "seed"))
            self._seed += 0 if "seed" in told else 1
            self._begun, self._step, self._rest = (session, instruction), 0, []
            self._frames.clear()
        steps = [_whole(step, "step") for step in told.get("steps", [self._step])]
        if not steps or sorted(set(steps)) != steps:
            raise ValueError(f"steps must rise, not {steps}")
        states = told.get("states")
        own = None if states is None else np.asarray(states, np.float64)
        seen = translation.observations(self._adapter, asked, steps, own)
        self._step = steps[-1]
        return seen

    def _ask(self, seen: Sequence[Observation], told: Mapping[str, Any]) -> Reply:
        """Returns the policy's answer; to our own clients, who tell something, with the actions in our own numbers."""
        began = time.perf_counter()
        if "future" in told:
            plan = self._seat.act(seen, "extract", _array(told["future"], np.uint8))
        elif "previous" in told:
            previous = _array(told["previous"], np.float64)
            plan = self._seat.act(seen, "act_guided", previous, _whole(told.get("delay"), "delay"))
        else:
            plan = self._seat.act(seen)
        infer_ms = 1000.0 * (time.perf_counter() - began)
        execute = plan.execute or len(plan.actions)
        ahead = () if plan.frame_steps is None else tuple(int(step) - seen[-1].step for step in plan.frame_steps)
        sent = translation.sent_actions(self._adapter, plan.actions)
        return Reply(sent, execute, plan.frames, ahead, infer_ms, plan.actions if told else None)

    def _instruction(self, asked: Mapping[str, Any]) -> str:
        [key] = [key for key, text in self._adapter.texts.items() if text.startswith("instruction")][:1] or [""]
        text = asked.get(key)
        if isinstance(text, list | tuple) and len(text) == 1:
            text = text[0]
        if not isinstance(text, str):
            raise ValueError(f"the message has no text {key!r}; it has: {', '.join(map(str, asked))}")
        return text


def _row(reply: Reply, index: int) -> Reply:
    """Returns one action of an answer, as an answer of that action alone."""
    actions = {key: values[index] for key, values in reply.actions.items()}
    own = None if reply.own is None else reply.own[index : index + 1]
    return Reply(actions, 1, None, (), reply.infer_ms, own)


def _array(value: Any, dtype: Any) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.dtype != dtype:
        got = getattr(value, "dtype", type(value).__name__)
        raise ValueError(f"an array of {np.dtype(dtype)} is expected, not {got}")
    return np.array(value)  # writable, as in process


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{name} must be a whole number from 0, not {value!r}")
    return int(value)
