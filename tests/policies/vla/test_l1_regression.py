"""The regressor: deterministic, blind to padding, learns what it is shown."""

from dataclasses import replace

import torch

from tests.policies.vla.toys import INPUTS, awake, chunks, observed
from wambench.policies.vla import l1_regression


def network() -> l1_regression.L1:
    torch.manual_seed(0)
    model = l1_regression.build("tiny", INPUTS)
    awake(model)
    return model


def test_noise_and_padding_do_not_matter_and_words_do() -> None:
    model, seen = network(), observed()
    words = seen.words.clone()
    words[-1, 2:] = 9.0  # behind the end of the shorter instruction
    with torch.no_grad():
        answer = model.sample(seen, torch.zeros(3, 16, 7), 1)
        assert torch.equal(answer, model.sample(seen, torch.ones(3, 16, 7), 10))
        torch.testing.assert_close(model.sample(replace(seen, words=words), torch.zeros(3, 16, 7), 1), answer)
        words[-1, 1] = 9.0
        assert (model.sample(replace(seen, words=words), torch.zeros(3, 16, 7), 1) - answer)[-1].abs().max() > 1e-3
    assert answer.shape == (3, 16, 7)


def test_it_learns_a_chunk_and_survives_its_config() -> None:
    model, seen, wanted = network().train(), observed(), chunks()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(120):
        optimiser.zero_grad()
        (loss,) = model.loss(seen, wanted, torch.Generator())
        loss.backward()
        losses.append(float(loss.detach()))
        optimiser.step()
    assert losses[-1] < 0.35 * losses[0]
    again = l1_regression.from_dict(model.to_dict())
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(seen), model(seen))
