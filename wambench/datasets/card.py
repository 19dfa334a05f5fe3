"""The dataset card: README.md of an export, as the hub shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from wambench.datasets.features import ACTION, EXECUTED, STATE, V21, Schema, vectors
from wambench.datasets.layouts import Plan

HEADER = """---
license: {license}
task_categories:
- robotics
tags:
- LeRobot
- wambench
- simulation
configs:
- config_name: default
  data_files: data/*/*.parquet
---
"""
WHERE = {
    "demos": "Demonstrations by scripted experts, with disturbances from which they recover.",
    "video": "Video without actions, of other arms than that of the demonstrations.",
    "run": "Episodes that a policy played, recorded by `wambench run`, failures included.",
}
DISJOINT = {
    "demos": (
        "Seeds come from a stream of their own (`train`), never from that of an evaluation, and the looks are those of "
        "the training environments. Tasks of the split `unseen-tasks` are demonstrated only if they were asked for by "
        "name: the table of tasks shows which are here."
    ),
    "video": (
        "Seeds come from a stream of their own (`video`), and the rooms from a set that shares no value of any "
        "environment factor with the training or the unseen environments."
    ),
    "run": (
        "These are episodes of an evaluation split. A policy that is trained on them must not be scored on the same "
        "split and seed."
    ),
}


def card(
    plan: Plan, sources: Sequence[Mapping[str, Any]], abouts: Sequence[Mapping[str, Any]], command: str, license: str
) -> str:
    """Returns the README.md of a dataset.

    Args:
        plan: Of the dataset.
        sources: `sources.describe` of each source.
        abouts: What is known of each episode: task, progress, success.
        command: That made it.
        license: Of the data, as the hub spells it.
    """
    schema, hours = plan.schema, plan.total / plan.schema.fps / 3600
    kinds = list(dict.fromkeys(source["kind"] for source in sources))
    parts = [
        HEADER.format(license=license),
        f"# {' and '.join(source['name'] for source in sources)}, from wambench",
        "\n".join(WHERE[kind] for kind in kinds),
        f"{len(plan.rows)} episodes, {plan.total} frames of {len(schema.convention.cameras)} cameras at {schema.fps} Hz"
        f" ({hours:.2f} h), {len(plan.tasks)} instructions, robot {schema.robot}.",
        _tasks(abouts, schema.acted),
        "## What the numbers mean",
        _convention(schema),
        "## Splits",
        "\n\n".join(DISJOINT[kind] for kind in kinds),
        "## How it was made",
        f"```sh\n{command}\n```",
        "`meta/wambench/` holds what LeRobot has no place for: the control convention, the sources, and the spec of "
        "every episode, from which `gymnasium.make(...).reset(options={'spec': spec})` makes the same scene again.",
        "## Reading it",
        _reading(schema),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _tasks(abouts: Sequence[Mapping[str, Any]], acted: bool) -> str:
    counts = Counter(str(about["task"]) for about in abouts)
    if not acted:
        return "| task | episodes |\n|---|---|\n" + "\n".join(f"| {task} | {counts[task]} |" for task in sorted(counts))
    lines = ["| task | episodes | successes | mean progress |", "|---|---|---|---|"]
    for task in sorted(counts):
        own = [about for about in abouts if about["task"] == task]
        progress = sum(about["progress"] for about in own) / len(own)
        lines.append(f"| {task} | {len(own)} | {sum(about['success'] for about in own)} | {progress:.3f} |")
    return "\n".join(lines)


def _convention(schema: Schema) -> str:
    convention = schema.convention
    height, width = convention.image_size
    lines = [
        f"- Cameras: {', '.join(convention.cameras)}, upright RGB, {height}x{width}.",
        f"- Control: {convention.control_hz:g} Hz.",
    ]
    if schema.acted:
        lines += [f"- `{name}`: {', '.join(names)}." for name, names in vectors(schema).items()]
        lines += [
            f"- Action: {convention.action} in frame {convention.action_frame}, gripper {convention.gripper}; rotation "
            f"of the state {convention.rotation}.",
            f"- `{ACTION}` is what is to be learned: of demonstrations what the expert wanted, also while a "
            "disturbance carried out something else.",
            f"- `{EXECUTED}` is what was done, and leads from one `{STATE}` to the next.",
            "- `progress` in [0, 1] and `success` are those of the moment shown; `next.reward` is the progress gained "
            "until the next row. An episode of T actions has T + 1 rows: in the last (`next.done`) it is over, and the "
            "action keeps the robot where it is.",
        ]
    return "\n".join(lines)


def _reading(schema: Schema) -> str:
    version = "v2.1" if schema.format == V21 else "v3.0"
    readers = "lerobot up to 0.3.3, openpi, GR00T, DreamZero" if version == "v2.1" else "lerobot from 0.4 on"
    tag = f"api.create_tag('USER/NAME', tag='{version}', repo_type='dataset')"
    return (
        f'Layout {version} of LeRobot ({readers}). Without a system FFmpeg, pass `video_backend="pyav"`. '
        "To upload it:\n\n"
        "```sh\nhf upload USER/NAME . --repo-type dataset\n"
        f'python -c "from huggingface_hub import HfApi; api = HfApi(); {tag}"\n```\n\n'
        "The tag is what lerobot chooses a revision by."
    )
