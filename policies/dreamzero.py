"""DreamZero's adapter: observations in, imagined frames and actions out.

At every query the newest real frame is encoded and becomes the clean context, together with the one of 8 steps before;
imagined frames never enter the context. Noise is a function of (episode seed, env step), so that two rollouts of an
episode that differ only in what is clamped start from the same noise.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wambench.interface import Observation, Plan, Spec, canvas
from wambench.policies import data, wam
from wambench.policies import encoder as encoding
from wambench.policies.encoder import state_features

WEIGHTS = "dreamzero-nano.safetensors"
ENCODER = "encoder-v0.safetensors"
MODES = ("joint", "video_first", "no_video")


@dataclass
class Session:
    """One episode as the policy knows it: instruction, seed, and the latents of recent frames by env step."""

    seed: int
    sentence: data.Sentences
    latents: dict[int, Tensor] = field(default_factory=dict)


def packaged(name: str) -> Path:
    """Returns the path of a weights file that is shipped with the package."""
    return Path(str(importlib.resources.files("wambench.policies"))) / "weights" / name


def digest(path: Path) -> str:
    """Returns the SHA-256 of a weights file; one that cannot be read raises ValueError."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: cannot read weights ({error.strerror})") from None


def load_wam(path: Path) -> tuple[wam.Wam, dict]:
    """Returns a model in evaluation mode and its metadata; a missing, damaged or foreign file raises ValueError."""
    tensors, meta = encoding.read_weights(path, "dreamzero")
    try:
        model = wam.Wam(wam.WamConfig.from_dict(meta["config"]), encoding.STATE_FEATURES)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged weights file (config: {error})") from None
    encoding.load_into(model, tensors, path)
    return model.eval(), meta


