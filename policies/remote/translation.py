"""Observations into a server's message, and its answer into actions and imagined frames; and both ways back.

Pure functions of an adapter. The ways back are those of our own server (`wambench.serving`), which reads what clients
of the same adapter send. Letters as in CONTRIBUTING.md, S numbers of a state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from wambench.interface import STATE_SIZES, ControlConvention, InvalidPlan, Observation
from wambench.policies.remote.adapter import DERIVED, GRIPPERS, Adapter, Vector, Video

# GR00T's DROID checkpoints know the hand in axes of their own: its rotation times this (gr00t's droid_frame.py).
GR00T_AXES = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


# -- to the server ---------------------------------------------------------------------------------------------------


def message(adapter: Adapter, instruction: str, frames: Sequence[Observation]) -> dict[str, Any]:
    """Returns what a server is asked, by flat keys: pictures, vectors and texts.

    Args:
        adapter: See there.
        instruction: Of the episode.
        frames: Those of `chosen`; the last one is now.
    """
    timed = adapter.everything or bool(adapter.history)
    made: dict[str, Any] = {}
    for key, picture in adapter.images.items():
        views = [sent_picture(frame.images[picture.camera], picture.size, picture.mirror) for frame in frames]
        made[key] = np.stack(views) if timed else views[-1]
    for key, vector in adapter.vectors.items():
        rows = [sent_vector(vector, frame.state, adapter.convention) for frame in frames]
        made[key] = np.stack(rows) if adapter.everything else rows[-1]
    for key, text in adapter.texts.items():
        made[key] = instruction.lower() if text == "instruction_lower" else instruction
    return made


def chosen(adapter: Adapter, history: Sequence[Observation], kept: Sequence[Observation]) -> list[Observation]:
    """Returns the frames to send, oldest first, the present one last.

    Args:
        adapter: Says which (`history`).
        history: Everything since the last call.
        kept: What was seen before, in order. Of a step that was not seen the last frame before it is taken, and before
            the episode's first frame that one.
    """
    if adapter.everything:
        return list(history)
    seen = [*kept, *history]
    now = history[-1].step
    return [_at(seen, now + offset) for offset in adapter.history or (0,)]


def _at(seen: Sequence[Observation], step: int) -> Observation:
    return next((frame for frame in reversed(seen) if frame.step <= step), seen[0])


def sent_picture(image: np.ndarray, size: tuple[int, int] | None, mirror: bool) -> np.ndarray:
    """Returns an upright (h, w, 3) uint8 picture as it is sent: mirrored, and brought to (height, width)."""
    view = image[:, ::-1] if mirror else image
    return np.ascontiguousarray(view if size is None else resize_with_pad(view, *size))


def resize_with_pad(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns (height, width, 3) uint8 of (h, w, 3): as large as fits, in the middle of black; bilinear.

    The arithmetic is that of openpi-client's picture tools, which the released checkpoints are evaluated with.
    """
    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image
    ratio = max(w / width, h / height)
    inside_h, inside_w = int(h / ratio), int(w / ratio)
    top, left = int((height - inside_h) / 2), int((width - inside_w) / 2)
    padded = np.zeros((height, width, 3), np.uint8)
    padded[top : top + inside_h, left : left + inside_w] = _resized(image, inside_h, inside_w)
    return padded


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), resample=Image.Resampling.BILINEAR))


def sent_vector(vector: Vector, state: np.ndarray, convention: ControlConvention) -> np.ndarray:
    """Returns the numbers of a vector (n,) from our state (S,)."""
    if vector.zeros:
        return np.zeros(vector.zeros, vector.dtype)
    values = np.concatenate([_part(part, state, convention) for part in vector.parts])
    return (values[list(vector.take)] if vector.take else values).astype(vector.dtype)


def _part(part: str, state: np.ndarray, convention: ControlConvention) -> np.ndarray:
    if part not in DERIVED:
        return state[places(convention)[part]]
    where = places(convention)
    if part == "eef_axis_angle_forward":
        turn = state[where["eef_axis_angle"]]
        return turn if turn[0] >= 0 else other_way_round(turn)
    hand = Rotation.from_rotvec(state[where["eef_axis_angle"]].copy())  # scipy reads no read-only array
    if part == "cartesian_position":  # position and Euler angles about fixed axes, as DROID has it
        return np.concatenate([state[where["eef_pos"]], hand.as_euler("xyz")])
    rows = (hand.as_matrix() @ GR00T_AXES)[:2]
    return np.concatenate([state[where["eef_pos"]], rows.reshape(6)])


def other_way_round(turn: np.ndarray) -> np.ndarray:
    """Returns the other rotation vector (3,) of the same rotation, with an angle of 2 pi less this one's."""
    angle = float(np.linalg.norm(turn))
    return turn * (angle - 2.0 * np.pi) / angle if angle > 0 else turn


