"""Reading what `wambench collect` wrote: demonstrations, video and random renders, their latents, training sequences.

Letters: N frames of all episodes, T control steps of all, B sequences, M chunks, C key points, Z x y x: a latent,
H actions of a chunk, A numbers of an action.

A folder holds `manifest.json` ({"points": [names], "corpus": "demos", "video" or "renders", ...}) and uncompressed npz
files: `<task>.<index>.npz` with an episode (video has neither actions nor states), or `renders.<k>.npz` with unrelated
frames. Frames are read one by one from within the files, so that a corpus larger than the memory can be used.
"lerobot://DIR" in the place of a folder is a LeRobot dataset (`wambench.datasets.lerobot_folder`): demonstrations if it
has actions, else video; it has no labels of key points.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wambench.datasets.lerobot_folder import Clip, LeRobotFolder, is_lerobot, open_folder
from wambench.interface import ControlConvention
from wambench.policies.perception.encoder import Encoder, LabelledBatch, as_tensors, state_features

# every 25th episode, and the last 25th of each file of renders, are held out
HOLD_OUT = 25
SHARD = 40
DISTURBED = 1e-3  # difference of an action from the wanted one, in units of its range, that is a disturbance


@dataclass(frozen=True)
class Manifest:
    """What a folder says about itself."""

    points: tuple[str, ...]
    corpus: str
    values: dict[str, Any]


def read_manifest(folder: str | Path) -> Manifest:
    """Returns the manifest of a folder; a missing or incomplete one raises ValueError."""
    if is_lerobot(folder):
        opened = _lerobot(folder)
        return Manifest((), "demos" if opened.acted else "video", {"frame_every": opened.every})
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
    if is_lerobot(folder):
        raise ValueError(
            f"{folder}: a LeRobot dataset has no labels of key points; this trains on `wambench collect`'s"
        )
    files = sorted(path for path in Path(folder).glob("*.npz"))
    if not files:
        raise ValueError(f"{folder}: no .npz files")
    return files


@dataclass(frozen=True)
class StoredArray:
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


def locate_frames(path: Path) -> StoredArray:
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
            return StoredArray(path, file.tell(), shape)
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
        states: (N, 8), NaN where unknown.
        points: (N, C, 3) in m, zero for absent objects.
        present: (N, C) bool.
        pixels: (N, C, V, 2) position in each view, right and down in [-1, 1], NaN where unknown or out of view.
        held_out: (N,) bool.
    """

    stores: tuple[StoredArray, ...]
    store: np.ndarray
    row: np.ndarray
    states: Tensor
    points: Tensor
    present: Tensor
    pixels: Tensor
    held_out: np.ndarray

    def batch(self, indices: np.ndarray) -> LabelledBatch:
        """Returns the frames and labels at some indices."""
        frames = np.stack([self.stores[self.store[i]].row(int(self.row[i])) for i in indices])
        i = torch.from_numpy(indices)
        return LabelledBatch(torch.from_numpy(frames), self.states[i], self.points[i], self.present[i], self.pixels[i])


def labelled_frames(folder: str | Path, views: int = 2) -> LabelledFrames:
    """Returns the frames of a folder of any corpus with their labels; states that are not stored are NaN."""
    stores = []
    parts = []
    held_out = []
    for k, path in enumerate(files_of(folder)):
        episode = not path.name.startswith("renders.")
        arrays = load_arrays(path, ["points", "present"])
        if not has_array(path, "states"):
            arrays["states"] = np.full((len(arrays["present"]), 8), np.nan, np.float32)
        elif episode:
            arrays["states"] = load_arrays(path, ["states"])["states"][
                load_arrays(path, ["frame_steps"])["frame_steps"]
            ]
        else:
            arrays["states"] = load_arrays(path, ["states"])["states"]
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


