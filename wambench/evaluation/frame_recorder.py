"""Frames of an episode, packed while it is being played."""

from __future__ import annotations

from collections.abc import Sequence

import zstandard

from wambench.interface import Chunk, Outcome, canvas

# The library's own thread does the work, half a megabyte at a time, each with a look at what came before.
PARAMETERS = zstandard.ZstdCompressionParameters.from_level(1, threads=1, job_size=1 << 19, overlap_log=9)


class FrameRecorder:
    """An observer of rollouts that packs what was seen into a Zstandard frame, beside the simulation.

    One tape serves one episode after another: `begin`, the episode, `packed`.

    Args:
        cameras: Names of the cameras, as in `canvas`.
    """

    def __init__(self, cameras: Sequence[str]) -> None:
        self._cameras = tuple(cameras)
        self._compressor = zstandard.ZstdCompressor(compression_params=PARAMETERS)
        self.begin()

    def begin(self) -> None:
        """Forgets what came before."""
        self._stream = self._compressor.compressobj()
        self._parts: list[bytes] = []
        self._count = 0

    def __call__(self, chunk: Chunk | None, outcome: Outcome) -> None:
        """Adds the frames of a chunk."""
        for observation in outcome.observations:
            self._parts.append(self._stream.compress(canvas(observation, self._cameras).reshape(-1).data))
            self._count += 1

    def packed(self, count: int) -> bytes | None:
        """Returns the packed canvases of an episode of `count` observations; None if it has seen others."""
        self._parts.append(self._stream.flush())
        return b"".join(self._parts) if count == self._count else None
