"""One recorded episode as a file: frames, imagined frames, actions, simulator states."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wambench.interface import Chunk, Episode, EpisodeSpec, Observation, Plan, canvas

FORMAT = 2  # of the files of episodes; files without a number are the first, and can be read too
PACKED = ("frames", "imagined", "snapshots")  # large, and worth the time it takes to compress them


def encode_episode(episode: Episode, cameras: Sequence[str], frames: bytes | None = None) -> bytes:
    """Returns an episode as an .npz without pickles, from which everything can be scored again.

    Args:
        episode: The episode.
        cameras: Order of the views in a canvas.
        frames: Its canvases as a Zstandard frame, if they are packed already (`frame_recorder.Tape`).

    Arrays, of which `frames`, `imagined` and `snapshots` are kept as the bytes of a Zstandard frame, their shapes being
    in `meta` (C chunks, T observations, M imagined frames, N actions carried out, P planned; starts have one entry more
    than there are chunks, chunk i is [start[i] : start[i + 1]]):
        meta: JSON: format, spec, result, cameras, SHA-256 of the first frame of each camera, shapes of packed arrays.
        frames (T, h, w * cameras, 3) uint8, steps (T,), states (T, 8): what was seen, at the video rate.
        imagined (M, h, w * cameras, 3) uint8, imagined_steps (M,), imagined_chunk (M,), imagined_hands (M, 4), NaN if
            the policy did not say: what was foreseen.
        actions (N, A), actions_start (C + 1,): carried out.
        planned (P, A), planned_start (C + 1,), execute (C,): what the policy answered.
        chunk_steps (C,), latency_s (C,), delays (C,): when it was asked, how long it took, and in steps of the clock.
        progress (C,): after each chunk's actions.
        snapshots uint8, snapshots_start (C + 1,): states of the simulator when it was asked.

    Zstandard, because zlib at its fastest takes four to five times as long (docs/simulation.md).
    """
    chunks, seen = episode.chunks, episode.observations
    result = {f.name: getattr(episode, f.name) for f in dataclasses.fields(Episode)}
    meta = {name: result[name] for name in result if name not in ("spec", "chunks", "observations", "traceback")}
    meta["spec"] = json.loads(episode.spec.to_json())
    meta["cameras"] = {camera: seen[0].images[camera].shape[1] for camera in cameras} if seen else {}
    meta["first_frame_sha256"] = {camera: _sha256(seen[0].images[camera]) for camera in cameras} if seen else {}
    meta["timings"] = [dict(chunk.plan.timings) for chunk in chunks]
    imagined = [chunk.plan.frames for chunk in chunks if chunk.plan.frames is not None]
    imagined_steps = [chunk.plan.frame_steps for chunk in chunks if chunk.plan.frame_steps is not None]
    lengths = [0 if chunk.plan.frames is None else len(chunk.plan.frames) for chunk in chunks]
    arrays = {
        "frames": _canvases(seen, cameras) if frames is None else np.frombuffer(frames, np.uint8),
        "steps": np.array([observation.step for observation in seen], np.int64),
        "states": _stack([observation.state[None] for observation in seen], np.float64),
        "imagined": _stack(imagined, np.uint8),
        "imagined_steps": _stack(imagined_steps, np.int64),
        "imagined_chunk": np.repeat(np.arange(len(chunks)), lengths),
        "actions": _stack([chunk.executed for chunk in chunks], np.float64),
        "actions_start": _starts([len(chunk.executed) for chunk in chunks]),
        "planned": _stack([chunk.plan.actions for chunk in chunks], np.float64),
        "planned_start": _starts([len(chunk.plan.actions) for chunk in chunks]),
        "execute": np.array([chunk.plan.execute for chunk in chunks], np.int64),
        "chunk_steps": np.array([chunk.step for chunk in chunks], np.int64),
        "latency_s": np.array([chunk.latency_s for chunk in chunks], np.float64),
        "delays": np.array([chunk.delay for chunk in chunks], np.int64),
        "progress": np.array([chunk.progress for chunk in chunks], np.float64),
        "snapshots": np.frombuffer(b"".join(chunk.state for chunk in chunks), np.uint8),
        "snapshots_start": _starts([len(chunk.state) for chunk in chunks]),
    }
    if any(chunk.plan.frame_hands is not None for chunk in chunks):
        hands = [_hands(chunk.plan) for chunk in chunks if chunk.plan.frames is not None]
        arrays["imagined_hands"] = _stack(hands, np.float64)
    shapes = {name: arrays[name].shape for name in PACKED}
    if frames is not None:
        shapes["frames"] = (len(seen), *canvas(seen[0], cameras).shape) if seen else (0,)
    meta |= {"format": FORMAT, "shapes": shapes}
    import zstandard  # a GPU server, which has no recordings, may do without it

    compressor = zstandard.ZstdCompressor(level=1)
    for name in PACKED if frames is None else PACKED[1:]:
        content = compressor.compress(np.ascontiguousarray(arrays[name]).reshape(-1).data)
        arrays[name] = np.frombuffer(content, np.uint8)
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _unpacked(packed: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    import zstandard

    size = math.prod(shape)
    content = zstandard.ZstdDecompressor().decompress(packed.tobytes(), max_output_size=max(size, 1))
    return np.frombuffer(bytearray(content), np.uint8).reshape(shape)


def load_episode(path: Path) -> Episode:
    """Returns the episode that `encode_episode` wrote; raises ValueError naming the file if it is damaged."""
    import zstandard

    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        return _decode(stored)
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, zstandard.ZstdError) as error:
        raise ValueError(f"{path}: damaged: {error}") from error


def _decode(stored: Mapping[str, NDArray[Any]]) -> Episode:
    meta = json.loads(stored["meta"].tobytes())
    version, shapes = meta.pop("format", 1), meta.pop("shapes", {})
    if version > FORMAT:
        raise ValueError(f"written by a newer wambench: format {version}, this one reads up to {FORMAT}")
    arrays = {**stored, **{name: _unpacked(stored[name], shape) for name, shape in shapes.items()}}
    widths = meta.pop("cameras")
    edges = np.cumsum(list(widths.values()))[:-1]
    observations = tuple(
        Observation(int(step), dict(zip(widths, np.split(frame, edges, axis=1), strict=True)), state)
        for step, frame, state in zip(arrays["steps"], arrays["frames"], arrays["states"], strict=True)
    )
    chunks = []
    for i, timings in enumerate(meta.pop("timings")):
        own = arrays["imagined_chunk"] == i
        frames, frame_steps = (arrays["imagined"][own], arrays["imagined_steps"][own]) if own.any() else (None, None)
        hands = arrays["imagined_hands"][own] if own.any() and "imagined_hands" in arrays else None
        if hands is not None and np.isnan(hands).any():
            hands = None
        plan = Plan(_part(arrays, "planned", i), int(arrays["execute"][i]), frames, frame_steps, timings, hands)
        step, latency_s = int(arrays["chunk_steps"][i]), float(arrays["latency_s"][i])
        state, executed = _part(arrays, "snapshots", i).tobytes(), _part(arrays, "actions", i)
        timed = (int(arrays["delays"][i]), float(arrays["progress"][i])) if "delays" in arrays else ()
        chunks.append(Chunk(step, state, plan, executed, latency_s, *timed))
    del meta["first_frame_sha256"]
    meta["spec"] = EpisodeSpec(**meta["spec"])
    meta["stages"] = tuple(meta["stages"])
    return Episode(**meta, chunks=tuple(chunks), observations=observations)


def _hands(plan: Plan) -> NDArray[Any]:
    """Returns (T, 4) where a plan places the hand in its frames, NaN if it does not say."""
    assert plan.frames is not None
    return np.full((len(plan.frames), 4), np.nan) if plan.frame_hands is None else plan.frame_hands


def _canvases(seen: Sequence[Observation], cameras: Sequence[str]) -> NDArray[Any]:
    """Returns `canvas` of every observation, (T, h, w * cameras, 3) uint8, each pixel being copied once."""
    if not seen:
        return np.zeros(0, np.uint8)
    first = canvas(seen[0], cameras)
    frames = np.empty((len(seen), *first.shape), np.uint8)
    for frame, observation in zip(frames, seen, strict=True):
        np.concatenate([observation.images[camera] for camera in cameras], axis=1, out=frame)
    return frames


def _stack(parts: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)


def _starts(lengths: Sequence[int]) -> NDArray[Any]:
    return np.cumsum([0, *lengths], dtype=np.int64)


def _part(arrays: Mapping[str, NDArray[Any]], name: str, chunk: int) -> NDArray[Any]:
    start = arrays[f"{name}_start"]
    return arrays[name][start[chunk] : start[chunk + 1]]


def _sha256(image: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
