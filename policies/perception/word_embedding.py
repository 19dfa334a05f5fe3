"""A frozen word embedding without downloads: hashed character n-grams.

A word is the normalised sum of the sign vectors of its character n-grams (3 to 5, with word boundaries) and of the
whole word, as in fastText (Bojanowski et al. 2017) but with fixed vectors: the signs are the bits of a BLAKE2b hash.
Words that share a stem come out similar ("press", "depress"; "drawer", "withdraw"), unrelated ones nearly orthogonal.
Nothing is learned, so a new word costs nothing and says only what its letters say.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

WIDTH = 64
MAX_WORDS = 16  # the longest instruction of the suite has 15
ARTICLES = frozenset({"the", "a", "an"})
# cosine below which a word is taken to name nothing, and the sharpness of the choice between objects
MATCH_FLOOR = 0.35
MATCH_SHARPNESS = 12.0


def words_of(text: str) -> list[str]:
    """Returns the lower-case words of an instruction without articles, at most `MAX_WORDS`."""
    words = [word for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in ARTICLES]
    return words[:MAX_WORDS]


def _signs(token: str) -> np.ndarray:
    digest = hashlib.blake2b(token.encode(), digest_size=WIDTH // 8).digest()
    return np.unpackbits(np.frombuffer(digest, np.uint8)).astype(np.float32) * 2.0 - 1.0


@lru_cache(maxsize=4096)
def _word_vector(word: str) -> np.ndarray:
    marked = f"<{word}>"
    grams = [marked[i : i + n] for n in (3, 4, 5) for i in range(len(marked) - n + 1)]
    total = np.sum([_signs(gram) for gram in [*grams, f"={word}="]], axis=0)
    vector = (total / (np.linalg.norm(total) + 1e-6)).astype(np.float32)
    vector.flags.writeable = False
    return vector


def embed(text: str) -> np.ndarray:
    """Returns (L, 64) float32 unit vectors of the words of an instruction, 1 <= L <= `MAX_WORDS`.

    An instruction without any word raises ValueError.
    """
    words = words_of(text)
    if not words:
        raise ValueError(f"instruction {text!r} has no words")
    return np.stack([_word_vector(word) for word in words])


def match(text: str, names: Sequence[str]) -> np.ndarray:
    """Returns (L, C) weights, rows summing to at most 1: which named object each word of an instruction refers to.

    An object's score at word i is the mean, over the words of its name, of the best cosine among the words i-2..i, so
    that "red" decides at "cube" between "red_cube" and "blue_cube". A soft maximum with a null choice gives weights.
    """
    vectors = embed(text)
    scores = np.zeros((len(vectors), len(names)), np.float32)
    for c, name in enumerate(names):
        parts = np.stack([_word_vector(part) for part in re.findall(r"[a-z]+", name.lower()) or [name]])
        cosines = vectors @ parts.T
        for i in range(len(vectors)):
            # an object is referred to at its noun: the word itself must belong to the name
            own = cosines[i].max() > MATCH_FLOOR
            scores[i, c] = cosines[max(0, i - 2) : i + 1].max(axis=0).mean() if own else 0.0
    logits = np.exp(MATCH_SHARPNESS * scores)
    return logits / (logits.sum(axis=1, keepdims=True) + np.exp(MATCH_SHARPNESS * MATCH_FLOOR))
