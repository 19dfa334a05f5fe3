"""GR00T N1.6's action head against `groot` and `groot_plain_dit`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tests.parity.result import Result, compare, worst
from wambench.policies.vla import groot_head
from wambench.policies.vla.groot_head import GrootContext, GrootHead, GrootHeadConfig

VELOCITY, HIDDEN, EXACT = 1e-5, 3e-5, 0.0
NAMES = (
    (r"^model\.timestep_encoder\.timestep_embedder\.linear_(\d)", lambda m: f"time.{2 * int(m[1]) - 2}"),
    (r"^model\.transformer_blocks", "blocks"),
    (r"^model\.", ""),
    (r"attn1", "attn"),
    (r"to_out\.0", "to_out"),
    (r"ff\.net\.0\.proj", "ff.0"),
    (r"ff\.net\.2", "ff.2"),
    (r"norm1\.linear", "modulation"),
)


def load(path: Path) -> tuple[GrootHead, dict[str, Tensor]]:
    """Returns the head of a golden file, and the file's other tensors."""
    with safe_open(str(path), framework="pt") as file:
        c = json.loads(file.metadata()["config"])
    tensors, weights = load_file(path), {}
    for name, tensor in tensors.items():
        own = name.removeprefix("w.")
        for old, new in NAMES:
            own = re.sub(old, new, own)
        if name.startswith("w."):
            weights[own] = tensor
    sizes = ("layers", "heads", "vl_dim", "state_dim", "action_dim", "horizon", "embodiments", "alternate")
    width = c["heads"] * c["head_dim"]
    config = GrootHeadConfig(width=width, out=c["dit_out"], positions=c["max_positions"], **{n: c[n] for n in sizes})
    head = GrootHead(config)
    head.load_state_dict(weights)
    return head.eval(), tensors


def trace(head: GrootHead, read: groot_head.Memory, t: dict[str, Tensor]) -> list[Result]:
    """Compares every stage of the training pass, each with the input that the pass itself gave it."""
    bank, bucket = t["in.embodiment_id"].long(), groot_head.buckets(t["in.t"])
    noisy, horizon = t["train.noisy_actions"], t["train.noisy_actions"].shape[1]
    time = head.time(groot_head.cosines(bucket))
    acts = head.action_encoder(noisy, bucket[:, None].expand(-1, horizon), bank)
    state = head.state_encoder(t["in.state"], bank)
    x = torch.cat([state, acts + head.position_embedding.weight[:horizon]], dim=1)
    found = {"temb": time, "action_features_before_pos": acts, "state_features": state, "tokens_in": x, "hidden0": x}
    for i, block in enumerate(head.blocks):
        x = found[f"hidden{i + 1}"] = block(x, time, read[i // 2] if i % 2 == 0 else None)
    found["dit_out"] = head.finish(x, time)
    return [compare(name, value, t[f"train.{name}"], HIDDEN) for name, value in found.items() if f"train.{name}" in t]


def check(path: Path) -> list[Result]:
    """The training pass stage by stage, its loss, and sampling step by step."""
    head, t = load(path)
    context = GrootContext(t["in.vl_features"], t["in.vl_attention_mask"].bool(), t["in.image_mask"].bool())
    bank, bucket = t["in.embodiment_id"].long(), groot_head.buckets(t["in.t"])
    with torch.no_grad():
        read = head.read(context)
        velocity = head(read, t["in.state"], t["train.noisy_actions"], bucket, bank)
        own = groot_head.add_noise(t["in.actions"], t["in.noise"], t["in.t"])
        loss = groot_head.loss(velocity, t["in.actions"], t["in.noise"], t["in.action_mask"])
        stages = trace(head, read, t)
        x = [t["sample.noise"]]
        for v, b in zip(t["sample.v"], t["sample.t_bucket"].long(), strict=True):
            x.append(x[-1] + head(read, t["in.state"], x[-1], b, bank) / len(t["sample.v"]))
            stages.append(compare("v", (x[-1] - x[-2]) * len(t["sample.v"]), v, 2 * VELOCITY))
        chunk = groot_head.sample(head, context, t["in.state"], t["sample.noise"], len(x) - 1, bank)
    return [
        compare("bucket", bucket, t["train.t_bucket"], EXACT),
        compare("noisy actions", own, t["train.noisy_actions"], 1e-6),
        worst("training pass", stages),
        compare("velocity", velocity, t["train.pred_velocity"], VELOCITY),
        compare("loss", loss[None], t["train.loss"], VELOCITY),
        compare("trajectory", torch.stack(x), t["sample.x"], VELOCITY),
        compare("sampled actions", chunk, t["sample.actions"], VELOCITY),
    ]


CHECKS: dict[str, Callable[[Path], list[Result]]] = {
    name: lambda folder, name=name: check(folder / name)  # type: ignore[misc]
    for name in ("groot.safetensors", "groot_plain_dit.safetensors")
}
