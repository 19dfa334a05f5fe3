"""The data protocol of DreamZero's released robots: prompts, canvases, action numbers, and which frames make a sample.

DROID (`oxe_droid`): three 180x320 views at 15 Hz become one 352x640 canvas at 5 Hz; actions are 7 joint positions,
relative to the state at the start of their chunk, and an absolute gripper. AgiBot and YAM tile their views 2x2.

Letters: T frames, H, W pixels, D numbers of a state or action, n chunks.
"""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wambench.interface import unknown_name
from wambench.policies.dreamzero.official.checkpoint import library

TEXT_LENGTH = 512
TOKENIZER = "google/umt5-xxl"
CROP = 0.95  # share of each side that the evaluation crop keeps
VIEW_SIZE = (176, 320)
ACTIONS_PER_CHUNK = 24  # at 15 Hz
VIDEO_STRIDE = 3  # control steps a frame: 5 Hz, 8 frames a chunk
JOINTS = slice(0, 7)  # relative part of a DROID action; the gripper after it is absolute
NEGATIVE_PROMPT = (
    "Vibrant colors, overexposed, static, blurry details, text, subtitles, style, artwork, painting, image, still, "
    "grayscale, dull, worst quality, low quality, JPEG artifacts, ugly, mutilated, extra fingers, bad hands, bad face, "
    "deformed, disfigured, mutated limbs, fused fingers, stagnant image, cluttered background, three legs, many people "
    "in the background, walking backwards."
)


@dataclass(frozen=True)
class Embodiment:
    """What a robot's data set fixes: its number, and how the prompt describes its views (none: a single view)."""

    id: int
    views: str = ""
    subject: str = "robot"


EMBODIMENTS: Mapping[str, Embodiment] = MappingProxyType(
    {
        "oxe_droid": Embodiment(
            17,
            "The video is split into three views: The top view shows the camera view from the robot's wrist, the "
            "bottom-left view shows the camera view from the left exterior camera, and the bottom-right view shows the "
            "camera view from the right exterior camera. During training, one of the two bottom exterior views may be "
            "a black screen (dropped view).",
        ),
        "agibot": Embodiment(
            26,
            "The video is split into four views: The top-left view shows the camera view from the robot's head, the "
            "top-right view shows the camera view from the right hand, the bottom-left view shows the camera view from "
            "the left hand, and the bottom-right view is a black screen (inactive view).",
        ),
        "yam": Embodiment(
            32,
            "The video is split into four views: The top-left view shows the top camera, the top-right view shows the "
            "right camera, the bottom-left view shows the left camera, and the bottom-right view is a black screen.",
        ),
        "gr1_unified": Embodiment(24, subject="human"),
    }
)


def prompt(instruction: str, embodiment: str = "oxe_droid") -> str:
    """Returns the text that the tokenizer gets for an instruction.

    An instruction that is a Python literal is read as such (the first entry of a list or tuple, otherwise its text),
    as in the released code; then it is lower-cased and put into the template, and the whole is cleaned.

    Raises:
        ValueError: The embodiment is unknown.
    """
    if embodiment not in EMBODIMENTS:
        raise unknown_name("embodiment", embodiment, EMBODIMENTS)
    robot = EMBODIMENTS[embodiment]
    words = _spoken(instruction).lower()
    if not robot.views:
        return clean(f"A single view video shows that a {robot.subject} {words}")
    return clean(f"A multi-view video shows that a {robot.subject} {words} {robot.views} The {robot.subject} {words}")


def _spoken(instruction: str) -> str:
    try:
        value = ast.literal_eval(instruction)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return instruction
    if isinstance(value, (list, tuple)) and value:
        value = value[0]
    return str(value)


def clean(text: str) -> str:
    """Returns text with broken encodings mended, HTML entities resolved (twice) and white space collapsed."""
    text = html.unescape(html.unescape(library("ftfy").fix_text(text)))
    return re.sub(r"\s+", " ", text).strip()


def tokenizer(source: str = TOKENIZER, length: int = TEXT_LENGTH) -> Callable[[str], tuple[Tensor, Tensor]]:
    """Returns a function from a cleaned prompt to (1, length) ids and mask, with the umT5 tokenizer of a folder or id.

    Raises:
        ValueError: There is no such tokenizer.
    """
    try:
        words: Any = library("transformers").AutoTokenizer.from_pretrained(source)
    except OSError as error:
        raise ValueError(f"no tokenizer at {source!r}: {error}") from error

    def tokenize(text: str) -> tuple[Tensor, Tensor]:
        made = words(text, return_tensors="pt", padding="max_length", truncation=True, max_length=length)
        return made["input_ids"], made["attention_mask"]

    return tokenize


def centre_crop(view: Tensor, keep: float = CROP) -> Tensor:
    """Returns the middle of (T, H, W, C), `keep` of each side; sides are cut down to whole pixels."""
    height, width = view.shape[1:3]
    h, w = int(keep * height), int(keep * width)
    top, left = round((height - h) / 2), round((width - w) / 2)  # halves go to the even number, as in torchvision
    return view[:, top : top + h, left : left + w]


def resize(view: Tensor, size: tuple[int, int] = VIEW_SIZE) -> Tensor:
    """Returns (T, C, h, w) in [0, 1] of a (T, H, W, C) uint8 view: bilinear with antialias."""
    return F.interpolate(
        view.permute(0, 3, 1, 2).float() / 255.0, size, mode="bilinear", align_corners=False, antialias=True
    )


def prepare_view(view: Tensor, size: tuple[int, int] = VIEW_SIZE, keep: float = CROP) -> Tensor:
    """Returns one view as it goes onto the canvas, (T, h, w, 3) uint8; back to integers by truncation, not rounding."""
    return (resize(centre_crop(view, keep), size) * 255.0).to(torch.uint8).permute(0, 2, 3, 1)


