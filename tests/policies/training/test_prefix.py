"""Training-time real-time chunking: given actions are clean, cost nothing, and stay what they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.policies.actions.test_real_time_chunking import history
from tests.policies.dreamzero.test_nano import CALM, batch_of, model_of
from wambench.policies.dreamzero import nano
from wambench.policies.dreamzero.policy import DreamZero, DreamZeroOptions
from wambench.policies.training import nano_loss
from wambench.policies.training.config import TrainConfig

pytestmark = pytest.mark.slow


def test_as_many_are_given_as_was_drawn() -> None:
    batch = batch_of(200, 2)
    has = batch.has_actions.clone()
    has[:50] = 0.0  # video without actions
    given = nano_loss.give_prefix(replace(batch, has_actions=has), 8, torch.Generator().manual_seed(0))
    count = given.sum(dim=2)
    assert given.shape == (200, 2, 16) and not given[:50].any() and not given[..., 8:].any()
    assert given[..., :-1].int().diff(dim=2).max() <= 0  # from the first one on
    assert sorted(set(count[50:].flatten().tolist())) == list(range(9))
    assert count[50:].float().mean() == pytest.approx(4.0, abs=0.4)


def test_given_actions_are_as_carried_out_and_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = model_of(), batch_of(3, 2)
    batch = replace(batch, executed=batch.actions + 5.0)
    given = torch.zeros(3, 2, 16, dtype=torch.bool)
    given[..., :6] = True
    told: dict[str, Any] = {}

    def answer(
        model: nano.SmallDreamZero, clean: Any, noisy: Any, target: Any, levels: Any, action: Any, *rest: Any
    ) -> Any:
        told.update(levels=levels, action=action)
        wrong = batch.actions + 3.0 * given[..., None] + told["off"]
        return target, wrong.flatten(1, 2)

    monkeypatch.setattr(nano_loss, "give_prefix", lambda *_: given)
    monkeypatch.setattr(nano_loss, "_predict", answer)
    for off, expected in ((0.0, 0.0), (2.0, 4.0)):
        told["off"] = off
        error = nano_loss.loss(model, batch, replace(CALM, prefix=6), torch.Generator().manual_seed(0))[2]
        assert float(error) == pytest.approx(expected, abs=1e-5)
    action, sigma = (x.unflatten(1, (2, 16)) for x in (told["action"], told["levels"][1]))
    torch.testing.assert_close(action[:, :, :6], batch.executed[:, :, :6])
    assert not sigma[..., :6].any() and (sigma[..., 6:] > 0).all()
    assert not torch.allclose(action[:, :, 6:], batch.executed[:, :, 6:])


@pytest.mark.parametrize("options", [{}, {"solver": "unipc", "steps": 4}, {"mode": "video_first"}, {"guidance": 2.0}])
def test_a_model_trained_with_prefixes_is_given_them(options: dict[str, Any]) -> None:
    policy = DreamZero(DreamZeroOptions(**options))
    policy.meta = {**policy.meta, "prefix": 6}
    previous = np.full((12, 7), 0.5)
    previous[:, 6] = 1.0
    plans = {}
    for delay in (0, 4, 9):
        policy.reset("reach the red cube", 0)
        plans[delay] = policy.act_guided(history(0), previous, delay).actions
    np.testing.assert_allclose(plans[4][:4], previous[:4], atol=1e-5)
    np.testing.assert_allclose(plans[9][:6], previous[:6], atol=1e-5)  # no more than it has learned
    assert np.abs(plans[9][6] - previous[6]).max() > 1e-3
    policy.reset("reach the red cube", 0)
    np.testing.assert_allclose(plans[0], policy.act(history(0)).actions, atol=1e-5)
    assert np.abs(plans[4][4:] - plans[0][4:]).max() > 1e-3


@pytest.mark.parametrize(("policy", "prefix"), [("dreamzero", 16), ("dreamzero", -1), ("pi0", 4)])
def test_prefixes_that_cannot_be(policy: str, prefix: int) -> None:
    with pytest.raises(ValueError, match=r"prefix is for dreamzero, in 0\.\.15"):
        TrainConfig(policy, "nano", ("demos",), "out.safetensors", steps=1, prefix=prefix)
    assert "prefix" not in TrainConfig("dreamzero", "nano", ("demos",), "out.safetensors", steps=1).identity()