class DreamZero:
    """A world action model as a policy.

    Args:
        weights: Weights file (None: the shipped nano model).
        encoder: Encoder file (None: the shipped one). It must be the one the model was trained with.
        steps: Denoising steps.
        execute: Actions of each chunk to carry out before the next query.
        mode: "joint" denoises video and actions together, "video_first" the video and then the actions for it,
            "no_video" leaves the video at noise and returns no frames.
        device: "cpu" or "cuda".

    A missing, damaged or unfitting file raises ValueError naming it.
    """

    def __init__(
        self,
        weights: str | None = None,
        encoder: str | None = None,
        steps: int = 4,
        execute: int = 8,
        mode: str = "joint",
        device: str = "cpu",
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"no mode {mode!r}; there are {', '.join(MODES)}")
        path = Path(weights) if weights else packaged(WEIGHTS)
        encoder_path = Path(encoder) if encoder else packaged(ENCODER)
        model, meta = load_wam(path)
        reader, _ = encoding.load(encoder_path)
        if meta.get("encoder") != digest(encoder_path):
            raise ValueError(f"{path}: trained with another encoder than {encoder_path}")
        if not 1 <= execute <= model.config.horizon or steps < 1:
            raise ValueError(
                f"execute must be in 1..{model.config.horizon} and steps at least 1, got {execute}, {steps}"
            )
        self.spec = Spec()
        self.model, self.encoder = model.to(device), reader.to(device)
        self.steps, self.execute, self.mode, self.device = steps, execute, mode, device
        self.weights_hash = digest(path)[:16]
        self.corpus = str(meta.get("corpus", "unknown"))
        self.meta = meta
        self._session: Session | None = None

    def session(self, instruction: str, seed: int) -> Session:
        """Returns the state of a new episode, for `act_batch`."""
        return Session(seed, data.encode_sentences([instruction], self.model.config.points))

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode."""
        self._session = self.session(instruction, seed)

    def act(self, history: Sequence[Observation]) -> Plan:
        """Returns the next chunk of actions and the frames it imagines."""
        return self.act_batch([self._current()], [history])[0]

    def act_batch(self, sessions: Sequence[Session], histories: Sequence[Sequence[Observation]]) -> list[Plan]:
        """Returns the plans of several episodes at once; each is what `act` would answer."""
        began = time.perf_counter()
        cond = self._observe(sessions, histories)
        encoded = time.perf_counter()
        video, actions = self._sample(cond, self._noise(sessions, histories))
        sampled = time.perf_counter()
        frames = self._decode(video) if self.mode != "no_video" else None
        decoded = time.perf_counter()
        timings = {"encode_s": encoded - began, "sample_s": sampled - encoded, "decode_s": decoded - sampled}
        plans = []
        for i, history in enumerate(histories):
            steps = np.array([history[-1].step + ahead for ahead in self.model.config.future])
            plan = Plan(self._commands(actions[i]), self.execute, timings=timings)
            plans.append(plan if frames is None else replace(plan, frames=frames[i], frame_steps=steps))
        return plans

    def imagine(self, history: Sequence[Observation]) -> np.ndarray:
        """Returns (K, h, w, 3) uint8 imagined frames, the actions left at noise."""
        sessions = [self._current()]
        cond, noise = self._observe(sessions, [history]), self._noise(sessions, [history])
        video, _ = wam.sample(self.model, cond, noise, self.steps, move_action=False)
        return self._decode(video)[0]

    def extract(self, history: Sequence[Observation], frames: np.ndarray) -> np.ndarray:
        """Returns the model's own actions (H, A) for a given future.

        Args:
            history: As for `act`.
            frames: (K, h, w, 3) uint8 canvases at the env steps now + 8 and now + 16.
        """
        expected = (len(self.model.config.future), *self.encoder.config.canvas, 3)
        if frames.shape != expected or frames.dtype != np.uint8:
            raise ValueError(f"future frames must be {expected} uint8, got {frames.shape} {frames.dtype}")
        sessions = [self._current()]
        cond, noise = self._observe(sessions, [history]), self._noise(sessions, [history])
        clamp = self.encoder.latents(torch.from_numpy(frames).to(self.device))[None]
        _, actions = wam.sample(self.model, cond, noise, self.steps, clamp=clamp)
        return self._commands(actions[0])

    def _current(self) -> Session:
        if self._session is None:
            raise ValueError("reset must be called before the first query")
        return self._session

    def _noise(self, sessions: Sequence[Session], histories: Sequence[Sequence[Observation]]) -> wam.Noise:
        generators = []
        for session, history in zip(sessions, histories, strict=True):
            seed = (session.seed * 1_000_003 + history[-1].step) % 2**63
            generators.append(torch.Generator().manual_seed(seed))
        return wam.draw_noise(self.model.config, generators)

    def _wanted(self, session: Session, history: Sequence[Observation]) -> list[Observation]:
        """Returns the observations to encode, now last; forgets latents of steps that are not behind us."""
        if not history:
            raise ValueError("history is empty; its last entry must be the current observation")
        now, past = history[-1], history[-1].step - self.model.config.past
        session.latents = {s: z for s, z in session.latents.items() if past <= s < now.step}
        return [o for o in history[:-1] if o.step == past and past not in session.latents][:1] + [now]

    def _observe(self, sessions: Sequence[Session], histories: Sequence[Sequence[Observation]]) -> wam.Condition:
        wanted = [self._wanted(s, h) for s, h in zip(sessions, histories, strict=True)]
        flat = [o for group in wanted for o in group]
        frames = np.stack([canvas(o, self.spec.cameras) for o in flat])
        if frames.shape[1:3] != self.encoder.config.canvas:
            raise ValueError(f"frames are {frames.shape[1:3]}, the encoder expects {self.encoder.config.canvas}")
        pair = encoding.as_tensors(frames, np.stack([o.state for o in flat]))
        latents, points = self.encoder.encode(pair[0].to(self.device), pair[1].to(self.device))
        at, newest, pasts = 0, [], []
        for session, group in zip(sessions, wanted, strict=True):
            for observation in group:
                session.latents[observation.step] = latents[at]
                at += 1
            newest.append(at - 1)
            pasts.append(session.latents.get(group[-1].step - self.model.config.past))
        now = latents[newest]
        past = None if all(z is None for z in pasts) else torch.stack([now[0] if z is None else z for z in pasts])
        said = [session.sentence for session in sessions]
        longest = max(s.words.shape[1] for s in said)

        def padded(name: str) -> Tensor:
            rows = [getattr(s, name)[0] for s in said]
            padded_rows = [torch.cat([r, r.new_zeros((longest - len(r), *r.shape[1:]))]) for r in rows]
            return torch.stack(padded_rows).to(self.device)

        return wam.Condition(
            now=now,
            past=past,
            has_past=torch.tensor([z is not None for z in pasts], device=self.device),
            state=state_features(pair[1].to(self.device)[newest]),
            points=points[newest],
            words=padded("words"),
            word_mask=padded("mask"),
            match=padded("match"),
        )

    def _sample(self, cond: wam.Condition, noise: wam.Noise) -> tuple[Tensor, Tensor]:
        if self.mode == "joint":
            return wam.sample(self.model, cond, noise, self.steps)
        if self.mode == "no_video":
            return wam.sample(self.model, cond, noise, self.steps, move_video=False)
        video, _ = wam.sample(self.model, cond, noise, self.steps, move_action=False)
        return wam.sample(self.model, cond, noise, self.steps, clamp=video)

    def _decode(self, video: Tensor) -> np.ndarray:
        """Returns (B, K, h, w, 3) uint8 frames of (B, K, Z, y, x) latents."""
        frames = self.encoder.decode(video.flatten(0, 1))
        return frames.view(*video.shape[:2], *frames.shape[1:]).cpu().numpy()

    def _commands(self, actions: Tensor) -> np.ndarray:
        """Returns (H, A) float32 actions in [-1, 1] with a gripper that opens or closes, of standardised ones."""
        raw = (actions * self.model.action_std + self.model.action_mean).cpu().numpy()
        raw[:, -1] = np.where(raw[:, -1] > 0.0, 1.0, -1.0)
        return np.clip(raw, -1.0, 1.0)
