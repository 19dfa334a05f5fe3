"""FAST: a chunk of actions as a short sequence of integers (Pertsch et al. 2025).

Letters: N chunks, H actions of a chunk, A numbers of an action.

A chunk is brought to about [-1, 1] by quantiles, turned into frequencies along time (orthonormal DCT-II), multiplied by
`scale` and rounded, and read row by row, all numbers of frequency 0 first. Byte-pair encoding, fitted on
demonstrations, then gives frequent runs a token of their own. What it learned is data (`Fast.to_dict`) and lies in the
weights of the policy that speaks it.

The released tokenizer passes its integers through characters, UTF-8 and GPT-2's splitting into letters, digits and
signs, so that no merge crosses these classes and some entries can never be used. Here merges are over the integers
themselves; quantisation, order and what a wrong length decodes to are the released ones, and tested against them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.fft import dct, idct

from wambench.policies.actions.normalization import quantile, undo_quantile

BLOCK = 4096
FLOOR = 0.1
END = -1  # stands between chunks while they are merged, and fills up shorter ones


@dataclass(frozen=True)
class Fast:
    """A fitted tokenizer.

    Attributes:
        horizon: H.
        low, high: Quantiles 0.01 and 0.99 of each of the A numbers, apart from each other by at least `FLOOR`.
        smallest: The integer that becomes 0; smaller ones are clamped to it, as released.
        letters: How many different integers there are; larger ones are clamped too (released: more characters).
        merges: Pair k becomes token `letters + k`.
        scale: Steps per unit of a frequency.
    """

    horizon: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    smallest: int
    letters: int
    merges: tuple[tuple[int, int], ...] = ()
    scale: float = 10.0

    @property
    def size(self) -> int:
        """Number of tokens."""
        return self.letters + len(self.merges)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Fast:
        """Returns the tokenizer that `to_dict` and JSON turned into a dict."""
        pairs = tuple((int(a), int(b)) for a, b in values["merges"])
        return Fast(**{**values, "low": tuple(values["low"]), "high": tuple(values["high"]), "merges": pairs})

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values."""
        return asdict(self)

    @cached_property
    def _spelling(self) -> list[tuple[int, ...]]:
        """The integers, counted from 0, that each token stands for."""
        words: list[tuple[int, ...]] = [(i,) for i in range(self.letters)]
        for a, b in self.merges:
            words.append(words[a] + words[b])
        return words

    def normal(self, actions: np.ndarray) -> np.ndarray:
        """Returns actions (..., A) normalised."""
        return quantile(np.asarray(actions, np.float64), np.array(self.low), np.array(self.high))

    def frequencies(self, actions: np.ndarray) -> np.ndarray:
        """Returns the (N, H, A) integers of actions (N, H, A)."""
        return quantise(self.normal(actions), self.scale)

    def to_letters(self, actions: np.ndarray) -> np.ndarray:
        """Returns (N, H * A) integers from 0 to `letters` - 1, low frequencies first."""
        flat = self.frequencies(actions).reshape(len(actions), -1)
        return np.clip(flat - self.smallest, 0, self.letters - 1)

    def encode(self, actions: np.ndarray) -> np.ndarray:
        """Returns (N, L) int32 tokens of actions (N, H, A), shorter ones filled up with `END`."""
        parts = [self._encode(self.to_letters(actions[i : i + BLOCK])) for i in range(0, len(actions), BLOCK)]
        tokens = [row for part in parts for row in part]
        out = np.full((len(tokens), max(map(len, tokens), default=0)), END, np.int32)
        for i, row in enumerate(tokens):
            out[i, : len(row)] = row
        return out

    def _encode(self, integers: np.ndarray) -> list[np.ndarray]:
        line = _join_rows(integers)
        for k, (a, b) in enumerate(self.merges):
            line = _merge(line, a, b, self.letters + k)
        return np.split(line[line != END], _lengths(line).cumsum()[:-1])

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """Returns the (H, A) actions of tokens (L,); if they do not spell a whole chunk, the middle of the range."""
        own = [int(token) for token in tokens if token != END]
        known = all(0 <= token < self.size for token in own)
        integers = [i for token in own for i in self._spelling[token]] if known else []
        shape = self.horizon, len(self.low)
        whole = len(integers) == shape[0] * shape[1]
        values = np.array(integers).reshape(shape) + self.smallest if whole else np.zeros(shape)
        return undo_quantile(restore(values, self.scale, axis=0), np.array(self.low), np.array(self.high))


