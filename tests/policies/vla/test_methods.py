"""What ki, groot and l1 have in common with pi0 and pi0.5: all of an observation counts, and equal size."""

from dataclasses import replace

import pytest
import torch

from tests.policies.vla.toys import INPUTS, awake, chunks, observed
from wambench.policies.actions import real_time_chunking as rtc
from wambench.policies.dreamzero.policy import WEIGHTS
from wambench.policies.perception.encoder import load
from wambench.policies.vla import base as vla
from wambench.policies.vla import pi0
from wambench.policies.weight_files import ENCODER, packaged, read_weights

METHODS = ("ki", "groot", "l1")
NOISE = torch.randn(3, 16, 7, generator=torch.Generator().manual_seed(2))


def network(method: str) -> vla.Network:
    torch.manual_seed(0)
    return awake(vla.module_of(method).build("tiny", INPUTS))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("part", ["patches", "scene", "state", "words"])
def test_every_part_of_an_observation_counts(method: str, part: str) -> None:
    model, seen = network(method), observed()
    with torch.no_grad():
        plain = model.sample(seen, NOISE, 3)
        other = model.sample(replace(seen, **{part: getattr(observed(seed=9), part)}), NOISE, 3)
    assert plain.shape == (3, 16, 7) and (plain - other).abs().amax(dim=(1, 2)).min() > 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_padded_words_are_not_read(method: str) -> None:
    model, seen = network(method), observed()
    words = seen.words.clone()
    words[-1, 2:] = 7.0
    with torch.no_grad():
        torch.testing.assert_close(model.sample(replace(seen, words=words), NOISE, 2), model.sample(seen, NOISE, 2))


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_answered_like_its_rows(method: str) -> None:
    model, seen = network(method), observed()
    with torch.no_grad():
        together = model.sample(seen, NOISE, 2)
        for i in range(3):
            alone = vla.EncodedObservation(*(x[i : i + 1] for x in vars(seen).values()))
            torch.testing.assert_close(model.sample(alone, NOISE[i : i + 1], 2)[0], together[i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_it_is_as_large_as_dreamzero_nano(method: str) -> None:
    tensors, meta = read_weights(packaged(WEIGHTS), "dreamzero")
    reader, _ = load(packaged(ENCODER))
    model = vla.module_of(method).build("nano", vla.Inputs(tuple(meta["config"]["points"]), reader.config.latent))
    size = sum(p.numel() for p in model.parameters())
    assert 0.9 < size / sum(t.numel() for t in tensors.values()) < 1.1


def test_without_insulation_the_action_loss_reaches_the_prefix() -> None:
    torch.manual_seed(0)
    model = awake(pi0.build("tiny", INPUTS))
    model.loss(observed(), chunks(), torch.Generator().manual_seed(0))[0].backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert {"stem.patch.weight", "stem.word.weight", "core.prefix.layers.0.q_proj.weight"} <= reached


@pytest.mark.parametrize("method", ["pi0", "pi05", "ki", "groot"])
def test_a_flow_policy_continues_the_chunk_that_is_played(method: str) -> None:
    model, seen = network(method), observed()
    guidance = rtc.guidance_of(torch.full((12, 7), 0.3), 4, 16)
    with torch.no_grad():
        plain, led = (model.action(model.sample(seen, NOISE, 10, how)) for how in (None, guidance))
    off = [(chunk[:, :4] - 0.3).abs().mean() for chunk in (plain, led)]
    assert off[1] < 0.5 * off[0]


def test_only_flow_policies_say_that_they_can() -> None:
    assert hasattr(vla.FlowActor, "act_guided") and not hasattr(vla.Actor, "act_guided")
