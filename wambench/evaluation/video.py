"""Videos of an episode: the real frames on top, below them what was imagined for the same moment."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from wambench.interface import Chunk, ControlConvention, Outcome, canvas


class VideoRecorder:
    """An observer of a rollout that keeps its frames.

    Args:
        convention: Names the cameras and the frame rate.
    """

    def __init__(self, convention: ControlConvention) -> None:
        self._convention = convention
        self.frames: list[np.ndarray] = []

    def __call__(self, chunk: Chunk | None, outcome: Outcome) -> None:
        """Adds the frames of a chunk."""
        for observation in outcome.observations:
            if observation.step % self._convention.frame_stride == 0:
                real = canvas(observation, self._convention.cameras)
                self.frames.append(np.concatenate([real, imagined_at(chunk, observation.step, real.shape)]))

    def mp4(self) -> bytes:
        """Returns the video, at the video rate."""
        return encode_mp4(self.frames, self._convention.video_hz)


def imagined_at(chunk: Chunk | None, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the last frame of `shape` that a chunk imagined for `step` or before, dark if there is none."""
    if chunk is None or chunk.plan.frames is None or chunk.plan.frame_steps is None:
        return np.zeros(shape, np.uint8)
    place = int(np.searchsorted(chunk.plan.frame_steps, step, side="right")) - 1
    return chunk.plan.frames[place] if place >= 0 else np.zeros(shape, np.uint8)


def encode_mp4(frames: list[np.ndarray], fps: float) -> bytes:
    """Returns (h, w, 3) uint8 frames as an H.264 video; an odd height or width loses its last line."""
    if not frames:
        return b""
    import imageio.v2 as imageio

    height, width = (size // 2 * 2 for size in frames[0].shape[:2])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        imageio.mimwrite(path, [f[:height, :width] for f in frames], fps=fps, quality=8, macro_block_size=2)
        return path.read_bytes()
