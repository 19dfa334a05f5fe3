"""What all vision-language-action baselines share: what they see, how they are stored, and how they act.

They see exactly what DreamZero nano sees (`perception.scene`): the latent of the frozen encoder in patches, the
key points with the objects that the instruction names, the robot's state, and the words. A method is a `Network`: a
module with a loss on chunks of actions and a way to sample one. `Actor` makes a policy of it,
`policies/training/vla.py` trains it. A VLA has no memory and imagines nothing.

Letters: B batch, P patches, E scene features, S state features, L words, w width, H actions of a chunk, A their
numbers.
"""

from __future__ import annotations

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from wambench.interface import ControlConvention, Observation, Plan, canvas, fields_of_json, unknown_name
from wambench.policies import weight_files
from wambench.policies.actions import real_time_chunking as rtc
from wambench.policies.actions import smoothing
from wambench.policies.actions.commands import to_commands
from wambench.policies.actions.normalization import Normaliser
from wambench.policies.networks.noise import generator_at
from wambench.policies.perception import encoder as encoding
from wambench.policies.perception import word_embedding
from wambench.policies.perception.encoder import STATE_FEATURES, state_features
from wambench.policies.perception.scene import (
    SceneFeatures,
    Words,
    encode_words,
    scene_features,
    scene_width,
    settled,
)
from wambench.policies.weight_files import digest, encoder_for, find

# kind of weights -> its module, which has `build(size, inputs) -> Network` and `from_dict(config) -> Network`
MODULES: Mapping[str, str] = MappingProxyType(
    {
        "pi0": "wambench.policies.vla.pi0",
        "pi05": "wambench.policies.vla.pi05",
        "ki": "wambench.policies.vla.knowledge_insulation",
        "groot": "wambench.policies.vla.groot",
        "l1": "wambench.policies.vla.l1_regression",
    }
)
# least standard deviation that is believed, as for DreamZero nano
STATE_FLOOR = 0.005
ACTION_FLOOR = 0.05


@dataclass(frozen=True)
class Inputs:
    """What a network reads and writes; the same for all methods.

    Attributes:
        points: Key points, in the encoder's order.
        latent: (Z, y, x) of the encoder.
        patch: Latent cells per patch, (rows, columns).
        horizon: Actions of a chunk.
        action_dim: Numbers of an action.
        presence: Presence from which on a key point is there (`scene.settled`).
    """

    points: tuple[str, ...]
    latent: tuple[int, int, int]
    patch: tuple[int, int] = (3, 3)
    horizon: int = 16
    action_dim: int = 7
    presence: float = 0.0

    def __post_init__(self) -> None:
        if self.latent[1] % self.patch[0] or self.latent[2] % self.patch[1]:
            raise ValueError(f"patch {self.patch} does not divide the latent {self.latent[1]}x{self.latent[2]}")

    @property
    def patches(self) -> int:
        """Patches of both views."""
        return self.latent[1] // self.patch[0] * (self.latent[2] // self.patch[1])

    @property
    def patch_width(self) -> int:
        """Numbers of a patch."""
        return self.latent[0] * self.patch[0] * self.patch[1]

    @property
    def scene_width(self) -> int:
        """Numbers of the scene vector: key points, named objects, mean word."""
        return scene_width(len(self.points))

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Inputs:
        """Returns the inputs that `dataclasses.asdict` and JSON turned into a dict."""
        return Inputs(**fields_of_json(values))


@dataclass(frozen=True)
class EncodedObservation:
    """One moment as numbers.

    Attributes:
        patches: (B, P, Z p q) standardised latent patches of both views, row by row.
        scene: (B, E) where objects are, where the named ones are, mean word (`perception.scene.scene_features`).
        state: (B, S) state features, not normalised; zero where unknown.
        known: (B,) bool, whether the robot's state is known.
        words: (B, L, `word_embedding.WIDTH`), zero where the mask is False.
        mask: (B, L) bool; L is the longest instruction of the batch.
    """

    patches: Tensor
    scene: Tensor
    state: Tensor
    known: Tensor
    words: Tensor
    mask: Tensor


def observe(scene: SceneFeatures, words: Words, points_mean: Tensor, inputs: Inputs) -> EncodedObservation:
    """Returns what a network reads of the first moment of each sequence."""
    latents = scene.latents[:, 0]
    cells = functional.unfold(latents, inputs.patch, stride=inputs.patch).transpose(1, 2)  # (B, P, Z p q)
    longest = max(1, int(words.mask.sum(dim=1).max()))
    scene = replace(scene, at_chunk=settled(scene.at_chunk, inputs.presence))
    features = scene_features(scene, words, points_mean)[:, 0]
    known = scene.known[:, 0, 0] > 0.5
    return EncodedObservation(
        cells, features, scene.state[:, 0], known, words.vectors[:, :longest], words.mask[:, :longest]
    )