def stitch_droid(left: Tensor, right: Tensor, wrist: Tensor) -> Tensor:
    """Returns the (T, 2h, 2w, 3) DROID canvas of three (T, h, w, 3) views.

    The wrist fills the top row, every pixel twice in width; the exterior views lie bottom-left and bottom-right.
    """
    return torch.cat([wrist.repeat_interleave(2, dim=2), torch.cat([left, right], dim=2)], dim=1)


def stitch_grid(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """Returns the (T, 2h, 2w, 3) canvas of the other robots: top-left, bottom-left, top-right, and black.

    Reference implementation, checked against the release by `make parity`; no command uses it.
    """
    rows = [torch.cat([first, third], dim=2), torch.cat([second, torch.zeros_like(second)], dim=2)]
    return torch.cat(rows, dim=1)


def canvas_droid(left: Tensor, right: Tensor, wrist: Tensor, size: tuple[int, int] = VIEW_SIZE) -> Tensor:
    """Returns the (T, 352, 640, 3) uint8 canvas of three raw uint8 views (T, H, W, 3), evaluation crop included."""
    return stitch_droid(*(prepare_view(view, size) for view in (left, right, wrist)))


def pixels(canvas: Tensor) -> Tensor:
    """Returns the (..., 3, T, H, W) float video in [-1, 1] of a (..., T, H, W, 3) uint8 canvas."""
    return ((canvas.float() / 255.0 - 0.5) / 0.5).movedim(-1, -4)


def normalise(x: np.ndarray, q01: np.ndarray, q99: np.ndarray, clamp: bool = True) -> np.ndarray:
    """Returns 2 (x - q01) / (q99 - q01) - 1, where q01 = q99 x itself; clamped to [-1, 1] if not told otherwise."""
    flat = q01 == q99
    scaled = 2.0 * (x - q01) / np.where(flat, 1.0, q99 - q01) - 1.0
    scaled = np.where(flat, x, scaled)
    return np.clip(scaled, -1.0, 1.0) if clamp else scaled


def unnormalise(x: np.ndarray, q01: np.ndarray, q99: np.ndarray) -> np.ndarray:
    """Returns (x + 1) / 2 (q99 - q01) + q01, not clamped; exact only for what `normalise` did not clamp."""
    return (x + 1.0) / 2.0 * (q99 - q01) + q01


def to_relative(actions: np.ndarray, states: np.ndarray, part: slice = JOINTS) -> np.ndarray:
    """Returns (n, H, D) actions whose `part` is measured from the state at the start of each chunk.

    Args:
        actions: (n, H, D) absolute actions of n chunks.
        states: (n, D) state at the first index of each chunk.
        part: The relative numbers; the others stay.
    """
    relative = actions.copy()
    relative[..., part] -= states[:, None, part]
    return relative


def to_absolute(actions: np.ndarray, states: np.ndarray, part: slice = JOINTS) -> np.ndarray:
    """Returns what `to_relative` was given: adds each chunk's (n, D) starting state to its (n, H, D) actions."""
    absolute = actions.copy()
    absolute[..., part] += states[:, None, part]
    return absolute


def pad(x: np.ndarray, width: int) -> np.ndarray:
    """Returns (..., D) numbers with zeros behind them up to `width` (action 32, state 64 in the released models)."""
    if x.shape[-1] > width:
        raise ValueError(f"{x.shape[-1]} numbers do not fit into {width}")
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, width - x.shape[-1])])


@dataclass(frozen=True)
class Sample:
    """Indices into an episode that make one training sample.

    Attributes:
        frames: Raw frames, 8n+1 of them (none if no chunk fits).
        starts: (n,) first index of each chunk: of its state and of its H actions.
    """

    frames: tuple[int, ...]
    starts: tuple[int, ...]


def sample_chunks(
    length: int,
    anchor: int,
    language: Sequence[Any],
    max_chunks: int,
    stride: int = ACTIONS_PER_CHUNK,
    video_stride: int = VIDEO_STRIDE,
) -> Sample:
    """Returns the chunks around an anchor that share its instruction, as the release samples its training data.

    Reference implementation, checked against the release by `make parity`; no command uses it.

    From the anchor in steps of a chunk, one back, one forward, until the episode ends or the instruction at the step
    differs (instructions inside a chunk are not compared). A chunk needs its frames inside the episode, otherwise it is
    passed over. One frame closes the clip; where it does not exist, the last chunk is cut down to its first frame.

    Args:
        length: Steps of the episode.
        anchor: Step to start from.
        language: Instruction at every step, or anything that compares.
        max_chunks: Most chunks.
        stride: Steps of a chunk.
        video_stride: Steps between frames.
    """
    offsets = range(0, stride, video_stride)
    fits = [step for step in _steps(length, anchor, language, stride) if step + stride - 1 < length]
    starts = sorted(fits[:max_chunks])
    closing = starts[-1] + offsets[-1] + video_stride if starts else length
    if starts and closing >= length:
        closing = starts.pop()
    if not starts:
        return Sample((), ())
    return Sample((*(start + offset for start in starts for offset in offsets), closing), tuple(starts))


def _steps(length: int, anchor: int, language: Sequence[Any], stride: int) -> list[int]:
    """Returns the chunk starts in the order in which they are tried: anchor, one back, one forward, two back, ..."""
    anchor = max(0, min(anchor, length - 1))
    order = [anchor]
    open_ends = {-1: True, 1: True}
    for distance in range(1, length // stride + 2):
        for side in (-1, 1):
            step = anchor + side * distance * stride
            open_ends[side] &= 0 <= step < length and language[step] == language[anchor]
            if open_ends[side]:
                order.append(step)
    return order
