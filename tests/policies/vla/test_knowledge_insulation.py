"""Knowledge insulation: who reads whom, and which gradients go where."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.parity import vla_ki
from tests.policies.vla.toys import INPUTS, POINTS, awake, chunks, observed
from wambench.policies.actions import fast_tokenizer
from wambench.policies.vla import knowledge_insulation as ki
from wambench.policies.vla import pi05, questions
from wambench.policies.vla.knowledge_insulation import ASK, END, NOTHING, START

GOLDEN = Path(__file__).parents[2] / "golden" / "vla"
KIT = fast_tokenizer.fit(chunks(60, seed=9).numpy(), 200)
ANSWERS = questions.Answers.of(POINTS, ["push the red cube"])


def network(insulated: bool = True) -> ki.Ki:
    torch.manual_seed(0)
    model = ki.Ki(ki.CONFIGS["tiny"], INPUTS, 32, KIT, ANSWERS.words, insulated)
    awake(model)
    return model


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def reached(model: ki.Ki, loss: torch.Tensor) -> set[str]:
    model.zero_grad()
    loss.backward()
    return {name for name, p in model.named_parameters() if p.grad is not None and bool((p.grad != 0).any())}


def test_the_mask_is_the_reference_one() -> None:
    assert all(result.passed for result in vla_ki.check_mask(GOLDEN))


def test_the_flow_loss_does_not_reach_the_insulated_prefix() -> None:
    model = network()
    touched = reached(model, model.loss(observed(), chunks(), rng())[0])
    assert touched and not [name for name in touched if name.startswith(("stem", "core.prefix"))]
    open_model = network(insulated=False)
    touched_openly = reached(open_model, open_model.loss(observed(), chunks(), rng())[0])
    backbone = {n for n, _ in model.named_parameters() if n.startswith(("stem", "core.prefix", "speech"))}
    assert len(touched_openly & backbone) > 0.7 * len(backbone)  # not the last layer's output, which no action reads
    spoken = reached(model, model.loss(observed(), chunks(), rng())[1])
    assert backbone <= spoken and not spoken - backbone


def test_insulation_leaves_the_numbers_alone() -> None:
    for one, other in zip(
        network().loss(observed(), chunks(), rng()), network(False).loss(observed(), chunks(), rng()), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_actions_and_their_words_do_not_see_each_other() -> None:
    model, seen = network(), observed()
    clean, t = model.action(chunks()), torch.tensor([0.3, 0.6, 0.9])
    with torch.no_grad():
        _, memory = model.speak(seen, model.spell(chunks()))
        _, other = model.speak(seen, model.spell(chunks(seed=7)))
        alone, _ = model.core.read(*model.prefix(seen))
        told = model.expert_state(seen)
        velocities = [model.core.velocity(m, clean, t, told) for m in (memory, other, alone)]
        naive = replace(memory, valid=torch.ones_like(memory.valid))
        peeking = model.core.velocity(naive, clean, t, told)
    torch.testing.assert_close(velocities[0], velocities[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(velocities[0], velocities[2], atol=2e-6, rtol=0)  # inference has no FAST tokens at all
    assert (peeking - velocities[0]).abs().max() > 1e-3
    # and the other way round: the words' loss does not depend on the noisy actions, which come after the prefix pass
    losses = [model.loss(seen, chunks(), torch.Generator().manual_seed(s))[1] for s in (1, 2)]
    assert torch.equal(*losses)


def test_words_are_causal_and_the_prefix_does_not_see_them() -> None:
    model, seen = network(), observed()
    ids = model.spell(chunks())[:, :-1]
    changed = ids.clone()
    changed[:, 5:] = torch.where(ids[:, 5:] == NOTHING, NOTHING, START + 3)
    with torch.no_grad():
        first, memory = model.logits(seen, ids)
        second, moved = model.logits(seen, changed)
    before = memory.valid.shape[1] - ids.shape[1]
    torch.testing.assert_close(first[:, :5], second[:, :5])
    assert (first[:, 5:] - second[:, 5:]).abs().max() > 1e-3
    read = memory.valid[:, :before]
    for one, other in zip(memory.keys, moved.keys, strict=True):
        torch.testing.assert_close(one[:, 0, :before][read], other[:, 0, :before][read])


def test_spelling() -> None:
    model = network()
    ids = model.spell(chunks())
    tokens = KIT.encode(chunks().numpy())
    assert (tokens != fast_tokenizer.END).sum(axis=1).min() > ki.SAID  # noise is long
    for row, own in zip(ids, tokens, strict=True):
        assert row[0] == START and (row[1:] - ki.ACTIONS).tolist() == own[: ki.SAID].tolist()
    rest = torch.zeros(40, 16, 7)
    model.learn(fast_tokenizer.fit(torch.cat([chunks(9), rest]).numpy(), 200), ())
    assert model.fast is not None
    [row], [own] = model.spell(rest[:1]), model.fast.encode(rest[:1].numpy())
    assert len(own) < ki.SAID and row.tolist() == [
        START,
        *(int(i) + ki.ACTIONS for i in own),
        END,
    ]
    answers = torch.tensor([[2, 0, -1, -1], [5, 20, 36, 0]])
    asked = ki._answer_ids(answers)
    assert asked[0].tolist() == [ASK, 2 + ki.WORDS, END, NOTHING, NOTHING, NOTHING]
    assert asked[1].tolist() == [
        ASK,
        5 + ki.WORDS,
        20 + ki.WORDS,
        36 + ki.WORDS,
        END,
        NOTHING,
    ]


def test_answers_are_learned() -> None:
    model = network()
    seen, answers = (
        observed(4, known=False),
        torch.tensor([[1, 0, -1, -1], [2, 0, -1, -1], [5, 20, 36, 0], [44, 43, 45, 0]]),
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    assert model.answer_errors(seen, answers).all()
    for _ in range(60):
        optimiser.zero_grad()
        model.answer_loss(seen, answers).backward()
        optimiser.step()
    assert not model.answer_errors(seen, answers).any()


def test_the_action_expert_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    model = ki.build("tiny", INPUTS)
    memory, _ = model.core.read(*model.prefix(observed()))
    suffix = model.core.suffix(chunks(), torch.full((3,), 0.5), model.expert_state(observed()))
    final = model.core.action.final_norm(suffix.tokens, suffix.condition)[0]
    torch.testing.assert_close(model.core.act(suffix, memory), final)


def test_the_action_expert_is_told_the_state_in_numbers() -> None:
    model, seen = network(), observed()
    moved = replace(seen, state=seen.state + 1e-4)
    assert torch.equal(*(ki.bins(model.state(s.state)) for s in (seen, moved)))  # the prompt says the same
    t, x = torch.full((3,), 0.5), model.action(chunks())
    with torch.no_grad():
        memory, _ = model.core.read(*model.prefix(seen))
        one, other = (model.core.velocity(memory, x, t, model.expert_state(s)) for s in (seen, moved))
        unknown = model.expert_state(replace(moved, known=torch.zeros(3, dtype=torch.bool)))
        first, second = (model.core.act(model.core.suffix(y, t, model.expert_state(seen)), memory) for y in (x, x + 1))
    assert (one - other).abs().max() > 0 and not unknown.any()
    torch.testing.assert_close(first[:, 0], second[:, 0])  # the state's token reads no action
    assert (first[:, 1:] - second[:, 1:]).abs().max() > 1e-3


def test_a_sample_repeats_and_survives_its_config() -> None:
    model = network()
    again = ki.from_dict(model.to_dict())
    again.load_state_dict(model.state_dict())
    noise = torch.randn(3, 16, 7, generator=rng())
    with torch.no_grad():
        assert torch.equal(model.sample(observed(), noise, 3), again.sample(observed(), noise, 3))
    assert again.fast == KIT and again.words == ANSWERS.words


def test_too_many_words_are_an_error() -> None:
    with pytest.raises(ValueError, match="room for 252 words"):
        ki.Ki(ki.CONFIGS["tiny"], INPUTS, 32, KIT, [f"word{i}" for i in range(300)])
    assert pi05.STATE_TOKENS <= START < ki.WORDS < ki.ACTIONS < ki.VOCABULARY
