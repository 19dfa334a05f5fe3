"""Videos of an episode: the real frames, and below them what was imagined for the same moment, if anything was."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wambench.interface import Chunk, ControlConvention, Outcome, canvas

Frame = NDArray[np.uint8]  # (h, w, 3)


class VideoRecorder:
    """An observer of a rollout that keeps its frames.

    Below the real frame of a control step stands the newest prediction for it: what the last query before that step
    imagined for the latest step up to it. A chunk usually imagines farther than it is carried out, so this is often a
    prediction by an earlier query. Before the first prediction the row is black; a policy that never imagines anything
    gets no such row.

    Args:
        convention: Names the cameras and the frame rate.
    """

    def __init__(self, convention: ControlConvention) -> None:
        self._convention = convention
        self._steps: list[int] = []
        self._real: list[Frame] = []
        self._predictions: list[Predictions] = []

    def __call__(self, chunk: Chunk | None, outcome: Outcome) -> None:
        """Adds the frames of a chunk."""
        if chunk is not None:
            self._predictions += predictions_of([chunk])
        for observation in outcome.observations:
            if observation.step % self._convention.frame_stride == 0:
                self._steps.append(observation.step)
                self._real.append(canvas(observation, self._convention.cameras))

    @property
    def frames(self) -> list[Frame]:
        """The frames of the video: (h, w, 3) uint8, or (2 h, w, 3) with what was imagined."""
        if not self._predictions:
            return self._real
        pairs = zip(self._steps, self._real, strict=True)
        return [np.concatenate([real, self._imagined(step, real)]) for step, real in pairs]

    def mp4(self) -> bytes:
        """Returns the video, at the video rate."""
        return encode_mp4(self.frames, self._convention.video_hz)

    def _imagined(self, step: int, real: Frame) -> Frame:
        """Returns the newest prediction for a step, black if there is none."""
        frame = newest(self._predictions, step)
        return np.zeros_like(real) if frame is None else frame


class Predictions:
    """What one query imagined.

    Args:
        asked: Control step of the query.
        steps: (T,) the control steps that the frames are for, rising.
        frames: (T, h, w, 3) uint8.
    """

    def __init__(self, asked: int, steps: NDArray[np.integer], frames: NDArray[np.uint8]) -> None:
        self.asked = asked
        later = steps > asked
        self._steps = steps[later]
        self._frames = frames[later]

    def at(self, step: int) -> Frame | None:
        """Returns the frame for the latest step up to `step`, None if all are for later ones."""
        place = int(np.searchsorted(self._steps, step, side="right")) - 1
        return self._frames[place] if place >= 0 else None


def predictions_of(chunks: Iterable[Chunk]) -> list[Predictions]:
    """Returns what the queries of some chunks imagined, those that imagined anything."""
    plans = [(chunk.step, chunk.plan.frame_steps, chunk.plan.frames) for chunk in chunks]
    return [
        Predictions(asked, steps, frames) for asked, steps, frames in plans if steps is not None and frames is not None
    ]


def newest(predictions: Sequence[Predictions], step: int) -> Frame | None:
    """Returns what the last query before a step imagined for it, None if none did."""
    for prediction in reversed(predictions):
        if prediction.asked < step and (frame := prediction.at(step)) is not None:
            return frame
    return None


def encode_mp4(frames: list[Frame], fps: float, crf: int | None = None) -> bytes:
    """Returns (h, w, 3) uint8 frames as an H.264 video that every browser plays; an odd size loses its last line.

    It has 4:2:0 colour, and its index stands at the beginning, so that it plays while it loads. `crf` is H.264's
    constant rate factor (higher: smaller and worse); None for a quality that loses almost nothing.
    """
    if not frames:
        return b""
    import imageio.v2 as imageio

    height, width = (size // 2 * 2 for size in frames[0].shape[:2])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        quality, more = (8, []) if crf is None else (None, ["-crf", str(crf), "-g", "25"])
        imageio.mimwrite(
            path, [f[:height, :width] for f in frames], fps=fps, quality=quality, macro_block_size=2,
            pixelformat="yuv420p", output_params=["-movflags", "+faststart", *more],
        )  # fmt: skip
        return path.read_bytes()
