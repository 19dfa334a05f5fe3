"""pi0 and pi0.5 on what DreamZero nano sees: they listen, repeat themselves, learn, and are as large as it is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.parity import vla_pi as parity
from tests.policies.vla.toys import INPUTS, awake, chunks, observed
from wambench.policies.dreamzero.policy import WEIGHTS
from wambench.policies.vla import base as vla
from wambench.policies.vla import pi0, pi05
from wambench.policies.weight_files import packaged, read_weights

GOLDEN = Path(__file__).parents[2] / "golden" / "vla"
BOTH = [pi0, pi05]
NOISE = torch.randn(3, 16, 7, generator=torch.Generator().manual_seed(2))


def network(module: object) -> vla.Network:
    torch.manual_seed(0)
    return awake(module.build("tiny", INPUTS))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", parity.CHECKS)
def test_agrees_with_golden_files(name: str) -> None:
    results = parity.CHECKS[name](GOLDEN)
    assert results and not [result for result in results if not result.passed]


@pytest.mark.parametrize("module", BOTH)
@pytest.mark.parametrize("part", ["patches", "scene", "state", "words"])
def test_every_part_of_an_observation_counts(module: object, part: str) -> None:
    model, seen = network(module), observed()
    with torch.no_grad():
        plain = model.sample(seen, NOISE, 3)
        other = model.sample(replace(seen, **{part: getattr(observed(seed=9), part)}), NOISE, 3)
    assert plain.shape == (3, 16, 7) and (plain - other).abs().amax(dim=(1, 2)).min() > 1e-4


@pytest.mark.parametrize("module", BOTH)
def test_samples_repeat_under_the_same_noise_and_differ_under_another(module: object) -> None:
    model, seen = network(module), observed()
    with torch.no_grad():
        plain = model.sample(seen, NOISE, 4)
        assert torch.equal(plain, model.sample(seen, NOISE, 4))
        assert not torch.allclose(plain, model.sample(seen, -NOISE, 4), atol=1e-3)


@pytest.mark.parametrize("module", BOTH)
def test_padded_words_are_not_read(module: object) -> None:
    model, seen = network(module), observed()
    words = seen.words.clone()
    words[-1, 2:] = 7.0
    with torch.no_grad():
        changed = model.sample(replace(seen, words=words), NOISE, 2)
        torch.testing.assert_close(changed, model.sample(seen, NOISE, 2))


@pytest.mark.parametrize("module", BOTH)
def test_it_learns_a_chunk_and_survives_its_config(module: object) -> None:
    torch.manual_seed(0)
    model: vla.Network = module.build("tiny", INPUTS)  # type: ignore[attr-defined]
    seen, wanted = observed(8), chunks(8)
    optimiser = torch.optim.Adam(model.parameters(), lr=4e-3)
    generator = torch.Generator().manual_seed(0)
    many = vla.EncodedObservation(*(x.repeat_interleave(4, dim=0) for x in vars(seen).values()))
    for _ in range(150):
        optimiser.zero_grad()
        (loss,) = model.loss(many, wanted.repeat_interleave(4, dim=0), generator)
        loss.backward()
        optimiser.step()
    noise = torch.randn(8, 16, 7, generator=generator)
    with torch.no_grad():
        error = (model.sample(seen, noise, 10) - wanted).square().mean()
    assert error < 0.4 * wanted.square().mean()
    again: vla.Network = module.from_dict(model.to_dict())  # type: ignore[attr-defined]
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again.sample(seen, noise, 2), model.sample(seen, noise, 2))


def test_equal_seeds_give_equal_losses() -> None:
    for module in BOTH:
        model = network(module)
        losses = [model.loss(observed(), chunks(), torch.Generator().manual_seed(s))[0].item() for s in (1, 1, 2)]
        assert losses[0] == losses[1] != losses[2]


def test_states_become_bins() -> None:
    x = torch.tensor([-1.5, -1.0, -0.999, -1.0 + 2 / 256, 0.0, 0.999, 1.0, 3.0])
    assert pi05.bins(x).tolist() == [-1, 0, 0, 1, 128, 255, 255, 255]


def test_an_unknown_state_is_not_read() -> None:
    model = network(pi05)
    hidden = observed(known=False)
    with torch.no_grad():
        plain = model.sample(hidden, NOISE, 2)
        torch.testing.assert_close(model.sample(replace(hidden, state=-hidden.state), NOISE, 2), plain)


@pytest.mark.parametrize("module", BOTH)
def test_as_large_as_the_shipped_dreamzero(module: object) -> None:
    tensors, meta = read_weights(packaged(WEIGHTS), "dreamzero")
    theirs = sum(t.numel() for name, t in tensors.items() if not name.endswith(("_mean", "_std")))
    inputs = vla.Inputs(tuple(meta["config"]["points"]), (24, 6, 12))
    model: vla.Network = module.build("nano", inputs)  # type: ignore[attr-defined]
    assert abs(sum(p.numel() for p in model.parameters()) / theirs - 1.0) < 0.1
