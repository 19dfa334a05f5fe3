"""pi0 and pi0.5 against `pi0`, `pi05` and their twins with two key-value heads."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.dit import metadata
from tests.parity.result import Result, compare
from wambench.policies.vla import action_expert, pi0, pi05
from wambench.policies.vla.action_expert import PrefixMemory, Sizes, TwoExperts

EXACT = 0.0
# what the file's README allows: with the time inside, without it, gradients
TOLERANCE = {"pi0": (1e-4, 2e-5, 2e-4), "pi05": (2e-5, 2e-5, 5e-5)}


def core_of(path: Path) -> tuple[TwoExperts, dict[str, Tensor], dict[str, Any]]:
    """Returns the network of a golden file with its weights, the file's tensors, and its config."""
    t, config = load_file(path), json.loads(metadata(path)["config"])
    pair = [(config[e]["width"], config[e]["mlp_dim"]) for e in ("prefix", "action")]
    counts = (config["depth"], config["num_heads"], config["num_kv_heads"], config["head_dim"], config["vocab"])
    sizes, actions = Sizes(pair[0], pair[1], *counts), config["action_dim"]
    core = pi0.Pi0Core(sizes, actions, actions) if config["model"] == "pi0" else pi05.Pi05Core(sizes, actions)
    core.load_state_dict({name[2:]: value for name, value in t.items() if name.startswith("w.")})
    return core, t, config


