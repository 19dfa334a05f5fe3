"""Questions about a picture with answers from the simulator's labels: what a language-image model is pre-trained on.

Three kinds, answered by what `wambench collect` stored beside each frame: "what should be done?" by the words of the
instruction (a caption), "where is the red cube?" by the cell of the table it is in, "is there a bottle?" by yes or no.
Labels are the simulator's, not what the encoder read from the picture; no state, no action, no task name enters.

Letters: B pictures, C key points, L tokens of an answer. An answer is the ids of words of `Answers`, then `END`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wambench.policies.perception import word_embedding

CAPTION = "what should be done"
CELL_M = 0.05
CORNER_M = (-0.4, -0.4, 0.8)  # of the first cell: the table's surface around the robot's reach
CELLS = (16, 16, 8)
PADDING = -1
SIGNS = re.compile(r"[^a-z0-9]+")


def words_of_point(name: str) -> str:
    """Returns the words of a key point such as "drawer/handle"."""
    return SIGNS.sub(" ", name.lower()).strip()


def questions(points: Sequence[str]) -> tuple[str, ...]:
    """Returns all questions there are: the caption, then where each of the C objects is, then whether it is there."""
    names = [words_of_point(name) for name in points]
    return (CAPTION, *(f"where is the {name}" for name in names), *(f"is there a {name}" for name in names))


def cells(points: Tensor) -> Tensor:
    """Returns (..., 3) int64 cells of positions (..., 3) in m, the outermost ones for what lies beyond."""
    index = ((points - torch.tensor(CORNER_M)) / CELL_M).floor().nan_to_num().long()
    return torch.minimum(index.clamp_min(0), torch.tensor(CELLS) - 1)


@dataclass(frozen=True)
class Answers:
    """The words that answers are made of, and the answers to `questions(points)`.

    Attributes:
        points: Names of the C key points.
        words: Of the instructions, sorted; cells, "yes", "no" and `END` come before them.
    """

    points: tuple[str, ...]
    words: tuple[str, ...]

    @staticmethod
    def of(points: Sequence[str], sentences: Sequence[str]) -> Answers:
        """Returns the answers whose captions are some sentences."""
        return Answers(tuple(points), tuple(sorted({word for s in sentences for word in word_embedding.words_of(s)})))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """All words; an id is a place in it."""
        axes = [f"{axis}{i}" for axis, count in zip("xyz", CELLS, strict=True) for i in range(count)]
        return ("END", "no", "yes", *axes, *self.words)

    def captions(self, sentences: Sequence[str]) -> Tensor:
        """Returns (S, L) ids of sentences, filled up with `PADDING`; a word that is not known raises ValueError."""
        index = {word: i for i, word in enumerate(self.vocabulary)}
        rows = [[index.get(word, PADDING) for word in word_embedding.words_of(s)] + [0] for s in sentences]
        for row, sentence in zip(rows, sentences, strict=True):
            if PADDING in row:
                raise ValueError(f"{sentence!r} has words that the answers do not know")
        out = torch.full((len(rows), max(map(len, rows), default=1)), PADDING)
        for i, row in enumerate(rows):
            out[i, : len(row)] = torch.tensor(row)
        return out

    def answer(self, asked: Tensor, points: Tensor, present: Tensor, captions: Tensor) -> Tensor:
        """Returns (B, L) ids of the answers, L at least 4, filled up with `PADDING`.

        Args:
            asked: (B,) int64 places in `questions(points)`.
            points: (B, C, 3) in m.
            present: (B, C) bool.
            captions: (B, L) of `captions`, for the picture's instruction.
        """
        count = len(self.points)
        item = ((asked - 1) % count).clamp_min(0)
        rows = torch.arange(len(asked))
        short = torch.full((len(asked), max(4, captions.shape[1])), PADDING)
        short[:, 0] = 1 + present[rows, item].long()
        short[:, 1] = 0
        offsets = torch.tensor([3, 3 + CELLS[0], 3 + CELLS[0] + CELLS[1]])
        where = torch.full_like(short, PADDING)
        where[:, :3] = cells(points[rows, item]) + offsets
        where[:, 3] = 0
        caption = torch.full_like(short, PADDING)
        caption[:, : captions.shape[1]] = captions
        out = torch.where((asked <= count)[:, None], where, short)
        return torch.where((asked == 0)[:, None], caption, out)


def draw(present: Tensor, generator: torch.Generator) -> Tensor:
    """Returns (B,) questions, a third of each kind; where something is, is asked of what is there (B, C)."""
    b, count = present.shape
    kind = torch.randint(3, (b,), generator=generator)
    there = torch.multinomial(present.float() + 1e-9, 1, generator=generator)[:, 0]
    any_thing = torch.randint(count, (b,), generator=generator)
    nothing = ~present.any(dim=1) & (kind == 1)
    asked = torch.where(kind == 1, 1 + there, 1 + count + any_thing)
    return torch.where((kind == 0) | nothing, torch.zeros_like(asked), asked)
