"""FAST action tokens: round trips, merges, and what cannot be decoded."""

import json

import numpy as np
import pytest

from wambench.policies.actions import fast_tokenizer
from wambench.policies.actions.fast_tokenizer import END, Fast


def chunks(count: int, seed: int = 0, horizon: int = 16) -> np.ndarray:
    """Returns smooth movements, one number that never moves, and a gripper that closes at some step."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, horizon)[None, :, None]
    moves = rng.normal(size=(count, 1, 3)) + rng.normal(size=(count, 1, 3)) * time
    closes = np.where(time > rng.random((count, 1, 1)), 1.0, -1.0)
    return np.concatenate([np.clip(moves, -1, 1), np.zeros((count, horizon, 1)), closes], axis=2)


@pytest.fixture(scope="module")
def kit() -> Fast:
    return fast_tokenizer.fit(chunks(400), 300)


def test_round_trip_is_bounded(kit: Fast) -> None:
    actions = chunks(50, seed=1)
    tokens = kit.encode(actions)
    back = np.stack([kit.decode(row) for row in tokens])
    clamped = np.clip(kit.frequencies(actions), kit.smallest, kit.smallest + kit.letters - 1)
    inside = (clamped == kit.frequencies(actions)).all(axis=(1, 2))
    assert inside.mean() > 0.8
    error = kit.normal(back) - kit.normal(actions)
    bound = np.sqrt(actions.shape[1]) / (2 * kit.scale)  # half a step in each frequency, L2 over time
    assert np.sqrt(np.square(error[inside]).sum(axis=1)).max() <= bound + 1e-9
    assert tokens.shape[1] < actions[0].size and (tokens < kit.size).all()


def test_what_never_moves_does_not_explode(kit: Fast) -> None:
    assert (kit.frequencies(chunks(5))[:, :, 3] == 0).all()
    moved = chunks(1)
    moved[..., 3] = 0.01
    assert np.abs(kit.decode(kit.encode(moved)[0])[:, 3] - 0.01).max() < 0.01


def test_a_batch_is_encoded_like_its_rows(kit: Fast) -> None:
    actions = chunks(20, seed=2)
    together = kit.encode(actions)
    for row, one in zip(together, actions, strict=True):
        alone = kit.encode(one[None])[0]
        assert np.array_equal(row[row != END], alone[alone != END])


def test_merges_are_the_most_frequent_pairs() -> None:
    rows = np.array([[1, 2, 1, 2, 0], [1, 2, 3, 1, 2], [0, 3, 3, 3, 3]])
    assert fast_tokenizer.learn(rows, 4, 7) == (
        (1, 2),
        (3, 3),
    )  # then nothing is seen twice: 4 4, 4 0, 4 3, 3 4, 0 5, 5 5
    kit = Fast(5, (0.0,), (1.0,), 0, 4, fast_tokenizer.learn(rows, 4, 7))
    spelled = kit._encode(rows)
    assert [row.tolist() for row in spelled] == [[4, 4, 0], [4, 3, 4], [0, 5, 5]]
    assert [row.tolist() for row in kit._encode(np.array([[3, 3, 3, 0, 3]]))] == [[5, 3, 0, 3]]  # from the left


def test_a_wrong_length_is_the_middle_of_the_range(kit: Fast) -> None:
    tokens = kit.encode(chunks(1))[0]
    for damaged in (tokens[:-1], [*tokens, 0], [kit.size], []):
        decoded = kit.decode(np.array(damaged))
        np.testing.assert_allclose(decoded, np.tile((np.array(kit.low) + kit.high) / 2, (16, 1)), atol=1e-6)


def test_it_survives_json(kit: Fast) -> None:
    again = Fast.from_dict(json.loads(json.dumps(kit.to_dict())))
    assert again == kit and np.array_equal(again.encode(chunks(3)), kit.encode(chunks(3)))


def test_nothing_to_fit_on_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one chunk"):
        fast_tokenizer.fit(np.zeros((0, 16, 7)))
