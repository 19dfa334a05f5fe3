"""A simulator of arithmetic and policies of a few lines, so that the harness is tested without a simulator.

The simulator: a point on a line starts at 0; action[0] moves it by up to 0.05. Progress is reached in two halves, at
0.5 and 1.0. It is drawn as a bright column. Worker processes import these by name.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wambench.evaluation import run as play
from wambench.evaluation.config import RunConfig
from wambench.interface import ControlConvention, EpisodeSpec, Observation, Outcome, Plan, SimulationDiverged

HORIZON = 40


def heed_interrupts() -> None:
    """Lets a child process be interrupted even where this one was started in the background, deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


SMALL = ControlConvention(image_size=(8, 8))


class LineSim:
    """A point that should go to 1."""

    def __init__(self, convention: ControlConvention) -> None:
        self.convention = convention

    def begin(self, episode: EpisodeSpec) -> Outcome:
        self.shade = episode.seed % 200
        self.at, self.steps, self.best = 0.0, 0, 0.0
        return self._outcome([self._observation()])

    def advance(self, action: np.ndarray) -> Outcome:
        self.at += 0.05 * float(action[0])
        self.steps += 1
        self.best = max(self.best, self.at)
        if self.at < -1.5:
            raise SimulationDiverged("fell off the line")
        return self._outcome([])

    def step_chunk(self, actions: np.ndarray) -> Outcome:
        seen = []
        for i, action in enumerate(actions):
            now = self.advance(action)
            over = now.terminated or now.truncated
            if over or i == len(actions) - 1 or self.steps % self.convention.frame_stride == 0:
                seen.append(self._observation())
            if over:
                break
        return self._outcome(seen)

    def snapshot(self) -> bytes:
        return json.dumps([self.at, self.steps, self.best]).encode()

    def restore(self, state: bytes) -> None:
        self.at, self.steps, self.best = json.loads(state)

    def expert_action(self) -> np.ndarray:
        return np.array([1.0, 0, 0, 0, 0, 0, -1.0])

    def _observation(self) -> Observation:
        height, width = self.convention.image_size
        image = np.full((height, width, 3), self.shade, np.uint8)
        image[:, int(np.clip(self.at, 0, 0.99) * width)] = 255
        state = np.array([self.at, *[0.0] * 7])
        return Observation(self.steps, {camera: image.copy() for camera in self.convention.cameras}, state)

    def _outcome(self, seen: Sequence[Observation]) -> Outcome:
        reached = tuple(name for name, at in (("half", 0.5), ("whole", 1.0)) if self.best >= at - 1e-9)
        done = len(reached) == 2
        return Outcome(tuple(seen), self.steps, len(reached) / 2, reached, done, done, done, self.steps >= HORIZON)


class Steady:
    """Moves right by the same amount in every step, and imagines so."""

    def __init__(self, speed: float = 0.6, pause_s: float = 0.0, convention: ControlConvention = SMALL) -> None:
        self.convention, self.speed, self.pause_s = convention, speed, pause_s

    def reset(self, instruction: str, seed: int) -> None:
        self.histories: list[list[int]] = []

    def act(self, history: Sequence[Observation]) -> Plan:
        time.sleep(self.pause_s)
        self.histories.append([observation.step for observation in history])
        actions = np.zeros((8, 7))
        actions[:, 0] = self.speed
        now = history[-1]
        height, width = self.convention.image_size
        frames = np.full((2, height, width * len(self.convention.cameras), 3), now.step, np.uint8)
        return Plan(actions, frames=frames, frame_steps=np.array([now.step + 4, now.step + 8]))


class Faulty(Steady):
    """Goes wrong in one episode in three, by seed; `fault` says how."""

    def __init__(self, fault: str = "raise", every: int = 3) -> None:
        super().__init__()
        self.fault, self.every = fault, every

    def reset(self, instruction: str, seed: int) -> None:
        super().reset(instruction, seed)
        self.bad = seed % self.every == 0

    def act(self, history: Sequence[Observation]) -> Plan:
        plan = super().act(history)
        if not self.bad or history[-1].step < 8:
            return plan
        return FAULTS[self.fault](plan)


