"""Knowledge insulation (arXiv 2505.23705): pi0.5 whose language-image side learns actions as words only.

The prefix expert is trained by cross-entropy: on actions as FAST tokens, and on captions and questions about the
action-free video that DreamZero gets, first alone and then beside the actions. The action expert is trained by flow
matching on detached keys and values of the prefix, FAST tokens hidden from it, so that its gradients reach nothing of
the prefix. Both losses have weight 1. At inference only the flow path runs.

Other than in pi0.5 the action expert is told the robot's state in numbers too, by one token as in pi0: behind the
insulation nobody teaches the prefix how finely a bin of the state must be read.

Sequence of the prefix expert: image, scene, words, state (read by each other) | START, FAST tokens, END (causal), or
ASK, answer, END. A layer of its own says which token follows. Comparing with the rows of the token table, as in the
models it stands for, starts at a loss of 10 instead of 7: before training a token's likeliest successor is itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.policies.actions import real_time_chunking as rtc
from wambench.policies.actions.fast_tokenizer import END as FILLER
from wambench.policies.actions.fast_tokenizer import Fast
from wambench.policies.networks.noise import normal
from wambench.policies.perception.encoder import STATE_FEATURES
from wambench.policies.vla import base as vla
from wambench.policies.vla import pi05, questions
from wambench.policies.vla.action_expert import PrefixMemory, Sizes, Suffix, draw_times
from wambench.policies.vla.pi0 import STATE_LIMIT
from wambench.policies.vla.pi05 import STATE_TOKENS, STEM_HIDDEN, bins

# The token table: bins of state numbers, marks, words of answers, FAST tokens. Its size is fixed, its meaning fitted.
MARKS = STATE_TOKENS
START = MARKS
END = MARKS + 1
ASK = MARKS + 2
WORDS = MARKS + 3
WORD_ROWS = 252
ACTIONS = WORDS + WORD_ROWS
ACTION_ROWS = 512
VOCABULARY = ACTIONS + ACTION_ROWS
SCALE = 2.0  # steps per unit of a frequency in FAST (10 as released)
SAID = 13  # tokens of an action that are learned, low frequencies first; END counts
NOTHING = -1  # an id that stands for no token: padding, and what is no word
CONFIGS = {
    "nano": Sizes((152, 456), (112, 304), depth=6, heads=4, kv_heads=1, head_dim=32, vocabulary=VOCABULARY),
    "tiny": Sizes((32, 64), (24, 48), depth=2, heads=2, kv_heads=1, head_dim=12, vocabulary=VOCABULARY),
}


def visible_to_expert(ids: Tensor, valid: Tensor, start: int = START, end: int = END, eos: int = END) -> Tensor:
    """Returns (B, N) which tokens the action expert may read: valid, and no part of an action.

    An action reaches from a start mark to the next end mark, both included, or to the end of the sequence. An end of
    sequence is never read. Here one mark ends actions and answers.
    """
    place = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    none = torch.full_like(place, -1)
    began = torch.where(ids == start, place, none).cummax(dim=1).values
    ended = torch.where(ids == end, place, none).cummax(dim=1).values
    before = functional.pad(ended[:, :-1], (1, 0), value=-1)  # an end mark still belongs to its action
    return valid & (ids != eos) & (began <= before)


def frame_with_marks(first: int, ids: Tensor) -> Tensor:
    """Returns (B, L + 2) ids with a mark in front and END behind the last of (B, L) ids that is not `NOTHING`."""
    padded = functional.pad(ids, (0, 1), value=NOTHING)
    padded[torch.arange(len(ids)), (ids != NOTHING).sum(dim=1)] = END
    return functional.pad(padded, (1, 0), value=first)


class KiCore(pi05.Pi05Core):
    """pi0.5's experts, and in front of the actions pi0's token of the state. It is a block: it reads no action."""

    def __init__(self, sizes: Sizes, action_dim: int) -> None:
        super().__init__(sizes, action_dim)
        self.state_proj = nn.Linear(STATE_FEATURES, sizes.action[0])

    def suffix(self, x: Tensor, t: Tensor, state: Tensor | None) -> Suffix:
        """See `TwoExperts.suffix`; the state is normalised."""
        assert state is not None
        actions = super().suffix(x, t, None)
        token = self.state_proj(state.to(actions.tokens.dtype))[:, None]
        starts = functional.pad(actions.starts, (1, 0), value=1.0)
        return Suffix(torch.cat([token, actions.tokens], dim=1), starts, actions.condition)


class Ki(vla.Network):
    """The insulated pi0.5 on what DreamZero nano sees.

    Args:
        sizes: Of the experts.
        inputs: What there is to read.
        hidden: Of the stem's perceptron.
        fast: The action tokenizer (None: not fitted yet, there is no loss before).
        words: Of `questions.Answers`.
        insulated: False lets the flow loss into the prefix, to see what insulation does.
    """

    losses = ("action", "fast")

    def __init__(
        self,
        sizes: Sizes,
        inputs: vla.Inputs,
        hidden: int,
        fast: Fast | None = None,
        words: Sequence[str] = (),
        insulated: bool = True,
    ) -> None:
        super().__init__(inputs, "quantile")
        self.hidden = hidden
        self.insulated = insulated
        self.stem = vla.Stem(inputs, sizes.prefix[0], hidden)
        self.core = KiCore(sizes, inputs.action_dim)
        self.speech = nn.Linear(sizes.prefix[0], VOCABULARY - MARKS, bias=False)
        self.learn(fast, words)

    def learn(self, fast: Fast | None, words: Sequence[str]) -> None:
        """Says what the rows of the token table mean; too many tokens or words raise ValueError."""
        known = len(questions.Answers(self.inputs.points, tuple(words)).vocabulary)
        for what, count, rows in (("FAST tokens", fast.size if fast else 0, ACTION_ROWS), ("words", known, WORD_ROWS)):
            if count > rows:
                raise ValueError(f"the token table has room for {rows} {what}, not for {count}")
        self.fast = fast
        self.words = tuple(words)

    def prefix(self, seen: vla.EncodedObservation) -> tuple[Tensor, Tensor]:
        """Returns the prefix (B, N, w) and (B, N) which of it is valid: image and scene, words, state."""
        tokens, valid = self.stem(seen)
        state = self.core.prefix.embed(bins(self.state(seen.state)) + 1)
        return torch.cat([tokens, state], dim=1), torch.cat([valid, seen.known[:, None].expand(state.shape[:2])], dim=1)

    def expert_state(self, seen: vla.EncodedObservation) -> Tensor:
        """Returns (B, S) the state that the action expert is told: normalised, limited, zero where unknown."""
        return self.state(seen.state).clamp(-STATE_LIMIT, STATE_LIMIT) * seen.known[:, None]

    def logits(self, seen: vla.EncodedObservation, ids: Tensor) -> tuple[Tensor, PrefixMemory]:
        """Returns logits of what follows ids (B, L), counted from `MARKS` on, and what the action expert may read."""
        tokens, valid = self.prefix(seen)
        said = ids != NOTHING
        count = ids.shape[1]
        before = tokens.shape[1]
        starts = torch.cat([torch.zeros(before), torch.ones(count)]).to(ids.device)
        both = torch.cat([tokens, self.core.prefix.embed(ids.clamp_min(0))], dim=1)
        memory, out = self.core.read(both, torch.cat([valid, said], dim=1), starts, output=True)
        assert out is not None
        everything = torch.cat([ids.new_full((len(ids), before), NOTHING), ids], dim=1)
        visible = visible_to_expert(everything, memory.valid)
        return self.speech(out[:, -count:]), memory.restrict_to(visible)

    def speak(self, seen: vla.EncodedObservation, ids: Tensor) -> tuple[Tensor, PrefixMemory]:
        """Returns the cross-entropy of (B, L) ids given those before them, and what the action expert may read."""
        logits, memory = self.logits(seen, ids[:, :-1])
        said = ids[:, 1:] - MARKS
        return functional.cross_entropy(logits.float().transpose(1, 2), said, ignore_index=NOTHING - MARKS), memory

    def spell(self, actions: Tensor) -> Tensor:
        """Returns (B, L) ids of actions (B, H, A) of the environment: START, FAST tokens, END, then `NOTHING`.

        L is at most `SAID` + 1: the last frequencies of long ones, and their END, are left out.
        """
        assert self.fast is not None, "the action tokenizer is fitted before training"
        tokens = torch.from_numpy(self.fast.encode(actions.cpu().numpy())).long().to(actions.device)
        return frame_with_marks(START, torch.where(tokens == FILLER, NOTHING, tokens + ACTIONS))[:, : SAID + 1]

    def loss(self, seen: vla.EncodedObservation, actions: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """See `base.Network.loss`: flow matching, and cross-entropy of the FAST tokens."""
        clean = self.action(actions)
        noise = normal(clean.shape, generator, clean.device)
        t = draw_times(len(clean), generator).to(clean.device)
        spoken, memory = self.speak(seen, self.spell(actions))
        memory = memory.without_gradient() if self.insulated else memory
        return self.core.flow_loss(memory, clean, noise, t, self.expert_state(seen)).mean(), spoken

    def answer_loss(self, seen: vla.EncodedObservation, answers: Tensor) -> Tensor:
        """Returns the cross-entropy of answers (B, L), ids of `questions.Answers`, to the words of `seen`."""
        return self.speak(seen, _answer_ids(answers))[0]

    @torch.no_grad()
    def answer_errors(self, seen: vla.EncodedObservation, answers: Tensor) -> Tensor:
        """Returns (B,) bool: not every token of an answer would have been said, given the right ones before it."""
        ids = _answer_ids(answers)
        right = self.logits(seen, ids[:, :-1])[0].argmax(dim=2) + MARKS == ids[:, 1:]
        return ~(right | (ids[:, 1:] == NOTHING)).all(dim=1)

    def sample(
        self, seen: vla.EncodedObservation, noise: Tensor, steps: int, guidance: rtc.Guidance | None = None
    ) -> Tensor:
        """See `base.Network.sample`: the flow path alone."""
        memory, _ = self.core.read(*self.prefix(seen))
        return self.action.undo(self.core.sample(memory, noise, steps, self.expert_state(seen), guidance))

    def to_dict(self) -> dict[str, Any]:
        """See `base.Network.to_dict`."""
        sizes = asdict(self.core.sizes)
        fast = self.fast.to_dict() if self.fast else None
        own = {"hidden": self.hidden, "fast": fast, "words": list(self.words), "insulated": self.insulated}
        return {"sizes": sizes, "inputs": asdict(self.inputs), **own}


def _answer_ids(answers: Tensor) -> Tensor:
    """Returns ids of the token table for ids of `questions.Answers`, whose own END is left out."""
    inside = answers > 0
    return frame_with_marks(ASK, torch.where(inside, answers + WORDS, NOTHING))


def build(size: str, inputs: vla.Inputs) -> Ki:
    """Returns a new network of a named size; `Ki.learn` must follow before training."""
    return Ki(CONFIGS[size], inputs, STEM_HIDDEN[size])


def from_dict(config: dict[str, Any]) -> Ki:
    """Returns the network of a stored config."""
    sizes = Sizes.from_dict(config["sizes"])
    inputs = vla.Inputs.from_dict(config["inputs"])
    fast = Fast.from_dict(config["fast"]) if config["fast"] else None
    return Ki(sizes, inputs, config["hidden"], fast, config["words"], config["insulated"])


policy = partial(vla.FlowActor, "ki")  # of `policies.POLICIES`
