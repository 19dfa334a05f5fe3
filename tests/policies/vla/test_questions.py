"""Questions and answers from stored labels."""

import pytest
import torch

from wambench.policies.vla import questions
from wambench.policies.vla.questions import PADDING, Answers

POINTS = ("red_cube", "drawer/handle", "bottle")
SENTENCES = ("open the drawer", "push the red cube to the yellow zone")
KIT = Answers.of(POINTS, SENTENCES)


def said(ids: torch.Tensor) -> list[str]:
    return [KIT.vocabulary[i] for i in ids.tolist() if i != PADDING]


def ask(question: str) -> list[str]:
    asked = torch.tensor([questions.questions(POINTS).index(question)])
    points = torch.tensor([[[0.01, -0.39, 0.82], [9.0, -9.0, 0.86], [0.0, 0.0, 0.0]]])
    present = torch.tensor([[True, True, False]])
    return said(KIT.answer(asked, points, present, KIT.captions(SENTENCES)[1:])[0])


def test_every_kind_of_question_is_answered_from_labels() -> None:
    assert ask("what should be done") == ["push", "red", "cube", "to", "yellow", "zone", "END"]
    assert ask("where is the red cube") == ["x8", "y0", "z0", "END"]
    assert ask("where is the drawer handle") == ["x15", "y0", "z1", "END"]  # beyond the last cell
    assert ask("is there a drawer handle") == ["yes", "END"]
    assert ask("is there a bottle") == ["no", "END"]


def test_answers_of_a_batch_are_those_of_its_rows() -> None:
    g = torch.Generator().manual_seed(0)
    points, present = torch.rand(40, 3, 3, generator=g), torch.rand(40, 3, generator=g) < 0.5
    captions = KIT.captions(SENTENCES)[torch.randint(2, (40,), generator=g)]
    asked = questions.draw(present, g)
    together = KIT.answer(asked, points, present, captions)
    for i in range(40):
        row = slice(i, i + 1)
        assert torch.equal(together[row], KIT.answer(asked[row], points[row], present[row], captions[row]))


def test_where_is_only_asked_of_what_is_there() -> None:
    g = torch.Generator().manual_seed(1)
    present = torch.rand(3000, 3, generator=g) < 0.3
    asked = questions.draw(present, g)
    where = (asked >= 1) & (asked <= 3)
    assert present[where, asked[where] - 1].all()
    shares = [float(part.float().mean()) for part in (asked == 0, where, asked > 3)]
    empty = float((~present.any(dim=1)).float().mean())
    assert shares == pytest.approx([(1 + empty) / 3, (1 - empty) / 3, 1 / 3], abs=0.03)
    assert torch.equal(asked, questions.draw(present, _again(1, 3000)))


def _again(seed: int, count: int) -> torch.Generator:
    g = torch.Generator().manual_seed(seed)
    torch.rand(count, 3, generator=g)
    return g


def test_an_unknown_word_is_an_error() -> None:
    with pytest.raises(ValueError, match="'dance' has words"):
        KIT.captions(["dance"])
