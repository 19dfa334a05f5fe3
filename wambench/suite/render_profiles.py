"""The visual profiles side by side: a picture, and how far apart they are in numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from wambench import registration, tasks
from wambench.envs.episodes import episode_spec
from wambench.interface import Observation
from wambench.pictures import psnr, ssim_map
from wambench.records import save_figure

PROFILES = ("full", "fast")
SIZE = (128, 128)
SHOWN = (
    ("LiftCube", "seen", "none"),
    ("OpenDrawer", "unseen-envs", "all"),
    ("PlaceBottleInBin", "unseen-tasks", "all"),
)
STEPS = 24  # of the expert, between the two moments of an episode that are compared: the hand is at work


@dataclass(frozen=True)
class Pair:
    """One moment, drawn in both profiles.

    Attributes:
        scene: Task and split.
        full, fast: The same moment.
    """

    scene: str
    full: Observation
    fast: Observation


def pairs(task: str, split: str, factor: str, index: int = 0, seed: int = 0) -> list[Pair]:
    """Returns two moments of an episode in both profiles: its start, and one with the expert at work."""

    seen: dict[str, list[Observation]] = {}
    actions: list[np.ndarray] = []
    for profile in PROFILES:
        env = registration.make(task, split=split, factor=factor, image_size=SIZE, visual=profile)
        seen[profile] = list(env.begin(episode_spec(env.task, split, factor, index, seed, profile)).observations)
        for step in range(STEPS):
            if len(actions) == step:  # physics is the same in both
                actions.append(env.expert_action())
            env.advance(actions[step])
        seen[profile].append(env.observe())
        env.close()
    return [Pair(f"{task}, {split}", full, fast) for full, fast in zip(*(seen[name] for name in PROFILES), strict=True)]


def scenes() -> Iterator[tuple[str, str, str]]:
    """Yields (task, split, factor) of all tasks of all splits, task by task, because each has simulators to compile."""
    for name in tasks.TASKS:
        for split in tasks.current_splits():
            if name in split.tasks:
                yield name, split.name, tasks.default_factor(split.name)


def similarity(compared: list[Pair]) -> str:
    """Returns PSNR and SSIM of the profiles by camera, over all pairs, as a Markdown table."""
    lines = ["| camera | n | PSNR, dB: mean (least) | SSIM: mean (least) |", "|---|---|---|---|"]
    for camera in compared[0].full.images:
        both = [(pair.full.images[camera], pair.fast.images[camera]) for pair in compared]
        noise, structure = [psnr(*two) for two in both], [float(ssim_map(*two).mean()) for two in both]
        numbers = f"{np.mean(noise):.1f} ({min(noise):.1f}) | {np.mean(structure):.3f} ({min(structure):.3f})"
        lines.append(f"| `{camera}` | {len(both)} | {numbers} |")
    return "\n".join(lines)


def draw(out: Path) -> tuple[Path, str]:
    """Draws `visual-profiles.png`, both profiles side by side for every camera, and measures how alike they are.

    Args:
        out: Folder of the figure.

    Returns:
        The figure's path, and PSNR and SSIM at 128 x 128 over two moments of one episode of every task of every split.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "visual-profiles.png"
    compared = {scene: pairs(*scene) for scene in scenes()}
    save_figure(_sheet([compared[scene][1] for scene in SHOWN]), path, dpi=100.0)
    return path, similarity([pair for found in compared.values() for pair in found])


def _sheet(shown: list[Pair]) -> Figure:
    """Returns the picture: a row a profile, a column a camera and scene."""
    columns = [(pair, camera) for pair in shown for camera in pair.full.images]
    figure = Figure(figsize=(1.7 * len(columns) + 0.4, 1.7 * len(PROFILES) + 0.5), layout="constrained")
    grid = figure.subplots(len(PROFILES), len(columns), squeeze=False)
    for row, profile in zip(grid, PROFILES, strict=True):
        row[0].set_ylabel(profile)
        for axes, (pair, camera) in zip(row, columns, strict=True):
            axes.imshow(getattr(pair, profile).images[camera])
            axes.set(xticks=[], yticks=[])
    for axes, (pair, camera) in zip(grid[0], columns, strict=True):
        axes.set_title(f"{camera}\n{pair.scene}", fontsize=7)
    return figure