def places(convention: ControlConvention) -> dict[str, slice]:
    """Returns where each part of a convention's state stands in its vector."""
    return {part: convention.part_of_state(part) for part in convention.state}


# -- from the server -------------------------------------------------------------------------------------------------


def actions(adapter: Adapter, answer: Any) -> np.ndarray:
    """Returns the (H, A) float64 actions of an answer in our convention.

    Raises InvalidPlan if they are not there, or no (H, A) finite numbers.
    """
    parts = [_found(answer, key) for key in adapter.answer.keys] or [answer]
    try:
        raw = [np.asarray(part, np.float64) for part in parts]
    except (TypeError, ValueError) as error:
        raise InvalidPlan(f"the answer's actions are no numbers: {error}") from error
    rows = [part[None] if part.ndim == 1 else part for part in raw]
    shapes, width = [part.shape for part in raw], adapter.convention.action_dim
    if any(part.ndim != 2 or len(part) != len(rows[0]) for part in rows) or sum(r.shape[1] for r in rows) != width:
        raise InvalidPlan(f"actions have shape {', '.join(map(str, shapes))}, expected (H, {width})")
    made = np.concatenate(rows, axis=1)
    if not np.isfinite(made).all():
        raise InvalidPlan("actions hold NaN or infinity")
    if adapter.answer.clip:
        low, high = adapter.convention.limits()
        made[:, :-1] = made[:, :-1].clip(low[:-1], high[:-1])
    how = adapter.answer
    made[:, -1] = gripper(made[:, -1], how.gripper, adapter.convention.gripper, how.gripper_threshold)
    return made


def _found(answer: Any, key: str) -> Any:
    if not isinstance(answer, Mapping) or key not in answer:
        there = ", ".join(map(str, answer)) if isinstance(answer, Mapping) else type(answer).__name__
        raise InvalidPlan(f"the answer has no {key!r}; it has: {there}")
    return answer[key]


def gripper(commands: np.ndarray, theirs: str, ours: str, threshold: float | None = None) -> np.ndarray:
    """Returns gripper commands (H,) of one meaning in another (`GRIPPERS`), within its range.

    Args:
        commands: See above.
        theirs, ours: Their meaning, and that of what is returned.
        threshold: From which share of closed on they close; None: they are not rounded.
    """
    opened, closed = GRIPPERS[ours]
    if theirs != ours or threshold is not None:
        at_open, at_closed = GRIPPERS[theirs]
        share = (commands - at_open) / (at_closed - at_open)
        if threshold is not None:
            share = (share >= threshold).astype(np.float64)
        commands = opened + share * (closed - opened)
    return commands.clip(min(opened, closed), max(opened, closed))


