"""Filmstrips of the clearest failures: at the same moments what was imagined, what came, and what the expert would do.

All three frames of a column are futures of one query, for the same env step. `save` renders the expert's frames with a
simulator (at the end of `wambench attribute`) and leaves them in RUN/oracle; `draw_clearest` only draws.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wambench.analysis.style import label
from wambench.attribution.table import AttributionRow
from wambench.interface import Chunk, Episode, canvas
from wambench.records import episode_stem, load_episode, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from wambench.envs.tabletop import TabletopEnv

FOLDER = "oracle"
KINDS = ("video", "action", "both", "timing")
PER_KIND = 3
MOMENTS = 8
APART_S = 0.4  # between the moments around a point of no return: the frames of a shipped model are as far apart
AGREEING = 0.25  # what another definition that says the same adds to the share that was lost


def choose(rows: Sequence[AttributionRow], kind: str, count: int = PER_KIND) -> list[AttributionRow]:
    """Returns the clearest failures of a kind: most was lost to it, and the other definitions say so, too.

    The kind is the verdict of the intervention, or that of the first divergence for a policy that has none.
    """

    def clearness(row: AttributionRow) -> float:
        part = {"video": row.video, "action": row.action, "timing": row.timing}.get(kind, row.video + row.action)
        return (part if math.isfinite(part) else 0.0) + AGREEING * sum(v == kind for v in (row.d1, row.d3))

    own = [row for row in rows if (row.d2 or row.d3) == kind and row.chunks > 0]
    return sorted(own, key=lambda row: (-clearness(row), row.key))[:count]


def choose_moments(episode: Episode, row: AttributionRow) -> list[int]:
    """Returns the chunks to show: around the one that lost the episode, or evenly over it if none did."""
    imagined = [i for i, chunk in enumerate(episode.chunks) if chunk.plan.frames is not None]
    if not imagined:
        return []
    times = np.array([episode.chunks[i].step for i in imagined]) / episode.spec.control_hz
    wanted = np.linspace(times[0], times[-1], MOMENTS)
    if row.no_return >= 0:
        lost = episode.chunks[row.no_return].step / episode.spec.control_hz
        before, after = ((lost - times[0]) // APART_S, (times[-1] - lost) // APART_S)
        first = min(
            before, max(MOMENTS // 2 - 1, MOMENTS - 1 - after)
        )  # as many as fit, the one that lost it among them
        wanted = lost + APART_S * (np.arange(MOMENTS) - first)
    return sorted({imagined[int(np.argmin(np.abs(times - t)))] for t in wanted})


def render(run: Path, rows: Sequence[AttributionRow]) -> list[Path]:
    """Renders the expert's frames for the clearest failures, in simulators like those of the run; returns the files."""
    from wambench.attribution.attribute import load_run
    from wambench.evaluation.worker import tabletop

    recorded = load_run(run)
    return save(run, rows, lambda task: tabletop(task, recorded.config, recorded.convention))


def save(run: Path, rows: Sequence[AttributionRow], make_sim: Callable[[str], TabletopEnv]) -> list[Path]:
    """Renders the expert's future at the moments of the clearest failures into RUN/oracle and returns the files.

    Args:
        run: Folder of the run.
        rows: Its attribution.
        make_sim: Makes the simulator of a task, with the policy's cameras.
    """
    chosen = sorted((row for kind in KINDS for row in choose(rows, kind)), key=lambda row: row.key)
    sims: dict[str, TabletopEnv] = {}
    paths = []
    for row in chosen:
        if row.task not in sims:
            for old in sims.values():
                old.close()
            sims = {row.task: make_sim(row.task)}
        episode = load_episode(run / "episodes" / f"{episode_stem(row.key)}.npz")
        chunks = choose_moments(episode, row)
        frames = [_expert_frame(sims[row.task], episode, episode.chunks[i]) for i in chunks]
        buffer = io.BytesIO()
        np.savez_compressed(buffer, frames=np.stack(frames), chunks=np.array(chunks))
        paths.append(run / FOLDER / f"{episode_stem(row.key)}.npz")
        paths[-1].parent.mkdir(exist_ok=True)
        write_whole(paths[-1], buffer.getvalue())
    for sim in sims.values():
        sim.close()
    return paths


