"""Videos of datasets: H.264 that every reader of LeRobot's data decodes and seeks in, written and read by PyAV.

yuv420p, a key frame every second frame, no reordered frames, a constant rate whose time base holds 1 / fps exactly, and
the index at the beginning of the file. One thread encodes a file, so that the same frames give the same bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from numpy.typing import NDArray

CODEC = "libx264"
# The quality is measured in docs/data.md.
OPTIONS = {"crf": "13", "preset": "veryfast", "g": "2", "bf": "0", "sc_threshold": "0", "threads": "1"}
MUXER = {"movflags": "faststart", "fflags": "+bitexact"}
BT601, LIMITED = 6, 1  # FFmpeg's numbers of the colour matrix (SMPTE 170M) and of the range of yuv420p
Frame = NDArray[np.uint8]


class VideoWriter:
    """Writes frames to a file; a context manager, whose file is complete when it is left without an error.

    Args:
        path: The file, which is overwritten.
        size: (height, width), even numbers.
        fps: Frames per second.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: int) -> None:
        self._path, self._fps = path, fps
        self.count = 0
        self._container = av.open(str(path), "w", format="mp4", options=MUXER)
        stream = self._container.add_stream(CODEC, rate=fps, options=OPTIONS)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, fps)
        stream.codec_context.colorspace = BT601
        stream.codec_context.color_range = LIMITED
        self._stream = stream

    def write(self, frame: Frame) -> None:
        """Adds a (h, w, 3) uint8 frame."""
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU601", interpolation="AREA")
        picture.pts, picture.time_base = self.count, Fraction(1, self._fps)
        with naming(self._path):
            self._container.mux(self._stream.encode(picture))
        self.count += 1

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                with naming(self._path):
                    self._container.mux(self._stream.encode(None))
        finally:
            with naming(self._path):
                self._container.close()


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turns errors of FFmpeg (a full disk, for example) into those of the operating system, which name the file."""
    try:
        yield
    except av.FFmpegError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def join(parts: Sequence[Path], path: Path, fps: int) -> list[int]:
    """Joins videos of equal settings to one file without decoding, and returns how many frames each has."""
    counts: list[int] = []
    with naming(path), av.open(str(path), "w", format="mp4", options=MUXER) as out:
        target = None
        for part in parts:
            with av.open(str(part)) as source:
                stream = source.streams.video[0]
                if target is None:
                    target = out.add_stream_from_template(stream)
                    target.time_base = Fraction(1, fps)
                first, number = sum(counts), 0
                for packet in source.demux(stream):
                    if packet.pts is None:  # the empty packet at the end
                        continue
                    packet.stream, packet.time_base = target, Fraction(1, fps)
                    packet.pts = packet.dts = first + number
                    packet.duration = 1
                    out.mux(packet)
                    number += 1
                counts.append(number)
    return counts


def count_frames(path: Path) -> int:
    """Returns how many frames a video holds; a damaged one raises ValueError."""
    try:
        with av.open(str(path)) as source:
            return sum(packet.pts is not None for packet in source.demux(source.streams.video[0]))
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{path}: damaged video ({error})") from None


def read_frames(path: Path, start: int, count: int, fps: float, size: tuple[int, int] | None = None) -> Iterator[Frame]:
    """Yields frames of a video from number `start` on, (h, w, 3) uint8.

    Args:
        path: The file.
        start, count: The first frame, and how many.
        fps: Frames per second.
        size: (height, width) to shrink or enlarge them to, by areas; None: as they are.
    """
    kept = 0
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        assert stream.time_base is not None
        source.seek(round(max(0.0, start - 0.5) / fps / stream.time_base), stream=stream)
        for picture in source.decode(stream):
            number = round(picture.time * fps)
            if number < start:
                continue
            if number != start + kept:
                break
            height, width = size or (picture.height, picture.width)
            shown = picture.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
            yield np.asarray(shown.to_ndarray(), np.uint8)
            kept += 1
            if kept == count:
                return
    raise ValueError(f"{path}: frame {start + kept} is missing")
