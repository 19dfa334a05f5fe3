"""Run by the interpreter of an environment that has lerobot: reads a dataset with its own class, writes what it saw.

    python read_with_lerobot.py DATASET OUT.npz [--convert]

With --convert, DATASET is v2.1 and is turned into v3.0 by lerobot's converter first (which renames the old folder).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

HORIZON = 16


def convert(folder: Path) -> None:
    """Converts a dataset of layout v2.1 in place."""
    try:
        from lerobot.datasets.v30.convert_dataset_v21_to_v30 import convert_dataset  # lerobot 0.4

        convert_dataset(folder.name, root=folder.parent, push_to_hub=False)
    except ImportError:
        from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset  # 0.6

        convert_dataset(folder.name, root=folder, push_to_hub=False)


def spans(dataset: Any) -> list[tuple[int, int]]:
    """Returns the first row of every episode, and the first one after it."""
    if hasattr(dataset, "episode_data_index"):  # lerobot 0.3
        found = dataset.episode_data_index
        return list(zip(found["from"].tolist(), found["to"].tolist(), strict=True))
    return [(int(row["dataset_from_index"]), int(row["dataset_to_index"])) for row in dataset.meta.episodes]


def main(folder: Path, out: Path) -> None:
    """Reads first and last rows of some episodes, chunks of actions, and all statistics."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    plain = LeRobotDataset("test/wambench", root=folder, video_backend="pyav")
    fps = plain.meta.fps
    ends = spans(plain)
    picked = [0, len(ends) // 2, len(ends) - 1]
    found: dict[str, Any] = {"fps": fps, "episodes": len(ends), "frames": len(plain)}
    chunked = None
    if "action" in plain.meta.features:
        ahead = {"action": [i / fps for i in range(HORIZON)]}
        chunked = LeRobotDataset("test/wambench", root=folder, video_backend="pyav", delta_timestamps=ahead)
    for episode in picked:
        first, last = ends[episode]
        rows = sorted({first, first + 1, (first + last) // 2, last - 2, last - 1})
        for row in rows:
            item = plain[row]
            for name, value in item.items():
                shown = np.asarray(value) if name != "task" else np.array(value)
                found[f"row/{row}/{name}"] = shown
            if chunked is not None:
                there = chunked[row]
                found[f"chunk/{row}/action"] = np.asarray(there["action"])
                found[f"chunk/{row}/pad"] = np.asarray(there["action_is_pad"])
    if not hasattr(plain, "episode_data_index"):  # lerobot 0.3 cannot read the video of a single later episode
        one = LeRobotDataset("test/wambench", root=folder, video_backend="pyav", episodes=[picked[1]])
        found["single/length"] = len(one)
        found["single/index"] = np.asarray(one[0]["index"])
    for name, values in plain.meta.stats.items():
        for kind, value in values.items():
            found[f"stats/{name}/{kind}"] = np.asarray(value)
    np.savez(out, **found)


if __name__ == "__main__":
    if "--convert" in sys.argv:
        convert(Path(sys.argv[1]))
    main(Path(sys.argv[1]), Path(sys.argv[2]))
