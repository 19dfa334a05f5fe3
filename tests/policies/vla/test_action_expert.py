"""The two experts: who reads whom, one softmax over cached and own keys, insulation, padding."""

import pytest
import torch
from torch import Tensor

from wambench.policies.vla import action_expert, pi0, pi05
from wambench.policies.vla.action_expert import PrefixMemory, Sizes, TwoExperts

SIZES = Sizes((16, 24), (12, 20), depth=3, heads=4, kv_heads=2, head_dim=6, vocabulary=5)
PREFIX, HORIZON, ACTIONS, STATE = 7, 4, 3, 5


def cores() -> list[TwoExperts]:
    """Returns both methods' experts with no weight left at zero."""
    torch.manual_seed(0)
    both: list[TwoExperts] = [pi0.Pi0Core(SIZES, ACTIONS, STATE), pi05.Pi05Core(SIZES, ACTIONS)]
    for core in both:
        for p in core.parameters():
            p.data += 0.3 * torch.randn(p.shape)
    return both


def sequence(seed: int = 0, count: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns prefix tokens, which are valid, noisy actions, times and a state."""
    g = torch.Generator().manual_seed(seed)
    valid = torch.ones(count, PREFIX, dtype=torch.bool)
    valid[-1, 2] = valid[-1, 5:] = False
    return (
        torch.randn(count, PREFIX, 16, generator=g), valid, torch.randn(count, HORIZON, ACTIONS, generator=g),
        torch.rand(count, generator=g), torch.randn(count, STATE, generator=g),
    )  # fmt: skip


def joint(core: TwoExperts, tokens: Tensor, valid: Tensor, suffix: action_expert.Suffix) -> tuple[Tensor, Tensor]:
    """Both experts without a cache: concatenated queries, keys and values, one mask, one softmax per layer."""
    n, count = tokens.shape[1], suffix.tokens.shape[1]
    every = torch.cat([valid, valid.new_ones(len(valid), count)], dim=1)
    allowed = action_expert.block_mask(torch.cat([torch.zeros(n), suffix.starts]), every)
    turn = action_expert.rotation(every.long().cumsum(1) - 1, core.sizes.head_dim)
    parts = [(turn[0][:, :, a:b], turn[1][:, :, a:b]) for a, b in ((0, n), (n, n + count))]
    x, y = tokens, suffix.tokens
    for left, right in zip(core.prefix.layers, core.action.layers, strict=True):
        (u, _), (v, gate) = left.attn_norm(x), right.attn_norm(y, suffix.condition)
        q = torch.cat([left.queries(u, parts[0]), right.queries(v, parts[1])], dim=2)
        k, w = (torch.cat(pair, dim=2) for pair in zip(left.keys(u, parts[0]), right.keys(v, parts[1]), strict=True))
        heads = action_expert.attend(q, k, w, action_expert.bias_of(allowed))
        x = left.finish(x, heads[:, :n], None)
        y = right.finish(y, heads[:, n:], gate, suffix.condition)
    return core.prefix.final_norm(x)[0], core.action.final_norm(y, suffix.condition)[0]


@pytest.mark.parametrize("number", [0, 1])
def test_cached_prefix_equals_one_uncached_pass(number: int) -> None:
    core = cores()[number]
    tokens, valid, x, t, state = sequence()
    suffix = core.suffix(x, t, state)
    memory, out = core.read(tokens, valid, output=True)
    expected, acted = joint(core, tokens, valid, suffix)
    assert out is not None
    torch.testing.assert_close(core.act(suffix, memory), acted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out[valid], expected[valid], atol=1e-5, rtol=1e-5)


def reaches(output: Tensor, token: Tensor) -> list[bool]:
    """Returns for each token of an input (B, T, w) whether the first sample's output depends on it."""
    (gradient,) = torch.autograd.grad(output[0].sum(), token, retain_graph=True, allow_unused=True)
    return [False] * token.shape[1] if gradient is None else (gradient[0].abs().sum(dim=1) > 1e-9).tolist()


@pytest.mark.parametrize("number", [0, 1])
def test_who_reads_whom(number: int) -> None:
    core = cores()[number]
    tokens, valid, x, t, state = sequence(count=1)
    tokens.requires_grad_()
    plain = core.suffix(x, t, state)
    own = plain.tokens.detach().requires_grad_()
    memory, out = core.read(tokens, valid, output=True)
    acted = core.act(action_expert.Suffix(own, plain.starts, plain.condition), memory)
    assert out is not None
    seen = valid[0].tolist()
    for i in torch.nonzero(valid[0]).flatten().tolist():
        assert reaches(out[:, i], tokens) == seen and not any(reaches(out[:, i], own))  # the prefix never sees actions
    states = own.shape[1] - HORIZON
    for i in range(own.shape[1]):
        assert reaches(acted[:, i], tokens) == seen
        wanted = [True] * states + [i >= states] * HORIZON  # a state sees the prefix and itself, actions everything
        assert reaches(acted[:, i], own) == wanted


def test_padding_may_hold_anything_and_stand_anywhere() -> None:
    core = cores()[1]
    tokens, valid, x, t, _ = sequence(count=1)
    with torch.no_grad():
        plain = core.velocity(core.read(tokens, valid)[0], x, t)
        torch.testing.assert_close(
            core.velocity(core.read(torch.where(valid[..., None], tokens, torch.tensor(9.0)), valid)[0], x, t), plain
        )
        packed = core.read(tokens[:, valid[0]], valid[:, valid[0]])[0]
        torch.testing.assert_close(core.velocity(packed, x, t), plain, atol=1e-5, rtol=1e-5)


def test_the_action_loss_reaches_the_prefix_unless_it_is_insulated() -> None:
    for core in cores():
        tokens, valid, x, t, state = sequence()
        norms, losses = [], []
        for insulated in (False, True):
            core.zero_grad(set_to_none=True)
            memory, _ = core.read(tokens, valid)
            memory = memory.without_gradient() if insulated else memory
            loss = core.flow_loss(memory, x, torch.ones_like(x), t, state).mean()
            loss.backward()
            losses.append(float(loss.detach()))
            norms.append(sum(float(p.grad.norm()) for p in core.prefix.parameters() if p.grad is not None))
            assert core.action_in_proj.weight.grad is not None
        assert norms[0] > 0.01 and norms[1] == 0.0 and losses[0] == losses[1]


def test_causal_blocks_and_hidden_tokens() -> None:
    core = cores()[1]
    tokens, valid, x, t, _ = sequence(count=1)
    tokens.requires_grad_()
    starts = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    memory, out = core.read(tokens, torch.ones_like(valid), starts, output=True)
    assert out is not None
    assert reaches(out[:, 1], tokens) == [True] * 4 + [False] * 3
    assert reaches(out[:, 5], tokens) == [True] * 6 + [False]
    shown = memory.restrict_to(torch.arange(PREFIX)[None] < 4)
    assert reaches(core.velocity(shown, x, t), tokens) == [True] * 4 + [False] * 3
    alone = core.read(tokens[:, :4], valid.new_ones(1, 4))[0]
    torch.testing.assert_close(core.velocity(shown, x, t), core.velocity(alone, x, t))


def test_zero_initialised_gates_start_as_identity() -> None:
    torch.manual_seed(0)
    core = pi05.Pi05Core(SIZES, ACTIONS)
    tokens, valid, x, t, _ = sequence()
    memory, _ = core.read(tokens, valid)
    suffix = core.suffix(x, t, None)
    normal = suffix.tokens / (suffix.tokens.square().mean(dim=2, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(core.act(suffix, memory), normal)
    other = PrefixMemory(memory.keys, tuple(v + 1.0 for v in memory.values), memory.valid)
    assert torch.equal(core.act(suffix, other), core.act(suffix, memory))


def test_times_are_beta_distributed() -> None:
    t = action_expert.draw_times(20_000, torch.Generator().manual_seed(0))
    assert float(t.min()) >= 0.001 and float(t.max()) <= 1.0
    assert float(t.mean()) == pytest.approx(0.999 * 0.6 + 0.001, abs=0.005)
    for level in (0.25, 0.5, 0.75):  # P(b < x) = x^1.5: dense near 1, which is noise
        assert float(((t - 0.001) / 0.999 < level).float().mean()) == pytest.approx(level**1.5, abs=0.01)


def test_sampling_takes_equal_steps_from_noise_to_actions() -> None:
    core = cores()[1]
    tokens, valid, x, _, _ = sequence()
    memory, _ = core.read(tokens, valid)
    seen = []

    def velocity(memory: PrefixMemory, x: Tensor, t: Tensor, state: Tensor | None = None) -> Tensor:
        seen.append(float(t[0]))
        return torch.ones_like(x)

    core.velocity = velocity  # type: ignore[method-assign]
    torch.testing.assert_close(core.sample(memory, x, 5), x - 1.0)
    assert seen == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_heads_must_share_keys_evenly() -> None:
    with pytest.raises(ValueError, match="3 heads of 4 dimensions cannot share 2 keys"):
        Sizes((8, 8), (8, 8), 1, 3, 2, 4)
