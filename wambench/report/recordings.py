"""A recorded episode as the page shows it: the film of what came and what was imagined, and its marks in time."""

from __future__ import annotations

import io
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wambench.envs import snapshot
from wambench.envs.progress import HOLD_S
from wambench.evaluation.video import Frame, Predictions, encode_mp4
from wambench.interface import Chunk, Episode
from wambench.records import Row

USUAL_HEIGHT = 192  # pixels: small views are enlarged to about this, so that 4:2:0 colour loses little of them
GAP = 4  # black pixels between what came and what was imagined
CRF = 26  # of H.264: a film of 7 s has about 100 kB
LOOK = f"1/{USUAL_HEIGHT}/{GAP}/{CRF}"  # of a film: another one is another film
NO_FRAME = 40  # grey level where nothing was imagined yet
OPTIONS = {
    "policy": "--policy", "split": "--split", "robot": "--robot", "seed": "--seed", "visual": "--visual",
    "name": "--name", "instruction_of": "--instruction-of", "execution": "--execution", "latency": "--latency",
    "clock": "--clock", "replan": "--replan",
}  # fmt: skip
USUAL = {"seed": 0, "visual": "fast"}  # recorded even where they are the default


def film(episode: Episode) -> tuple[list[Frame], list[int | None]]:
    """Returns the frames of an episode's film, and for each the step of the query that imagined its right half.

    The views of a camera form a row: at the left what came, at the right the newest prediction for that step. A policy
    that imagines nothing has the left half only. Small views are enlarged (bicubic) to about `USUAL_HEIGHT`.

    Returns:
        Frames (h, w, 3) uint8, one per observation, and control steps, None where nothing was imagined yet.
    """
    predictions = [
        Predictions(chunk.step, chunk.plan.frame_steps, chunk.plan.frames)
        for chunk in episode.chunks
        if chunk.plan.frames is not None and chunk.plan.frame_steps is not None
    ]
    frames: list[Frame] = []
    asked: list[int | None] = []
    for observation in episode.observations:
        views = [np.asarray(view) for view in observation.images.values()]
        left = _stacked([_enlarged(view) for view in views])
        if not predictions:
            frames.append(left)
            asked.append(None)
            continue
        step, foreseen = _newest(predictions, observation.step)
        right = np.full_like(left, NO_FRAME)
        if foreseen is not None:
            edges = np.cumsum([view.shape[1] for view in views])[:-1]
            right = _stacked([_enlarged(view) for view in np.split(foreseen, edges, axis=1)])
        frames.append(np.concatenate([left, np.zeros((len(left), GAP, 3), np.uint8), right], axis=1))
        asked.append(step)
    return frames, asked


def _newest(predictions: Sequence[Predictions], step: int) -> tuple[int | None, NDArray[np.uint8] | None]:
    """Returns the newest query before a step that imagined something for it, and what."""
    for prediction in reversed(predictions):
        if prediction.asked < step and (frame := prediction.at(step)) is not None:
            return prediction.asked, frame
    return None, None


def _stacked(views: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Returns views below each other, narrower ones with black beside them."""
    width = max(view.shape[1] for view in views)
    return np.concatenate([np.pad(view, ((0, 0), (0, width - view.shape[1]), (0, 0))) for view in views])


def _enlarged(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    height, width = view.shape[:2]
    times = max(1, round(USUAL_HEIGHT / height))
    return np.asarray(Image.fromarray(view).resize((width * times, height * times), Image.Resampling.BICUBIC))


def mp4(frames: list[Frame], episode: Episode) -> bytes:
    """Returns the film at the rate of its observations."""
    steps = [observation.step for observation in episode.observations]
    stride = float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0
    return encode_mp4(frames, episode.spec.control_hz / stride, CRF)


def poster(frames: Sequence[Frame]) -> bytes:
    """Returns the last frame as a JPEG."""
    import imageio.v2 as imageio

    buffer = io.BytesIO()
    imageio.imwrite(buffer, frames[-1], format="jpeg", quality=80)
    return buffer.getvalue()


def marks(episode: Episode) -> dict[str, Any]:
    """Returns what the page draws over time, in control steps, as JSON values.

    `steps` of the frames, `chunks` (the queries), `delays` of their answers, `curve` (step and progress, from the start
    to the end), and `stages`: step, name, and whether it was reached (true) or undone. Stages are known where a policy
    is asked; one that is reached within a chunk has its mark at the chunk's end.
    """
    curve = [[0, 0.0]]
    for chunk in episode.chunks:
        if not math.isnan(chunk.progress):
            curve.append([chunk.step + len(chunk.executed), round(chunk.progress, 4)])
    if len(curve) == 1:
        curve = []
    return {
        "steps": [observation.step for observation in episode.observations],
        "chunks": [chunk.step for chunk in episode.chunks],
        "delays": [chunk.delay for chunk in episode.chunks] if any(c.delay for c in episode.chunks) else [],
        "curve": curve,
        "stages": stage_marks(episode),
    }


def stage_marks(episode: Episode) -> list[tuple[int, str, bool]]:
    """Returns step, name, and whether it was reached or undone, of every change of the stages reached."""
    held = round(HOLD_S * episode.spec.control_hz)
    known = [(chunk.step, _reached(chunk, held)) for chunk in episode.chunks]
    states = [(step, stages) for step, stages in known if stages is not None]
    before: tuple[str, ...] = ()
    found: list[tuple[int, str, bool]] = []
    for step, stages in [*states, (episode.steps, episode.stages)]:
        found += [(step, name, True) for name in stages if name not in before]
        found += [(step, name, False) for name in before if name not in stages]
        before = tuple(stages)
    return found


def _reached(chunk: Chunk, steps: int) -> tuple[str, ...] | None:
    """Returns the stages reached when a chunk was asked for; None where the simulator's state does not tell.

    Args:
        chunk: Of which the state was kept.
        steps: How long the last stage, which is success and never latched, must have held.
    """
    try:
        latches = snapshot.unpack(chunk.state)[2]
        reached, held = list(map(str, latches["reached"])), dict(latches["held"])
    except (ValueError, KeyError, TypeError):  # of another simulator than ours
        return None
    last = [name for name in held if held[name] >= steps and name == list(held)[-1]]
    return (*reached, *last)


def replay_command(config: Mapping[str, Any], row: Row) -> str:
    """Returns the command line that plays an episode again, after the ones of its task before it.

    Args:
        config: Of the run, from its run.json.
        row: Of the episode.
    """
    words = ["wambench", "run"]
    for name, option in OPTIONS.items():
        value = config.get(name)
        if value not in (None, "") and USUAL.get(name) != value:
            words += [option, str(value)]
    words += ["--tasks", row.task.rpartition("-v")[0], "--episodes", str(row.episode + 1)]
    if row.factor not in ("all", "none"):
        words += ["--factor", row.factor]
    if config.get("smooth"):
        words.append("--smooth")
    arguments = config.get("policy_args") or {}
    if arguments:
        words += ["--policy-args", *(f"{key}={_value(value)}" for key, value in arguments.items())]
    return shlex.join([*words, "--record-video"])


def _value(value: Any) -> str:
    """Returns a value as `--policy-args` reads it: text that would be read as JSON is written as JSON."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        json.loads(value)
    except json.JSONDecodeError:
        return value
    return json.dumps(value)