class Stem(nn.Module):
    """The tokens of an observation: P patches, one for the scene, L words. All methods have the same.

    Args:
        inputs: What there is to read.
        width: Of the tokens.
        hidden: Of the perceptron that reads the scene vector, as DreamZero nano's state encoder.
    """

    def __init__(self, inputs: Inputs, width: int, hidden: int) -> None:
        super().__init__()
        self.patch = nn.Linear(inputs.patch_width, width)
        self.place = nn.Parameter(torch.randn(inputs.patches, width) * 0.02)
        self.scene = nn.Sequential(nn.Linear(inputs.scene_width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.word = nn.Linear(word_embedding.WIDTH, width)

    def image(self, seen: EncodedObservation) -> Tensor:
        """Returns (B, P + 1, w) tokens of what is seen: all valid."""
        dtype = self.place.dtype
        patches = self.patch(seen.patches.to(dtype)) + self.place
        return torch.cat([patches, self.scene(seen.scene.to(dtype))[:, None]], dim=1)

    def language(self, seen: EncodedObservation) -> Tensor:
        """Returns (B, L, w) tokens of the words; valid where `seen.mask`."""
        return self.word(seen.words.to(self.place.dtype))

    def forward(self, seen: EncodedObservation) -> tuple[Tensor, Tensor]:
        """Returns (B, P + 1 + L, w) tokens and (B, P + 1 + L) bool which of them are valid."""
        image = self.image(seen)
        language = self.language(seen)
        valid = torch.cat([seen.mask.new_ones(image.shape[:2]), seen.mask], dim=1)
        return torch.cat([image, language], dim=1), valid


class Network(nn.Module, ABC):
    """A method: what it learns from a batch, and how it makes a chunk.

    Attributes:
        inputs: What it reads and writes.
        losses: Names of the losses.
        steps: Network evaluations per chunk unless asked otherwise.
        points_mean: (3,) m, subtracted from positions.
        state, action: Normalisation of state features and actions.
    """

    losses: tuple[str, ...] = ("action",)
    steps: int = 10
    points_mean: Tensor

    def __init__(self, inputs: Inputs, normalisation: str) -> None:
        super().__init__()
        self.inputs = inputs
        self.register_buffer("points_mean", torch.zeros(3))
        self.state = Normaliser(normalisation, STATE_FEATURES)
        self.action = Normaliser(normalisation, inputs.action_dim)

    @abstractmethod
    def loss(self, seen: EncodedObservation, actions: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Returns the losses named in `losses` for (B, H, A) actions of the environment; their sum is minimised."""

    @abstractmethod
    def sample(
        self, seen: EncodedObservation, noise: Tensor, steps: int, guidance: rtc.Guidance | None = None
    ) -> Tensor:
        """Returns (B, H, A) float32 actions of the environment (not clipped), from standard normal noise (B, H, A).

        A flow policy follows `guidance` (real-time chunking), whose actions are normalised.
        """

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Returns the config as JSON values, from which the module's `from_dict` makes the network again."""


def module_of(kind: str) -> Any:
    """Returns the module of a kind of network; an unknown one raises ValueError."""
    if kind not in MODULES:
        raise unknown_name("vision-language-action model", kind, MODULES)
    return importlib.import_module(MODULES[kind])


def save(kind: str, network: Network, path: str | Path, meta: dict[str, Any]) -> None:
    """Writes a network with its config and whatever else `meta` says (`encoder`: hash of the one it reads with)."""
    meta = {**meta, "kind": kind, "config": network.to_dict()}
    weight_files.write_weights(path, network.state_dict(), {name for name, _ in network.named_buffers()}, meta)


def load(kind: str, path: str | Path) -> tuple[Network, dict[str, Any]]:
    """Returns a network in evaluation mode and its metadata; a missing, damaged or foreign file raises ValueError."""
    build: Callable[[dict[str, Any]], Network] = module_of(kind).from_dict
    return weight_files.load_model(path, kind, build)


@dataclass(frozen=True)
class VlaSession:
    """One episode: its seed and instruction."""

    seed: int
    words: Words


class Actor:
    """A network as a policy: stateless, one chunk per query.

    Args:
        kind: A name of `MODULES`.
        weights: Weights file, or the name of a shipped one (None: the one of this policy).
        encoder: Encoder file the network was trained with (None: found among the shipped ones).
        steps: Network evaluations per chunk (None: the method's own number).
        execute: Actions of each chunk to carry out before the next query.
        smooth: Filter each chunk of actions (`smoothing`).
        device: "cpu" or "cuda".

    A missing, damaged or unfitting file raises ValueError naming it.
    """

    def __init__(
        self,
        kind: str,
        weights: str | None = None,
        encoder: str | None = None,
        steps: int | None = None,
        execute: int = 4,
        smooth: bool = False,
        device: str = "cpu",
    ) -> None:
        path = find(weights, f"{kind}-nano.safetensors")
        network, meta = load(kind, path)
        reader, _ = encoding.load(encoder_for(path, meta, encoder))
        self.steps = network.steps if steps is None else steps
        if not 1 <= execute <= network.inputs.horizon or self.steps < 1:
            raise ValueError(
                f"execute must be in 1..{network.inputs.horizon} and steps at least 1, got {execute}, {self.steps}"
            )
        self.convention = ControlConvention()
        self.network = network.to(device)
        self.encoder = reader.to(device)
        self.execute = execute
        self.smooth = smooth
        self.device = device
        self.meta = meta
        self.chunk_steps = network.inputs.horizon
        if smooth:
            smoothing.check(self.chunk_steps)
        self.weights_hash = digest(path)[:16]
        self.corpus = str(meta.get("corpus", "unknown"))
        self._session: VlaSession | None = None

    def session(self, instruction: str, seed: int) -> VlaSession:
        """Returns the state of a new episode, for `act_batch`."""
        return VlaSession(seed, encode_words([instruction], self.network.inputs.points).to(self.device))

    def resume(self, session: VlaSession) -> None:
        """Goes on with an episode that `session` began (`interface.Batched`)."""
        self._session = session

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode."""
        self._session = self.session(instruction, seed)

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns the next chunk of actions."""
        if self._session is None:
            raise ValueError("reset must be called before the first query")
        return self.act_batch([self._session], [history])[0]

    def act_batch(self, sessions: Sequence[VlaSession], histories: Sequence[Sequence[Observation]]) -> list[Plan]:
        """Returns the plans of several episodes; each is what `act` would answer.

        On a GPU they are made together, and differ from those of `act` in rounding. On a CPU, where workers have cores
        of their own, one comes after the other, and answers are the same bit by bit.
        """
        if not all(histories):
            raise ValueError("history is empty; its last entry must be the current observation")
        if self.device == "cpu" and len(sessions) > 1:
            return [self.act_batch([one], [seen])[0] for one, seen in zip(sessions, histories, strict=True)]
        began = time.perf_counter()
        now = [history[-1] for history in histories]
        return self._plans(sessions, self._scenes(now), now, began)

    @torch.no_grad()
    def _scenes(self, now: Sequence[Observation]) -> SceneFeatures:
        """Returns observations as scenes of one frame."""
        frames = np.stack([canvas(o, self.convention.cameras) for o in now])
        if frames.shape[1:3] != self.encoder.config.canvas:
            raise ValueError(f"frames are {frames.shape[1:3]}, the encoder expects {self.encoder.config.canvas}")
        pixels, states = (x.to(self.device) for x in encoding.as_tensors(frames, np.stack([o.state for o in now])))
        latents, points = self.encoder.encode(pixels, states)
        known = torch.ones(len(now), 1, 1, device=self.device)
        return SceneFeatures(latents[:, None], points[:, None], state_features(states)[:, None], known, points[:, None])

    @torch.no_grad()
    def _plans(
        self,
        sessions: Sequence[VlaSession],
        scenes: SceneFeatures,
        now: Sequence[Observation],
        began: float,
        guidance: rtc.Guidance | None = None,
    ) -> list[Plan]:
        """Returns a plan for each scene, sampled together; the times that they tell are shares."""
        encoded = time.perf_counter()
        inputs = self.network.inputs
        shape = (inputs.horizon, inputs.action_dim)
        drawn = [
            torch.randn(1, *shape, generator=generator_at(session.seed, o.step))
            for session, o in zip(sessions, now, strict=True)
        ]
        words = Words.joined([session.words for session in sessions])
        seen = observe(scenes, words, self.network.points_mean, inputs)
        raw = self.network.sample(seen, torch.cat(drawn).to(self.device), self.steps, guidance).cpu().numpy()
        actions = [to_commands(one, self.smooth) for one in raw]
        share = 1.0 / len(actions)
        timings = {"encode_s": share * (encoded - began), "sample_s": share * (time.perf_counter() - encoded)}
        return [Plan(one, self.execute, timings=timings) for one in actions]


class FlowActor(Actor):
    """An `Actor` whose network denoises its chunks, so that it can continue one that is being played."""

    def act_guided(self, history: Sequence[Observation], previous: np.ndarray, delay: int) -> Plan:
        """Returns the next chunk, inpainted behind the actions that are being played (`interface.Guided`)."""
        if self._session is None:
            raise ValueError("reset must be called before the first query")
        began = time.perf_counter()
        scene = self._scenes(history[-1:])
        played = self.network.action(torch.as_tensor(previous, dtype=torch.float32, device=self.device))
        guidance = rtc.guidance_of(played, delay, self.network.inputs.horizon)
        return self._plans([self._session], scene, history[-1:], began, guidance)[0]
