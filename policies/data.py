"""Reading what `wambench collect` wrote: demonstrations and random renders, their latents, and training anchors.

Letters: F frames of an episode, T control steps, N anchors, C key points, Z x y x: a latent, H actions of a chunk,
K future frames, L words.

A folder holds `manifest.json` ({"points": [names], "corpus": "demos" or "renders", ...}) and uncompressed npz files:
`<task>.<index>.npz` with an episode, or `renders.<k>.npz` with unrelated frames. Frames are read one by one from
within the files, so that a corpus larger than the memory can be used.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wambench.policies import text
from wambench.policies.encoder import Encoder, Labelled, as_tensors, state_features
from wambench.policies.wam import Condition, WamConfig

# every 25th episode, and the last 25th of each file of renders, are held out
HOLD_OUT = 25
SHARD = 40


@dataclass(frozen=True)
class Manifest:
    """What a folder says about itself."""

    points: tuple[str, ...]
    corpus: str
    values: dict[str, Any]


def read_manifest(folder: str | Path) -> Manifest:
    """Returns the manifest of a folder; a missing or incomplete one raises ValueError."""
    path = Path(folder) / "manifest.json"
    try:
        values = json.loads(path.read_text())
        return Manifest(tuple(values["points"]), str(values["corpus"]), values)
    except FileNotFoundError:
        raise ValueError(f"{folder}: no manifest.json; is this a folder written by `wambench collect`?") from None
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: damaged manifest ({error})") from None


def files_of(folder: str | Path) -> list[Path]:
    """Returns the data files of a folder, sorted by name; none raises ValueError."""
    files = sorted(path for path in Path(folder).glob("*.npz"))
    if not files:
        raise ValueError(f"{folder}: no .npz files")
    return files


@dataclass(frozen=True)
class Stored:
    """Where the rows of an uncompressed uint8 array lie inside an npz file."""

    path: Path
    offset: int
    shape: tuple[int, ...]

    def row(self, index: int) -> np.ndarray:
        """Returns one row."""
        size = int(np.prod(self.shape[1:]))
        flat = np.fromfile(self.path, np.uint8, count=size, offset=self.offset + index * size)
        return flat.reshape(self.shape[1:])

    def all(self) -> np.ndarray:
        """Returns the whole array."""
        flat = np.fromfile(self.path, np.uint8, count=int(np.prod(self.shape)), offset=self.offset)
        return flat.reshape(self.shape)


def locate_frames(path: Path) -> Stored:
    """Returns where `frames` lies in an npz file; a damaged or compressed file raises ValueError."""
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo("frames.npy")
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError("frames are compressed")
        with path.open("rb") as file:
            file.seek(info.header_offset + 26)
            # a local file header ends with a name and an extra field whose lengths only it knows
            name, extra = struct.unpack("<HH", file.read(4))
            file.seek(info.header_offset + 30 + name + extra)
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            if fortran or dtype != np.uint8:
                raise ValueError(f"frames are {dtype}, not uint8 in C order")
            return Stored(path, file.tell(), shape)
    except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: damaged data file ({error})") from None


def load_arrays(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns some arrays of an npz file; a damaged file raises ValueError."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: damaged data file ({error})") from None


def has_array(path: Path, name: str) -> bool:
    """Returns whether an npz file that can be read holds an array."""
    with zipfile.ZipFile(path) as archive:
        return f"{name}.npy" in archive.namelist()


@dataclass(frozen=True)
class LabelledFrames:
    """Frames on disk with labels in memory, for training the encoder.

    Attributes:
        stores, store, row: Frame i is row `row[i]` of `stores[store[i]]`.
        states: (N, 8).
        points: (N, C, 3) in m, zero for absent things.
        present: (N, C) bool.
        pixels: (N, C, V, 2) position in each view, right and down in [-1, 1], NaN where unknown or out of view.
        held_out: (N,) bool.
    """

    stores: tuple[Stored, ...]
    store: np.ndarray
    row: np.ndarray
    states: Tensor
    points: Tensor
    present: Tensor
    pixels: Tensor
    held_out: np.ndarray

    def batch(self, indices: np.ndarray) -> Labelled:
        """Returns the frames and labels at some indices."""
        frames = np.stack([self.stores[self.store[i]].row(int(self.row[i])) for i in indices])
        i = torch.from_numpy(indices)
        return Labelled(torch.from_numpy(frames), self.states[i], self.points[i], self.present[i], self.pixels[i])


def labelled_frames(folder: str | Path, views: int = 2) -> LabelledFrames:
    """Returns the frames of a folder of demonstrations or renders with their labels."""
    stores, parts, held_out = [], [], []
    for k, path in enumerate(files_of(folder)):
        episode = not path.name.startswith("renders.")
        arrays = load_arrays(path, ["states", "points", "present"] + (["frame_steps"] if episode else []))
        if episode:
            arrays["states"] = arrays["states"][arrays["frame_steps"]]
        count, classes = arrays["present"].shape
        unknown = np.full((count, classes, views, 2), np.nan, np.float32)
        pixels = load_arrays(path, ["pixels"])["pixels"] if has_array(path, "pixels") else unknown
        stores.append(locate_frames(path))
        labels = (arrays["states"], arrays["points"], arrays["present"], pixels)
        parts.append((np.full(count, k), np.arange(count), *labels))
        tail = np.arange(count) >= count - count // HOLD_OUT
        held_out.append(np.full(count, k % HOLD_OUT == HOLD_OUT // 2) if episode else tail)
    store, row, states, points, present, pixels = (np.concatenate(values) for values in zip(*parts, strict=True))
    points = np.where(present[..., None], points, 0.0).astype(np.float32)
    return LabelledFrames(
        tuple(stores),
        store,
        row,
        torch.from_numpy(states.astype(np.float32)),
        torch.from_numpy(points),
        torch.from_numpy(present.astype(bool)),
        torch.from_numpy(pixels.astype(np.float32)),
        np.concatenate(held_out),
    )


def _shards(folder: str | Path) -> list[tuple[int, list[Path]]]:
    files = files_of(folder)
    return [(i, files[i : i + SHARD]) for i in range(0, len(files), SHARD)]


def latent_folder(folder: str | Path, encoder_hash: str) -> Path:
    """Returns where the latents of a folder are kept."""
    return Path(folder) / f"latents.{encoder_hash[:12]}"


def encode_shards(
    folder: str | Path,
    encoder: Encoder,
    encoder_hash: str,
    rank: int = 0,
    workers: int = 1,
    report: Callable[[int], None] = lambda frames: None,
    batch: int = 32,
) -> None:
    """Writes the latents and points of every `workers`-th shard of a folder that is not there yet."""
    target = latent_folder(folder, encoder_hash)
    target.mkdir(exist_ok=True)
    device = next(encoder.parameters()).device
    for first, files in _shards(folder)[rank::workers]:
        path, names = target / f"{first:06d}.npz", [file.name for file in files]
        if path.exists() and load_arrays(path, ["files"])["files"].tolist() == names:
            continue
        latents, points = [], []
        for file in files:
            frames, arrays = locate_frames(file).all(), load_arrays(file, ["states", "frame_steps"])
            states = arrays["states"][arrays["frame_steps"]]
            for i in range(0, len(frames), batch):
                pair = as_tensors(frames[i : i + batch], states[i : i + batch])
                latent, found = encoder.encode(pair[0].to(device), pair[1].to(device))
                latents.append(latent.cpu().numpy().astype(np.float16))
                points.append(found.cpu().numpy().astype(np.float32))
            report(len(frames))
        part = path.with_suffix(".part")
        with part.open("wb") as out:
            np.savez(out, latents=np.concatenate(latents), points=np.concatenate(points), files=np.array(names))
        part.replace(path)


@dataclass(frozen=True)
class Anchors:
    """Training samples of a world action model: one per frame of a demonstration.

    Attributes:
        latents: (N, Z, y, x) float16 standardised latents, all frames of all episodes in order.
        past: (N,) index of the past frame, -1 where there is none.
        future: (N, K) indices of the future frames, clamped to the episode's last.
        actions: (N, H, A) expert actions from the anchor on; after the end no motion and the last gripper command.
        states: (N, 8) robot states.
        features: (N, S) state features.
        points: (N, C, 4) the encoder's key points.
        sentence: (N,) index of the instruction.
        sentences: The instructions.
        held_out: (N,) bool.
    """

    latents: Tensor
    past: Tensor
    future: Tensor
    actions: Tensor
    states: Tensor
    features: Tensor
    points: Tensor
    sentence: Tensor
    sentences: tuple[str, ...]
    held_out: Tensor


def chunk_of(actions: np.ndarray, start: int, horizon: int) -> np.ndarray:
    """Returns (H, A) actions from `start` on, padded with no motion and the last gripper command."""
    chunk = actions[start : start + horizon]
    if len(chunk) == horizon:
        return chunk
    still = np.zeros((horizon - len(chunk), actions.shape[1]), actions.dtype)
    still[:, -1] = actions[-1, -1]
    return np.concatenate([chunk, still])


def _episode_anchors(arrays: dict[str, np.ndarray], first: int, config: WamConfig) -> dict[str, np.ndarray]:
    steps = arrays["frame_steps"].astype(np.int64)
    at = np.searchsorted(steps, steps - config.past)
    has_past = steps[np.minimum(at, len(steps) - 1)] == steps - config.past
    future = [np.minimum(np.searchsorted(steps, steps + ahead), len(steps) - 1) for ahead in config.future]
    return {
        "past": np.where(has_past, at + first, -1),
        "future": np.stack(future, axis=1) + first,
        "actions": np.stack([chunk_of(arrays["actions"], int(s), config.horizon) for s in steps]).astype(np.float32),
        "states": arrays["states"][steps].astype(np.float32),
    }


def load_anchors(folders: Sequence[str | Path], encoder_hash: str, config: WamConfig) -> Anchors:
    """Returns the anchors of some folders of demonstrations, whose latents must have been written."""
    names = ("past", "future", "actions", "states", "sentence", "held_out")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    sentences: dict[str, int] = {}
    latents, points, first = [], [], 0
    for folder in folders:
        number = 0
        for start, files in _shards(folder):
            shard = load_arrays(latent_folder(folder, encoder_hash) / f"{start:06d}.npz", ["latents", "points"])
            latents.append(shard["latents"])
            points.append(shard["points"])
            for file in files:
                arrays = load_arrays(file, ["frame_steps", "actions", "states", "instruction"])
                anchors = _episode_anchors(arrays, first, config)
                count = len(anchors["past"])
                index = sentences.setdefault(str(arrays["instruction"]), len(sentences))
                anchors["sentence"] = np.full(count, index)
                anchors["held_out"] = np.full(count, number % HOLD_OUT == HOLD_OUT // 2)
                for name, values in anchors.items():
                    parts[name].append(values)
                first, number = first + count, number + 1
    joined = {name: torch.from_numpy(np.concatenate(values)) for name, values in parts.items()}
    encoded = torch.from_numpy(np.concatenate(latents))
    if len(encoded) != first:
        raise ValueError(f"{folders}: the stored latents do not fit the data; remove the latents.* folders")
    return Anchors(
        latents=encoded,
        points=torch.from_numpy(np.concatenate(points)),
        features=state_features(joined["states"]),
        sentences=tuple(sentences),
        **joined,
    )


@dataclass(frozen=True)
class Sentences:
    """Instructions as tensors: words (n, L, E), mask (n, L), match (n, L, C)."""

    words: Tensor
    mask: Tensor
    match: Tensor


def encode_sentences(sentences: Sequence[str], points: Sequence[str]) -> Sentences:
    """Returns instructions padded to the longest."""
    vectors = [text.embed(sentence) for sentence in sentences]
    longest = max(len(v) for v in vectors)
    words = np.zeros((len(vectors), longest, text.WIDTH), np.float32)
    mask = np.zeros((len(vectors), longest), bool)
    match = np.zeros((len(vectors), longest, len(points)), np.float32)
    for i, (sentence, vector) in enumerate(zip(sentences, vectors, strict=True)):
        words[i, : len(vector)], mask[i, : len(vector)] = vector, True
        match[i, : len(vector)] = text.match(sentence, points)
    return Sentences(torch.from_numpy(words), torch.from_numpy(mask), torch.from_numpy(match))


def condition_at(anchors: Anchors, sentences: Sentences, index: Tensor, with_past: bool = True) -> Condition:
    """Returns the condition of some anchors; without `with_past` nobody sees a past frame."""
    past, said = anchors.past[index], anchors.sentence[index]
    mask = sentences.mask[said]
    longest = int(mask.sum(1).max())
    return Condition(
        now=anchors.latents[index].float(),
        past=anchors.latents[past.clamp_min(0)].float() if with_past else None,
        has_past=past >= 0,
        state=anchors.features[index],
        points=anchors.points[index],
        words=sentences.words[said, :longest],
        word_mask=mask[:, :longest],
        match=sentences.match[said, :longest],
    )
