"""How fast an export is, against lerobot's own writer on the same frames.

    WAMBENCH_LEROBOT_PYTHON=... python -m tests.datasets.bench_export DEMOS

Three times, taking turns: the whole export with one worker (playing, rendering, writing), our writing alone, and
lerobot's writing alone (its default AV1, eight threads for pictures). A frame is a pair of two views.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.datasets.reading import episodes, info
from wambench.datasets import episode_files, layouts
from wambench.datasets.export import ExportConfig, export
from wambench.datasets.features import V30, Schema
from wambench.datasets.sources import Moment
from wambench.interface import ControlConvention

REPEATS, EPISODES, SIZE = 3, 4, (256, 256)
SCRIPT = Path(__file__).with_name("write_with_lerobot.py")


def ours(rows: list[list[Moment]], out: Path) -> float:
    """Returns the seconds that writing alone takes."""
    schema = Schema(ControlConvention(image_size=SIZE), "Panda", 20, True, V30)
    stage = out / "stage"
    stage.mkdir(parents=True)
    began, first = time.perf_counter(), 0
    for index, own in enumerate(rows):
        place = {"episode_index": index, "task_index": 0, "first": first, "rows": len(own)}
        episode_files.write_episode(stage, schema, own, place, {"name": str(index)})
        first += len(own)
    plan = layouts.Plan(schema, tuple(map(len, rows)), ("a task",) * len(rows))
    layouts.assemble(plan, stage, out / "dataset")
    return time.perf_counter() - began


def theirs(python: str, source: Path, out: Path) -> float:
    """Returns the seconds that lerobot takes."""
    ours_alone = ("PYTHONPATH", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in ours_alone}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(out.parent)}
    command = [python, str(SCRIPT), str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def megabytes(folder: Path) -> float:
    """Returns the size of the videos in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*.mp4")) / 2**20


def main(demos: Path) -> None:
    """Prints frames per second and megabytes a minute."""
    python = os.environ["WAMBENCH_LEROBOT_PYTHON"]
    rows = episodes(demos, SIZE)[:EPISODES]
    flat = [(index, moment) for index, own in enumerate(rows) for moment in own]
    arrays = {
        f"observation.images.{name}": np.stack([m.images[name] for _, m in flat]) for name in ("agentview", "wrist")
    }
    arrays |= {"observation.state": np.stack([np.asarray(m.state) for _, m in flat])}
    arrays |= {"action": np.stack([np.asarray(m.action) for _, m in flat])}
    seconds: dict[str, list[float]] = {"export": [], "ours": [], "lerobot": []}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "episodes.npz"
        np.savez(source, episode_index=np.array([index for index, _ in flat]), **arrays)
        whole = 0
        for turn in range(REPEATS):
            out = {name: Path(folder) / f"{name}{turn}" for name in seconds}
            began = time.perf_counter()
            whole = int(info(export(ExportConfig((demos,), out["export"])))["total_frames"])
            seconds["export"].append(time.perf_counter() - began)
            seconds["ours"].append(ours(rows, out["ours"]))
            seconds["lerobot"].append(theirs(python, source, out["lerobot"]))
            sizes = {"ours": megabytes(out["ours"] / "dataset"), "lerobot": megabytes(out["lerobot"])}
    for name, took in seconds.items():
        rates = [(whole if name == "export" else len(flat)) / s for s in took]
        size = f", {sizes[name] / (len(flat) / 20 / 60):.1f} MB a minute" if name in sizes else ""
        print(
            f"{name}: {statistics.median(rates):.1f} frames per second ({', '.join(f'{r:.1f}' for r in rates)}){size}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
