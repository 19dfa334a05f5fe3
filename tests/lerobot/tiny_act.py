"""A tiny ACT with random weights, as `lerobot-train` would save it; needs lerobot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SIZE = 32
CAMERAS = ("agentview", "wrist")


def save_act(folder: Path, **values: Any) -> Path:
    """Writes the policy with its processors into a folder, and returns it; `values` go to its configuration."""
    import torch
    from lerobot.configs import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    torch.manual_seed(0)
    small = {"dim_model": 16, "n_heads": 2, "dim_feedforward": 32, "n_encoder_layers": 1, "use_vae": False}
    read = {f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE)) for name in CAMERAS}
    read["observation.state"] = PolicyFeature(FeatureType.STATE, (8,))
    config = ACTConfig(
        input_features=read,
        output_features={"action": PolicyFeature(FeatureType.ACTION, (7,))},
        pretrained_backbone_weights=None,
        device="cpu",
        **{"chunk_size": 12, "n_action_steps": 8, **small, **values},
    )
    stats = {name: {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.2)} for name in read}
    stats["observation.state"] = {"mean": torch.zeros(8), "std": torch.ones(8)}
    stats["action"] = {"mean": torch.linspace(-0.3, 0.3, 7), "std": torch.full((7,), 0.7)}  # some are out of range
    before, after = make_pre_post_processors(config, dataset_stats=stats)
    for part in (ACTPolicy(config), before, after):
        part.save_pretrained(folder)
    return folder
