"""The data protocol: golden files and properties."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity import protocol
from wambench.policies.dreamzero.official import droid

pytest.importorskip("ftfy")
GOLDEN = Path(__file__).parents[3] / "golden" / "dreamzero"


@pytest.mark.parametrize("file", protocol.CHECKS)
def test_golden(file: str) -> None:
    beyond = [result for result in protocol.CHECKS[file](GOLDEN) if not result.passed]
    assert not beyond


def test_every_sample_is_8n_plus_1_frames_of_one_instruction() -> None:
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(500):
        length = int(rng.integers(1, 600))
        language = np.sort(rng.integers(0, 3, length)).tolist()
        anchor, most = int(rng.integers(length)), int(rng.integers(1, 6))
        sample = droid.sample_chunks(length, anchor, language, most)
        n = len(sample.starts)
        assert n <= most and len(sample.frames) == (8 * n + 1 if n else 0)
        assert {language[start] for start in sample.starts} <= {language[anchor]}
        assert all(start + droid.ACTIONS_PER_CHUNK < length for start in sample.starts)
        if n:
            assert set(np.diff(sample.frames)) == {droid.VIDEO_STRIDE} and sample.frames[0] >= 0
            assert sample.frames[-1] < length
        sizes.add(n)
    assert sizes >= {0, 1, 2, 3, 4, 5}


def test_relative_actions_round_trip() -> None:
    rng = np.random.default_rng(0)
    actions, states = rng.normal(size=(3, 24, 8)), rng.normal(size=(3, 8))
    relative = droid.to_relative(actions, states)
    np.testing.assert_array_equal(relative[..., 7], actions[..., 7])  # the gripper is absolute
    np.testing.assert_allclose(relative[1, 5, :7], actions[1, 5, :7] - states[1, :7])
    q01, q99 = relative.min((0, 1)), relative.max((0, 1))
    inside = droid.normalise(relative, q01, q99)
    assert inside.min() == -1.0 and inside.max() == 1.0
    back = droid.to_absolute(droid.unnormalise(inside, q01, q99), states)
    np.testing.assert_allclose(back, actions, atol=1e-12)


def test_degenerate_and_outlying_numbers() -> None:
    q01, q99 = np.array([0.0, 2.0]), np.array([1.0, 2.0])
    np.testing.assert_array_equal(droid.normalise(np.array([5.0, 0.25]), q01, q99), [1.0, 0.25])
    np.testing.assert_array_equal(droid.unnormalise(np.array([1.0, 0.25]), q01, q99), [1.0, 2.0])


def test_canvas_has_the_views_in_their_places() -> None:
    left, right, wrist = (torch.full((2, 180, 320, 3), value, dtype=torch.uint8) for value in (10, 20, 30))
    canvas = droid.canvas_droid(left, right, wrist)
    assert canvas.shape == (2, 352, 640, 3) and canvas.dtype == torch.uint8
    assert {int(v) for v in canvas[:, :176].unique()} <= {29, 30}  # truncation may lose one
    assert {int(v) for v in canvas[:, 176:, :320].unique()} <= {9, 10}
    assert {int(v) for v in canvas[:, 176:, 320:].unique()} <= {19, 20}
    video = droid.pixels(torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1).expand(1, 2, 1, 3)[None])
    assert video.shape == (1, 3, 1, 2, 1) and video.min() == -1 and video.max() == 1


def test_padding() -> None:
    padded = droid.pad(np.ones((2, 8)), 32)
    assert padded.shape == (2, 32) and padded.sum() == 16
    with pytest.raises(ValueError, match="33 numbers do not fit into 32"):
        droid.pad(np.ones((2, 33)), 32)


def test_unknown_embodiment_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'oxe_droid'"):
        droid.prompt("open the drawer", "oxe-droid")


def test_tokenizer_pads_and_cuts(tmp_path: Path) -> None:
    """A word-level tokenizer in the library's folder format stands in for umT5's."""
    tokenizers, transformers = pytest.importorskip("tokenizers"), pytest.importorskip("transformers")
    words = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "open", "the", "drawer"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(tmp_path)
    ids, mask = droid.tokenizer(str(tmp_path), length=5)("open the drawer")
    assert ids.tolist() == [[3, 4, 5, 0, 0]] and mask.tolist() == [[1, 1, 1, 0, 0]]
    assert droid.tokenizer(str(tmp_path), length=2)("open the drawer")[0].tolist() == [[3, 4]]
    with pytest.raises(ValueError, match="no tokenizer at"):
        droid.tokenizer(str(tmp_path / "absent"))


def test_stored_cases_hold_every_rule() -> None:
    """The stored prompts cover the embodiments; a template that nobody checks would be worth nothing."""
    stored = json.loads((GOLDEN / "prompts.json").read_text())["prompts"]
    assert {case["embodiment"] for case in stored} == set(droid.EMBODIMENTS)
