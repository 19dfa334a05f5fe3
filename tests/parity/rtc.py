"""Prefix weights, guided inpainting, the samplers and BID against `rtc`; tolerances of the vectors' README."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as functional
from safetensors import safe_open
from torch import Tensor

from tests.parity.result import Result, compare
from wambench.policies.actions import real_time_chunking as rtc

Tensors = dict[str, Tensor]
EXACT, WEIGHTS = 0.0, 1e-6
TOLERANCES = {"toy": 5e-5, "mixer": 1e-4}
SCHEDULES = ("linear", "exp", "zeros")


def toy(w: Tensors, x: Tensor, tau: float, prefix: str = "toy.") -> Tensor:
    """Returns the velocity, data - noise, of the perceptron."""
    flat = torch.cat([x.flatten(1), w["obs"], torch.full((len(x), 1), tau)], dim=1)
    hidden = torch.tanh(flat @ w[f"{prefix}W1"] + w[f"{prefix}b1"])
    return (hidden @ w[f"{prefix}W2"] + w[f"{prefix}b2"]).view(x.shape)


def _linear(w: Tensors, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, w[f"mixer.{name}.weight"], w.get(f"mixer.{name}.bias"))


def _normed(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1.0 + scale) + shift


def mixer(w: Tensors, x: Tensor, tau: float) -> Tensor:
    """Returns the velocity of the Kinetix network."""
    h = _linear(w, "in_proj", torch.cat([x, w["obs"][:, None].expand(-1, x.shape[1], -1)], dim=2))
    half = h.shape[2] // 2
    angle = 2 * math.pi * tau / (0.004 * 1000.0 ** (torch.arange(half) / (half - 1)))
    time = torch.cat([angle.sin(), angle.cos()])
    for name in ("time_mlp.0", "time_mlp.2"):
        time = functional.silu(_linear(w, name, time))
    for block in range(2):
        at = f"blocks.{block}"
        scale, shift, gate = _linear(w, f"{at}.adaln_1", time).chunk(3)
        y = _linear(w, f"{at}.token_mix_in", _normed(h, scale, shift).transpose(1, 2))
        y = _linear(w, f"{at}.token_mix_out", functional.gelu(y, approximate="tanh")).transpose(1, 2)
        h = h + gate * y
        scale, shift, gate = _linear(w, f"{at}.adaln_2", time).chunk(3)
        y = _linear(w, f"{at}.channel_mix_in", _normed(h, scale, shift))
        h = h + gate * _linear(w, f"{at}.channel_mix_out", functional.gelu(y, approximate="tanh"))
    scale, shift = _linear(w, "final_adaln", time).chunk(2)
    return _linear(w, "out_proj", _normed(h, scale, shift))


POLICIES = {"toy": toy, "mixer": mixer}


def _weights(t: Tensors, schedules: list[str]) -> Iterator[Result]:
    got = [rtc.prefix_weights(d, e, h, schedules[kind]) for d, e, h, kind in t["weights.args"].tolist()]
    yield compare("prefix weights", torch.stack(got), t["weights.W"], WEIGHTS)
    yield compare(
        "prefix weights 2 6 10",
        rtc.prefix_weights(2, 6, 10, "linear"),
        t["weights.doc_example"],
        WEIGHTS,
    )


def _guidance(t: Tensors, name: str, schedule: str, beta: float) -> Iterator[Result]:
    at, tolerance, old = f"{name}.guidance.{schedule}", TOLERANCES[name], t["guidance.old_shifted"]
    delay, executed = t["guidance.d_s"].tolist()
    guidance = rtc.Guidance(old, rtc.prefix_weights(delay, old.shape[1] - executed, old.shape[1], schedule), beta)
    yield compare(f"{at}.W", guidance.weights, t[f"{at}.W"], WEIGHTS)
    for i, tau in enumerate(t["tau"].tolist()):
        x, field = t["noise"].clone().requires_grad_(True), partial(POLICIES[name], t, tau=tau)
        clean = x + (1.0 - tau) * field(x)
        weight = rtc.guidance_weight(tau, beta)
        got = {
            "x1": clean,
            "error": guidance.error(clean),
            "guidance_weight": torch.tensor(weight),
            "vjp": rtc.correction(x, clean, 1.0 - tau, guidance) / weight,
            "v_guided": rtc.guided_velocity_towards_data(field, t["noise"], tau, guidance),
        }
        # at tau near 1 the reference's own float32 weight and the division by it lose digits
        yield from (compare(f"{at}.{what} {i}", value, t[f"{at}.{what}"][i], tolerance) for what, value in got.items())


def _samplers(t: Tensors, name: str, combos: int, steps: int, beta: float) -> Iterator[Result]:
    tolerance, field = TOLERANCES[name], partial(POLICIES[name], t)
    naive = rtc.sample(lambda x, tau: field(x, tau=tau), t["noise"], steps)
    yield compare(f"{name}.naive.x", torch.stack(naive), t[f"{name}.naive.x"], tolerance)
    yield compare(f"{name}.naive.chunk", naive[-1], t[f"{name}.naive.chunk"], tolerance)
    horizon = t["noise"].shape[1]
    for combo in range(combos):
        delay, executed = t[f"combo{combo}.d_s"].tolist()
        old = t[f"combo{combo}.old_shifted"]
        yield compare(f"combo{combo}.old_shifted", rtc.shift_chunk(t["old_chunk_full"], executed), old, EXACT)
        got = rtc.splice(old, naive[-1], delay, executed)
        yield compare(f"{name}.combo{combo}.naive", got, t[f"{name}.combo{combo}.naive.executed"], tolerance)
        for schedule in SCHEDULES:
            at = f"{name}.combo{combo}.{schedule}"
            weights = rtc.prefix_weights(delay, horizon - executed, horizon, schedule)
            guidance = rtc.Guidance(old, weights, beta)
            path = rtc.sample(lambda x, tau: field(x, tau=tau), t["noise"], steps, guidance)
            yield compare(f"{at}.x", torch.stack(path), t[f"{at}.x"], tolerance)
            yield compare(f"{at}.chunk", path[-1], t[f"{at}.chunk"], tolerance)
            yield compare(
                f"{at}.executed",
                rtc.splice(old, path[-1], delay, executed),
                t[f"{at}.executed"],
                tolerance,
            )
            yield compare(f"{at}.next_old", rtc.shift_chunk(path[-1], executed), t[f"{at}.next_old"], tolerance)


def _bid(t: Tensors, steps: int, neighbours: int) -> Iterator[Result]:
    tolerance, old = TOLERANCES["toy"], t["combo0.old_shifted"]
    delay, executed = t["combo0.d_s"].tolist()
    drawn = []
    for prefix, name in (("toy.", "samples"), ("bid.weak_toy.", "weak_samples")):
        field = partial(toy, t, prefix=prefix)
        chunks = [rtc.sample(lambda x, tau, f=field: f(x, tau=tau), noise, steps)[-1] for noise in t["bid.noise"]]  # type: ignore[misc]
        drawn.append(torch.stack(chunks))
        yield compare(f"bid.{name}", drawn[-1], t[f"bid.{name}"], tolerance)
    weights = rtc.prefix_weights(delay, old.shape[1] - executed, old.shape[1])
    yield compare("bid.backward_loss", rtc.backward_loss(drawn[0], old, weights), t["bid.backward_loss"], tolerance)
    for weak, name in ((None, "backward_only"), (drawn[1], "with_weak")):
        chunk, index = rtc.bid(drawn[0], old, weights, weak, neighbours)
        yield compare(f"bid.chosen_index_{name}", index, t[f"bid.chosen_index_{name}"], EXACT)
        yield compare(f"bid.chosen_{name}", chunk, t[f"bid.chosen_{name}"], tolerance)


def check_rtc(folder: Path) -> list[Result]:
    """Returns every comparison with rtc.safetensors."""
    with safe_open(folder / "rtc.safetensors", "pt") as file:
        t: Tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        config = json.loads(file.metadata()["config"])
    results = list(_weights(t, config["schedules"]))
    for name, policy in POLICIES.items():
        plain = torch.stack([policy(t, t["noise"], tau) for tau in t["tau"].tolist()])
        results.append(compare(f"{name}.v_at_tau", plain, t[f"{name}.v_at_tau"], TOLERANCES[name]))
        for schedule in SCHEDULES:
            results += _guidance(t, name, schedule, config["beta"])
        results += _samplers(t, name, len(config["combos"]), config["flow_steps"], config["beta"])
    return results + list(_bid(t, config["flow_steps"], config["bid_k"]))


CHECKS = {"rtc.safetensors": check_rtc}