def prefix_of(core: TwoExperts, t: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns the prefix's tokens and which of them are valid."""
    images = [t[f"in.image_tokens_{i}"] for i in (0, 1)]
    masks = [t[f"in.image_mask_{i}"].bool()[:, None].expand(images[i].shape[:2]) for i in (0, 1)]
    text = core.prefix.embed(t["in.text_ids"].long())
    return torch.cat([*images, text], dim=1), torch.cat([*masks, t["in.text_mask"].bool()], dim=1)


def check(name: str, folder: Path) -> list[Result]:
    """One file: masks, tokens, every layer, the loss, its gradients, and sampled trajectories."""
    core, t, config = core_of(folder / name)
    results = _training(core, t, config["model"]) + _sampling(core, t, config["model"])
    return results + (_gradients(core, t, config["model"]) if "grad_norm.all" in t else [])


def _watched(modules: Any, call: Callable[[], Any]) -> tuple[Any, list[Tensor]]:
    """Returns what a call returns, and what the `finish` of each layer returned in it."""
    seen: list[Tensor] = []
    plain = [layer.finish for layer in modules]

    def spy(finish: Callable[..., Tensor], *arguments: Any) -> Tensor:
        seen.append(finish(*arguments))
        return seen[-1]

    for layer, finish in zip(modules, plain, strict=True):
        layer.finish = partial(spy, finish)
    try:
        return call(), seen
    finally:
        for layer in modules:
            del layer.finish


@torch.no_grad()
def _training(core: TwoExperts, t: dict[str, Tensor], model: str) -> list[Result]:
    timed, plain, _ = TOLERANCE[model]
    tokens, valid = prefix_of(core, t)
    (memory, out), hidden = _watched(core.prefix.layers, lambda: core.read(tokens, valid, output=True))
    assert out is not None
    x, state = t["train.x_t"], t["in.state"] if model == "pi0" else None
    suffix = core.suffix(x, t["in.time"], state)
    behind, acted = _watched(core.action.layers, lambda: core.act(suffix, memory))
    every = torch.cat([torch.zeros(tokens.shape[1]), suffix.starts])
    both = torch.cat([valid, valid.new_ones(suffix.tokens.shape[:2])], dim=1)
    mask = action_expert.block_mask(every, both).to(torch.uint8)
    loss = core.flow_loss(memory, t["in.actions"], t["in.noise"], t["in.time"], state)
    results = [
        compare("blocks", every, t["train.ar_mask"], EXACT),
        compare("mask", mask, t["train.attn_mask"], EXACT),
        compare("positions", both.long().cumsum(1) - 1, t["train.positions"], EXACT),
        compare("prefix tokens", tokens, t["train.prefix_tokens"], plain),
        compare("suffix tokens", suffix.tokens, t["train.suffix_tokens"], timed),
        compare("prefix out", out[valid], t["train.prefix_out"][valid], plain),
        compare("suffix out", behind, t["train.suffix_out"], timed),
        compare("velocity", core.velocity(memory, x, t["in.time"], state), t["train.v_t"], timed),
        compare("loss per step", loss, t["train.loss_per_step"], timed),
        compare("loss", loss.mean()[None], t["train.loss_mean"], timed),
    ]
    if suffix.condition is not None:
        results.append(compare("condition", suffix.condition, t["train.adarms_cond"], timed))
    for i, (read, written) in enumerate(zip(hidden, acted, strict=True)):
        results.append(compare(f"prefix, layer {i}", read[valid], t[f"train.layer{i}.prefix_hidden"][valid], plain))
        results.append(compare(f"suffix, layer {i}", written, t[f"train.layer{i}.suffix_hidden"], timed))
    return results + _memory("train, ", memory, t["train.k_layers"], t["train.v_layers"], plain)


def _memory(name: str, memory: PrefixMemory, keys: Tensor, values: Tensor, tolerance: float) -> list[Result]:
    """Compares keys and values (depth, B, tokens, g, d) of valid prefix tokens; tokens behind them are left out."""
    results, n = [], memory.valid.shape[1]
    for kind, ours, theirs in (("keys", memory.keys, keys), ("values", memory.values, values)):
        got = torch.stack(ours).transpose(2, 3)[:, memory.valid]
        results.append(compare(f"{name}{kind}", got, theirs[:, :, :n][:, memory.valid], tolerance))
    return results


@torch.no_grad()
def _sampling(core: TwoExperts, t: dict[str, Tensor], model: str) -> list[Result]:
    timed, plain, _ = TOLERANCE[model]
    memory, _ = core.read(*prefix_of(core, t))
    state = t["in.state"] if model == "pi0" else None
    results = _memory("cached ", memory, t["sample.prefix_k"], t["sample.prefix_v"], plain)
    suffix = core.suffix(t["sample.noise"], t["in.time"], state)
    positions = memory.valid.sum(dim=1, keepdim=True) + torch.arange(suffix.tokens.shape[1])
    results.append(compare("suffix positions", positions, t["sample.suffix_positions"], EXACT))
    for steps in (4, 10):
        seen: list[tuple[Tensor, Tensor, Tensor]] = []
        plain_velocity = core.velocity

        def spy(memory: PrefixMemory, x: Tensor, time: Tensor, state: Tensor | None = None, seen: Any = seen) -> Tensor:
            v = plain_velocity(memory, x, time, state)  # noqa: B023
            seen.append((x, time, v))
            return v

        core.velocity = spy  # type: ignore[method-assign,assignment]
        got = core.sample(memory, t["sample.noise"], steps, state)
        del core.velocity
        xs, times, vs = zip(*seen, strict=True)
        expected = {name: t[f"sample{steps}.{name}"] for name in ("x", "times", "v", "actions")}
        results += [
            compare(f"{steps} steps, times", torch.stack(times)[:, 0], expected["times"], 1e-6),
            compare(f"{steps} steps, x", torch.stack([*xs, got]), expected["x"], timed),
            compare(f"{steps} steps, velocity", torch.stack(vs), expected["v"], timed),
            compare(f"{steps} steps, actions", got, expected["actions"], timed),
        ]
    return results


def _gradients(core: TwoExperts, t: dict[str, Tensor], model: str) -> list[Result]:
    """Gradients of the mean loss; with insulation the prefix gets none and the rest does not change."""
    tolerance = TOLERANCE[model][2]
    state = t["in.state"] if model == "pi0" else None
    results = []
    for insulated in (False, True):
        core.zero_grad(set_to_none=True)
        memory, _ = core.read(*prefix_of(core, t))
        memory = memory.without_gradient() if insulated else memory
        core.flow_loss(memory, t["in.actions"], t["in.noise"], t["in.time"], state).mean().backward()
        found = {name: p.grad for name, p in core.named_parameters() if p.grad is not None}
        note = "insulated " if insulated else ""
        reached = [name for name in found if name.startswith("prefix.")]
        if insulated:
            results.append(Result("insulated prefix gradients", float(len(reached)), EXACT))
        else:
            for group, names in (("all", list(found)), ("prefix", reached)):
                size = torch.stack([found[name].norm() for name in names]).norm()
                results.append(compare(f"norm of {group}", size[None], t[f"grad_norm.{group}"], tolerance))
        results += [
            compare(f"{note}gradient of {name[5:]}", found[name[5:]], expected, tolerance)
            for name, expected in t.items()
            if name.startswith("grad.") and not (insulated and name.startswith("grad.prefix."))
        ]
    return results


NAMES = ("pi0", "pi05", "pi0_two_kv_heads", "pi05_two_kv_heads")
CHECKS: dict[str, Callable[[Path], list[Result]]] = {
    f"{name}.safetensors": partial(check, f"{name}.safetensors") for name in NAMES
}
