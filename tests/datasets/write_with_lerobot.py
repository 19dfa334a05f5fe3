"""Run by an interpreter that has lerobot: writes episodes with its own writer and prints the seconds that it took.

python write_with_lerobot.py EPISODES.npz OUT
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np


def main(source: Path, out: Path) -> None:
    """Writes all episodes of a file; the threads are those of lerobot's own recording, four a camera."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    with np.load(source) as stored:
        data = dict(stored)
    cameras = [name for name in data if name.startswith("observation.images.")]
    shape = data[cameras[0]].shape[1:]
    names = ["height", "width", "channels"]
    features = {name: {"dtype": "video", "shape": shape, "names": names} for name in cameras}
    for name in ("observation.state", "action"):
        features[name] = {"dtype": "float32", "shape": data[name].shape[1:], "names": None}
    began = time.perf_counter()
    dataset = LeRobotDataset.create(
        "test/bench", fps=20, features=features, root=out, image_writer_threads=4 * len(cameras)
    )
    for episode in np.unique(data["episode_index"]):
        for row in np.flatnonzero(data["episode_index"] == episode):
            dataset.add_frame({**{name: data[name][row] for name in features}, "task": "a task"})
        dataset.save_episode()
    dataset.finalize()
    print(json.dumps({"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