def moving_pairs(folder: str | Path, apart: int = 4, episodes: int = 24) -> tuple[Tensor, Tensor]:
    """Returns (B, H, W, 3) uint8 frames of held-out episodes, and those `apart` stored frames later."""
    before, after = [], []
    for path in files_of(folder)[HOLD_OUT // 2 :: HOLD_OUT][:episodes]:
        frames = torch.from_numpy(locate_frames(path).all())
        before.append(frames[:-apart:apart])
        after.append(frames[apart::apart])
    return torch.cat(before), torch.cat(after)


def _lerobot(folder: str | Path) -> LeRobotFolder:
    return open_folder(str(folder), ControlConvention())


@dataclass(frozen=True)
class _Stored:
    """An episode on disk: its name, its frames, and what a clip needs to know of it besides them."""

    name: str
    frames: Callable[[], np.ndarray]
    read: Callable[[], dict[str, Any]]


def _stored(folder: str | Path) -> list[_Stored]:
    """Returns the episodes of a folder or LeRobot dataset, in their order."""
    if is_lerobot(folder):
        opened = _lerobot(folder)
        return [
            _Stored(opened.name_of(clip), partial(opened.frames, clip), partial(_of_lerobot, opened, clip))
            for clip in opened.clips
        ]
    return [_Stored(path.name, partial(_frames, path), partial(_episode, path)) for path in files_of(folder)]


def _frames(path: Path) -> np.ndarray:
    return locate_frames(path).all()


def _shards(folder: str | Path) -> list[tuple[int, list[_Stored]]]:
    episodes = _stored(folder)
    return [(i, episodes[i : i + SHARD]) for i in range(0, len(episodes), SHARD)]


def latent_folder(folder: str | Path, encoder_hash: str) -> Path:
    """Returns where the latents of a folder are kept; those of a LeRobot dataset lie beside it, not in it."""
    name = f"latents.{encoder_hash[:12]}"
    if is_lerobot(folder):
        root = _lerobot(folder).root.resolve()
        return root.with_name(f"{root.name}.{name}")
    return Path(folder) / name


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
        path = target / f"{first:06d}.npz"
        names = [file.name for file in files]
        if path.exists() and load_arrays(path, ["files"])["files"].tolist() == names:
            continue
        latents = []
        points = []
        for file in files:
            frames, about = file.frames(), file.read()
            states = about["states"] if about["known"].all() else np.full((len(frames), 8), np.nan, np.float32)
            for i in range(0, len(frames), batch):
                pair = as_tensors(frames[i : i + batch], states[i : i + batch])
                latent, found = encoder.encode(pair[0].to(device), pair[1].to(device))
                latents.append(latent.cpu().numpy().astype(np.float16))
                points.append(found.cpu().numpy().astype(np.float32))
            report(len(frames))
        part = path.with_suffix(f".{os.getpid()}.part")  # another training may be encoding the same shard
        with part.open("wb") as out:
            np.savez(out, latents=np.concatenate(latents), points=np.concatenate(points), files=np.array(names))
        part.replace(path)


@dataclass(frozen=True)
class Clips:
    """All episodes of some folders as training sequences that may begin at any stored frame.

    Attributes:
        latents: (N, Z, y, x) float16 standardised latents, all frames of all episodes in order.
        points: (N, C, 4) the encoder's key points.
        features: (N, S) state features, zero where unknown.
        known: (N,) bool, whether the robot's state is known.
        step: (N,) control step of the frame in its episode.
        last: (N,) index of the episode's last frame.
        offset: (N,) index of the episode's first action, -1 for video without actions.
        length: (N,) control steps of the episode.
        actions: (T, A) what the experts would do, all episodes in order.
        executed: (T, A) what was done.
        sentence: (N,) index of the instruction.
        sentences: The instructions.
        held_out: (N,) bool.
        every: Control steps between stored frames (an episode's last may follow sooner).
    """

    latents: Tensor
    points: Tensor
    features: Tensor
    known: Tensor
    step: Tensor
    last: Tensor
    offset: Tensor
    length: Tensor
    actions: Tensor
    executed: Tensor
    sentence: Tensor
    sentences: tuple[str, ...]
    held_out: Tensor
    every: int

    def on(self, device: torch.device | str) -> Clips:
        """Returns the same with latents and key points on a device, from where `read` gets them faster."""
        return replace(self, latents=self.latents.to(device), points=self.points.to(device))

    def read(self, frames: Tensor, device: torch.device | str, latents: bool = True) -> tuple[Tensor, Tensor]:
        """Returns float32 latents (empty if not wanted) and key points of some frames, on a device."""
        index = frames.to(self.latents.device)
        pictures = self.latents[index].float() if latents else torch.zeros(0)
        return pictures.to(device), self.points[index].to(device)

    def undisturbed(self, horizon: int) -> Tensor:
        """Returns (N,) bool, where the next `horizon` steps were carried out as the expert wanted; video: everywhere.

        What follows from there can be foreseen. What noise does cannot, and the actions beside it would not fit it.
        """
        differs = (self.actions - self.executed).abs().amax(dim=1) > DISTURBED
        before = torch.cat([torch.zeros(1, dtype=torch.long), differs.long().cumsum(0)])
        first = (self.offset + torch.minimum(self.step, self.length)).clamp_min(0)
        last = (self.offset + torch.minimum(self.step + horizon, self.length)).clamp_min(0)
        return (self.offset < 0) | (before[last] == before[first])

    def split(self, wanted: Tensor) -> tuple[Tensor, ...]:
        """Returns the numbers of the training frames: of the wanted ones with actions, and of video, if there are any.

        Raises:
            ValueError: There are demonstrations, but none of their frames is wanted.
        """
        own = self.offset >= 0
        if own.any() and not (own & wanted & ~self.held_out).any():
            raise ValueError("no moment of the demonstrations is undisturbed: --anchors all learns from every moment")
        parts = [torch.nonzero(part & ~self.held_out).flatten() for part in (own & wanted, ~own)]
        return tuple(part for part in parts if len(part))

    def frames_at(self, rows: Tensor, ahead: Sequence[int]) -> Tensor:
        """Returns (B, len(ahead)) frame indices that many control steps later, at most the episode's last."""
        return torch.stack([torch.minimum(rows + n // self.every, self.last[rows]) for n in ahead], dim=1)

    def chunks_at(self, rows: Tensor, starts: Sequence[int], horizon: int) -> tuple[Tensor, Tensor, Tensor]:
        """Returns actions and executed actions, (B, M, H, A) each, of chunks that begin that many steps later.

        And (B, M) whether a chunk begins before the episode's end. After the end the hand rests and the gripper keeps
        its last command; video has zeros.
        """
        step = self.step[rows, None, None] + torch.tensor(starts)[:, None] + torch.arange(horizon)
        end = self.length[rows, None, None]
        index = (self.offset[rows, None, None] + torch.minimum(step, end - 1)).clamp_min(0)
        moves = (step < end)[..., None]
        acted = (self.offset[rows] >= 0)[:, None, None, None]
        both = []
        for source in (self.actions, self.executed):
            chunk = source[index].clone()
            chunk[..., :-1] *= moves
            both.append(chunk * acted)
        return both[0], both[1], step[:, :, 0] < end[:, :, 0]


def draw_rows(parts: Sequence[Tensor], video_share: float, count: int, generator: torch.Generator) -> Tensor:
    """Returns (count,) numbers drawn from the parts of `Clips.split`, a share of them from the second one."""
    if len(parts) == 1:
        return parts[0][torch.randint(len(parts[0]), (count,), generator=generator)]
    other = torch.rand(count, generator=generator) < video_share
    pick = torch.rand(count, generator=generator)
    acted, video = (part[(pick * len(part)).long()] for part in parts)
    return torch.where(other, video, acted)


def _episode(file: Path) -> dict[str, Any]:
    """Returns what a clip needs to know of an episode besides its latents."""
    arrays: dict[str, Any] = load_arrays(file, ["frame_steps", "instruction"])
    steps = arrays["frame_steps"].astype(np.int64)
    acted = has_array(file, "actions")
    nothing = np.zeros((0, 7), np.float32)
    names = ["actions", "executed", "states"]
    arrays |= load_arrays(file, names) if acted else {"actions": nothing, "executed": nothing}
    states = arrays["states"][steps] if acted else np.zeros((len(steps), 8))
    return {
        "step": steps,
        "states": states.astype(np.float32),
        "known": np.full(len(steps), acted),
        "length": np.full(len(steps), steps[-1]),
        "actions": arrays["actions"].astype(np.float32),
        "executed": arrays["executed"].astype(np.float32),
        "instruction": str(arrays["instruction"]),
    }


def _of_lerobot(opened: LeRobotFolder, clip: Clip) -> dict[str, Any]:
    """Returns what `_episode` returns, of an episode of a LeRobot dataset."""
    values = opened.episode(clip)
    steps = values["step"]
    nothing = np.zeros((0, 7), np.float32)
    return {
        "step": steps,
        "states": values.get("states", np.zeros((len(steps), 8), np.float32)),
        "known": np.full(len(steps), opened.acted),
        "length": np.full(len(steps), steps[-1]),
        "actions": values.get("actions", nothing),
        "executed": values.get("executed", nothing),
        "instruction": clip.text,
    }


def load_clips(folders: Sequence[str | Path], encoder_hash: str) -> Clips:
    """Returns the episodes of some folders of demonstrations or video, whose latents must have been written."""
    names = ("step", "states", "known", "length", "last", "offset", "sentence", "held_out")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    sentences: dict[str, int] = {}
    latents = []
    points = []
    actions = []
    executed = []
    first = 0
    acted = 0
    for folder in folders:
        number = 0
        for start, files in _shards(folder):
            shard = load_arrays(latent_folder(folder, encoder_hash) / f"{start:06d}.npz", ["latents", "points"])
            latents.append(shard["latents"])
            points.append(shard["points"])
            for file in files:
                episode = file.read()
                count = len(episode["step"])
                values = {
                    "last": first + count - 1,
                    "offset": acted if len(episode["actions"]) else -1,
                    "sentence": sentences.setdefault(episode["instruction"], len(sentences)),
                    "held_out": number % HOLD_OUT == HOLD_OUT // 2,
                }
                for name in names:
                    parts[name].append(episode[name] if name in episode else np.full(count, values[name]))
                actions.append(episode["actions"])
                executed.append(episode["executed"])
                first = first + count
                acted = acted + len(episode["actions"])
                number = number + 1
    joined = {name: torch.from_numpy(np.concatenate(values)) for name, values in parts.items()}
    encoded = torch.from_numpy(np.concatenate(latents))
    if len(encoded) != first:
        raise ValueError(f"{folders}: the stored latents do not fit the data; remove the latents.* folders")
    every = {int(read_manifest(folder).values["frame_every"]) for folder in folders}
    if len(every) > 1:
        raise ValueError(f"{folders}: frames are {sorted(every)} steps apart; all folders must agree")
    return Clips(
        latents=encoded,
        points=torch.from_numpy(np.concatenate(points)),
        features=state_features(joined.pop("states")) * joined["known"][:, None],
        actions=torch.from_numpy(np.concatenate(actions)),
        executed=torch.from_numpy(np.concatenate(executed)),
        sentences=tuple(sentences),
        every=every.pop(),
        **joined,
    )
