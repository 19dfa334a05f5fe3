"""Noise levels, trajectories, caching rules and the training objective against `sampler`, `training_schedule`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.result import Result, compare
from wambench.policies.dreamzero import solvers
from wambench.policies.dreamzero.official import objective
from wambench.policies.dreamzero.solvers import SamplerConfig, Step

TRAJECTORY, SIGMA, EXACT, VALUE, LOSS = 5e-5, 1e-7, 0.0, 1e-6, 1e-5

RUNS = {
    "static_cache_8_of_16": SamplerConfig(),
    "decoupled_final0p8_16": SamplerConfig(video_final=0.8, caching="none"),
    "dynamic_cache_fake_velocity": SamplerConfig(caching="dynamic"),
}


def _config(name: str) -> SamplerConfig:
    if name.startswith("full_"):
        return SamplerConfig(steps=int(name.removeprefix("full_")), caching="none")
    return RUNS[name]


def _trajectory(name: str, t: dict[str, Tensor], guidance: float) -> list[Result]:
    part = {key[len(name) + 1 :]: value for key, value in t.items() if key.startswith(name + ".")}
    config = _config(name)
    steps: list[Step] = []
    levels = solvers.levels_of(config)
    a, b, c, d, g = (t[f"fake_velocity.{n}"] for n in ("A", "Bneg", "c", "D", "G"))

    def velocity(i: int, video: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        x, y = video.flatten(), action.flatten()
        positive = torch.tanh(a @ x + (levels[0].timesteps[i] / 1000) * c)
        negative = torch.tanh(b @ x)
        guided = negative + guidance * (positive - negative)
        return guided.view(video.shape), torch.tanh(d @ y + g @ x).view(action.shape)

    solvers.sample(velocity, t["init.video"], t["init.action"], config, watch=steps.append)
    results = []
    for kind, level in zip(("video", "action"), levels, strict=True):
        expected = part[f"sigmas_{kind}"]
        results.append(compare(f"{name} sigmas {kind}", torch.tensor(level.sigmas), expected, SIGMA))
        got = torch.tensor(level.timesteps)
        results.append(compare(f"{name} timesteps {kind}", got, part[f"timesteps_{kind}"], EXACT))
    for what in ("video_in", "action_in", "video_velocity", "action_velocity", "video_out", "action_out"):
        got = torch.stack([getattr(step, what) for step in steps])
        results.append(compare(f"{name} {what}", got, part[what], TRAJECTORY))
    results.append(compare(f"{name} evaluated", _evaluated(steps), part["evaluated"], EXACT))
    return results


def _evaluated(steps: list[Step]) -> Tensor:
    return torch.tensor([step.evaluated for step in steps], dtype=torch.uint8)


def _scripted(name: str, t: dict[str, Tensor]) -> list[Result]:
    script, rule = t[f"{name}.velocity"], solvers.DynamicRule()
    seen: list[Tensor] = []
    decisions, cosines = [], []
    for i in range(len(script)):
        cosines.append(solvers.cosine(seen[-2], seen[-1]) if len(seen) > 1 else float("nan"))
        run, rule = rule.decide(i, seen)
        decisions.append(run)
        if run:
            seen.append(script[i][None])
    got = torch.tensor(decisions, dtype=torch.uint8)
    return [
        compare(f"{name} evaluated", got, t[f"{name}.evaluated"], EXACT),
        compare(f"{name} cosine", torch.tensor(cosines), t[f"{name}.cosine_of_last_two"], TRAJECTORY),
    ]


def check_sampler(folder: Path) -> list[Result]:
    """Every trajectory, decision and mask of the file."""
    from tests.parity.dit import metadata

    path = folder / "sampler.safetensors"
    t, guidance = load_file(path), float(metadata(path)["cfg_scale"])
    results = []
    for name in sorted({key.split(".")[0] for key in t}):
        if name.startswith("dynamic_scripted"):
            results += _scripted(name, t)
        elif name.startswith("static_mask"):
            choice = name.removeprefix("static_mask_")
            mask = solvers.static_mask(int(choice) if choice.isdigit() else 0, len(t[name]))
            results.append(compare(name, torch.tensor(mask, dtype=torch.uint8), t[name], EXACT))
        elif f"{name}.sigmas_video" in t:
            results += _trajectory(name, t, guidance)
    return results


def check_schedule(folder: Path) -> list[Result]:
    """The training table, id rules, noising and losses."""
    t, table = load_file(folder / "training_schedule.safetensors"), objective.table()
    frames, actions = t["coupled.out.frame_id"].shape[1], t["coupled.out.action_id"].shape[1]
    # K and H are in no metadata: the first chunk's shared id gives K, the number of chunks then H
    k = _chunk_frames(t["coupled.out.frame_id"])
    ids = objective.share_ids(t["coupled.in.raw_frame_id"], k)
    chunk_ids = objective.chunk_ids(ids, k)
    per_action = chunk_ids.repeat_interleave(actions * k // (frames - 1), dim=1)
    results = [
        compare("sigma", table.sigma, t["sigma"], 1e-7),
        compare("timestep", table.timestep, t["timestep"], 1e-4),
        compare("loss weight", table.weight, t["loss_weight"], LOSS),
        compare("frame id", ids, t["coupled.out.frame_id"], EXACT),
        compare("action id", per_action, t["coupled.out.action_id"], EXACT),
        compare("beta ratio to id", objective.ratio_to_id(t["beta_ratio_to_id.in.noise_ratio"]),
                t["beta_ratio_to_id.out.timestep_id"], EXACT),
    ]  # fmt: skip
    return results + _losses(t, table, ids, per_action)


def _chunk_frames(frame_id: Tensor) -> int:
    for k in range(frame_id.shape[1] - 1, 0, -1):
        shared = frame_id[:, 1:]
        if shared.shape[1] % k == 0 and bool((shared == shared[:, ::k].repeat_interleave(k, dim=1)).all()):
            return k
    return 1


def _losses(t: dict[str, Tensor], table: objective.NoiseTable, ids: Tensor, action_ids: Tensor) -> list[Result]:
    sigma, sigma_action = table.sigma[ids], table.sigma[action_ids]
    clean, noise = t["loss.in.latents"], t["loss.in.noise"]
    action, noise_action = t["loss.in.action"], t["loss.in.noise_action"]
    target, target_action = noise - clean, noise_action - action
    results = [
        compare("noisy latents", objective.add_noise(clean, noise, sigma), t["loss.out.noisy_latents"], VALUE),
        compare(
            "noisy action", objective.add_noise(action, noise_action, sigma_action), t["loss.out.noisy_action"], VALUE
        ),
        compare("target video", target, t["loss.out.target_video"], VALUE),
        compare("target action", target_action, t["loss.out.target_action"], VALUE),
    ]
    weight, weight_action = table.weight[ids], table.weight[action_ids]
    each = objective.video_loss(t["loss.in.pred_video"], target, weight)
    results.append(compare("video loss", each.mean()[None], t["loss.out.dynamics_loss"], LOSS))
    for b in range(len(clean)):
        results.append(compare(f"video loss {b}", each[b : b + 1], t[f"loss.out.dynamics_loss_sample{b}"], LOSS))
        for real in (0, 1):
            got = objective.action_loss(
                t["loss.in.pred_action"], target_action, weight_action, t["loss.in.action_mask"],
                torch.full((len(clean),), float(real)),
            )  # fmt: skip
            expected = t[f"loss.out.action_loss_sample{b}_real{real}"]
            results.append(compare(f"action loss {b} real {real}", got[b : b + 1], expected, LOSS))
    return results


CHECKS: dict[str, Callable[[Path], list[Result]]] = {
    "sampler.safetensors": check_sampler,
    "training_schedule.safetensors": check_schedule,
}
