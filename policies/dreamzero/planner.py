"""DreamZero as the model of a planner: actions are searched for by what the model imagines they lead to.

Every query searches for one chunk by the cross-entropy method (`cross_entropy`). Candidates are imagined as one batch:
their actions stay clean and the video is denoised for them, from the same noise for all. `choice.goal_scores` says how
near the imagined key points come to what the instruction asks for. Meanwhile the instruction is hidden from the model,
for the reason that `world_model` gives.

A candidate is the first chunk (`PlannerOptions.init`) plus a displacement that is constant within each of `knots` equal
parts of the chunk: independent noise in 16 steps would cancel out, and a hand would hardly get anywhere. The score
cannot see the fingers. So the gripper stays the action head's where there is one, and is searched for otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wambench.interface import unknown_name
from wambench.policies import check_arguments
from wambench.policies.dreamzero import choice, cross_entropy, sampling
from wambench.policies.dreamzero.dit import Frames
from wambench.policies.dreamzero.policy import CANDIDATE_APART, DreamZeroOptions, DreamZeroSession
from wambench.policies.dreamzero.world_model import TOLD, ActionConditionedDreamZero
from wambench.policies.networks.noise import generator_at

INITS = ("head", "zero")
SCORES = ("goal", "random")
EDGE = 0.01  # of the command to open: half of the draws around it close the fingers


@dataclass(frozen=True)
class PlannerOptions(DreamZeroOptions):
    """The options of DreamZero, and how a chunk is searched for: the arguments of `--policy cem --policy-args`.

    Attributes:
        candidates: Chunks to imagine in every iteration.
        choose: "goal", or "random": scores are drawn by lot, as a control that imagines just as much.
        elites: Candidates that the next iteration is drawn around.
        iterations: Draws of candidates in a query.
        init: The first chunk: "head", what the action head answers, or "zero", no motion and open fingers.
        spread: Of the first draw, in standard deviations of the actions that were demonstrated.
        knots: Parts of a chunk in which a candidate's displacement from the first chunk is constant.
        told: What the model is told while it imagines: "nothing" or "instruction".

    A value that no planner can take raises ValueError; what depends on the model is checked when it is loaded.
    """

    candidates: int = 16
    choose: str = SCORES[0]
    elites: int = 4
    iterations: int = 3
    init: str = INITS[0]
    spread: float = 0.5
    knots: int = 4
    told: str = TOLD[0]

    def __post_init__(self) -> None:
        for what, asked, known in (
            ("choose", self.choose, SCORES),
            ("init", self.init, INITS),
            ("told", self.told, TOLD),
        ):
            if asked not in known:
                raise unknown_name(what, asked, known)
        super().__post_init__()
        if self.lookahead != 1:
            raise ValueError(f"cem plans one chunk: lookahead must be 1, got {self.lookahead}")
        self.search()

    def search(self) -> cross_entropy.Search:
        """Returns how a chunk is searched for; numbers that do not fit each other raise ValueError."""
        return cross_entropy.Search(self.candidates, self.elites, self.iterations, self.spread)


def policy(weights: str | None = None, **options: Any) -> Planner:
    """Returns the planner with a weights file of ours (None: the shipped one).

    Args:
        weights: See above.
        options: Other fields of `PlannerOptions`.

    Raises:
        ValueError: An option does not exist or does not fit the model, or the model cannot be asked for the
            consequences of actions.
    """
    check_arguments(PlannerOptions, options, "cem")
    return Planner(PlannerOptions(weights, **options))


class Planner(ActionConditionedDreamZero):
    """A policy that carries out the chunk whose imagined future comes nearest to the goal.

    Where the goal cannot be read, all candidates are equal and the first chunk is carried out.

    Args:
        options: See `PlannerOptions`; None: the shipped model with the defaults.

    Attributes:
        found: What the last search came to; None before the first.
    """

    options: PlannerOptions
    # A plan is no continuation of another one, and none for a video that somebody else imagined.
    act_guided = None  # type: ignore[assignment]
    extract = None  # type: ignore[assignment]

    def __init__(self, options: PlannerOptions | None = None) -> None:
        options = options or PlannerOptions()
        super().__init__(options, options.told == "instruction")
        choice.check_imagines(self.mode, self.model.config.ablation)
        if options.knots < 1 or self.chunk_steps % options.knots:
            parts = [n for n in range(1, self.chunk_steps + 1) if self.chunk_steps % n == 0]
            raise ValueError(f"knots must divide a chunk of {self.chunk_steps}: one of {parts}, got {options.knots}")
        self.found: cross_entropy.Found | None = None

    def _choose(self, session: DreamZeroSession, step: int, how: sampling.Sampling) -> tuple[Frames, Tensor]:
        """Returns the chunk that the search found, and what it leads to."""
        first = self._first_chunk(session, step, how)
        searched = first.shape[-1] - (self.options.init == "head")  # the gripper is the last number
        part = self.chunk_steps // self.options.knots
        lots = generator_at(session.seed, step + CANDIDATE_APART)

        def moved(shifts: Tensor) -> Tensor:
            chunks = first.repeat(len(shifts), 1, 1)
            chunks[..., :searched] += shifts.to(self.device).repeat_interleave(part, dim=1)
            return chunks

        def score(shifts: Tensor) -> Tensor:
            futures = self._imagine_chunks(session, step, moved(shifts))
            if self.options.choose == "random":
                return torch.rand(len(shifts), generator=lots)
            return self._scores(session, step, futures)

        start = torch.zeros(self.options.knots, searched)
        self.found = cross_entropy.maximise(score, start, self.options.search(), lots)
        chosen = moved(self.found.best[None])
        return self._imagine_chunks(session, step, chosen), chosen[0]

    def _first_chunk(self, session: DreamZeroSession, step: int, how: sampling.Sampling) -> Tensor:
        """Returns (H, A) standardised actions that the search begins with."""
        if self.options.init == "head":
            return self._candidate(session, step, 0, how)[1]
        still = self.convention.hold_action(None)
        still[-1] *= EDGE
        return self._standardised(still).expand(self.chunk_steps, -1)

    def _imagine_chunks(self, session: DreamZeroSession, step: int, chunks: Tensor) -> Frames:
        """Returns the frames that (N, H, A) standardised chunks lead to, carried out as `_commands` has them."""
        count = len(chunks)
        memory, state = self._memory(session, step, not self._told)
        noise = sampling.draw_noise(self.model.config, [generator_at(session.seed, step)]).to(self.device)
        parts = (noise.video, noise.vectors, noise.action)
        same = sampling.SamplingNoise(*(part.repeat_interleave(count, dim=0) for part in parts))
        given = torch.stack([self._standardised(self._commands(chunk)) for chunk in chunks])
        how = replace(self.sampling, guidance=1.0, action=False)
        memories = sampling.GenerationMemory.joined([memory] * count)
        return sampling.sample(self.model, memories, state.expand(count, -1, -1), same, how, given=given)[0]

    def _scores(self, session: DreamZeroSession, step: int, futures: Frames) -> Tensor:
        """Returns (N,) how near futures come to the goal at their end, in m."""
        assert futures.vectors is not None
        ends = self.model.points(futures.vectors[:, -1]).cpu()
        return choice.goal_scores(ends, session.seen[step].points.cpu(), self._goal(session))