class Together(Steady):
    """Plays several episodes at once (`interface.Batched`), each with an answer of its own, and can be guided.

    In an episode whose seed `every` divides it raises at step 8, also for a whole batch with such an episode. Processes
    in which it answers leave a file in the folder `marks`, named by their number.
    """

    def __init__(self, every: int = 0, pause_s: float = 0.0, device: str = "cpu", marks: str = "") -> None:
        super().__init__(pause_s=pause_s)
        self.every, self.device, self.marks = every, device, marks
        self.sizes: list[int] = []

    def session(self, instruction: str, seed: int) -> dict[str, Any]:
        return {"seed": seed, "asked": 0, "bad": self.every and seed % self.every == 0}

    def resume(self, session: dict[str, Any]) -> None:
        self.current = session

    def reset(self, instruction: str, seed: int) -> None:
        self.resume(self.session(instruction, seed))

    def act(self, history: Sequence[Observation]) -> Plan:
        return self.act_batch([self.current], [history])[0]

    def act_batch(self, sessions: Sequence[dict[str, Any]], histories: Sequence[Sequence[Observation]]) -> list[Plan]:
        if self.marks:
            Path(self.marks, str(os.getpid())).touch()
        time.sleep(self.pause_s)
        self.sizes.append(len(sessions))
        for session, history in zip(sessions, histories, strict=True):
            if session["bad"] and history[-1].step >= 8:
                raise KeyError("no such object")
        return [self._plan(session, history) for session, history in zip(sessions, histories, strict=True)]

    def act_guided(self, history: Sequence[Observation], previous: np.ndarray, delay: int) -> Plan:
        plan = self._plan(self.current, history)
        return Plan(0.5 * (plan.actions + previous[0]))

    def _plan(self, session: dict[str, Any], history: Sequence[Observation]) -> Plan:
        session["asked"] += 1
        speed = 0.3 + 0.1 * (session["seed"] % 7) - 0.01 * session["asked"] * (history[-1].step % 3)
        return Plan(np.outer(np.full(8, speed), np.eye(7)[0]))


class Mortal(Together):
    """Ends its process at its tenth answer, once: `grave` is a file that tells of it."""

    def __init__(self, grave: str, pause_s: float = 0.0) -> None:
        super().__init__(pause_s=pause_s)
        self.grave, self.answered = grave, 0

    def _plan(self, session: dict[str, Any], history: Sequence[Observation]) -> Plan:
        self.answered += 1
        if self.answered == 10 and not Path(self.grave).exists():
            Path(self.grave).touch()
            os._exit(3)
        return super()._plan(session, history)


class Listener(Steady):
    """Says what it was told, as an error."""

    def reset(self, instruction: str, seed: int) -> None:
        raise RuntimeError(f"told to {instruction}")


def _raise(plan: Plan) -> Plan:
    raise KeyError("no such object\nat all")


def _exit(plan: Plan) -> Plan:
    os._exit(3)


def _hang(plan: Plan) -> Plan:
    time.sleep(600)
    return plan


FAULTS: dict[str, Any] = {
    "raise": _raise,
    "exit": _exit,
    "hang": _hang,
    "nan": lambda plan: Plan(plan.actions * np.nan),
    "shape": lambda plan: Plan(plan.actions[:, :5]),
    "range": lambda plan: Plan(plan.actions * 10),
    "no plan": lambda plan: plan.actions,
}


class Unfit(Steady):
    """Closes the gripper with -1."""

    def __init__(self) -> None:
        super().__init__(convention=ControlConvention(image_size=(8, 8), gripper="open_positive"))


def line_sim(task: str, config: RunConfig, convention: ControlConvention) -> LineSim:
    """Returns a line whatever the task; it is the environment of the shipped convention."""
    return LineSim(ControlConvention(image_size=convention.image_size))


def main(arguments: Sequence[str]) -> int:
    """The command line in a simulator of lines."""
    from wambench import cli

    play.run = functools.partial(play.run, make_sim=line_sim)
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
