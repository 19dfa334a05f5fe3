"""DreamZero that chooses among its candidates by the simulator, a perfect world model: a control and no contestant.

Every candidate's actions are carried out in a branch of the simulator, which is then put back bitwise, and the one that
leads furthest is played. Everything is DreamZero's own but the choice. What it gains over one candidate is what a
perfect imagination gains by choosing among these candidates, so far ahead; what `judge="goal"` gains less is lost by
the score of `choice`, and what DreamZero's own `choose="goal"` gains less than that, by its imagination. It is no bound
in the strict sense: it takes the best at every query, and a choice that looks further may end better.

Branches begin when the question is asked, so that only the executor `sync` plays what was tried out. The recorded
latency holds the simulator's time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from wambench.interface import Observation, Outcome, SimulationDiverged, Simulator, unknown_name
from wambench.policies import check_arguments
from wambench.policies.dreamzero import choice
from wambench.policies.dreamzero.dit import Frames
from wambench.policies.dreamzero.policy import DreamZero, DreamZeroOptions, DreamZeroSession
from wambench.policies.perception.encoder import HAND

JUDGES = ("progress", "goal")


class PointView(Protocol):
    """What a simulator knows of its scene, see `envs.privileged_view.SceneView`."""

    def point(self, name: str) -> np.ndarray:
        """Returns the (3,) position of a key point in m."""


class SceneTask(Protocol):
    """A task, see `envs.task.Task`."""

    @property
    def objects(self) -> Sequence[str]:
        """Names of what stands on the table."""


class BranchingSim(Simulator, Protocol):
    """A simulator whose branches can be looked into; `envs.tabletop.TabletopEnv` is one."""

    @property
    def task(self) -> SceneTask:
        """What is played."""

    @property
    def view(self) -> PointView:
        """What the simulator knows."""

    def advance(self, action: np.ndarray) -> Outcome:
        """Carries out one (A,) action without rendering, also beyond the end of the episode."""

    def observe(self) -> Observation:
        """Renders all cameras now."""


def policy(sim: BranchingSim, judge: str = JUDGES[0], **options: Any) -> OracleChoice:
    """Returns the policy in a simulator.

    Args:
        sim: That of the rollout.
        judge: See `OracleChoice`.
        options: Fields of `DreamZeroOptions` but `choose`; without `candidates` there are 4.

    Raises:
        ValueError: There is no such judge or option, or the weights are not of a small model.
    """
    if judge not in JUDGES:
        raise unknown_name("judge", judge, JUDGES)
    known = {"candidates": 4, **options}
    if "choose" in known:
        raise ValueError("oracle-choice chooses by the simulator: judge says how, and there is no choose")
    check_arguments(DreamZeroOptions, known, "oracle-choice")
    return OracleChoice(sim, judge, DreamZeroOptions(**known))


class OracleChoice(DreamZero):
    """DreamZero whose choice among candidates is made by the simulator it acts in.

    A candidate is carried out to the end of its chunk. From there to `lookahead` chunks the policy goes on by itself,
    chunk by chunk, with what the branch looks like there.

    Args:
        sim: That of the rollout.
        judge: "progress": the progress of the task at the end of the branch, and among equal ones the score of
            `choice.goal_scores` on the true key points, since progress comes in few steps. "goal": that score alone.
        options: See `DreamZeroOptions`.
    """

    def __init__(self, sim: BranchingSim, judge: str, options: DreamZeroOptions) -> None:
        super().__init__(options)
        self.sim = sim
        self.judge = judge

    def _number(self, session: DreamZeroSession, step: int, futures: Sequence[tuple[Frames, Tensor]]) -> int:
        """Returns which candidate leads furthest in the simulator, the first of equal ones."""
        state = self.sim.snapshot()
        now = self._points()
        ends = []
        reached = []
        for _, actions in futures:
            try:
                progress = self._carry_out(actions, session).progress
                ends.append(self._points())
                reached.append(progress if self.judge == "progress" else 0.0)
            except SimulationDiverged:  # one that would end the episode is the last to be taken
                ends.append(now)
                reached.append(-1.0)
            self.sim.restore(state)
        scores = choice.goal_scores(torch.stack(ends), now, self._goal(session)).tolist()
        return max(range(len(futures)), key=lambda number: (reached[number], scores[number]))

    def _carry_out(self, actions: Tensor, session: DreamZeroSession) -> Outcome:
        """Plays a chunk of standardised actions, and goes on to `lookahead` chunks or to the episode's end."""
        outcome = self._play(self._commands(actions))
        for _ in range(1, self.options.lookahead):
            if outcome.terminated or outcome.truncated:
                break
            now = self.sim.observe()
            there = self.session(session.instruction, session.seed)
            self._look([there], [[now]])
            outcome = self._play(self._commands(self._candidate(there, now.step, 0, self.sampling)[1]))
        return outcome

    def _play(self, commands: np.ndarray) -> Outcome:
        """Carries out (H, A) actions, to the episode's end at most."""
        for action in commands:
            outcome = self.sim.advance(action)
            if outcome.terminated or outcome.truncated:
                break
        return outcome

    def _points(self) -> Tensor:
        """Returns (C, 4) the true key points of the simulator now, all zero for those that are not in the scene."""
        names = self.model.config.points
        points = torch.zeros(len(names), 4)
        for i, name in enumerate(names):
            if name in HAND or name.split("/")[0] in self.sim.task.objects:
                points[i, :3] = torch.from_numpy(self.sim.view.point(name))
                points[i, 3] = 1.0
        return points
