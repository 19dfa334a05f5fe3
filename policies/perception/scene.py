"""What a policy knows of a scene: key points, the objects an instruction names, words, as numbers.

Letters: B batch, C key points, L words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wambench.policies.perception import word_embedding
from wambench.policies.perception.encoder import POINT_UNIT_M

SLOTS = 2  # named objects whose positions the state token holds: the first and the last one of the instruction
POINT_WIDTH = 7
PRESENT = 0.15  # presence from which on a key point is there, for networks that are trained so


def scene_width(points: int) -> int:
    """Returns the length of what a state vector tells of the scene: key points, named objects, mean word."""
    return POINT_WIDTH * (points + SLOTS) + word_embedding.WIDTH


@dataclass(frozen=True)
class Words:
    """Instructions as tensors.

    Attributes:
        vectors: (B, L, E), zero where the mask is False.
        mask: (B, L) bool; an all-hidden instruction keeps its first (zero) word, or attention would have no key.
        slots: (B, SLOTS, C) which key point the first and the last named object are; rows add to at most 1.
    """

    vectors: Tensor
    mask: Tensor
    slots: Tensor

    @staticmethod
    def joined(rows: Sequence[Words]) -> Words:
        """Returns the instructions of several as one batch."""
        return Words(*(torch.cat([getattr(row, name) for row in rows]) for name in ("vectors", "mask", "slots")))

    def at(self, index: Tensor) -> Words:
        """Returns some rows."""
        return Words(self.vectors[index], self.mask[index], self.slots[index])

    def trimmed(self) -> Words:
        """Returns the same without the words that no row has."""
        longest = int(self.mask.any(dim=0).sum())
        return Words(self.vectors[:, :longest], self.mask[:, :longest], self.slots)

    def hide(self, rows: Tensor) -> Words:
        """Returns the same with the instructions of some rows (B,) bool hidden."""
        first = torch.zeros_like(self.mask)
        first[:, 0] = True
        seen = ~rows[:, None, None]
        return Words(self.vectors * seen, torch.where(rows[:, None], first, self.mask), self.slots * seen)

    def to(self, device: torch.device | str) -> Words:
        """Returns the same on another device."""
        return Words(self.vectors.to(device), self.mask.to(device), self.slots.to(device))


def encode_words(sentences: Sequence[str], points: Sequence[str]) -> Words:
    """Returns instructions padded to `word_embedding.MAX_WORDS`."""
    vectors = torch.zeros(len(sentences), word_embedding.MAX_WORDS, word_embedding.WIDTH)
    mask = torch.zeros(len(sentences), word_embedding.MAX_WORDS, dtype=torch.bool)
    slots = torch.zeros(len(sentences), SLOTS, len(points))
    for i, sentence in enumerate(sentences):
        found = torch.from_numpy(word_embedding.embed(sentence))
        vectors[i, : len(found)] = found
        mask[i, : len(found)] = True
        match = torch.from_numpy(word_embedding.match(sentence, points))
        named = torch.nonzero(match.sum(dim=1) > 0.5).flatten()
        if len(named):
            slots[i, 0] = match[named[0]]
            slots[i, -1] = match[named[-1]]
    return Words(vectors, mask, slots)


@dataclass(frozen=True)
class SceneFeatures:
    """What is known at the start of each chunk, and the real frames of a sequence.

    Attributes:
        latents: (B, F, Z, y, x) standardised latents.
        points: (B, F, C, 4) world xyz in m and presence in [0, 1].
        state: (B, M, S) state features at the start of every chunk.
        known: (B, M, 1) 1 where the state is known, 0 in video of another arm.
        at_chunk: (B, M, C, 4) the key points in the state token: those of the frames, in training with noise.
    """

    latents: Tensor
    points: Tensor
    state: Tensor
    known: Tensor
    at_chunk: Tensor


def settled(points: Tensor, present: float) -> Tensor:
    """Returns (..., C, 4) key points that are there (presence 1) or not (0).

    A network that takes presence as it is draws what the encoder doubts towards the origin, and in rooms that it never
    saw the encoder doubts more.

    Args:
        points: (..., C, 4).
        present: Presence from which on a key point is there; 0 leaves all as they are.
    """
    if not present:
        return points
    return torch.cat([points[..., :3], (points[..., 3:] > present).to(points.dtype)], dim=-1)


def scene_features(scene: SceneFeatures, words: Words, points_mean: Tensor) -> Tensor:
    """Returns (B, M, `scene_width`): the key points as the chunks begin, the named objects, and the mean word.

    A key point is its place, its place seen from the hand, and 1; all zero if it is absent.
    """
    chunks = scene.state.shape[1]
    xyz = scene.at_chunk[..., :3]
    presence = scene.at_chunk[..., 3:]
    absolute = (xyz - points_mean) / POINT_UNIT_M
    relative = (xyz - scene.state[:, :, None, :3]) / POINT_UNIT_M * scene.known[:, :, None]
    cells = torch.cat([absolute, relative, torch.ones_like(presence)], dim=-1) * presence  # (B, M, C, 7)
    named = torch.einsum("bsc,bmcf->bmsf", words.slots, cells)
    mean = words.vectors.sum(dim=1) / words.mask.sum(dim=1, keepdim=True).sqrt()
    return torch.cat([cells.flatten(2), named.flatten(2), mean[:, None].expand(-1, chunks, -1)], dim=-1)
