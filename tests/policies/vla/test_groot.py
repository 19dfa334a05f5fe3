"""GR00T: the released head's numbers, what its blocks read, weight banks, and the cached context."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.parity import vla_groot
from tests.policies.vla.toys import INPUTS, awake, chunks, observed
from wambench.policies.vla import groot, groot_head
from wambench.policies.vla.groot_head import GrootContext, GrootHead, GrootHeadConfig

GOLDEN = Path(__file__).parents[2] / "golden" / "vla"
CONFIG = GrootHeadConfig(24, 4, 2, 16, 20, 5, 3, 6, embodiments=3)


def head(alternate: bool = True) -> GrootHead:
    torch.manual_seed(0)
    return GrootHead(replace(CONFIG, alternate=alternate)).eval()


def context(count: int = 2) -> GrootContext:
    g = torch.Generator().manual_seed(0)
    image = torch.tensor([True] * 5 + [False] * 4).expand(count, -1)
    valid = torch.ones(count, 9, dtype=torch.bool)
    valid[-1, 7:] = False
    return GrootContext(torch.randn(count, 9, 20, generator=g), valid, image)


@pytest.mark.parametrize("file", sorted(vla_groot.CHECKS))
def test_the_numbers_are_the_released_ones(file: str) -> None:
    assert [r for r in vla_groot.CHECKS[file](GOLDEN) if not r.passed] == []


def test_blocks_read_text_and_image_in_turn() -> None:
    model, seen = head(), context()
    state, noisy, bucket = torch.ones(2, 1, 5), torch.ones(2, 6, 3), torch.tensor([0, 500])

    def velocity(memory: groot_head.Memory) -> torch.Tensor:
        with torch.no_grad():
            return model(memory, state, noisy, bucket)

    base = model.read(seen)
    for changed, reader in ((slice(0, 5), 1), (slice(5, 7), 0)):  # image tokens, valid words
        tokens = seen.tokens.clone()
        tokens[:, changed] += torch.randn(tokens[:, changed].shape)
        other = model.read(replace(seen, tokens=tokens))
        mixed = list(base)
        mixed[1 - reader] = other[1 - reader]
        torch.testing.assert_close(velocity(mixed), velocity(base))  # the block of the other kind reads none of it
        mixed[reader] = other[reader]
        assert (velocity(mixed) - velocity(base)).abs().max() > 1e-4
    tokens = seen.tokens.clone()
    tokens[-1, 7:] += 1.0
    torch.testing.assert_close(velocity(model.read(replace(seen, tokens=tokens))), velocity(base))  # padding


def test_embodiments_have_weights_of_their_own() -> None:
    model, seen = head(), context()
    state, noisy, bucket = torch.ones(2, 1, 5), torch.ones(2, 6, 3), torch.tensor([0, 0])
    out = [model(model.read(seen), state, noisy, bucket, torch.tensor(bank)) for bank in ([0, 1], [0, 2])]
    torch.testing.assert_close(out[0][0], out[1][0])
    assert (out[0][1] - out[1][1]).abs().max() > 1e-3
    out[1][1].sum().backward()
    bank = model.action_decoder.layer2.W.grad
    assert bank is not None and not bank[:2].any() and bank[2].any()


def test_a_context_read_once_is_a_context_read_every_time() -> None:
    model, seen = head(), context()
    state, noise = torch.ones(2, 1, 5), torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(1))
    x = noise
    with torch.no_grad():
        for i in range(4):
            x = x + model(model.read(seen), state, x, torch.full((2,), 250 * i)) / 4
    torch.testing.assert_close(groot_head.sample(model, seen, state, noise, 4), x)


def test_times_are_more_often_near_noise() -> None:
    t = groot_head.draw_times(20_000, torch.Generator().manual_seed(0))
    assert t.min() >= 0.0 and t.max() < 0.999 and float(t.mean()) == pytest.approx(0.4 * 0.999, abs=0.01)
    assert groot_head.buckets(t).max() <= 998


def test_image_and_text_tokens_are_told_apart() -> None:
    torch.manual_seed(0)
    model = groot.build("tiny", INPUTS)
    seen = model.context(observed())
    assert seen.image[0].sum() == INPUTS.patches + 1
    assert (seen.valid & ~seen.image).sum(dim=1).tolist() == [4, 4, 2]


def test_loss_and_sample() -> None:
    torch.manual_seed(0)
    model = groot.build("tiny", INPUTS)
    awake(model)
    loss = model.loss(observed(), chunks(), torch.Generator().manual_seed(0))[0]
    loss.backward()
    assert all(
        p.grad is not None and p.grad.any() for n, p in model.named_parameters() if not n.startswith("head.vlln")
    )
    again = groot.from_dict(model.to_dict())
    again.load_state_dict(model.state_dict())
    noise = torch.randn(3, 16, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model.sample(observed(), noise, 4), again.sample(observed(), noise, 4))
