"""The tasks' experts as a policy: proof that every episode can be solved, and no contestant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from wambench.interface import Observation, Outcome, Plan, Simulator


class ExpertSim(Simulator, Protocol):
    """A simulator whose task has an expert."""

    def expert_action(self) -> np.ndarray:
        """Returns the (A,) action of the expert in the current state."""

    def advance(self, action: np.ndarray) -> Outcome:
        """Carries out one (A,) action without rendering."""


class ScriptedExpert:
    """Asks the expert of the simulator it acts in at every control step: a closed loop, on privileged state.

    A plan reaches to the next video frame: the steps up to it are tried out in the simulator, which is then put back.
    So the expert is recorded at the video rate like everybody else.

    Args:
        sim: The simulator of the rollout.
        chunk: Control steps of a plan; None for those up to the next video frame. Played with latency, a plan must be
            longer than the answer takes.
    """

    def __init__(self, sim: ExpertSim, chunk: int | None = None) -> None:
        self.sim = sim
        self.convention = sim.convention
        self.chunk_steps = self.convention.frame_stride if chunk is None else chunk
        if self.chunk_steps < 1:
            raise ValueError(f"chunk is a number of control steps, at least 1, not {chunk}")

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode; the expert keeps no memory."""

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns the actions up to the next video frame, or to the end of the episode."""
        state = self.sim.snapshot()
        actions = []
        for _ in range(self.chunk_steps):
            actions.append(self.sim.expert_action())
            outcome = self.sim.advance(actions[-1])
            if outcome.terminated or outcome.truncated:
                break
        self.sim.restore(state)
        return Plan(np.stack(actions))
