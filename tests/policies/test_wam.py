"""The transformer: shapes, who sees whom, clamping, and that it can learn."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from wambench.policies import flow, wam
from wambench.policies.encoder import STATE_FEATURES

TINY = replace(wam.CONFIGS["tiny"], points=("red_cube", "blue_cube"), latent=(8, 6, 12))


def model_of(config: wam.WamConfig = TINY) -> wam.Wam:
    torch.manual_seed(0)
    model = wam.Wam(config, STATE_FEATURES)
    for head in (model.video_out, model.action_out):
        head.weight.data *= 50.0  # heads start near zero, which would hide what leaks through
    return model.eval()


def condition(batch: int = 3, words: int = 4, seed: int = 0) -> wam.Condition:
    g = torch.Generator().manual_seed(seed)
    return wam.Condition(
        now=torch.randn(batch, *TINY.latent, generator=g),
        past=torch.randn(batch, *TINY.latent, generator=g),
        has_past=torch.ones(batch, dtype=torch.bool),
        state=torch.randn(batch, STATE_FEATURES, generator=g),
        points=torch.rand(batch, 2, 4, generator=g),
        words=torch.randn(batch, words, 64, generator=g),
        word_mask=torch.ones(batch, words, dtype=torch.bool),
        match=torch.rand(batch, words, 2, generator=g),
    )


def noise(batch: int = 3) -> wam.Noise:
    return wam.draw_noise(TINY, [torch.Generator().manual_seed(i) for i in range(batch)])


def test_shapes_and_patches() -> None:
    n, s = noise(), torch.full((3,), 0.5)
    video, action = model_of()(condition(), n.video, n.action, s, s)
    assert video.shape == (3, 2, 8, 6, 12) and action.shape == (3, 16, 7)
    latent = torch.randn(2, 8, 6, 12)
    assert wam.patchify(latent, 3).shape == (2, 8, 72)
    torch.testing.assert_close(wam.unpatchify(wam.patchify(latent, 3), (8, 6, 12), 3), latent)


def test_visibility_goes_from_clean_to_noisy_only() -> None:
    sees = wam.visibility(words=2, past=3, now=3, noisy=4)
    assert not sees[:8, 8:].any() and not sees[:5, 5:].any() and not sees[:2, 2:].any()
    assert sees[8:].all()


def _hidden(model: wam.Wam, cond: wam.Condition, video: Tensor, action: Tensor, sigma: float) -> Tensor:
    """Returns the last hidden tokens."""
    kept: list[Tensor] = []
    handle = model.blocks[-1].register_forward_hook(lambda _m, _i, out: kept.append(out))
    level = torch.full((video.shape[0],), sigma)
    with torch.no_grad():
        model(cond, video, action, level, level)
    handle.remove()
    return kept[0]


def test_clean_tokens_do_not_depend_on_noisy_ones() -> None:
    model, cond, n = model_of(), condition(), noise()
    before = _hidden(model, cond, n.video, n.action, 0.5)
    after = _hidden(model, cond, n.video + 1.0, n.action - 1.0, 0.9)
    clean = 4 + 8 + 8
    torch.testing.assert_close(before[:, :clean], after[:, :clean], atol=1e-6, rtol=0)
    assert (before[:, clean:] - after[:, clean:]).abs().max() > 1e-2


def test_the_past_frame_does_not_see_the_current_one() -> None:
    model, cond, n = model_of(), condition(), noise()
    changed = replace(cond, now=cond.now + 1.0)
    before, after = (_hidden(model, c, n.video, n.action, 0.5) for c in (cond, changed))
    # words carry no frame; the language token does not either
    torch.testing.assert_close(before[:, :12], after[:, :12], atol=1e-6, rtol=0)
    assert (before[:, 12:] - after[:, 12:]).abs().max() > 1e-2


@pytest.mark.parametrize("changed", ["now", "past", "state", "words", "match", "points"])
def test_actions_and_video_depend_on_everything_known(changed: str) -> None:
    model, cond, n, s = model_of(), condition(), noise(), torch.full((3,), 0.5)
    other = replace(cond, **{changed: getattr(cond, changed) * 0.5 + 0.2})
    with torch.no_grad():
        for a, b in zip(model(cond, n.video, n.action, s, s), model(other, n.video, n.action, s, s), strict=True):
            assert (a - b).abs().max() > 1e-4


def test_hidden_samples_change_nothing() -> None:
    """Padding words, and a past frame that is masked or left out, give the same answer."""
    model, cond, n, s = model_of(), condition(), noise(), torch.full((3,), 0.5)
    with torch.no_grad():
        plain = model(replace(cond, past=None, has_past=None), n.video, n.action, s, s)
        masked = replace(
            cond,
            has_past=torch.zeros(3, dtype=torch.bool),
            words=torch.cat([cond.words, torch.zeros(3, 2, 64)], 1),
            word_mask=torch.cat([cond.word_mask, torch.zeros(3, 2, dtype=torch.bool)], 1),
            match=torch.cat([cond.match, torch.zeros(3, 2, 2)], 1),
        )
        for a, b in zip(plain, model(masked, n.video, n.action, s, s), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_sampling_repeats_and_clamps() -> None:
    model, cond, n = model_of(), condition(), noise()
    video, action = wam.sample(model, cond, n, 3)
    again = wam.sample(model, cond, n, 3)
    assert torch.equal(video, again[0]) and torch.equal(action, again[1])
    kept, own = wam.sample(model, cond, n, 3, clamp=video)
    torch.testing.assert_close(kept, video)
    assert torch.equal(own, wam.sample(model, cond, n, 3, clamp=video)[1])
    assert (own - wam.sample(model, cond, n, 3, clamp=video + 1.0)[1]).abs().max() > 1e-3
    still, _ = wam.sample(model, cond, n, 3, move_video=False)
    torch.testing.assert_close(still, n.video + cond.now[:, None])
    _, resting = wam.sample(model, cond, n, 3, move_action=False)
    assert torch.equal(resting, n.action)


def test_one_step_of_an_exact_model_recovers_the_future() -> None:
    class Oracle(wam.Wam):
        def forward(self, cond, video, action, sigma_video, sigma_action):  # type: ignore[no-untyped-def]
            return torch.ones_like(video), torch.full_like(action, 2.0)

    cond = condition()
    video, action = wam.sample(Oracle(TINY, STATE_FEATURES), cond, noise(), 4)
    torch.testing.assert_close(video, cond.now[:, None] + torch.ones_like(video))
    torch.testing.assert_close(action, torch.full_like(action, 2.0))


def test_overfits_one_batch() -> None:
    torch.manual_seed(0)
    model, cond = wam.Wam(TINY, STATE_FEATURES), condition(8)
    g = torch.Generator().manual_seed(0)
    # targets that a narrow network can hold: one value per sample and channel
    future = cond.now[:, None] + 2.0 * torch.randn(8, 2, TINY.latent[0], 1, 1, generator=g).expand(8, 2, *TINY.latent)
    actions = 2.0 * torch.randn(8, 1, 7, generator=g).expand(8, 16, 7)
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    losses = []
    for _ in range(150):
        video, action = wam.loss(model, cond, future, actions, g)
        losses.append(float((video + action).detach()))
        optimiser.zero_grad()
        (video + action).backward()
        optimiser.step()
    assert sum(losses[-10:]) < sum(losses[:10]) / 5


def test_bad_configs_are_named() -> None:
    with pytest.raises(ValueError, match="patch 5"):
        wam.WamConfig(patch=5)
    with pytest.raises(ValueError, match="no model config 'nanoo'"):
        wam.config_for("nanoo", (), (24, 6, 12))
    assert wam.WamConfig.from_dict(TINY.to_dict()) == TINY
    assert flow.VIDEO_MIX[0] > 0
