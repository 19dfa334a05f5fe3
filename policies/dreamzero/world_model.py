"""DreamZero in the place of a simulator: it imagines what given actions lead to, and goes on from what it imagined.

Actions stay clean while the video is denoised for them. The instruction is hidden unless asked for: a model that is
told what is wanted also imagines it being done, whoever acts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wambench.interface import Observation, canvas, unknown_name
from wambench.policies import check_arguments
from wambench.policies.dreamzero.policy import DreamZero, DreamZeroOptions, DreamZeroSession, EncodedFrame
from wambench.policies.perception import encoder as encoding
from wambench.policies.perception.encoder import state_features

TOLD = ("nothing", "instruction")
UNFIT = {
    "no_key_points": "it imagines no key points, by which progress is read",
    "no_video_loss": "nothing ever asked its video to predict",
    "separate": "its video model is a network of its own, which sees no actions",
}


def world_model(weights: str | None = None, told: str = TOLD[0], **options: Any) -> ActionConditionedDreamZero:
    """Returns the world model of a weights file of ours (None: the shipped one).

    Args:
        weights: See above.
        told: "nothing", or "instruction".
        options: Other fields of `DreamZeroOptions`.

    Raises:
        ValueError: An option does not exist or does not fit the model, or the model imagines no key points.
    """
    if told not in TOLD:
        raise unknown_name("told", told, TOLD)
    check_arguments(DreamZeroOptions, options, "dreamzero")
    return ActionConditionedDreamZero(DreamZeroOptions(weights, **options), told == "instruction")


class ActionConditionedDreamZero(DreamZero):
    """A small DreamZero that is asked for the consequences of actions.

    Args:
        options: See `DreamZeroOptions`.
        told: Show it the instruction.

    Attributes:
        key_points: Names of the key points that it imagines.
    """

    def __init__(self, options: DreamZeroOptions | None = None, told: bool = False) -> None:
        super().__init__(options)
        ablation = self.model.config.ablation
        if ablation in UNFIT:
            raise ValueError(f"{self.options.weights}: no world model to act in: {UNFIT[ablation]}")
        self.key_points: Sequence[str] = self.model.config.points
        self._told = told
        self._imagined: dict[int, tuple[NDArray[np.uint8], Tensor, Tensor]] = {}  # frame, latent, key points by step

    def reset(self, instruction: str, seed: int) -> None:
        """Starts an episode."""
        super().reset(instruction, seed)
        self._imagined = {}

    def read(self, observations: Sequence[Observation]) -> NDArray[np.float64]:
        """Returns the (N, C, 3) places in m of the key points that the encoder finds in real frames."""
        seen = np.stack([canvas(o, self.convention.cameras) for o in observations])
        frames, states = encoding.as_tensors(seen, np.stack([o.state for o in observations]))
        _, points = self.encoder.encode(frames.to(self.device), states.to(self.device))
        return points[..., :3].double().cpu().numpy()

    def imagine_actions(
        self, history: Sequence[Observation], actions: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Returns the frames (K, h, w, 3) and the places (K, C, 3) in m of the key points that actions lead to.

        A frame of the history that it imagined itself is taken as it imagined it, latent and key points: decoding and
        encoding lose some of it. So imagined chunks enter the cache as real ones do.

        Args:
            history: Observations since the last call, real or imagined; the last one is now.
            actions: (H, A) in [-1, 1], a whole chunk.

        Raises:
            ValueError: The actions are not a chunk.
        """
        expected = (self.chunk_steps, self.model.config.dit.action_dim)
        if np.shape(actions) != expected:
            raise ValueError(f"a chunk of actions is {expected}, got {np.shape(actions)}")
        session = self._current()
        self._recognise(session, history)
        self._look([session], [history])
        given = self._standardised(np.asarray(actions))[None]
        now = history[-1].step
        how = replace(self.sampling, action=False)
        video, _ = self._sample(session, now, not self._told, how, given=given)
        frames = self._decode(session, video)
        assert video.vectors is not None
        points = self.model.points(video.vectors[0])
        latents = video.latents[0].transpose(0, 1)
        steps = [now + ahead for ahead in self.frame_offsets]
        self._imagined = {step: (frames[i], latents[i], points[i]) for i, step in enumerate(steps)}
        return frames, points[..., :3].double().cpu().numpy()

    def _recognise(self, session: DreamZeroSession, history: Sequence[Observation]) -> None:
        """Notes the frames of a history that were imagined by the last call, as they were imagined."""
        for observation in history:
            frame, latent, points = self._imagined.get(observation.step, (None, None, None))
            if frame is None or not np.array_equal(frame, canvas(observation, self.convention.cameras)):
                continue
            assert latent is not None and points is not None
            state = torch.tensor(np.asarray(observation.state), dtype=torch.float32, device=self.device)
            seen = EncodedFrame(torch.from_numpy(frame), latent, points, state_features(state[None])[0])
            session.seen[observation.step] = seen
