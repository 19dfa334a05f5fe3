"""Guided inpainting: the gradient is one, the chunk agrees with what is being played, the vectors are met."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.parity import rtc as parity
from tests.policies.conftest import observe
from wambench.interface import Guided, Observation
from wambench.policies.actions import real_time_chunking as rtc
from wambench.policies.dreamzero import sampling
from wambench.policies.dreamzero.policy import DreamZero, DreamZeroOptions

GOLDEN = Path(__file__).parents[2] / "golden" / "vla"
CUBES = np.array([[0.1, -0.1, 0.0], [-0.1, 0.15, 0.0]])


def test_reference_vectors() -> None:
    results = parity.check_rtc(GOLDEN)
    assert len(results) > 400
    assert not [result for result in results if not result.passed]


def test_weights_of_the_prefix() -> None:
    linear = rtc.prefix_weights(2, 6, 10, "linear")
    np.testing.assert_allclose(linear, [1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0, 0], atol=1e-6)
    exp = rtc.prefix_weights(2, 6, 10)
    assert (exp <= linear + 1e-6).all() and exp[:2].tolist() == [1, 1]
    assert rtc.prefix_weights(9, 4, 8, "zeros").tolist() == [
        1,
        1,
        1,
        1,
        0,
        0,
        0,
        0,
    ]  # later than the old chunk's end
    with pytest.raises(ValueError, match="did you mean 'exp'"):
        rtc.prefix_weights(1, 2, 3, "expo")


def test_the_product_is_the_gradient_of_the_error() -> None:
    """Finite differences of 1/2 sum W (old - clean(x))^2 with W constant: its gradient is minus J^T (W error)."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 24, generator=generator, dtype=torch.float64) / 5
    old, x = (torch.randn(1, 8, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    guidance, sigma = (
        rtc.Guidance(old, rtc.prefix_weights(2, 6, 8).double(), beta=100.0),
        0.6,
    )

    def velocity(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x.flatten(1) @ weight).view(x.shape)

    def energy(x: torch.Tensor) -> float:
        return float(((old - x + sigma * velocity(x)) ** 2 * guidance.weights[:, None]).sum() / 2)

    step, slope = 1e-6, torch.zeros_like(x)
    for index in np.ndindex(*x.shape):
        moved = torch.zeros_like(x)
        moved[index] = step
        slope[index] = (energy(x + moved) - energy(x - moved)) / (2 * step)
    got = rtc.guided_velocity(velocity, x, sigma, guidance) - velocity(x)
    expected = rtc.guidance_weight(1 - sigma, 100.0) * slope
    assert (got - expected).abs().max() < 1e-8
    error = guidance.error(x - sigma * velocity(x))
    identity = -rtc.guidance_weight(1 - sigma, 100.0) * error
    assert (got - identity).abs().max() > 0.1  # leaving the network out is something else


def test_both_conventions_say_the_same() -> None:
    x, old = torch.randn(2, 1, 4, 3, generator=torch.Generator().manual_seed(1)).unbind(0)
    guidance = rtc.Guidance(old, rtc.prefix_weights(1, 3, 4))
    towards = rtc.guided_velocity_towards_data(lambda y: torch.sin(y), x, 0.3, guidance)
    torch.testing.assert_close(towards, -rtc.guided_velocity(lambda y: -torch.sin(y), x, 0.7, guidance))


def test_what_is_known_is_padded_and_cut() -> None:
    short = rtc.guidance_of(np.ones((3, 7)), 2, 8)
    assert short.old.shape == (8, 7) and not short.old[3:].any() and not short.weights[3:].any()
    assert rtc.guidance_of(np.ones((12, 7)), 9, 8).weights.tolist() == [1.0] * 8
    assert not rtc.guidance_of(np.zeros((0, 7)), 0, 8).weights.any()


# -- DreamZero -------------------------------------------------------------------------------------------------------


def history(*steps: int) -> list[Observation]:
    return [observe(step, CUBES, np.array([0.002 * step, 0.0, 0.0])) for step in steps]


@pytest.fixture(scope="module")
def policy() -> DreamZero:
    return DreamZero()  # the shipped one: a network that has learned little has a gradient that says little


def answers(policy: DreamZero, previous: np.ndarray, delay: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the actions (H, A) after one played chunk, without and with guidance."""
    made = []
    for is_guided in (False, True):
        policy.reset("reach the red cube", 0)
        policy.act(history(0))
        now = history(4)
        made.append((policy.act_guided(now, previous, delay) if is_guided else policy.act(now)).actions)
    return made[0], made[1]


def test_dreamzero_continues_what_is_being_played(policy: DreamZero) -> None:
    assert isinstance(policy, Guided)
    policy.reset("reach the red cube", 3)
    previous = policy.act(history(0)).actions[4:].astype(np.float64)
    previous[:, :3] = np.clip(previous[:, :3] + 0.3, -1, 1)  # somewhere else than it would go by itself
    free, continued = answers(policy, previous, 4)
    assert continued.shape == (16, 7) and np.abs(continued).max() <= 1.0
    gap = [np.linalg.norm((actions[:4] - previous[:4])[:, :6], axis=1).mean() for actions in (free, continued)]
    assert gap[1] < 0.5 * gap[0]


def test_guidance_without_anything_known_changes_nothing(policy: DreamZero) -> None:
    free, continued = answers(policy, np.zeros((0, 7)), 0)
    np.testing.assert_allclose(continued, free, atol=1e-5)


@pytest.mark.parametrize("options", [{"solver": "unipc"}, {"mode": "inverse"}, {"mode": "no_video"}, {"guidance": 2.0}])
def test_dreamzero_is_guided_in_every_mode(options: dict) -> None:
    policy = DreamZero(DreamZeroOptions(**options))
    free, continued = answers(policy, np.full((12, 7), 0.5), 4)
    assert np.abs(continued[:4, :6] - 0.5).mean() < np.abs(free[:4, :6] - 0.5).mean()


def test_a_gradient_through_the_cache_is_the_networks(policy: DreamZero) -> None:
    """The product of Jacobian and error against finite differences, number by number."""
    model, session = policy.model, policy.session("reach the red cube", 0)
    policy._look([session], [history(0)])
    memory, state = policy._memory(session, 0, False)
    noise = sampling.draw_noise(model.config, [torch.Generator().manual_seed(0)])
    start = sampling.Frames(noise.video.transpose(1, 2), noise.vectors)

    def clean(x: torch.Tensor) -> torch.Tensor:
        return sampling._evaluate(model, memory, start, x, (0.5, 0.5), state)[1]

    x = noise.action.clone().requires_grad_(True)
    error = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    (product,) = torch.autograd.grad(clean(x), x, error)
    slopes, some = product.clone(), list(np.ndindex(*x.shape))[::5]
    with torch.no_grad():
        torch.testing.assert_close(clean(x), clean(noise.action))  # with and without gradients: two ways of caching
        for index in some:
            moved = torch.zeros_like(x)
            moved[index] = 5e-3
            slopes[index] = ((clean(x + moved) - clean(x - moved)) / 1e-2 * error).sum()
    off = torch.tensor([float((product - slopes).abs()[index]) for index in some]) / product.abs().max()
    assert off.median() < 1e-3 and off.max() < 0.05  # the largest: a ReLU of the action head that is at its kink
    assert (error - slopes).abs().max() > 0.5  # the identity would be far off


@pytest.mark.parametrize("delay", [0, 1, 20])
def test_only_what_was_seen_enters_the_cache_under_delay(
    policy: DreamZero, delay: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queries every max(16, delay) steps: frames of played chunks are injected with their step, others never are."""
    entered: list[list[float]] = []
    real = sampling.remember

    def remember(model, frames, words, memory=None):  # type: ignore[no-untyped-def]
        entered.append([by_latent[tuple(latent.flatten()[:8].tolist())] for latent in frames.latents[0].unbind(1)])
        return real(model, frames, words, memory)

    by_latent: dict[tuple[float, ...], int] = {}
    encode = policy.encoder.encode

    def encoded(frames, states):  # type: ignore[no-untyped-def]
        latents, points = encode(frames, states)
        for latent, step in zip(latents, shown, strict=True):
            by_latent[tuple(latent.flatten()[:8].tolist())] = step
        return latents, points

    monkeypatch.setattr(sampling, "remember", remember)
    monkeypatch.setattr(policy.encoder, "encode", encoded)
    policy.reset("reach the red cube", 0)
    every, shown = max(16, delay), [0]
    policy.act(history(0))
    for now in (every, 2 * every):
        shown = [now - every + 8, now] if delay < 16 else [now - every + 8, now - every + 16, now]
        steps = [step for step in range(now - every + 4, now, 4)] + [now]
        policy.act_guided(history(*steps), np.zeros((max(delay, 1), 7)), delay)
    played = [[0], [8, 16], [24, 32]]
    assert entered == (played if delay < 16 else [[0], [every], [2 * every]])
