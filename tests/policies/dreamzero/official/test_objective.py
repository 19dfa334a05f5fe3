from pathlib import Path

import pytest
import torch

from tests.parity import sampler as parity
from tests.policies.dreamzero.test_dit import CHUNKS, Inputs, filled
from wambench.policies.dreamzero.dit import CONFIGS, Frames
from wambench.policies.dreamzero.official import objective
from wambench.policies.dreamzero.official.objective import ObjectiveConfig

GOLDEN = Path(__file__).parents[3] / "golden" / "dreamzero"
TINY = CONFIGS["tiny"]


def test_golden() -> None:
    results = parity.check_schedule(GOLDEN)
    assert len(results) > 15
    assert not [r for r in results if not r.passed]


def draw(config: ObjectiveConfig, n: int = 400) -> objective.Levels:
    return objective.draw(config, n, 4, 2, 6, torch.Generator().manual_seed(0))


def test_coupled_levels_are_shared_within_a_chunk() -> None:
    levels = draw(ObjectiveConfig())
    assert levels.sigma.shape == (400, 9) and levels.sigma_action.shape == (400, 4)
    assert torch.equal(levels.sigma[:, 1::2], levels.sigma[:, 2::2])
    assert torch.equal(levels.sigma[:, 1::2], levels.sigma_action)
    assert not torch.equal(levels.sigma[:, 1], levels.sigma[:, 3])
    torch.testing.assert_close(levels.timestep, 1000 * levels.sigma)
    whole = draw(ObjectiveConfig(whole_window=True))
    assert torch.equal(whole.sigma[:, 1:2].expand(-1, 8), whole.sigma[:, 1:])


def test_flash_decouples() -> None:
    code, paper = (draw(ObjectiveConfig("paper", "flash", alpha, alpha == 3.0)) for alpha in (3.0, 7.0))
    assert code.sigma_action.shape == (400, 24) and paper.sigma_action.shape == (400, 4)
    # Beta(a, 1) has mean a / (a + 1); actions are uniform
    assert abs(float(code.sigma.mean()) - 0.75) < 0.02 and abs(float(paper.sigma.mean()) - 0.875) < 0.02
    assert abs(float(code.sigma_action.mean()) - 0.5) < 0.02
    emphasis = draw(ObjectiveConfig(mode="high_noise"))
    assert torch.equal(emphasis.sigma[:, 1::2], emphasis.sigma_action)


def test_shares_of_special_chunks() -> None:
    levels = draw(ObjectiveConfig(clean_video=0.25, noise_video=0.25, noise_action=0.2), n=2000)
    video = levels.sigma[:, 1::2]
    assert abs(float((video == 0).float().mean()) - 0.25) < 0.02
    assert float(((video == 1) & (levels.weight[:, 1::2] == 0)).float().mean()) > 0.23
    assert (levels.timestep[:, 1::2][video == 0] == 0).all()
    assert abs(float((levels.sigma_action[(video > 0) & (video < 1)] == 1).float().mean()) - 0.2) < 0.03


def batch(has_real_action: list[float]) -> tuple[Inputs, objective.ObjectiveBatch]:
    at = Inputs(TINY, batch=len(has_real_action))
    clean = Frames(at.clean.latents.detach(), at.clean.vectors.detach())  # type: ignore[union-attr]
    return at, objective.ObjectiveBatch(clean, at.action, at.state, has_real_action=torch.tensor(has_real_action))


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_video_only_samples_and_no_video_loss(weight: float) -> None:
    model = filled(TINY)
    at, sequences = batch([1.0, 0.0])
    levels = objective.draw(ObjectiveConfig(), 2, CHUNKS, 2, TINY.actions_per_chunk, torch.Generator().manual_seed(3))
    noise = objective.draw_noise(sequences, torch.Generator().manual_seed(4))
    context = model.encode_context(at.text)
    config = ObjectiveConfig(video_weight=weight)
    losses = objective.losses(model, sequences, context, levels, noise, config)
    torch.testing.assert_close(losses.total, losses.action + weight * (losses.video + losses.vector))
    losses.total.backward()
    assert at.action.grad is not None and model.head.vector.weight.grad is not None
    assert at.action.grad[0].abs().max() > 0
    reached = float(model.head.vector.weight.grad.abs().max())
    assert (reached > 0) == (weight > 0)
    # a video-only sample's actions are still seen by its video, but their own error does not count
    decoder = model.action_decoder.layer2.b.grad
    alone = objective.action_loss(
        torch.ones(2, 3, 2), torch.zeros(2, 3, 2), torch.ones(2, 3), None, torch.tensor([1.0, 0])
    )
    assert alone.tolist() == [1.0, 0.0] and decoder is not None


def test_perfect_predictions_cost_nothing() -> None:
    clean, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert float(objective.video_loss(noise - clean, noise - clean, torch.ones(2, 3)).sum()) == 0.0
    sigma = torch.tensor([[0.0, 0.5, 1.0]] * 2)
    x = objective.add_noise(clean, noise, sigma)
    assert torch.equal(x[:, 0], clean[:, 0]) and torch.equal(x[:, 2], noise[:, 2])


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'coupled'"):
        ObjectiveConfig(mode="couple")
    with pytest.raises(ValueError, match="at most 1"):
        ObjectiveConfig(clean_video=0.6, noise_video=0.6)
