"""Words that share a stem are near; words of an instruction find the object they name."""

import numpy as np
import pytest

from wambench.policies.perception import word_embedding


def similarity(a: str, b: str) -> float:
    """Returns the cosine of two words."""
    return float(word_embedding.embed(a)[0] @ word_embedding.embed(b)[0])


@pytest.mark.parametrize(
    ("word", "near", "far"),
    [("depress", "press", "stack"), ("withdraw", "drawer", "button"), ("unstack", "stack", "push")],
)
def test_shared_stems_are_near(word: str, near: str, far: str) -> None:
    assert similarity(word, near) > similarity(word, far) + 0.2
    assert similarity("press", "depress") > similarity("press", "stack")


def test_embedding_is_fixed() -> None:
    assert word_embedding.embed("Lift the red cube").shape == (3, word_embedding.WIDTH)
    np.testing.assert_allclose(
        word_embedding.embed("press")[0, :4], [-0.23179315, -0.09933992, -0.23179315, 0.16556653], rtol=1e-5
    )
    np.testing.assert_array_equal(word_embedding.embed("lift red cube"), word_embedding.embed("LIFT the Red cube."))


def test_without_words_is_an_error() -> None:
    with pytest.raises(ValueError, match="no words"):
        word_embedding.embed("the ...")


def test_match_finds_the_named_thing() -> None:
    names = ("red_cube", "blue_cube", "drawer/handle", "bin")
    weights = word_embedding.match("put the blue cube in the bin", names)  # put blue cube in bin
    assert weights.sum(axis=1).max() <= 1.0 + 1e-6
    assert weights[2].argmax() == 1 and weights[2, 1] > 0.9
    assert weights[4].argmax() == 3 and weights[4, 3] > 0.9
    assert weights[0].max() < 0.1
    assert word_embedding.match("withdraw the drawer", names)[1, 2] > 0.8