def imagined(
    adapter: Adapter, answer: Any, now: int, offsets: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the imagined canvases (T, h, w * cameras, 3) and the env step of each (T,); None without any.

    Only frames of the future are returned, and only those at whose step the simulator renders one too.

    Args:
        adapter: Says where they are and how they are laid out.
        answer: Of the server.
        now: Env step of the query.
        offsets: Control steps from now to each frame, if the server said so; otherwise the adapter does.
    """
    how = adapter.video
    if how is None or not isinstance(answer, Mapping) or answer.get(how.key) is None:
        return None
    video, convention = np.asarray(answer[how.key]), adapter.convention
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[3] != 3:
        raise InvalidPlan(f"{how.key} is {video.dtype} {video.shape}, expected uint8 (T, H, W, 3)")
    ahead = np.asarray(offsets) if offsets is not None else how.first + how.every * np.arange(len(video))
    if ahead.shape != video.shape[:1]:
        raise InvalidPlan(f"{how.key} has {len(video)} frames and {ahead.size} steps")
    steps = now + ahead.astype(np.int64)
    kept = (ahead > 0) & (steps % convention.frame_stride == 0)
    return (canvases(video[kept], how, convention), steps[kept]) if kept.any() else None


def canvases(video: np.ndarray, how: Video, convention: ControlConvention) -> np.ndarray:
    """Returns frames of a server as our canvases, (T, h, w * cameras, 3)."""
    if how.layout == "row":
        return video
    height, width = video.shape[1:3]
    below, half = round(height / 3), width // 2  # the wrist at full size, the other two at half of it
    above = video[:, : height - below]
    others = [video[:, height - below :, :half], video[:, height - below :, half:]]
    wrist = convention.cameras.index("wrist")
    views = [*others[:wrist], above, *others[wrist:]]
    size = convention.image_size
    return np.stack([np.concatenate([_resized(view[i], *size) for view in views], axis=1) for i in range(len(video))])


# -- back: what our own server reads ---------------------------------------------------------------------------------


def observations(
    adapter: Adapter, asked: Mapping[str, Any], steps: Sequence[int], states: np.ndarray | None = None
) -> list[Observation]:
    """Returns what a client saw, from its message.

    Args:
        adapter: The client's; pictures come back in the size of its convention.
        asked: The message, by flat keys.
        steps: Env step of each frame.
        states: (T, S) our states, if the client sent them too; otherwise they are put together from the vectors, and
            what no vector holds is NaN.

    Raises ValueError if something is missing or has another shape.
    """
    convention, count = adapter.convention, len(steps)
    views = {}
    for key, picture in adapter.images.items():
        stack = _frames(asked, key, count)
        flipped = stack[:, :, ::-1] if picture.mirror else stack
        views[picture.camera] = [received_picture(view, convention.image_size) for view in flipped]
    missing = [camera for camera in convention.cameras if camera not in views]
    if missing:
        raise ValueError(f"the adapter carries no picture of {', '.join(missing)}")
    if states is None:
        states = received_states(adapter, asked, count)
    width = sum(STATE_SIZES[part] for part in convention.state)
    if states.shape != (count, width):
        raise ValueError(f"states have shape {states.shape}, expected ({count}, {width})")
    return [
        Observation(step, {camera: views[camera][i] for camera in convention.cameras}, states[i])
        for i, step in enumerate(steps)
    ]


def _frames(asked: Mapping[str, Any], key: str, count: int) -> np.ndarray:
    """Returns the last `count` frames of a picture, (count, h, w, 3)."""
    image = asked.get(key)
    if not isinstance(image, np.ndarray):
        raise ValueError(f"the message has no picture {key!r}; it has: {', '.join(map(str, asked))}")
    stack = image[None] if image.ndim == 3 else image
    if stack.ndim != 4 or stack.shape[3] != 3 or stack.dtype != np.uint8 or len(stack) < count or not stack.size:
        raise ValueError(f"{key} is {image.dtype} {image.shape}, expected uint8 (h, w, 3) or ({count}, h, w, 3)")
    return stack[-count:]


def received_picture(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a picture in the size of a convention: black bars are cut off where its shape is another."""
    if image.shape[:2] == tuple(size):
        return np.ascontiguousarray(image)
    h, w = image.shape[:2]
    ratio = max(size[1] / w, size[0] / h)
    inside_h, inside_w = max(1, round(size[0] / ratio)), max(1, round(size[1] / ratio))
    top, left = (h - inside_h) // 2, (w - inside_w) // 2
    return _resized(image[top : top + inside_h, left : left + inside_w], *size)


def received_states(adapter: Adapter, asked: Mapping[str, Any], count: int) -> np.ndarray:
    """Returns the (count, S) states that the vectors of a message tell; numbers that none tells are NaN."""
    where = places(adapter.convention)
    states = np.full((count, sum(STATE_SIZES[part] for part in adapter.convention.state)), np.nan)
    for key, vector in adapter.vectors.items():
        if vector.zeros:
            continue
        values = np.atleast_2d(np.asarray(asked.get(key), np.float64)) if key in asked else None
        names = {**STATE_SIZES, **DERIVED}
        every = [(part, i) for part in vector.parts for i in range(names[part])]
        told = [every[i] for i in vector.take] if vector.take else every
        if values is None or values.shape[1] != len(told):
            shape = "missing" if values is None else f"of shape {values.shape}"
            raise ValueError(f"{key} is {shape}, expected ({len(told)},)")
        values = values[-count:]
        for column, (part, i) in enumerate(told):
            known = "eef_axis_angle" if part == "eef_axis_angle_forward" else part
            if known in where:
                states[:, where[known].start + i] = values[:, column]
        if vector.parts == ("cartesian_position",) and {"eef_pos", "eef_axis_angle"} <= set(where):
            states[:, where["eef_pos"]] = values[:, :3]
            states[:, where["eef_axis_angle"]] = Rotation.from_euler("xyz", values[:, 3:].copy()).as_rotvec()
        if "eef_axis_angle_forward" in vector.parts:
            for row in states[:, where["eef_axis_angle"]]:
                row[:] = other_way_round(row) if np.linalg.norm(row) > np.pi else row
    return states


def sent_actions(adapter: Adapter, made: np.ndarray) -> dict[str, np.ndarray]:
    """Returns our actions (H, A) as a server of this adapter answers them: key -> (H, n); "" for the array itself."""
    rows = np.array(made, np.float64)
    rows[:, -1] = gripper(rows[:, -1], adapter.convention.gripper, adapter.answer.gripper)
    keys = adapter.answer.keys or ("",)
    ends = np.cumsum(adapter.answer.widths)[:-1].tolist() if len(keys) > 1 else []
    return dict(zip(keys, np.split(rows, ends, axis=1), strict=True))