def _expert_frame(sim: TabletopEnv, episode: Episode, chunk: Chunk) -> np.ndarray:
    """Returns what the cameras would see at the step of the chunk's last imagined frame, had the expert taken over."""
    assert chunk.plan.frame_steps is not None
    if sim.episode != episode.spec:
        sim.begin(episode.spec, render=False)
    sim.restore(chunk.state)
    for _ in range(int(chunk.plan.frame_steps[-1]) - chunk.step):
        outcome = sim.advance(sim.expert_action())
        if outcome.terminated or outcome.truncated:
            break
    return canvas(sim.observe(), sim.convention.cameras)


def draw_clearest(run: Path, rows: Sequence[AttributionRow]) -> dict[str, Figure]:
    """Returns a figure for each kind of failure that a run has, by file name."""
    figures = {}
    for kind in KINDS:
        if chosen := [row for row in choose(rows, kind) if _episode_file(run, row).is_file()]:
            figures[f"failures-{kind}-{run.name}.png"] = draw_strips(run, chosen, kind)
    return figures


def _episode_file(run: Path, row: AttributionRow) -> Path:
    return run / "episodes" / f"{episode_stem(row.key)}.npz"


def draw_strips(run: Path, rows: Sequence[AttributionRow], kind: str) -> Figure:
    """Returns the filmstrips of some failures below each other: imagined, realised and, if rendered, the expert's."""
    from matplotlib.figure import Figure

    oracles = [_load_expert_frames(run, row) for row in rows]
    lines = 3 if any(oracles) else 2
    figure = Figure(figsize=(1.75 * MOMENTS, (0.95 * lines + 0.75) * len(rows) + 0.5), layout="constrained")
    said = {"both": "both video and action"}.get(kind, kind)
    figure.suptitle(f"Lost to {said}: the clearest failures of {label(rows[0].policy)} on {rows[0].split}")
    panels = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for panel, row, oracle in zip(panels, rows, oracles, strict=True):
        episode = load_episode(_episode_file(run, row))
        chunks = choose_moments(episode, row)
        grid = panel.subplots(lines, MOMENTS, squeeze=False)
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        for column, number in zip(grid.T, chunks, strict=False):
            _draw_column(column, episode, number, oracle, row)
        for axes, name in zip(grid[:, 0], ("imagined", "realised", "expert"), strict=False):
            axes.set_ylabel(name, fontsize=9)
        panel.suptitle(_title(row, episode), fontsize=9)
    return figure


def _draw_column(
    column: np.ndarray, episode: Episode, number: int, oracle: dict[int, np.ndarray], row: AttributionRow
) -> None:
    """Draws the three futures of one query."""
    chunk = episode.chunks[number]
    hz = episode.spec.control_hz
    assert chunk.plan.frames is not None and chunk.plan.frame_steps is not None
    step = int(chunk.plan.frame_steps[-1])
    came = min(episode.observations, key=lambda o: (abs(o.step - step), o.step))
    images = [chunk.plan.frames[-1], canvas(came, list(came.images)), oracle.get(number)]
    for axes, image in zip(column, images, strict=False):
        if image is not None:
            axes.imshow(image, interpolation="nearest")
    lost = number == row.no_return
    title = f"{chunk.step / hz:.1f} s → {step / hz:.1f} s" + ("\nlost here" if lost else "")
    column[0].set_title(title, fontsize=8, color="#d55e00" if lost else "black", weight="bold" if lost else "normal")
    if lost:
        for axes in column:
            _mark(axes)


def _mark(axes: Axes) -> None:
    axes.spines[:].set(visible=True, color="#d55e00", linewidth=2)


def _title(row: AttributionRow, episode: Episode) -> str:
    said = {"read-out": row.d1, "intervention": row.d2, "first divergence": row.d3}
    verdicts = ", ".join(f"{name}: {verdict}" for name, verdict in said.items() if verdict)
    shares = f"lost to video {row.video:.2f}, to action {row.action:.2f}, unattributed {row.unattributed:.2f}"
    text = f"“{episode.spec.instruction}” ({row.task}, episode {row.episode}): reached {row.progress:.2f}"
    text += f"; {shares}" if math.isfinite(row.video) else ""
    return f"{text}\n{verdicts}" + (f"; how it failed: {row.behaviour}" if row.behaviour else "")


def _load_expert_frames(run: Path, row: AttributionRow) -> dict[int, np.ndarray]:
    """Returns the expert's frames of a row by chunk; none if they were not rendered."""
    path = run / FOLDER / f"{episode_stem(row.key)}.npz"
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as saved:
        return dict(zip(saved["chunks"].tolist(), saved["frames"], strict=True))