def quantise(normal: np.ndarray, scale: float) -> np.ndarray:
    """Returns the (N, H, A) rounded frequencies of normalised chunks; halves go to the even side."""
    return np.rint(scale * dct(normal, axis=1, norm="ortho")).astype(np.int64)


def restore(frequencies: np.ndarray, scale: float, axis: int = 1) -> np.ndarray:
    """Returns normalised chunks of rounded frequencies, off by at most sqrt(H) / (2 scale) over time (L2)."""
    return np.asarray(idct(frequencies / scale, axis=axis, norm="ortho"))


def fit(actions: np.ndarray, size: int = 512, scale: float = 10.0) -> Fast:
    """Returns a tokenizer of at most `size` tokens fitted on chunks (N, H, A); no chunks raise ValueError."""
    if not len(actions):
        raise ValueError("FAST needs at least one chunk of actions to be fitted")
    low, high = np.quantile(actions.reshape(-1, actions.shape[2]), (0.01, 0.99), axis=0)
    # a number that never moves would otherwise explode
    middle = (low + high) / 2.0
    half = np.maximum((high - low) / 2.0, FLOOR / 2.0)
    low, high = middle - half, middle + half
    plain = Fast(actions.shape[1], tuple(low.tolist()), tuple(high.tolist()), 0, 1, scale=scale)
    integers = plain.frequencies(actions).reshape(len(actions), -1)
    smallest = int(integers.min())
    letters = int(integers.max() - integers.min()) + 1
    merges = learn(integers - smallest, letters, size)
    return Fast(plain.horizon, plain.low, plain.high, smallest, letters, merges, scale)


def learn(integers: np.ndarray, letters: int, size: int) -> tuple[tuple[int, int], ...]:
    """Returns the merges of byte-pair encoding (Gage 1994): the most frequent pair, again and again, while seen twice.

    Args:
        integers: (N, L) from 0 to `letters` - 1; no pair reaches over the end of a row.
        letters: How many different ones there are.
        size: Largest number of tokens.
    """
    line = _join_rows(integers)
    merges = []
    for token in range(letters, size):
        left, right = line[:-1], line[1:]
        inside = (left != END) & (right != END)
        counts = np.bincount(left[inside] * size + right[inside])
        pair = int(counts.argmax()) if len(counts) else 0
        if not len(counts) or counts[pair] < 2:
            break
        merges.append(divmod(pair, size))
        line = _merge(line, *merges[-1], token)
    return tuple(merges)


def _join_rows(integers: np.ndarray) -> np.ndarray:
    """Returns the rows one after the other, each followed by `END`."""
    return np.pad(integers.astype(np.int64), ((0, 0), (0, 1)), constant_values=END).ravel()


def _lengths(line: np.ndarray) -> np.ndarray:
    """Returns the lengths of the rows of a line."""
    return np.diff(np.flatnonzero(line == END), prepend=-1) - 1


def _merge(line: np.ndarray, a: int, b: int, token: int) -> np.ndarray:
    """Returns a line in which each pair (a, b), from left to right, is one token."""
    at = np.flatnonzero((line[:-1] == a) & (line[1:] == b))
    if a == b and len(at):  # in a run of equal ones every other match overlaps the one before
        first = np.concatenate([[True], np.diff(at) > 1])
        run = at - np.maximum.accumulate(np.where(first, at, 0))
        at = at[run % 2 == 0]
    if not len(at):
        return line
    line = line.copy()
    line[at] = token
    return np.delete(line, at + 1)
